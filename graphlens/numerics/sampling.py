"""A tape run again and again, rounded at random: how many digits of its results do not depend on it.

Works with any op and any format, and needs no reference; see `random_rounding` for the model. Values
are carried in float64. Whole numbers, truth values, random numbers and what Python decided from them
are those of the run in every run.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from graphlens.capture.tape import Call, Tape, run_call
from graphlens.numerics.adjoint import depends_on
from graphlens.numerics.arguments import is_drawn, op_name
from graphlens.numerics.random_rounding import Rounding, at_random, rounding_of
from graphlens.numerics.shadow import doubles_of, is_number, wide, wide_call
from graphlens.numerics.significance import Moments, Significance, significance
from graphlens.numerics.study import Target

RUNS = 20
_FEWEST = 3


def sample(
    tape: Tape, targets: Sequence[Target], runs: int = RUNS, seed: int = 0, deadline: float = math.inf
) -> Mapping[int, Significance]:
    """Significant digits of some results, by their value's number.

    The same seed gives the same digits.

    Args:
        runs: how many; at least 3.
        deadline: by `time.perf_counter()`; the runs that were done by then count. With fewer than 3
            of them nothing is told.

    Raises:
        ValueError: fewer than 3 runs.
    """
    if runs < _FEWEST:
        raise ValueError(f"{runs} runs are too few for a standard deviation; take at least {_FEWEST}")
    plan = _Plan.of(tape, [target.value for target in targets])
    moments = {value: Moments(doubles_of(tape.tensors[value]).shape) for value in plan.wanted}
    generator = np.random.default_rng(seed)
    done = 0
    while done < runs:
        made = plan.run(generator, deadline)
        if made is None:
            break
        for value, result in made.items():
            moments[value].add(doubles_of(result))
        done += 1
    if done < _FEWEST:
        return {}
    return {
        value: significance(found, float(torch.finfo(tape.tensors[value].dtype).eps) / 2, plan.taken_by(value))
        for value, found in moments.items()
    }


@dataclass
class _Step:
    """One call: how it rounds, and what is known of its results afterwards.

    Attributes:
        shared: calls of the same op on the same values have the same number here: they round alike,
            as they do in floating point.
        dropped: values that no later call reads.
    """

    call: Call
    rounding: Rounding
    shared: int | None
    dropped: list[int] = field(default_factory=list)


@dataclass
class _Plan:
    """The calls that some values depend on."""

    tape: Tape
    wanted: list[int]
    steps: list[_Step]
    taken: dict[int, str] = field(default_factory=dict)  # per step the op whose results were the run's

    @classmethod
    def of(cls, tape: Tape, values: Sequence[int]) -> _Plan:
        wanted = list(dict.fromkeys(value for value in values if is_number(tape.tensors[value])))
        needed = depends_on(tape, wanted)
        calls = [call for call in tape.calls if not needed.isdisjoint(call.outputs)]
        keys = [_key(call) for call in calls]
        repeated = {key: number for number, (key, count) in enumerate(Counter(keys).items()) if count > 1}
        steps = [
            _Step(call, rounding_of(call, tape), repeated.get(key)) for call, key in zip(calls, keys, strict=True)
        ]
        seen = set(wanted)
        for step in reversed(steps):  # the first use that is met going backwards is the last one
            read = {*step.call.inputs, *(value for value in step.call.outputs if value is not None)}
            step.dropped = [value for value in read if value not in seen]
            seen |= read
        return cls(tape, wanted, steps)

    def run(self, generator: np.random.Generator, deadline: float) -> dict[int, torch.Tensor] | None:
        """The wanted values of one run; None if time is up."""
        values = {value: wide(self.tape.tensors[value]) for value in self.tape.sources}
        shared: dict[int, list[Any]] = {}
        with torch.no_grad():
            for place, step in enumerate(self.steps):
                if not place % 64 and time.perf_counter() > deadline:
                    return None
                results = shared.get(step.shared) if step.shared is not None else None
                if results is None:
                    results = self._results(place, step, values, generator)
                    if step.shared is not None:
                        shared[step.shared] = results
                for number, result in zip(step.call.outputs, results, strict=True):
                    if number is not None:
                        values[number] = result
                for number in step.dropped:
                    values.pop(number, None)
        return {value: values[value] for value in self.wanted}

    def _results(
        self, place: int, step: _Step, values: Mapping[int, torch.Tensor], generator: np.random.Generator
    ) -> list[Any]:
        call, rounding = step.call, step.rounding
        inputs = [values[number] for number in call.inputs]
        if rounding.operands:
            inputs = [at_random(x, rounding.operands, generator) if is_number(x) else x for x in inputs]
        made = self._computed(place, call, inputs)
        results: list[Any] = []
        for position, number in enumerate(call.outputs):
            if number is None:
                results.append(None)
                continue
            recorded = self.tape.tensors[number]
            result = made[position] if made is not None else None
            if not is_number(recorded) or result is None or result.shape != recorded.shape:
                results.append(wide(recorded))
                continue
            result = wide(result)
            unit, exact = rounding.results[position], rounding.exact[position]
            moved = at_random(result, unit, generator) if unit else result
            results.append(moved if exact is None else torch.where(exact, result, moved))
        return results

    def _computed(self, place: int, call: Call, inputs: Sequence[torch.Tensor]) -> list[Any] | None:
        """A call in float64, or else in the formats of the run; None where the run's results stand."""
        made = wide_call(call, inputs)
        if made is not None:
            return made
        if not call.random:
            given = {
                number: value.to(self.tape.tensors[number].dtype)
                for number, value in zip(call.inputs, inputs, strict=True)
            }
            try:
                return run_call(call, given.__getitem__)
            except (RuntimeError, TypeError):
                pass
        if any(is_number(value) for value in inputs):
            self.taken[place] = op_name(call)
        return None

    def taken_by(self, value: int) -> Mapping[str, int]:
        """Ops that a value depends on and whose results were those of the run."""
        if not self.taken:
            return {}
        needed = depends_on(self.tape, [value])
        return dict(
            Counter(name for place, name in self.taken.items() if not needed.isdisjoint(self.steps[place].call.outputs))
        )


def _key(call: Call) -> Any:
    """The same for calls that compute the same from the same values."""
    if call.random or is_drawn(call, reads_numbers=True):
        return id(call)
    return call.function, repr(call.args), repr(call.kwargs)

"""A tape run again and again, rounded at random: how many digits of its results do not depend on it.

Works with any op and any format, and needs no reference; see `random_rounding` for the model. Values
are carried in float64. Whole numbers, truth values, random numbers and what Python decided from them
are those of the run in every run.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

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
_MOST_AT_ONCE = 32
_MOST_ENTRIES = 20_000_000  # in all runs that are made at once: 160 MB


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
        count = min(plan.batch, runs - done)
        made = plan.run(count, generator, deadline)
        if made is None:
            break
        for value, results in made.items():
            for result in results:
                moments[value].add(doubles_of(result))
        done += count
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
        at_once: whether all runs can be called as one.
        dropped: values that no later call reads.
    """

    call: Call
    rounding: Rounding
    shared: int | None
    at_once: bool = True
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

    @cached_property
    def batch(self) -> int:
        """How many runs are made at once: many where the values are small and the calls are what takes time."""
        entries = sum(
            self.tape.tensors[value].numel() for step in self.steps for value in step.call.outputs if value is not None
        )
        return max(min(_MOST_AT_ONCE, _MOST_ENTRIES // max(entries, 1)), 1)

    def run(
        self, count: int, generator: np.random.Generator, deadline: float
    ) -> dict[int, Sequence[torch.Tensor]] | None:
        """The wanted values of so many runs; None if time is up."""
        runs = _Runs(self.tape, count, generator, self.taken)
        shared: dict[int, list[Varied]] = {}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap tells which ops it calls one after the other
            for place, step in enumerate(self.steps):
                if time.perf_counter() > deadline:
                    return None
                results = shared.get(step.shared) if step.shared is not None else None
                if results is None:
                    results = runs.results(place, step)
                    if step.shared is not None:
                        shared[step.shared] = results
                for number, result in zip(step.call.outputs, results, strict=True):
                    if number is not None:
                        runs.values[number] = result
                for number in step.dropped:
                    runs.values.pop(number, None)
        return {value: runs.of_each(value) for value in self.wanted}

    def taken_by(self, value: int) -> Mapping[str, int]:
        """Ops that a value depends on and whose results were those of the run."""
        if not self.taken:
            return {}
        needed = depends_on(self.tape, [value])
        return dict(
            Counter(name for place, name in self.taken.items() if not needed.isdisjoint(self.steps[place].call.outputs))
        )


class Varied(NamedTuple):
    """A value: the same in all runs, or with a dimension for the runs in front."""

    tensor: torch.Tensor
    varies: bool


@dataclass
class _Runs:
    """Some runs side by side.

    Attributes:
        taken: see `_Plan`.
        values: those that later calls read.
    """

    tape: Tape
    count: int
    generator: np.random.Generator
    taken: dict[int, str]
    values: dict[int, Varied] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {value: Varied(wide(self.tape.tensors[value]), False) for value in self.tape.sources}

    def of_each(self, value: int) -> Sequence[torch.Tensor]:
        """A value run by run."""
        tensor, varies = self.values[value]
        return list(tensor) if varies else [tensor] * self.count

    def results(self, place: int, step: _Step) -> list[Varied]:
        """What a call makes, rounded at random."""
        call, rounding = step.call, step.rounding
        inputs = [self.values[number] for number in call.inputs]
        if rounding.operands:
            inputs = [self._moved(x, rounding.operands) if is_number(x.tensor) else x for x in inputs]
        made = self._computed(place, step, inputs)
        results = []
        for position, number in enumerate(call.outputs):
            recorded = self.tape.tensors[number if number is not None else 0]
            result = made[position] if made is not None else None
            if number is None or result is None or not is_number(recorded) or not _fits(result, recorded):
                results.append(Varied(wide(recorded), False))
                continue
            unit, exact = rounding.results[position], rounding.exact[position]
            moved = self._moved(result, unit) if unit else result
            if exact is not None:
                moved = Varied(torch.where(exact, result.tensor, moved.tensor), moved.varies)
            results.append(moved)
        return results

    def _moved(self, value: Varied, unit: float) -> Varied:
        """A value that is rounded at random, in every run by itself."""
        tensor, varies = value
        if not varies:
            tensor = tensor.expand(self.count, *tensor.shape)
        return Varied(at_random(tensor, unit, self.generator), True)

    def _computed(self, place: int, step: _Step, inputs: Sequence[Varied]) -> list[Varied | None] | None:
        """A call's results before they are rounded; None where the run's own stand."""
        varying = [value.varies for value in inputs]
        if not any(varying):
            return _as_values(self._once(place, step.call, [value.tensor for value in inputs]), varies=False)
        if self.count > 1 and step.at_once:
            made = _side_by_side(step.call, inputs)
            if made is not None:
                return _as_values(made, varies=True)
            step.at_once = False  # vmap does not know the op
        each = []
        for run in range(self.count):
            found = self._once(place, step.call, [x.tensor[run] if x.varies else x.tensor for x in inputs])
            if found is None:
                return None
            each.append(found)
        return _as_values([_stacked(results) for results in zip(*each, strict=True)], varies=True)

    def _once(self, place: int, call: Call, inputs: Sequence[torch.Tensor]) -> list[Any] | None:
        """One run's call in float64, or else in the formats of the run; None where the run's results stand."""
        made = wide_call(call, inputs)
        if made is None and not call.random:
            given = {
                number: value.to(self.tape.tensors[number].dtype)
                for number, value in zip(call.inputs, inputs, strict=True)
            }
            with contextlib.suppress(RuntimeError, TypeError):
                made = run_call(call, given.__getitem__)
        if made is None and any(map(is_number, inputs)):
            self.taken[place] = op_name(call)
        return made


def _side_by_side(call: Call, inputs: Sequence[Varied]) -> list[Any] | None:
    """All runs' calls as one; None where that cannot be."""
    kept: list[int] = []
    count = len(call.outputs)

    def one(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = wide_call(call, tensors)
        if made is None:
            raise NotImplementedError
        kept[:] = [place for place, item in enumerate(made) if isinstance(item, torch.Tensor) and is_number(item)]
        return tuple(wide(made[place]) for place in kept)

    try:
        found = torch.vmap(one, in_dims=tuple(0 if x.varies else None for x in inputs))(*(x.tensor for x in inputs))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None
    results = dict(zip(kept, found, strict=True))
    return [results.get(place) for place in range(count)]


def _stacked(results: Sequence[Any]) -> torch.Tensor | None:
    return torch.stack(list(results)) if isinstance(results[0], torch.Tensor) and is_number(results[0]) else None


def _as_values(made: Sequence[Any] | None, *, varies: bool) -> list[Varied | None] | None:
    if made is None:
        return None
    return [Varied(wide(item), varies) if isinstance(item, torch.Tensor) else None for item in made]


def _fits(result: Varied, recorded: torch.Tensor) -> bool:
    return (result.tensor.shape[1:] if result.varies else result.tensor.shape) == recorded.shape


def _key(call: Call) -> Any:
    """The same for calls that compute the same from the same values."""
    if call.random or is_drawn(call, reads_numbers=True):
        return id(call)
    return call.function, repr(call.args), repr(call.kwargs)

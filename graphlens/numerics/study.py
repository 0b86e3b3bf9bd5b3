"""One run whose rounding is being studied: its tape, what is true, and what each op did of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from graphlens.accuracy import Attribution, Op, label
from graphlens.capture.tape import Call, Tape
from graphlens.graph import GradGraph
from graphlens.numerics.adjoint import Sensitivities
from graphlens.numerics.arguments import op_name
from graphlens.numerics.local import local_error
from graphlens.numerics.reference import Reference
from graphlens.numerics.shadow import difference, doubles_of, is_float, is_number, wide, wide_call

Doubles = npt.NDArray[np.float64]
Local = Sequence[Doubles | None] | None


class Target(NamedTuple):
    """A result whose exactness is asked about; `kind` is "output", "loss" or "gradient"."""

    name: str
    kind: str
    value: int

    @property
    def label(self) -> str:
        """What tells it from all others: "g", "gradient of A"."""
        return label(self.name, self.kind)


def targets_of(tape: Tape) -> list[Target]:
    """Outputs first, then what was differentiated, then gradients; each value once."""
    found: dict[tuple[str, int], Target] = {}
    seen: set[int] = set()
    for kind, named in (("output", tape.outputs), ("loss", tape.roots), ("gradient", tape.gradients)):
        for name, value in named.items():
            if is_float(tape.tensors[value]) and not (kind == "loss" and value in seen):
                found[kind, value] = found.get((kind, value), Target(name, kind, value))
                seen.add(value)
    return list(found.values())


@dataclass
class Study:
    """A run and what is known about its rounding; what is asked for is computed once.

    Attributes:
        reference: what is true; None where nothing is known of it.
        exactly: whether the rounding of single ops is measured in exact arithmetic, and not in float64.
        deadline: by `time.perf_counter()`; ops that are looked at later stay unmeasured.
        suspected: the values whose derivatives are asked for again and again; those of all the others
            are asked for once, and together they take as much memory as the run. None stands for all.
    """

    tape: Tape
    graph: GradGraph
    targets: Sequence[Target]
    reference: Reference | None
    exactly: bool
    deadline: float = math.inf
    suspected: Collection[int] | None = None
    attributed: dict[int, Attribution] = field(default_factory=dict)
    _adjoints: dict[int, Mapping[int, Doubles]] = field(default_factory=dict)

    @cached_property
    def ops(self) -> list[Op]:
        """The tape's calls as plain values."""
        return [Op(op_name(call), call.node, call.backward, call.accumulates) for call in self.tape.calls]

    @cached_property
    def made_by(self) -> list[int | None]:
        """Per value the position of the call that made it; None for a source."""
        return self.tape.made_by()

    @cached_property
    def sensitivities(self) -> Sensitivities:
        """The tape as a differentiable program."""
        return Sensitivities(self.tape)

    @cached_property
    def local(self) -> list[Local]:
        """Per call and result the op's own rounding; see `local_error`."""
        found: list[Local] = []
        known: dict[object, tuple[Call, Local]] = {}
        for call in self.tape.calls:
            if time.perf_counter() > self.deadline:
                break
            # An op that runs again on the same values rounds in the same way, as a rule.
            key = (call.function, repr(call.args), repr(call.kwargs))
            before = known.get(key)
            if before is not None and self._gave_the_same(before[0], call):
                found.append(before[1])
                continue
            found.append(self._local(call))
            known[key] = call, found[-1]
        return found + [None] * (len(self.tape.calls) - len(found))

    def _local(self, call: Call) -> Local:
        tensors = self.tape.tensors
        inputs = [tensors[value] for value in call.inputs]
        outputs = [None if value is None else tensors[value] for value in call.outputs]
        if self.exactly:
            return local_error(call, inputs, outputs, self.deadline - time.perf_counter())
        return wide_local_error(call, inputs, outputs)

    def _gave_the_same(self, one: Call, other: Call) -> bool:
        tensors = self.tape.tensors
        pairs = zip(one.outputs, other.outputs, strict=True)
        return all(
            a == b or (a is not None and b is not None and torch.equal(tensors[a], tensors[b])) for a, b in pairs
        )

    def error(self, value: int) -> Doubles | None:
        """The run's value less the true one; None where that is not known."""
        return None if self.reference is None else self.reference.error(value)

    def along_error(self, target: Target) -> tuple[str, Doubles, float | None]:
        """A functional of a result: its words, weights, and what it says of the true error.

        The weights are the error divided by its Euclidean norm, so that the functional of the error
        is that norm; where the error is not known, or 0, a one for every entry.
        """
        error = self.error(target.value)
        norm = euclidean(error) if error is not None else math.nan
        if error is not None and math.isfinite(norm) and norm > 0:
            return "the error's own direction", error / norm, norm
        shape = tuple(self.tape.tensors[target.value].shape)
        return "the sum of the entries", np.ones(shape), 0.0 if norm == 0 else None

    def adjoint(self, target: Target) -> Mapping[int, Doubles]:
        """The derivatives of the functional of `along_error` by every value it depends on; computed anew each time."""
        _, weights, _ = self.along_error(target)
        found = self.sensitivities.of(target.value, weights)
        kept = found if self.suspected is None else {v: found[v] for v in self.suspected if v in found}
        self._adjoints[target.value] = kept
        return found

    def suspected_adjoint(self, target: Target) -> Mapping[int, Doubles]:
        """The same by suspected values alone."""
        if target.value not in self._adjoints:
            self.adjoint(target)
        return self._adjoints[target.value]

    def forget_derivatives(self) -> None:
        """Free what differentiating takes: the tape in float64, and what autograd keeps of it."""
        self._adjoints.clear()
        self.__dict__.pop("sensitivities", None)


def euclidean(values: Doubles) -> float:
    """The Euclidean norm, whose squares neither overflow nor vanish."""
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest) or largest == 0.0:
        return largest
    return largest * float(np.sqrt(((values / largest) ** 2).sum()))


def wide_local_error(
    call: Call, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor | None]
) -> list[Doubles | None] | None:
    """The rounding of one call in a narrow format: its results minus those in float64 on the same inputs.

    In the order of `call.outputs`, complex numbers as two; None for what holds no such numbers, None
    altogether if the op does not run in float64. The error of the float64 run itself is not known.
    """
    if not any(tensor is not None and is_number(tensor) for tensor in outputs):
        return [None] * len(outputs)
    with torch.no_grad():
        made = wide_call(call, [wide(tensor) for tensor in inputs])
    if made is None:
        return None
    found: list[Doubles | None] = []
    for result, tensor in zip(made, outputs, strict=True):
        if tensor is None or not is_number(tensor):
            found.append(None)
        elif result is None or "empty" in op_name(call):
            found.append(np.zeros_like(doubles_of(tensor)))
        else:
            found.append(difference(tensor, result))
    return found

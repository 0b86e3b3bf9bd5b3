"""Check on the numbers of a run whether two values are equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import torch

from graphlens.analyses.listing import Step
from graphlens.analyses.redundancy.known import Undone
from graphlens.capture.tape import Call, Tape, run_call

_ROUNDINGS = 64  # of one op after the other: far more than two ops make, far less than a mistake
_SAMPLES = 3  # of each kind of pair, tried again on other numbers


def verifier(tape: Tape) -> Verifier:
    """A check for the values of a tape."""
    return Verifier(tape)


@dataclass
class Verifier:
    """Compares values; what it has measured is in `deviations`, the largest of each rule."""

    tape: Tape
    deviations: dict[str, float] = field(default_factory=dict)
    _conditions: dict[int, float] = field(default_factory=dict)
    _tried: dict[tuple[object, ...], int] = field(default_factory=dict)
    _calls: dict[int, Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for call in self.tape.calls:
            if not call.backward:
                for value in call.outputs:
                    if value is not None:
                        self._calls[value] = call

    def __call__(self, value: int, earlier: int, gives: Undone | None) -> bool:
        """Whether a value is the earlier one: to the last bit, or up to the rounding of the steps of a rule."""
        a, b = self.tape.tensors[value], self.tape.tensors[earlier]
        if gives is None:
            return _equal(a, b)
        middle = self.tape.tensors[gives.steps[0].outputs[0] or 0]
        if not self._close(a, b, middle, gives):
            return False
        kind = (gives.rule, a.shape, a.dtype)
        if self._tried.get(kind, 0) >= _SAMPLES:
            return True
        self._tried[kind] = self._tried.get(kind, 0) + 1
        return self._again(gives)

    def _close(self, a: torch.Tensor, b: torch.Tensor, middle: torch.Tensor, gives: Undone) -> bool:
        if not a.is_floating_point() and not a.is_complex():
            return torch.equal(a, b)
        if not a.numel():
            return True
        sizes = [_largest(tensor) for tensor in (b, middle) if tensor.numel()]
        size = max(*sizes, sizes[0] * sizes[-1])
        if not math.isfinite(size):  # what went through infinity came back by chance
            return False
        eps = _eps(a.dtype)
        bound = _ROUNDINGS * eps * size
        if gives.matrix is not None:
            # ‖fl(A⁻¹A y) − y‖ ≲ c·n·κ(A)·u·‖y‖ (Higham 2002, section 14.1)
            condition = self._condition(gives.matrix)
            bound = _ROUNDINGS * eps * condition * a.shape[0] * sizes[0]
            if not condition * eps * a.shape[0] < 1e-2:
                return False  # too near to singular for two values to be told apart
        deviation = _largest(a - b)
        if not deviation <= bound:
            return False
        relative = deviation / sizes[0] if sizes[0] else deviation
        self.deviations[gives.rule] = max(relative, self.deviations.get(gives.rule, 0.0))
        return True

    def _condition(self, matrix: int) -> float:
        if matrix not in self._conditions:
            tensor = self.tape.tensors[matrix]
            self._conditions[matrix] = float(torch.linalg.cond(tensor.double()).max())
        return self._conditions[matrix]

    def _again(self, gives: Undone) -> bool:
        """Whether it is so for other numbers too, and not by a coincidence of these."""
        generator = torch.Generator().manual_seed(len(self._tried))
        start = self.tape.tensors[gives.value]
        if not start.is_floating_point():
            return True
        noise = torch.rand(start.shape, generator=generator, dtype=torch.float64).to(start.dtype)
        # A matrix that changed much would have another condition.
        changed = start * (1 + 1e-3 * noise if gives.matrix == gives.value else 0.5 + noise)
        given = {gives.value: changed}
        try:
            with torch.no_grad():
                for step in gives.steps:
                    self._run(step, given)
        except RuntimeError:
            return False
        first, last = (given[step.outputs[0] or 0] for step in (gives.steps[0], gives.steps[-1]))
        return self._close(last, changed, first, gives)

    def _run(self, step: Step, given: dict[int, torch.Tensor]) -> None:
        """Run a step's op with the given values in the place of their equals."""
        call = self._calls[step.outputs[0] or 0]
        first = dict(zip(call.inputs, step.inputs, strict=True))
        made = run_call(call, lambda value: given.get(first[value], self.tape.tensors[value]))
        for value, tensor in zip(call.outputs, made, strict=True):
            if value is not None and isinstance(tensor, torch.Tensor):
                given[value] = tensor


@cache
def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _largest(tensor: torch.Tensor) -> float:
    """The largest magnitude among the entries; NaN if one is."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return float(tensor.abs().max())
    return float(torch.linalg.vector_norm(tensor, ord=math.inf))


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to the last bit; a NaN is equal to itself."""
    if a.shape != b.shape or a.dtype is not b.dtype:
        return False
    if torch.equal(a, b):
        return True
    return bool(((a == b) | ((a != a) & (b != b))).all())

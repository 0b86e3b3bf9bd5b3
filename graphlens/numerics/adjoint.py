"""How a result of a run depends on every value that was computed on the way, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.tape import Tape
from graphlens.collector import paused_collector
from graphlens.numerics.shadow import WIDE, in_float64

Doubles = npt.NDArray[np.float64]


class Sensitivities:
    """The tape as a differentiable program: derivatives of functionals of one value by all the others.

    Attributes:
        uncovered: ops that cannot be differentiated, with the number of calls; derivatives of what
            reaches a result through them alone come out as none.
    """

    def __init__(self, tape: Tape) -> None:
        with paused_collector():
            shadow = in_float64(tape, tracked=True)
        self._values = shadow.values
        self.uncovered: Counter[str] = shadow.uncovered
        self._live = [number for number, value in enumerate(self._values) if value.requires_grad]

    def of(self, value: int, weights: Doubles) -> Mapping[int, Doubles]:
        """The derivatives of ⟨weights, value⟩ by all values that it depends on, itself included.

        Raises:
            RuntimeError: torch cannot differentiate one of the ops on the way.
        """
        result = self._values[value]
        if not result.requires_grad:
            return {value: np.array(weights, dtype=np.float64)}
        end = (result * torch.from_numpy(np.ascontiguousarray(weights)).to(WIDE).reshape(result.shape)).sum()
        with paused_collector():
            found = torch.autograd.grad(
                end, [self._values[k] for k in self._live], allow_unused=True, retain_graph=True
            )
        return {k: grad.numpy() for k, grad in zip(self._live, found, strict=True) if grad is not None}


def depends_on(tape: Tape, values: Sequence[int]) -> set[int]:
    """The values that these were computed from, themselves included."""
    found = set(values)
    for call in reversed(tape.calls):
        if not found.isdisjoint(number for number in call.outputs if number is not None):
            found.update(call.inputs)
    return found

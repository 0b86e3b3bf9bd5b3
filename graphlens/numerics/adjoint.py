"""How a result of a run depends on every value that was computed on the way, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.tape import Tape
from graphlens.collector import paused_collector
from graphlens.numerics.shadow import WIDE, doubles_of, in_float64

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
        return {k: doubles_of(grad) for k, grad in zip(self._live, found, strict=True) if grad is not None}

    def past(self, value: int, weights: Doubles, cut: Mapping[int, Doubles]) -> Mapping[int, Doubles]:
        """The derivatives of ⟨weights, value⟩ by some entries of other values, each by the ways past all the others.

        A way from one such entry to the result that leads through a later one counts as the later one's.

        Args:
            cut: per value a one for every entry that is meant, and a zero for the others.
        """
        result = self._values[value]
        followed = [number for number in cut if self._values[number].requires_grad]
        if not result.requires_grad or not followed:
            return {value: weights * cut[value]} if value in cut else {}
        found: dict[int, Doubles] = {}

        def stopping(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
            def stop(arrived: torch.Tensor) -> torch.Tensor:
                meant = torch.from_numpy(np.ascontiguousarray(cut[number])).reshape(arrived.shape)
                found[number] = (arrived * meant).numpy()
                return torch.where(meant != 0, torch.zeros_like(arrived), arrived)

            return stop

        handles = [
            self._values[number].register_hook(stopping(number))  # type: ignore[no-untyped-call]
            for number in followed
        ]
        end = (result * torch.from_numpy(np.ascontiguousarray(weights)).to(WIDE).reshape(result.shape)).sum()
        try:
            with paused_collector():
                torch.autograd.grad(
                    end, [self._values[k] for k in followed], allow_unused=True, retain_graph=True
                )
        finally:
            for handle in handles:
                handle.remove()
        return found


def depends_on(tape: Tape, values: Sequence[int]) -> set[int]:
    """The values that these were computed from, themselves included."""
    found = set(values)
    for call in reversed(tape.calls):
        if not found.isdisjoint(number for number in call.outputs if number is not None):
            found.update(call.inputs)
    return found

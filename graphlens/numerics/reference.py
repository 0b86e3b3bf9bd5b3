"""What is held to be true: the values of a run without its rounding, by one method or another."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.tape import Tape
from graphlens.numerics.exact import Exact
from graphlens.numerics.shadow import Shadow, difference, doubles_of, is_number

Doubles = npt.NDArray[np.float64]

# How well an error has to be known to be told: to this part of the largest one in its tensor, or to this part of
# what rounding the tensor's largest entry makes. A wide ball around a right value is no error.
_OF_THE_ERROR = 1e-3
_OF_A_ROUNDING = 1e-3


class Reference(Protocol):
    """The true values of a tape, as far as they are known."""

    @property
    def method(self) -> str:
        """ "exact" or "float64"."""

    @property
    def precision(self) -> int:
        """Bits."""

    def error(self, value: int) -> Doubles | None:
        """The run's value less the true one; NaN in entries that are not known well enough, None where none is."""

    def truth(self, value: int) -> Doubles | None:
        """The true value, rounded once to float64; in the same way."""

    def radius(self, value: int) -> float:
        """A bound of what the true value may be off by; infinite where it is not known."""


class ExactReference:
    """The balls of a replay."""

    method = "exact"

    def __init__(self, tape: Tape, exact: Exact) -> None:
        self._tape = tape
        self.exact = exact
        self._errors: dict[int, Doubles | None] = {}

    @property
    def precision(self) -> int:
        return self.exact.precision

    def error(self, value: int) -> Doubles | None:
        if value not in self._errors:
            found = self._error(value)
            self._errors[value] = None if found is None or (found.size and np.isnan(found).all()) else found
        return self._errors[value]

    def _error(self, value: int) -> Doubles | None:
        balls = self.exact.values.get(value)
        if balls is None:
            return None
        tensor = self._tape.tensors[value]
        found = balls.error_of(tensor)
        if not found.size or not tensor.is_floating_point():
            return found
        size = np.abs(tensor.detach().double().numpy())
        # Where the run has 0 alone, its inputs are taken to be of the order of 1, as a replay takes them.
        rounding = torch.finfo(tensor.dtype).eps / 2 * (float(size[np.isfinite(size)].max(initial=0.0)) or 1.0)
        known = np.abs(found[np.isfinite(found)]).max(initial=0.0)
        enough = max(_OF_THE_ERROR * known, _OF_A_ROUNDING * rounding)
        return np.where(balls.radius() <= enough, found, np.nan)

    def truth(self, value: int) -> Doubles | None:
        balls = self.exact.values.get(value)
        found = None if balls is None else balls.midpoint()
        return None if found is None or (found.size and np.isnan(found).all()) else found

    def radius(self, value: int) -> float:
        balls = self.exact.values.get(value)
        return float("inf") if balls is None else balls.max_radius()


class ShadowReference:
    """A run in float64 beside one in a narrower format. Its own rounding is not known.

    Complex numbers are taken for two.
    """

    method = "float64"
    precision = 53

    def __init__(self, tape: Tape, shadow: Shadow) -> None:
        self._tape = tape
        self._shadow = shadow

    def error(self, value: int) -> Doubles | None:
        return difference(self._tape.tensors[value], self._shadow.values[value]) if self._is_known(value) else None

    def truth(self, value: int) -> Doubles | None:
        return doubles_of(self._shadow.values[value]) if self._is_known(value) else None

    def _is_known(self, value: int) -> bool:
        shadow = self._shadow
        return value not in shadow.tainted and value not in shadow.forgotten and is_number(shadow.values[value])

    def radius(self, value: int) -> float:
        truth = self.truth(value)
        return float("inf") if truth is None else float(np.abs(truth).max(initial=0.0)) * 2.0**-53

"""Arrays of exact numbers and of balls: what a tensor becomes outside floating point.

An array is a numpy array of objects. An entry is a rational number (`fmpq`), or a ball (`arb`): a
midpoint and a radius, such that the true number lies in [midpoint − radius, midpoint + radius].
A ball of NaN stands for a number of which nothing is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from flint import arb, ctx, fmpq

Array: TypeAlias = npt.NDArray[np.object_]

RATIONAL_ENTRIES = 400  # arrays up to this size start as rational numbers, larger ones as balls of radius 0
_PLENTY = 8192  # bits: enough to take two numbers apart that agree to thousands of bits
_WIDE = {torch.float64: torch.float64, torch.float32: torch.float64, torch.float16: torch.float64,
         torch.bfloat16: torch.float64}  # fmt: skip


def is_real(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds floating-point numbers that can be converted exactly."""
    return tensor.dtype in _WIDE and tensor.layout is torch.strided


def is_discrete(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds whole numbers or truth values."""
    return not (tensor.dtype.is_floating_point or tensor.dtype.is_complex) and tensor.layout is torch.strided


def doubles(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    """The numbers of a real tensor in float64, without rounding."""
    wide: npt.NDArray[np.float64] = tensor.detach().cpu().to(torch.float64).numpy()
    return wide


def from_tensor(tensor: torch.Tensor, *, rational: bool | None = None) -> npt.NDArray[Any]:
    """The numbers of a tensor, exactly: rationals if there are few, else balls of radius 0.

    Whole numbers and truth values keep their numpy type.

    Args:
        rational: rationals in any case, or never.
    """
    if is_discrete(tensor):
        whole: npt.NDArray[Any] = tensor.detach().cpu().numpy()
        return whole
    flat = doubles(tensor).ravel().tolist()
    small = len(flat) <= RATIONAL_ENTRIES if rational is None else rational
    return shaped([fraction(number) for number in flat] if small else [ball(number) for number in flat], tensor.shape)


def shaped(entries: list[Any], shape: tuple[int, ...]) -> Array:
    """An array of these entries, in row-major order."""
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array.reshape(shape)


def wrapped(value: Any) -> Array:
    """Always an array: numpy returns the bare entry where an array would have no dimensions."""
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def fraction(number: float | int) -> Any:
    """A number as a rational, or as a ball where it is infinite or NaN."""
    if isinstance(number, int):
        return fmpq(number)
    if math.isfinite(number):
        return fmpq(*number.as_integer_ratio())
    return ball(number)


def ball(number: Any) -> arb:
    """A number as a ball; an infinite one exactly."""
    if isinstance(number, arb):
        return number
    if isinstance(number, float) and math.isinf(number):
        return arb.pos_inf() if number > 0 else arb.neg_inf()
    return arb(number)


def numbers(value: Any) -> Any:
    """An operand of arithmetic: what is no array of objects becomes rational numbers."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return value
        return shaped([fmpq(int(number)) for number in value.ravel().tolist()], value.shape)
    if isinstance(value, (bool, int, float)):
        return fraction(value)
    return value


def is_known(entry: Any) -> bool:
    """Whether anything is known of an entry."""
    return isinstance(entry, fmpq) or not entry.is_nan()


def nearest(entry: Any) -> float:
    """The float64 nearest to a rational number or to a ball's midpoint."""
    if isinstance(entry, fmpq):
        try:
            return int(entry.p) / int(entry.q)
        except OverflowError:
            return math.inf if entry > 0 else -math.inf
    return float(entry)


def likeliest(entry: Any) -> float:
    """The float64 nearest to an entry; 0 where the ball does not say that it is anything else."""
    if not isinstance(entry, fmpq) and not entry.is_nan() and entry.contains(0):
        return 0.0
    return nearest(entry)


def radius(entry: Any) -> float:
    """An upper bound in float64 of an entry's radius; infinite if nothing is known."""
    if isinstance(entry, fmpq):
        return 0.0
    if entry.is_nan():
        return math.inf
    if entry.is_exact():
        return 0.0
    return math.nextafter(float(entry.rad()), math.inf)


@dataclass(frozen=True, eq=False)
class Balls:
    """The true values of a tensor: an entry lies in its ball.

    Attributes:
        entries: rationals and balls.
    """

    entries: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entries.shape

    def midpoint(self) -> npt.NDArray[np.float64]:
        """Each midpoint rounded to the nearest float64, 0 for a ball around 0; NaN where nothing is known."""
        return np.array([likeliest(entry) for entry in self.entries.ravel()], dtype=np.float64).reshape(self.shape)

    def radius(self) -> npt.NDArray[np.float64]:
        """An upper bound of each radius; infinite where nothing is known."""
        return np.array([radius(entry) for entry in self.entries.ravel()], dtype=np.float64).reshape(self.shape)

    def max_radius(self) -> float:
        return max(map(radius, self.entries.ravel()), default=0.0)

    def error_of(self, tensor: torch.Tensor) -> npt.NDArray[np.float64]:
        """A float result minus the true value, rounded once to float64; 0 where they may be the same."""
        pairs = zip(from_tensor(tensor).flat, self.entries.flat, strict=True)
        with ctx.workprec(_PLENTY):
            return np.array([likeliest(a - b) for a, b in pairs], dtype=np.float64).reshape(self.shape)

    def contains(self, other: Balls | Array) -> bool:
        """Whether every entry of the other, with its whole ball, lies in this one's."""
        theirs = other.entries if isinstance(other, Balls) else other
        with ctx.workprec(_PLENTY):
            return all(map(_holds, self.entries.flat, theirs.flat))


def _holds(outer: Any, inner: Any) -> bool:
    if isinstance(outer, fmpq):
        return bool(inner == outer) if isinstance(inner, fmpq) else bool(inner.is_exact() and inner == ball(outer))
    return bool(outer.contains(ball(inner)))

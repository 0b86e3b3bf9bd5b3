"""What is known of true values that float64 cannot hold: whether they are 0, whether they are finite, how large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, fmpq

from graphlens.numerics.balls import ball, is_known
from graphlens.numerics.reference import ExactReference, Reference

Bools = npt.NDArray[np.bool_]


def is_finite(reference: Reference, value: int) -> Bools | None:
    """The entries whose true value is a finite number; None where nothing is known."""
    entries = _entries(reference, value)
    if entries is not None:
        return _each(lambda entry: isinstance(entry, fmpq) or bool(entry.is_finite()), entries)
    truth = reference.truth(value)
    return None if truth is None else np.isfinite(truth)


def is_not_zero(reference: Reference, value: int) -> Bools | None:
    """The entries whose true value is certainly another number than 0; None where nothing is known."""
    entries = _entries(reference, value)
    if entries is not None:
        return _each(lambda entry: is_known(entry) and not _may_be_zero(entry), entries)
    truth = reference.truth(value)
    return None if truth is None else np.isfinite(truth) & (truth != 0)


def exponent(reference: Reference, value: int, place: tuple[int, ...]) -> float:
    """log₁₀ of the magnitude of a true entry; −∞ for 0, NaN where it is not known."""
    entries = _entries(reference, value)
    if entries is not None:
        entry = entries[place]
        if not is_known(entry) or _may_be_zero(entry):
            return -math.inf if is_known(entry) else math.nan
        return float(abs(ball(entry)).log() / arb(10).log())
    truth = reference.truth(value)
    if truth is None or not np.isfinite(truth[place]):
        return math.nan
    return math.log10(abs(float(truth[place]))) if truth[place] else -math.inf


def _entries(reference: Reference, value: int) -> npt.NDArray[np.object_] | None:
    if not isinstance(reference, ExactReference) or value not in reference.exact.values:
        return None
    return reference.exact.values[value].entries


def _may_be_zero(entry: Any) -> bool:
    return bool(entry == 0) if isinstance(entry, fmpq) else bool(entry.contains(0))


def _each(test: Any, entries: npt.NDArray[np.object_]) -> Bools:
    return np.array([test(entry) for entry in entries.flat], dtype=bool).reshape(entries.shape)

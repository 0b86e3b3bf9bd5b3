"""A result of a run held against its true value: how far off, in which units, and how many digits are right."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from graphlens.accuracy import Quantity
from graphlens.capture.ledger import dtype_name
from graphlens.numerics.reference import Reference
from graphlens.numerics.study import Study, Target, euclidean

Doubles = npt.NDArray[np.float64]
# A run in float64 is off itself, by the roundoff of float64 where the narrower run is off by its own. What it has
# below some such errors, and below this part of the narrower run's in any case, may as well be 0.
_OWN_ERRORS, _NOTHING = 16.0, 1e-6


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the spacing of the numbers above 1: the largest relative error of one rounding to nearest."""
    return float(torch.finfo(dtype).eps) / 2


def quantity(study: Study, target: Target) -> Quantity:
    """One result and its error, as far as the truth is known; without its attribution."""
    tensor = study.tape.tensors[target.value].detach()
    run: Doubles = tensor.double().numpy()
    finite = np.abs(run[np.isfinite(run)])
    found = Quantity(
        target.name, target.kind, tuple(tensor.shape), dtype_name(tensor.dtype), float(finite.max(initial=0.0)),
        not_finite=run.size - finite.size,
    )  # fmt: skip
    reference = study.reference
    error = None if reference is None else reference.error(target.value)
    truth = None if reference is None else reference.truth(target.value)
    if reference is None or error is None or truth is None or np.isnan(error).any() or not np.isfinite(truth).all():
        return found  # from an infinite true value nothing has a distance
    largest = float(np.abs(error).max(initial=0.0))
    true = float(np.abs(truth).max(initial=0.0))
    is_zero = true <= _floor(reference, largest, tensor.dtype)
    return Quantity(
        found.name, found.kind, found.shape, found.dtype, found.size,
        error=largest,
        norm=euclidean(error),
        truth=0.0 if is_zero else true,
        is_zero=is_zero,
        ulps=ulps(error, run, truth, tensor.dtype),
        digits=None if is_zero else right_digits(largest, true, tensor.dtype),
        true=truth,
        not_finite=found.not_finite,
    )  # fmt: skip


def _floor(reference: Reference, error: float, dtype: torch.dtype) -> float:
    """Up to which size the reference does not tell a true value from 0; balls around 0 are 0 already."""
    if reference.method == "exact" or not math.isfinite(error):
        return 0.0
    return min(_OWN_ERRORS * 2.0**-53 / unit_roundoff(dtype), _NOTHING) * error


def ulps(error: Doubles, run: Doubles, truth: Doubles, dtype: torch.dtype) -> float:
    """The largest error in units in the last place: the spacing of the format at the larger of run and truth."""
    facts = torch.finfo(dtype)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.maximum(np.abs(run), np.abs(truth)), facts.tiny)
        _, exponent = np.frexp(size)  # size = m · 2^exponent with 1/2 ≤ m < 1
        spacing = np.ldexp(float(facts.eps), exponent - 1)
        return float(np.where(error == 0, 0.0, np.abs(error) / spacing).max(initial=0.0))


def right_digits(error: float, truth: float, dtype: torch.dtype) -> float:
    """−log₁₀ of the relative error, from 0 up to the digits of the format, −log₁₀ u."""
    most = -math.log10(unit_roundoff(dtype))
    if error == 0:
        return most
    if not math.isfinite(error):
        return 0.0
    return min(max(0.0, -math.log10(error / truth)), most)  # 0.0 comes first, as -0.0 is no smaller

"""How many digits of a result stay the same in runs that were rounded at random, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Doubles = npt.NDArray[np.float64]
CONFIDENCE = 0.95


class Digits(NamedTuple):
    """Significant decimal digits, with the ends of their confidence interval."""

    digits: float
    low: float
    high: float


@dataclass(frozen=True)
class Significance:
    """What runs that were rounded at random say of one result.

    Digits are −log₁₀(σ/|μ|), with μ the mean and σ the standard deviation over the runs (Stott
    Parker, "Monte Carlo arithmetic", UCLA CSD-970002, 1997; Denis, de Oliveira Castro and Petit,
    "Verificarlo", ARITH 2016), from 0 up to what the format holds. They say how far rounding moves a
    result, not whether it is right: what every run makes the same mistake in looks significant.

    Attributes:
        overall: of the result as a whole: the largest σ against the largest |μ| of its entries; None
            where every entry was 0 in every run.
        worst: of the entry with the fewest.
        norm: σ and μ as Euclidean norms over all entries.
        runs: how many there were.
        deviation: the largest σ of an entry.
        size: the largest |μ| of an entry.
        taken: ops that the result depends on and whose results were those of the run, with the
            number of calls: what was rounded before them is not in the digits.
    """

    overall: Digits | None
    worst: Digits | None
    norm: Digits | None
    runs: int
    deviation: float
    size: float
    taken: Mapping[str, int] = field(default_factory=dict)


class Moments:
    """Mean and squared deviations of arrays that come one after the other (Welford 1962)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean: Doubles = np.zeros(shape)
        self._squares: Doubles = np.zeros(shape)

    def add(self, values: Doubles) -> None:
        """Take in the values of one run."""
        self.count += 1
        if self.count == 1:
            self.mean = values.copy()
            return
        with np.errstate(invalid="ignore", over="ignore"):
            # The same infinity every time does not deviate.
            step = np.where(values == self.mean, 0.0, values - self.mean)
            self.mean = np.where(np.isfinite(values), self.mean + step / self.count, values)
            self._squares = self._squares + step * np.where(values == self.mean, 0.0, values - self.mean)

    @property
    def deviation(self) -> Doubles:
        """The standard deviation of every entry, with count − 1; NaN where a run was not finite and another was."""
        made: Doubles = np.sqrt(np.maximum(self._squares, 0.0) / (self.count - 1))
        return made


def significance(moments: Moments, unit: float, taken: Mapping[str, int]) -> Significance:
    """Digits and their intervals.

    Under the normal distribution (n − 1) s²/σ² has the χ² distribution, which bounds σ from both sides
    (Sohier, de Oliveira Castro, Févotte, Lathuilière, Petit and Jamond, "Confidence intervals for
    stochastic arithmetic", ACM TOMS 47(2), 2021, section 4). The bounds for single entries hold for
    all entries together (Bonferroni), so that they hold for the largest and the worst one.

    Args:
        unit: unit roundoff of the format that the run has the result in.
    """
    size, deviation = np.abs(moments.mean), moments.deviation
    fixed = ~np.isfinite(size) & (deviation == 0)  # the same infinity in every run
    size, deviation = size[~fixed], np.where(np.isfinite(deviation), deviation, np.inf)[~fixed]
    most = -math.log10(unit)
    apart = max(int((deviation > 0).sum()), 1)
    largest = float(deviation.max(initial=0.0))
    top = float(size[np.isfinite(size)].max(initial=0.0))
    used = (size > 0) | (deviation > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(np.isfinite(deviation), deviation / size, np.inf)[used]
    together = (float(np.sqrt((deviation**2).sum())), float(np.sqrt((size[np.isfinite(size)] ** 2).sum())))
    return Significance(
        _digits(_ratio(largest, top), moments.count, apart, most) if used.any() else None,
        _digits(float(relative.max()), moments.count, apart, most) if used.any() else None,
        # The entries may move together: then there are no more degrees of freedom than those of one.
        _digits(_ratio(*together), moments.count, 1, most) if used.any() else None,
        moments.count, largest, top, dict(taken),
    )  # fmt: skip


def _ratio(deviation: float, size: float) -> float:
    return deviation / size if size else math.inf


def _digits(relative: float, runs: int, entries: int, most: float) -> Digits:
    """Digits from the largest of some relative deviations, of as many entries."""

    def of(value: float) -> float:
        return most if value == 0 else 0.0 if not math.isfinite(value) else min(max(-math.log10(value), 0.0), most)

    below, above = deviation_bounds(runs, entries)
    return Digits(of(relative), of(relative * above), of(relative * below))


@cache
def deviation_bounds(runs: int, entries: int = 1) -> tuple[float, float]:
    """What to multiply standard deviations by for the ends of intervals that hold all the true ones."""
    freedom, tail = runs - 1, (1 - CONFIDENCE) / 2 / entries
    return math.sqrt(freedom / chi_square(freedom, 1 - tail)), math.sqrt(freedom / chi_square(freedom, tail))


def chi_square(freedom: int, probability: float) -> float:
    """The value that a χ² variable stays below with some probability; by bisection."""
    shape = torch.tensor(freedom / 2, dtype=torch.float64)

    def is_below(value: float) -> bool:
        x = torch.tensor(value / 2, dtype=torch.float64)
        if probability < 0.5:
            return bool(torch.special.gammainc(shape, x) < probability)
        return bool(torch.special.gammaincc(shape, x) > 1 - probability)

    low, high = 0.0, 1.0
    while is_below(high):
        high *= 2
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high

"""Least squares by hand: a straight line and a power law, with the standard errors that tell how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FEWEST = 3  # points: through two there is always a line, and nothing that says how well it fits


@dataclass(frozen=True)
class Power:
    """y = factor · x^exponent: least squares of log y over log x, each point with the same weight.

    Attributes:
        error: standard error of the exponent, √(RSS ÷ (points − 2) ÷ Σ (log x − mean)²).
        r_squared: share of the variance of log y that the law accounts for.
        low, high: the smallest and the largest x that took part.
    """

    exponent: float
    error: float
    factor: float
    r_squared: float
    points: int
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """y = slope · x + intercept: least squares, each point with the same weight.

    Attributes:
        slope_error, intercept_error: standard errors; 0 where the line is exact.
        is_exact: whether slope and intercept are whole numbers that give each point exactly.
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    r_squared: float
    points: int
    low: float
    high: float
    is_exact: bool = False


def fit_power(xs: Sequence[float], ys: Sequence[float]) -> Power:
    """The power law through three or more points with positive x and y."""
    found = fit_line([math.log(x) for x in xs], [math.log(y) for y in ys])
    return Power(
        found.slope, found.slope_error, _exp(found.intercept), found.r_squared, len(xs), min(xs), max(xs)
    )  # fmt: skip


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """The straight line through three or more points, with the standard errors of least squares."""
    # Near 1 no square overflows; a power of two takes no digit away.
    unit_x, unit_y = _scale(xs), _scale(ys)
    pairs = [(x / unit_x, y / unit_y) for x, y in zip(xs, ys, strict=True)]
    count = len(pairs)
    mean_x, mean_y = math.fsum(x for x, _ in pairs) / count, math.fsum(y for _, y in pairs) / count
    spread = math.fsum((x - mean_x) ** 2 for x, _ in pairs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread
    intercept = mean_y - slope * mean_x
    left = math.fsum((y - slope * x - intercept) ** 2 for x, y in pairs)
    total = math.fsum((y - mean_y) ** 2 for _, y in pairs)
    variance = left / (count - 2)
    return Line(
        slope * (unit_y / unit_x),
        math.sqrt(variance / spread) * (unit_y / unit_x),
        intercept * unit_y,
        math.sqrt(variance * (1 / count + mean_x**2 / spread)) * unit_y,
        1 - left / total if total else 1.0,
        count,
        min(xs),
        max(xs),
    )


def _scale(values: Sequence[float]) -> float:
    """The power of two next to the largest magnitude."""
    return math.ldexp(1.0, min(math.frexp(max(map(abs, values)))[1], 1023))


def exact_line(xs: Sequence[Any], ys: Sequence[Any]) -> Line | None:
    """The line of whole numbers that gives each of three or more points exactly, if there is one."""
    if len(xs) < FEWEST or any(type(value) is not int for value in (*xs, *ys)) or xs[0] == xs[-1]:
        return None
    slope, rest = divmod(ys[-1] - ys[0], xs[-1] - xs[0])
    intercept = ys[0] - slope * xs[0]
    if rest or any(slope * x + intercept != y for x, y in zip(xs, ys, strict=True)):
        return None
    return Line(slope, 0.0, intercept, 0.0, 1.0, len(xs), min(xs), max(xs), is_exact=True)


# Student's t that 95 % of all samples stay below in magnitude, for 1 to 10 degrees of freedom.
_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student_t(freedom: int) -> float:
    """The number of standard errors within which 95 % of all estimates lie."""
    if freedom <= len(_STUDENT_T):
        return _STUDENT_T[freedom - 1]
    return 1.96 + 2.5 / freedom + 3 / freedom**2  # within 0.02 of the table's values

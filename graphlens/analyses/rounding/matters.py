"""When a loss of digits matters."""

from __future__ import annotations

import math

from graphlens.accuracy import Quantity

LOST = 1e3  # unit roundoffs: three decimal digits, more than sound training steps lose to random rounding
NO_DIGIT = 0.5  # right digits below which a result has none
FEW = 0.1  # of a result's error; what makes less of it is not worth a change


def is_lost(relative: float, unit: float) -> bool:
    """Whether a relative error says that digits are gone which the format has.

    That is three digits; of a format that has hardly more, as bfloat16, half of them.
    """
    return relative >= min(LOST * unit, math.sqrt(unit))


def relative_error(quantity: Quantity) -> float | None:
    """The largest error ÷ the largest true entry; None where one is not known, or the truth is 0."""
    if quantity.error is None or not quantity.truth or quantity.is_zero:
        return None
    return quantity.error / quantity.truth

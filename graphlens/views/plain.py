"""Values as JSON can hold them."""

from __future__ import annotations

import math


def number(value: float | None) -> float | str | None:
    """NaN and infinities, which JSON lacks, as "nan", "inf", "-inf"."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"

"""Values as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graphlens.records import Timing


def number(value: float | None) -> float | str | None:
    """NaN and infinities, which JSON lacks, as "nan", "inf", "-inf"."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def timing(measured: Timing | None) -> dict[str, Any] | None:
    """Seconds; None where nothing was measured."""
    if measured is None:
        return None
    return {"median": measured.median, "min": measured.min, "max": measured.max, "repeats": measured.repeats}


def evidence(value: Any) -> Any:
    """Evidence as JSON can hold it."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): evidence(item) for key, item in value.items()}
    return [evidence(item) for item in value] if isinstance(value, (list, tuple)) else value

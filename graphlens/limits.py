"""How much is to be spent on true values."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_SECONDS = 60.0


class Truths(NamedTuple):
    """Where true values are to come from, see `measure_accuracy`, and how many seconds they may take."""

    method: str = "auto"
    seconds: float = DEFAULT_SECONDS

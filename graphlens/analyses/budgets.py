"""Budgets: how many times as much as B a comparison's A may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphlens.analyses.comparison import Comparison
from graphlens.errors import MeasureError
from graphlens.units import significant


@dataclass(frozen=True)
class Budget:
    """One limit and what was measured; `ratio` is A's value over B's, infinite where B has 0 and A more."""

    name: str
    limit: float
    ratio: float
    a: float
    b: float

    @property
    def is_exceeded(self) -> bool:
        """Whether A takes more than the limit allows."""
        return self.ratio > self.limit

    def __str__(self) -> str:
        return f"{self.name}: {significant(self.ratio, 4)} × of at most {significant(self.limit, 4)} ×"


NAMES = ("nodes", "saved", "time")


def check_budgets(comparison: Comparison, limits: Mapping[str, float]) -> tuple[Budget, ...]:
    """The budgets with what was measured for each.

    Args:
        limits: by name, "nodes" (grad_fn nodes), "saved" (distinct storage bytes kept for backward)
            or "time" (the medians of the forward and of the backward pass, added up).

    Raises:
        MeasureError: what a limit is about was not measured on both sides.
    """
    return tuple(_budget(comparison, name, limit) for name, limit in limits.items())


def _budget(comparison: Comparison, name: str, limit: float) -> Budget:
    a, b = (_measured(comparison, name, side) for side in "ab")
    for run, value in ((comparison.a, a), (comparison.b, b)):
        if value is None:
            why = "it was not timed" if name == "time" else "it has no backward graph, or one that hides what it keeps"
            raise MeasureError(f"--max-{name}-ratio cannot be checked for {run.target}: {why}")
    assert a is not None
    assert b is not None
    ratio = a / b if b else 1.0 if a == b else float("inf")
    return Budget(name, limit, ratio, a, b)


def _measured(comparison: Comparison, name: str, side: str) -> float | None:
    run, stats = (comparison.a, comparison.stats_a) if side == "a" else (comparison.b, comparison.stats_b)
    if name == "time":
        return None if run.forward is None or run.backward is None else run.forward.median + run.backward.median
    if stats is None:
        return None
    if name == "nodes":
        return stats.nodes
    return None if stats.total.unknown or stats.total.freed else stats.total.storage_bytes

"""Budgets: how many times as much as B a comparison's A may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphlens.analyses.comparison import Comparison
from graphlens.errors import MeasureError
from graphlens.records import RunRecord, Timing
from graphlens.units import significant


@dataclass(frozen=True)
class Budget:
    """One limit and what was measured; `ratio` is A's value over B's, infinite where B has 0 and A more.

    Attributes:
        a, b: the values; of a time the medians of the forward and of the backward pass, added up.
        least: of a time, the shortest of A's passes over the longest of B's: less than `ratio`, and
            all that the measured ranges leave no doubt about. `ratio` itself of a count.
    """

    name: str
    limit: float
    ratio: float
    a: float
    b: float
    least: float

    @property
    def is_exceeded(self) -> bool:
        """Whether A takes more than the limit allows, wherever in the ranges the true times are."""
        return self.ratio > self.limit and self.least > self.limit

    @property
    def is_open(self) -> bool:
        """Whether only the medians are beyond the limit, and the ranges reach below it."""
        return self.ratio > self.limit and not self.is_exceeded

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
    least = _ratio(a, b)
    if name == "time":
        shortest = sum(timing.min for timing in _passes(comparison.a))
        longest = sum(timing.max for timing in _passes(comparison.b))
        least = _ratio(shortest, longest)
    return Budget(name, limit, _ratio(a, b), a, b, least)


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0 if a == b else float("inf")


def _passes(run: RunRecord) -> list[Timing]:
    return [timing for timing in (run.forward, run.backward) if timing is not None]


def _measured(comparison: Comparison, name: str, side: str) -> float | None:
    run, stats = (comparison.a, comparison.stats_a) if side == "a" else (comparison.b, comparison.stats_b)
    if name == "time":
        return sum(timing.median for timing in _passes(run)) if len(_passes(run)) == 2 else None
    if stats is None:
        return None
    if name == "nodes":
        return stats.nodes
    return None if stats.total.unknown or stats.total.freed else stats.total.storage_bytes

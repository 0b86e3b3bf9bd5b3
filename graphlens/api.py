"""Public calls that only join other parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphlens.analyses.comparison import Comparison, compare_records
from graphlens.errors import TargetError
from graphlens.graph import GradGraph
from graphlens.records import RunRecord
from graphlens.targets import LESSONS

if TYPE_CHECKING:
    from graphlens.capture.trace import Trace
    from graphlens.subject import Subject


def compare(a: Trace | GradGraph, b: Trace | GradGraph, *, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two traces, or two graphs (then without values and times).

    Args:
        names: how to call the two sides; by default their own names.
    """
    left, right = names or (_name(a, "a"), _name(b, "b"))
    return compare_records(_record(a, left), _record(b, right))


def lesson(name: str, **options: object) -> Subject:
    """A built-in lesson as a subject, e.g. `lesson("wasteful", n=100)`.

    Raises:
        TargetError: there is no lesson of that name.
        TypeError, ValueError: an option is unknown or out of range.
    """
    if name not in LESSONS:
        raise TargetError(f"there is no lesson {name!r}; there are {', '.join(LESSONS)}")
    from graphlens.lessons import FACTORIES

    return FACTORIES[name](**options)


def _record(side: Trace | GradGraph, name: str) -> RunRecord:
    return RunRecord(name, side) if isinstance(side, GradGraph) else side.record(name)


def _name(side: Trace | GradGraph, fallback: str) -> str:
    name = side.meta.get("target") if isinstance(side, GradGraph) else side.name
    return str(name or fallback)

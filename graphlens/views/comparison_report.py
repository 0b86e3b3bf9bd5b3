"""The report that `graphlens compare` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.budgets import Budget
from graphlens.analyses.comparison import Comparison
from graphlens.analyses.counts import Row, Stats
from graphlens.analyses.differences import Difference
from graphlens.analyses.reasons import ulps_text
from graphlens.graph import printable
from graphlens.records import Timing
from graphlens.units import count_text, ratio_text, seconds_text, significant
from graphlens.views.check_report import findings_text
from graphlens.views.opening import NOT_MEASURED, next_steps, opening
from graphlens.views.stats_report import known_count, known_size
from graphlens.views.table import heading, paragraph, table, to_text


def comparison_report(
    comparison: Comparison,
    *,
    width: int = 80,
    colour: bool = False,
    steps: Sequence[str] = (),
    budgets: Sequence[Budget] = (),
) -> str:
    """Two runs side by side, and why they differ; `steps` are the commands to type next."""
    parts = list(_comparison_parts(comparison, width))
    if budgets:
        parts.append(heading("\nBudgets"))
        rows = [
            (
                budget.name,
                ratio_of(budget),
                f"{budget.limit:g} ×",
                "exceeded" if budget.is_exceeded else "not exceeded beyond doubt" if budget.is_open else "kept",
            )
            for budget in budgets
        ]
        parts.append(table(("a over b", "measured", "at most", ""), rows, texts=(3,)))
        parts += [paragraph(_time_budget(budget), width=width) for budget in budgets if budget.name == "time"]
    parts += next_steps(steps, width)
    return to_text(parts, width=width, colour=colour)


def _time_budget(budget: Budget) -> str:
    """What the ratio of times is, and when it counts as exceeded."""
    return (
        f"Time: both passes together, {seconds_text(budget.a)} over {seconds_text(budget.b)} (medians of forward plus "
        f"backward). The shortest of a's passes over the longest of b's is {significant(budget.least, 4)} ×; the limit "
        "is exceeded where that is beyond it too."
    )


def ratio_of(budget: Budget) -> str:
    """ "1.25 ×"."""
    return f"{significant(budget.ratio, 4)} ×"


def _comparison_parts(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    a, b = comparison.a, comparison.b
    shared = a.graph if a.graph and b.graph and a.graph.meta.get("options") == b.graph.meta.get("options") else None
    yield from opening(f"{a.target} against {b.target}", shared, a.threads or b.threads, width)
    yield Text("")
    tensors = (*comparison.outputs, *comparison.gradients, *((comparison.loss,) if comparison.loss else ()))
    names = _short_names(a.target, b.target, [_difference_row(row) for row in tensors], width)
    yield table(("", *names, "ratio"), _comparison_rows(comparison))
    if comparison.outputs:
        yield Text("")
        yield table(("output", *names, "largest difference"), map(_difference_row, comparison.outputs), left=3)
    if comparison.loss is not None:
        yield Text("")
        yield table(("loss", *names, "largest difference"), [_difference_row(comparison.loss)], left=3)
    if comparison.gradients:
        yield Text("")
        shown = _most_telling(comparison.gradients)
        yield table(("gradient", *names, "largest difference"), map(_difference_row, shown), left=3)
        if len(shown) < len(comparison.gradients):
            yield Text(f"… and {count_text(len(comparison.gradients) - len(shown))} more (--json lists them all)")
    if text := comparison.caution:
        yield paragraph(text, width=width)
    for side in (a, b):
        for note in side.notes:
            yield paragraph(f"{side.target}: {note}.", width=width)
    yield heading("\nWhy")
    for reason in comparison.reasons:
        yield paragraph(reason.claim, width=width, indent="    ", first="  · ")
    for side, findings in ((a, comparison.waste_a), (b, comparison.waste_b)):
        serious = [finding for finding in findings if finding.level == "warning"]
        if serious:
            yield heading(f"\nWhat {printable(side.target)} could do without")
            yield Text(findings_text(serious, width=width))


def _short_names(a: str, b: str, rows: Sequence[Sequence[str]], width: int) -> tuple[str, str]:
    """The targets as headings of columns; "a" and "b" where they would leave no room for the names of tensors."""
    longest = (max((len(row[column]) for row in rows), default=0) for column in (0, 3))
    fits = sum(longest) + sum(max(len(name), len("absent")) + 2 for name in (a, b)) + 2 <= width
    return (a, b) if fits and max(len(a), len(b)) <= 22 else ("a", "b")


_COUNTS: tuple[tuple[str, Callable[[Stats], int]], ...] = (
    ("grad_fn nodes", lambda stats: stats.nodes),
    ("edges", lambda stats: stats.edges),
    ("depth", lambda stats: stats.depth),
)
_SIZES: tuple[tuple[str, Callable[[Stats], int], Callable[[Row, int], str]], ...] = (
    ("saved tensors (references)", lambda stats: stats.total.saved_tensors, known_count),
    ("saved for backward (views)", lambda stats: stats.total.saved_bytes, known_size),
    ("saved for backward (storage)", lambda stats: stats.total.storage_bytes, known_size),
)


def _comparison_rows(comparison: Comparison) -> Iterator[tuple[str, str, str, str]]:
    sides = (comparison.stats_a, comparison.stats_b)
    present = [stats for stats in sides if stats is not None]
    for name, read in _COUNTS:
        cells = ["no graph" if stats is None else count_text(read(stats)) for stats in sides]
        yield (name, cells[0], cells[1], ratio_text(*map(read, present)) if len(present) == 2 else "")
    exact = len(present) == 2 and not any(stats.total.unknown for stats in present)
    for name, read, text in _SIZES:
        cells = ["no graph" if stats is None else text(stats.total, read(stats)) for stats in sides]
        yield (name, cells[0], cells[1], ratio_text(*map(read, present)) if exact else "")
    for name, x, y in (
        ("forward", comparison.a.forward, comparison.b.forward),
        ("backward", comparison.a.backward, comparison.b.backward),
    ):
        yield (name, _median(x), _median(y), ratio_text(x.median, y.median) if x is not None and y is not None else "")
        if x is not None or y is not None:
            yield ("  range", _range(x), _range(y), "")


def _median(timing: Timing | None) -> str:
    return NOT_MEASURED if timing is None else seconds_text(timing.median)


def _range(timing: Timing | None) -> str:
    return "" if timing is None else f"{seconds_text(timing.min)} to {seconds_text(timing.max)}"


_MOST_GRADIENTS = 40


def _most_telling(rows: Sequence[Difference]) -> Sequence[Difference]:
    """All rows where they are few; else those with a value on one side only, then the largest differences."""
    if len(rows) <= _MOST_GRADIENTS:
        return rows
    return sorted(rows, key=lambda row: (row.a == row.b, -(row.max_abs or 0.0)))[:_MOST_GRADIENTS]


_STATUS = {"value": "value", "none": "None", "absent": "absent"}


def _difference_row(row: Difference) -> tuple[str, str, str, str]:
    if row.max_abs is None:
        text = "" if row.largest is None else f"the value is at most {significant(row.largest, 2)}"
        if row.a == row.b == "value":
            text = row.note
    elif row.max_abs == 0.0:
        text = "equal to the last bit"
    else:
        parts = [] if row.relative is None else [f"{significant(row.relative, 2)} relative"]
        parts += [] if row.ulps is None else [ulps_text(row.ulps)]
        text = significant(row.max_abs, 2) + (f"  ({', '.join(parts)})" if parts else "")
    return (row.name, _STATUS[row.a], _STATUS[row.b], text)

"""What a sweep for errors prints of its points, and its CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.exactness import LoopError, ResultError, loop_keys, matrices, telling
from graphlens.analyses.growth import condition_name, x_text
from graphlens.analyses.rounding.laws import (
    AMPLIFIED,
    BOUNDED,
    DAMPED,
    DRIFT,
    EXACT,
    FROZEN,
    INHERITED,
    RANDOM,
    STALLED,
    SYSTEMATIC,
    UNCLEAR,
)
from graphlens.analyses.sweep_points import Point, Side, Sweep, is_numeric
from graphlens.graph import printable
from graphlens.units import count_text, significant
from graphlens.views.table import heading, paragraph, table

MOST_RESULTS = 5  # columns
_MOST_MATRICES = 2  # columns
_MOST_LOOPS = 4
_MOST_NOTES = 4
_LONGEST = 10  # letters of a column's title
_METHODS = {
    "exact": "exact arithmetic",
    "float64": "a run in float64, whose own rounding is not measured",
    "sample": "nowhere: digits are those on which runs agree that are rounded at random",
}

Row = tuple[Point, int, Side]


@dataclass(frozen=True)
class _Lead:
    """The first columns of every table: the options that vary, and which target a row is of.

    Attributes:
        words: places of columns that are text.
    """

    varied: Sequence[str]
    names: Sequence[str]
    words: frozenset[int]

    @classmethod
    def of(cls, sweep: Sweep, varied: Sequence[str], names: Sequence[str]) -> _Lead:
        texts = {place for place, key in enumerate(varied) if not is_numeric(sweep.over[key])}
        return cls(varied, names, frozenset(texts | ({len(varied)} if len(names) > 1 else set())))

    @property
    def header(self) -> tuple[str, ...]:
        return (*map(printable, self.varied), *(("of",) if len(self.names) > 1 else ()))

    def cells(self, row: Row) -> tuple[str, ...]:
        point, number, _ = row
        # The options stand once for each point, so that the eye finds its rows together.
        options = tuple(printable(x_text(point.options[key])) if number == 0 else "" for key in self.varied)
        return (*options, self.names[number]) if len(self.names) > 1 else options


def error_parts(sweep: Sweep, varied: Sequence[str], names: Sequence[str], width: int) -> Iterator[RenderableType]:
    """The errors of results, their digits, and the errors of loops, point by point.

    Args:
        varied: the options that have a column.
        names: of the targets, short enough for a column.
    """
    rows: list[Row] = [(point, k, side) for point in sweep.done for k, side in enumerate(point.sides)]
    known = [side.exactness for _, _, side in rows if side.exactness is not None]
    if not known:
        yield Text("\nNo point has a backward graph, of whose results the errors could be told.")
        return
    for method in dict.fromkeys(found.method for found in known):
        points = sum(found.method == method for found in known)
        where = "" if points == len(known) else f" (at {points} of {len(known)})"
        yield paragraph(f"True values come from {_METHODS[method]}{where}.", width=width)
    labels = telling(known)
    shown = labels[:MOST_RESULTS]
    titles = [_title(next(found.by_label[label] for found in known if label in found.by_label)) for label in shown]
    if max(map(len, titles), default=0) > _LONGEST:
        titles = [f"r{number}" for number in range(1, len(titles) + 1)]
        for title, label in zip(titles, shown, strict=True):
            yield paragraph(printable(f"{title} is {label}."), width=width)
    lead = _Lead.of(sweep, varied, names)
    shown_matrices = matrices(known)[:_MOST_MATRICES]
    yield heading("\nLargest absolute error")
    yield table(
        (*lead.header, *map(printable, map(condition_name, shown_matrices)), *titles),
        ((*lead.cells(row), *_conditions(row[2], shown_matrices), *_cells(row[2], shown, _error)) for row in rows),
        left=0, texts=lead.words,
    )  # fmt: skip
    yield heading("\nRight digits of the largest entry")
    digits = ((*lead.cells(row), *_cells(row[2], shown, _digits)) for row in rows)
    yield table((*lead.header, *titles), digits, left=0, texts=lead.words)
    if len(labels) > len(shown):
        yield Text(f"… and {len(labels) - len(shown):,} more results (--json and --csv have all)")
    if any(result.is_zero and result.error for found in known for result in found.results):
        yield paragraph("noise: the true value is 0, so that the whole of it is error.", width=width)
    yield from _notes(rows, width)
    yield from _loops(rows, lead, width)


def _notes(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """What could not be found out, and at which points."""
    where: dict[str, list[str]] = {}
    for point, _, side in rows:
        for note in () if side.exactness is None else side.exactness.notes:
            where.setdefault(note, []).append(", ".join(f"{key} = {x_text(v)}" for key, v in point.options.items()))
    for note, points in list(where.items())[:_MOST_NOTES]:
        more = f" and {len(points) - 1} more" if points[1:] else ""
        lead = "" if len(points) == len(rows) else f"At {points[0]}{more}: "
        yield paragraph(printable(lead + note), width=width)
    if len(where) > _MOST_NOTES:
        yield Text(f"… and {len(where) - _MOST_NOTES:,} more notes (--json has all)")


def _title(result: ResultError) -> str:
    return printable(f"grad {result.name}" if result.kind == "gradient" else result.name)


def _conditions(side: Side, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        found = None if side.exactness is None else side.exactness.condition(name)
        yield "–" if found is None else f"{'≥ ' if found.at_least else ''}{significant(found.kappa, 2)}"


def _cells(side: Side, labels: Sequence[str], text: Callable[[ResultError, str], str]) -> tuple[str, ...]:
    found = side.exactness
    if found is None:
        return ("no graph", *("",) * (len(labels) - 1))
    return tuple(text(found.by_label[label], found.method) if label in found.by_label else "–" for label in labels)


def _error(result: ResultError, _: str) -> str:
    if result.error is None:
        return "not known"
    return significant(result.error, 2) if result.error else "0"


def _digits(result: ResultError, method: str) -> str:
    if result.is_zero:
        return "noise" if result.error else "0 is right"
    if result.digits is None:
        return "not known"
    return f"{'~' if method == 'sample' else ''}{result.digits:.1f}"


# Loops


def _loops(rows: Sequence[Row], lead: _Lead, width: int) -> Iterator[RenderableType]:
    known = [(row, row[2].exactness) for row in rows if row[2].exactness is not None]
    keys = loop_keys([exactness for _, exactness in known])
    for key in keys[:_MOST_LOOPS]:
        found = [(row, loop) for row, exactness in known if (loop := exactness.loop(key)) is not None]
        # An option that is the number of rounds says it already.
        is_said = any(all(row[0].options[option] == loop.rounds for row, loop in found) for option in lead.varied)
        columns = [
            (title, text)
            for title, text in _LOOP_COLUMNS
            if not (title == "rounds" and is_said) and any(text(loop) for _, loop in found)
        ]
        header = (*lead.header, *(title for title, _ in columns))
        cells = ((*lead.cells(row), *(text(loop) for _, text in columns)) for row, loop in found)
        yield heading(f"\n{loop_title(key)}, after the last round", "Euclidean norms", width=width)
        yield table(header, cells, left=0, texts=lead.words | {len(header) - 1})
    if len(keys) > _MOST_LOOPS:
        yield Text(f"… and {len(keys) - _MOST_LOOPS:,} more loops (--json and --csv have all)")
    if keys:
        yield Text("")
        yield paragraph(_ABOUT_LOOPS, width=width)
        loops = [loop for _, exactness in known for loop in exactness.loops]
        for verdict in dict.fromkeys(loop.verdict for loop in loops if loop.key in keys[:_MOST_LOOPS]):
            yield paragraph(f"{verdict}: {_VERDICTS[verdict]}.", width=width)


_VERDICTS = {
    SYSTEMATIC: "each round takes in the same error, which grows like n",
    DRIFT: "roundings that lean to one side",
    RANDOM: "roundings of random sign, which grow like √n",
    FROZEN: "the numbers repeat to the last bit, and the error with them",
    STALLED: "the numbers repeat to the last bit, but the truth moves on",
    AMPLIFIED: "each round enlarges what it is given",
    DAMPED: "each round lessens what it is given",
    BOUNDED: "roundings cancel",
    INHERITED: "next to all of it was there before the loop",
    EXACT: "no error",
    UNCLEAR: "no simple law fits",
}
_ABOUT_LOOPS = (
    "before: the part of the error that was there before the loop. n·‖R y‖: what the error that each round takes in "
    "alike comes to, told from the first round; ratio: error ÷ that, where next to nothing was there before. "
    "√n: the roundings, if their signs are random. worst: if all errors point the same way."
)


def loop_title(key: tuple[str, bool, int]) -> str:
    """ "Loop at chain.py:60, backward pass"."""
    place, backward, number = key
    which = f" (number {number + 1} there)" if number else ""
    return printable(f"Loop at {place}{which}, {'backward' if backward else 'forward'} pass")


def _number(value: float | None) -> str:
    return "not known" if value is None else "0" if value == 0 else significant(value, 2)


_LOOP_COLUMNS: tuple[tuple[str, Callable[[LoopError], str]], ...] = (
    ("rounds", lambda loop: count_text(loop.rounds)),
    ("error", lambda loop: _number(loop.error)),
    ("before", lambda loop: _number(loop.inherited)),
    ("n·‖R y‖", lambda loop: "none" if loop.predicted is None else _number(loop.predicted)),
    ("ratio", lambda loop: "" if loop.ratio is None else significant(loop.ratio, 3)),
    ("√n", lambda loop: _number(loop.random_signs)),
    ("worst", lambda loop: _number(loop.worst_case)),
    ("growth", lambda loop: loop.verdict),
)


# CSV


def exactness_csv(sweep: Sweep) -> str:
    """One row for each point, target, and result or loop; what is not known is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = ("error", "truth", "digits", "rounds", "inherited", "predicted", "random_signs", "worst_case", "growth")
    writer.writerow((*sweep.over, "target", "method", "kind", "name", *numbers, "condition", "failure"))
    for point in sweep.points:
        options = tuple(map(str, point.options.values()))
        if point.failure:
            writer.writerow((*options, *("",) * 14, printable(point.failure)))
        for name, side in zip(sweep.names, point.sides, strict=False):
            found = side.exactness
            if found is None:
                writer.writerow((*options, name, *("",) * 14))
                continue
            lead = (*options, name, found.method)
            for result in found.results:
                size = 0.0 if result.is_zero else result.truth
                digits = None if result.is_zero else result.digits
                writer.writerow((*lead, result.kind, result.name, result.error, size, digits, *("",) * 8))
            for item in found.conditions:
                writer.writerow((*lead, "matrix", item.matrix, *("",) * 9, item.kappa, ""))
            for loop in found.loops:
                kind = "backward loop" if loop.backward else "forward loop"
                writer.writerow(
                    (*lead, kind, loop.place, loop.error, loop.truth, "", loop.rounds, loop.inherited, loop.predicted,
                     loop.random_signs, loop.worst_case, loop.verdict, "", "")
                )  # fmt: skip
    return stream.getvalue()

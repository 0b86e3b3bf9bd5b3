"""The report that `graphlens stats` prints, and its CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.counts import Row, SavedKind, Stats, row_of_rows
from graphlens.graph import GradGraph, printable, shape_text
from graphlens.units import bytes_text, count_text, percent_text, seconds_text
from graphlens.views.opening import next_steps, opening
from graphlens.views.table import break_key, paragraph, table, to_text

_MOST_LEAVES = 12
_Cell = Callable[[Row], str]
# Ops are a few dozen at most; modules and lines of code can be thousands.
_MOST_ROWS = 40


def stats_report(
    target: str,
    graph: GradGraph | None,
    stats: Stats,
    *,
    width: int = 80,
    colour: bool = False,
    notes: Sequence[str] = (),
    steps: Sequence[str] = (),
) -> str:
    """Counts of one graph, row by row, with its leaves.

    `notes` say how it was run, `steps` are the commands to type next. Times are shown where there
    are any, and the saved tensors by kind where they were summed up.
    """
    parts = _stats_parts(target, graph, stats, notes, width)
    return to_text((*parts, *next_steps(steps, width)), width=width, colour=colour)


def stats_csv(stats: Stats) -> str:
    """The rows as CSV, or the kinds of saved tensors where they were summed up; what is not available is left empty."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_csv_rows(stats))
    return stream.getvalue()


def _csv_rows(stats: Stats) -> Iterator[tuple[object, ...]]:
    sizes: tuple[object, ...]
    if stats.tensors is not None:
        yield ("dtype", "shape", "role", "tensors", "saved_bytes", "storage_bytes", "not_available", stats.by)
        for kind in stats.tensors:
            sizes = (kind.tensors, kind.saved_bytes, kind.storage_bytes, kind.unknown)
            yield (kind.dtype, shape_text(kind.shape), kind.role, *sizes, kind.key)
        return
    calls, times = stats.by == "module", stats.total.forward_ns is not None
    header = (stats.by, "nodes", "saved_tensors", "saved_bytes", "storage_bytes", "not_available")
    yield (*header, *["calls"] * calls, *["forward_ns"] * times)
    for row in stats.rows:
        sizes = ("", "", "") if row.freed else (row.saved_tensors, row.saved_bytes, row.storage_bytes)
        yield (row.key, row.nodes, *sizes, row.unknown, *[row.calls] * calls, *[row.forward_ns] * times)


def _stats_parts(
    target: str, graph: GradGraph | None, stats: Stats, notes: Sequence[str], width: int
) -> Iterator[RenderableType]:
    total = stats.total
    yield from opening(target, graph, None if graph is None else graph.meta.get("threads"), width)
    for note in notes:
        yield paragraph(printable(note), width=width)
    yield Text("")
    yield table(
        ("", ""),
        [
            ("grad_fn nodes", count_text(stats.nodes)),
            ("edges", count_text(stats.edges)),
            ("depth (edges on the longest path)", count_text(stats.depth)),
            ("saved tensors (references)", known_count(total, total.saved_tensors)),
            ("saved for backward (views)", known_size(total, total.saved_bytes)),
            ("saved for backward (storages)", known_size(total, total.storage_bytes)),
            ("distinct storages", known_count(total, total.storages)),
        ],
    )
    yield Text("")
    yield from _rows(stats, width)
    yield from _availability(stats, width)
    if stats.tensors is not None:
        yield from _tensors(stats, stats.tensors, width)
    yield Text("")
    yield from _leaf_parts(stats, width)


def _rows(stats: Stats, width: int) -> Iterator[RenderableType]:
    """The rows as a table; what gets no line of its own is summed in one."""
    rows = list(stats.rows)
    if stats.by != "op" and len(rows) > _MOST_ROWS:
        rest = rows[_MOST_ROWS - 1 :]
        rows[_MOST_ROWS - 1 :] = [row_of_rows(f"({count_text(len(rest))} more)", rest)]
    columns = _columns(stats)
    cells = [[stats.names.get(row.key, row.key), *(cell(row) for _, cell in columns)] for row in rows]
    total = [stats.total.key, *(cell(stats.total) for _, cell in columns)]
    header = [stats.by, *(title for title, _ in columns)]
    yield table(header, [[_broken(row[0], [header, total, *cells], width), *row[1:]] for row in cells], total=total)
    if len(rows) < len(stats.rows):
        more = ", --depth N sums them up by module" if stats.by == "module" else ""
        text = f"{rows[-1].key[1:-1]} are summed up in one row; --json and --csv list them{more}."
        yield paragraph(text, width=width)
    if stats.total.forward_ns is not None:
        yield Text("")
        yield paragraph(
            "forward: wall-clock time of the forward ops that made the nodes, measured once, while they were "
            "recorded; a call that made several nodes gives each an equal part (stats --cost measures the parts).",
            width=width,
        )


def _columns(stats: Stats) -> list[tuple[str, _Cell]]:
    total = stats.total
    columns: list[tuple[str, _Cell]] = [
        ("nodes", lambda row: count_text(row.nodes)),
        ("saved", lambda row: known_count(row, row.saved_tensors, unknown="?")),
        ("views", lambda row: known_size(row, row.saved_bytes, unknown="?")),
        ("storages", lambda row: known_size(row, row.storage_bytes, unknown="?")),
        ("share", lambda row: _share(row, total)),
    ]
    if stats.by != "op":
        del columns[2]  # paths and lines are long, and what is really held says more
    if stats.by == "module":
        columns.insert(0, ("calls", lambda row: "" if row.calls is None else count_text(row.calls)))
    if total.forward_ns is not None:
        columns.append(("forward", _time))
    return columns


def _share(row: Row, total: Row) -> str:
    if row.freed:
        return "?"
    return "" if total.unknown else percent_text(row.storage_bytes, total.storage_bytes)


def _time(row: Row) -> str:
    if row.forward_ns is None:
        return "?" if row.untimed else ""  # leaves take no time
    return f"{'≥ ' if row.untimed else ''}{seconds_text(row.forward_ns / 1e9)}"


def _broken(key: str, cells: Sequence[Sequence[str]], width: int) -> str:
    """A path that is too long for its column broken after dots and before brackets, rather than anywhere."""
    rest = sum(2 + max(len(row[column]) for row in cells) for column in range(1, len(cells[0])))
    return break_key(key, width - rest)


def known_count(row: Row, count: int, *, unknown: str = "not available") -> str:
    """A count of saved tensors as far as it is known: exact, a lower bound, or `unknown`."""
    if row.freed or (row.hidden and not count):
        return unknown
    return f"≥ {count_text(count)}" if row.hidden else count_text(count)


def known_size(row: Row, size: int, *, unknown: str = "not available") -> str:
    """A size as far as it is known: exact, a lower bound, or `unknown`."""
    if row.freed or (row.unknown and not size):
        return unknown
    return f"≥ {bytes_text(size)}" if row.unknown else bytes_text(size)


def _availability(stats: Stats, width: int) -> Iterator[RenderableType]:
    if stats.total.freed:
        yield Text("")
        yield paragraph(
            "Sizes are not available: a backward pass has freed the saved tensors. Capture before "
            "backward(), or call backward(retain_graph=True).",
            width=width,
        )
    elif stats.total.unknown:
        yield Text("")
        yield paragraph(
            f"Sizes are lower bounds (≥): {_sizeless(stats.total.unknown)} no size, "
            "because a hook packed them or autograd hides them.",
            width=width,
        )


# In a section of its own each: what a role says about the memory.
_ROLES: dict[str, str | None] = {
    "Saved results of ops": "intermediate",
    "Saved constants (no gradient goes through them)": "constant",
    "Saved parameters (in memory anyway)": "parameter",
    "Saved inputs (in memory anyway)": "input",
    "Saved tensors that a hook packed": None,
}


def _tensors(stats: Stats, kinds: Sequence[SavedKind], width: int) -> Iterator[RenderableType]:
    """The kinds of saved tensors, those that are in memory anyway apart from the others."""
    for title, role in _ROLES.items():
        some = [kind for kind in kinds if kind.role == role]
        if some:
            yield Text("")
            yield Text(title, style="bold")
            yield _kind_table(stats, some, width)
    if kinds:
        yield Text("")
        yield paragraph(
            "Tensors are counted as references. Their storages count once, at the first tensor in forward order that "
            "they are seen through; 0 B says that an earlier one holds them.",
            width=width,
        )


def _kind_table(stats: Stats, kinds: Sequence[SavedKind], width: int) -> RenderableType:
    shown = list(kinds[: _MOST_ROWS if len(kinds) <= _MOST_ROWS else _MOST_ROWS - 1])
    rows = [(_tensor(kind), _kind_size([kind]), f"×{count_text(kind.tensors)}", kind.key) for kind in shown]
    if len(shown) < len(kinds):
        rest = kinds[len(shown) :]
        tensors = sum(kind.tensors for kind in rest)
        rows.append((f"({count_text(len(rest))} more)", _kind_size(rest), f"×{count_text(tensors)}", ""))
    total = ("total", _kind_size(kinds), f"×{count_text(sum(kind.tensors for kind in kinds))}", "")
    header = ("tensor", "storages", "tensors", stats.by)
    room = width - sum(2 + max(len(row[column]) for row in (header, total, *rows)) for column in range(3))
    lines = [(*row[:3], break_key(stats.names.get(row[3], row[3]), room)) for row in rows]
    return table(header, lines, total=total, texts=(3,))


def _tensor(kind: SavedKind) -> str:
    """ "float32[2,16,96]"."""
    if kind.dtype is None and kind.shape is None:
        return "(packed)"
    return f"{kind.dtype or '?'}{'' if kind.shape is None else shape_text(kind.shape).replace(' ', '')}"


def _kind_size(kinds: Iterable[SavedKind]) -> str:
    size = sum(kind.storage_bytes for kind in kinds)
    if not any(kind.unknown for kind in kinds):
        return bytes_text(size)
    return f"≥ {bytes_text(size)}" if size else "?"


def _sizeless(count: int) -> str:
    return "1 node or tensor shows" if count == 1 else f"{count_text(count)} nodes or tensors show"


def _leaf_parts(stats: Stats, width: int) -> Iterator[RenderableType]:
    # As gradients are called where the leaf has no name of its own.
    unnamed = map("leaf[{}]".format, itertools.count())
    rows = [
        (leaf.name or f"{next(unnamed)} (node {leaf.node})", leaf.role or "", shape_text(leaf.shape),
         count_text(leaf.uses))
        for leaf in stats.leaves[:_MOST_LEAVES]
    ]  # fmt: skip
    if rows:
        yield table(("leaf", "role", "shape", "uses"), rows, left=3)
    if len(stats.leaves) > _MOST_LEAVES:
        yield Text(f"… and {count_text(len(stats.leaves) - _MOST_LEAVES)} more leaves (--json lists them all)")
    if stats.unreached:
        yield paragraph(f"No path leads to: {', '.join(stats.unreached)}.", width=width)

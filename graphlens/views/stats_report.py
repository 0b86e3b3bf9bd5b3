"""The report that `graphlens stats` prints, and its CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.counts import Row, Stats
from graphlens.graph import GradGraph, shape_text
from graphlens.units import bytes_text, count_text, percent_text
from graphlens.views.opening import next_steps, opening
from graphlens.views.table import paragraph, table, to_text

_MOST_LEAVES = 12


def stats_report(
    target: str,
    graph: GradGraph | None,
    stats: Stats,
    *,
    width: int = 80,
    colour: bool = False,
    steps: bool = True,
) -> str:
    """Counts of one graph, by op, with its leaves; `steps` adds the commands to type next."""
    parts = _stats_parts(target, graph, stats, width)
    ends = [_next(target)] if steps else []
    return to_text((*parts, *ends), width=width, colour=colour)


def _next(target: str) -> RenderableType:
    return next_steps(f"graphlens render {target} -o graph.svg", f"graphlens save {target} -o graph.json")


def stats_csv(stats: Stats) -> str:
    """The rows as CSV; a size that is not available is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((stats.by, "nodes", "saved_tensors", "saved_bytes", "storage_bytes", "not_available"))
    for row in stats.rows:
        sizes = ("", "", "") if row.freed else (row.saved_tensors, row.saved_bytes, row.storage_bytes)
        writer.writerow((row.key, row.nodes, *sizes, row.unknown))
    return stream.getvalue()


def _stats_parts(target: str, graph: GradGraph | None, stats: Stats, width: int) -> Iterator[RenderableType]:
    total = stats.total
    yield from opening(target, graph, None if graph is None else graph.meta.get("threads"), width)
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
    header = (stats.by, "nodes", "saved", "views", "storages", "share")
    yield table(
        header,
        [_stats_row(row, total) for row in stats.rows],
        total=_stats_row(total, total),
    )
    yield from _availability(stats, width)
    yield Text("")
    yield from _leaf_parts(stats, width)


def _stats_row(row: Row, total: Row) -> tuple[str, ...]:
    if row.freed:
        return (row.key, count_text(row.nodes), "?", "?", "?", "?")
    share = percent_text(row.storage_bytes, total.storage_bytes)
    return (
        row.key,
        count_text(row.nodes),
        known_count(row, row.saved_tensors, unknown="?"),
        known_size(row, row.saved_bytes, unknown="?"),
        known_size(row, row.storage_bytes, unknown="?"),
        "" if total.unknown else share,
    )


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
            f"Sizes are lower bounds (≥): {count_text(stats.total.unknown)} nodes or tensors show no size, "
            "because a hook packed them or autograd hides them.",
            width=width,
        )


def _leaf_parts(stats: Stats, width: int) -> Iterator[RenderableType]:
    rows = [
        (leaf.name or f"(unnamed, node {leaf.node})", leaf.role or "", shape_text(leaf.shape), count_text(leaf.uses))
        for leaf in stats.leaves[:_MOST_LEAVES]
    ]
    if rows:
        yield table(("leaf", "role", "shape", "uses"), rows, left=3)
    if len(stats.leaves) > _MOST_LEAVES:
        yield Text(f"… and {count_text(len(stats.leaves) - _MOST_LEAVES)} more leaves (--json lists them all)")
    if stats.unreached:
        yield paragraph(f"No path leads to: {', '.join(stats.unreached)}.", width=width)

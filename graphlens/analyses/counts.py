"""How many nodes a graph has, and what they keep for backward."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphlens.analyses import places
from graphlens.graph import GradGraph, Node, SavedSums
from graphlens.shown import Report


@dataclass(frozen=True)
class Row:
    """A group of nodes. Sizes in bytes.

    `storage_bytes` counts a storage once, at the first node in forward order that saves it, so
    that the rows sum to the total. `unknown` counts nodes and tensors whose size is not available;
    where it is not 0 the sizes are lower bounds. `hidden` counts the nodes
    whose saved tensors cannot even be counted, and `freed` says that a backward pass has freed some
    of them, so that neither counts nor sizes say anything.

    `calls` is how often the module of a row was called, None for other rows. `forward_ns` is the
    wall-clock time in nanoseconds of the forward ops that were timed, None if none was; `untimed`
    counts the nodes whose op was not.
    """

    key: str
    nodes: int
    saved_tensors: int
    saved_bytes: int
    storages: int
    storage_bytes: int
    unknown: int
    freed: bool
    hidden: int = 0
    calls: int | None = None
    forward_ns: int | None = None
    untimed: int = 0


@dataclass(frozen=True)
class SavedKind:
    """Saved tensors that are alike: of one dtype, shape and role, saved by the nodes of one row.

    `tensors` counts them as references. `storage_bytes` counts a storage once, at the first tensor
    in forward order that shows it, so that the kinds sum to the total. `unknown` counts those
    without a size. A `role` of "parameter" or "input" says that the tensors are in memory anyway;
    "intermediate" that an op made them, "constant" that no gradient goes through them, and None
    that a hook packed them.
    """

    key: str
    dtype: str | None
    shape: tuple[int, ...] | None
    role: str | None
    tensors: int
    saved_bytes: int
    storages: int
    storage_bytes: int
    unknown: int


@dataclass(frozen=True)
class Leaf:
    """A leaf that the graph leads to; `uses` counts the edges that end in it."""

    node: int
    name: str
    role: str | None
    shape: tuple[int, ...] | None
    dtype: str | None
    uses: int


@dataclass(frozen=True)
class Stats(Report):
    """Counts of one graph; `depth` is the number of edges on its longest path.

    `tensors` holds what is saved by kind, where that was asked for. `names` gives the rows of
    `by="source"` shorter names, for a narrow page.
    """

    nodes: int
    edges: int
    depth: int
    leaves: tuple[Leaf, ...]
    unreached: tuple[str, ...]
    total: Row
    by: str
    rows: tuple[Row, ...]
    tensors: tuple[SavedKind, ...] | None = None
    names: Mapping[str, str] = field(default_factory=dict)


GROUPINGS = ("op", "module", "source")


def _natural(key: str) -> tuple[int | str, ...]:
    """ "h.2" comes before "h.10"."""
    return tuple(int(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", key)))


SORTS: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "storage": lambda row: (-row.storage_bytes, -row.nodes, _natural(row.key)),
    "nodes": lambda row: (-row.nodes, _natural(row.key)),
    "saved": lambda row: (-row.saved_bytes, _natural(row.key)),
    "time": lambda row: (-(row.forward_ns or 0), _natural(row.key)),
    "key": lambda row: (_natural(row.key),),
}


def stats(
    graph: GradGraph, by: str = "op", sort: str = "storage", *, depth: int | None = None, tensors: bool = False
) -> Stats:
    """Count nodes and saved tensors per row, the rows in the order of one of SORTS.

    Args:
        by: what a row stands for: an "op"; a "module", by its path, with what was made while it was
            the innermost one open, and its own parameters; or a "source", the line of code.
        sort: the most "storage" bytes, "nodes", "saved" bytes of views or "time" first, or by "key".
        depth: with modules, how many dotted parts of a path are kept; what lies deeper is counted there.
        tensors: whether to sum up the saved tensors by kind too, the most storage bytes first.

    Raises:
        ValueError: `by` or `sort` is not known, or `depth` does not go with them.
        MeasureError: modules or lines are asked for of a graph that was not recorded.
    """
    if by not in GROUPINGS or sort not in SORTS:
        raise ValueError(f"by is one of {', '.join(GROUPINGS)}, sort one of {', '.join(SORTS)}; got {by!r}, {sort!r}")
    if depth is not None and (by != "module" or type(depth) is not int or depth < 1):
        raise ValueError(f"depth is a whole number ≥ 1 and goes with by='module'; got {depth!r}, by={by!r}")
    keys = row_keys(graph, by, depth)
    sums = graph.saved_by_node()
    members: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        members.setdefault(key, []).append(number)
    calls = places.module_calls(graph, depth) if by == "module" else {}
    rows = [_row(key, graph, sums, numbers, calls.get(key)) for key, numbers in members.items()]
    rows.sort(key=SORTS[sort])
    return Stats(
        nodes=len(graph.nodes),
        edges=len(graph.edges),
        depth=_longest_path(graph),
        leaves=_leaves(graph),
        unreached=tuple(item.name for item in graph.inputs if item.requires_grad and item.node is None),
        total=_row("total", graph, sums, range(len(graph.nodes))),
        by=by,
        rows=tuple(rows),
        tensors=_kinds(graph, keys) if tensors else None,
        names=places.short_lines(graph) if by == "source" else {},
    )


def row_of_rows(key: str, rows: Sequence[Row]) -> Row:
    """The sum of several rows, at least one."""
    times = [row.forward_ns for row in rows if row.forward_ns is not None]
    return Row(
        key,
        sum(row.nodes for row in rows),
        sum(row.saved_tensors for row in rows),
        sum(row.saved_bytes for row in rows),
        sum(row.storages for row in rows),
        sum(row.storage_bytes for row in rows),
        sum(row.unknown for row in rows),
        any(row.freed for row in rows),
        sum(row.hidden for row in rows),
        None,
        sum(times) if times else None,
        sum(row.untimed for row in rows),
    )


def depth(graph: GradGraph) -> int:
    """The number of edges on the longest path from an output to a leaf."""
    # Edges are sorted by source and lead to earlier nodes: a node's depth is final before its
    # first consumer is met, so one sweep is enough and no recursion is needed.
    depths = [0] * len(graph.nodes)
    for source, target, _, _ in graph.edges:
        if depths[target] >= depths[source]:
            depths[source] = depths[target] + 1
    return max(depths)


_longest_path = depth  # `stats` has an argument of that name


def row_keys(graph: GradGraph, by: str, depth: int | None) -> list[str]:
    """Per node the key of its row."""
    if by == "op":
        return [node.op for node in graph.nodes]
    places.require_recording(graph, f"counting by {by}")
    return places.modules(graph, depth) if by == "module" else places.lines(graph)


def _kinds(graph: GradGraph, keys: Sequence[str]) -> tuple[SavedKind, ...]:
    sums: dict[tuple[str, str | None, tuple[int, ...] | None, str | None], list[int]] = {}
    seen: set[int] = set()
    for item in graph.saved:
        row = sums.setdefault((keys[item.node], item.dtype, item.shape, item.role), [0] * 5)
        row[0] += 1
        row[1] += item.view_bytes or 0
        if item.storage is not None and item.storage not in seen:
            seen.add(item.storage)
            row[2] += 1
            row[3] += item.storage_bytes or 0
        row[4] += item.view_bytes is None
    kinds = [SavedKind(*kind, *row) for kind, row in sums.items()]
    kinds.sort(key=lambda kind: (-kind.storage_bytes, -kind.saved_bytes, _natural(kind.key), str(kind)))
    return tuple(kinds)


def _row(
    key: str, graph: GradGraph, sums: Sequence[SavedSums], numbers: Sequence[int], calls: int | None = None
) -> Row:
    tensors, view_bytes, storages, storage_bytes, unknown = map(
        sum, zip(*(sums[number] for number in numbers), strict=True)
    )
    ledgers = [graph.nodes[number].ledger for number in numbers]
    hidden, freed = ledgers.count("hidden"), "freed" in ledgers
    forward_ns, untimed = _times(graph.nodes[number] for number in numbers)
    return Row(
        key, len(numbers), tensors, view_bytes, storages, storage_bytes, unknown, freed, hidden, calls, forward_ns,
        untimed,
    )  # fmt: skip


def _times(nodes: Iterable[Node]) -> tuple[int | None, int]:
    """The time of the forward ops that were timed, and how many were not; for a leaf no op ran."""
    times = [node.forward_ns for node in nodes if node.kind != "leaf"]
    known = [time for time in times if time is not None]
    return sum(known) if known else None, len(times) - len(known)


def _leaves(graph: GradGraph) -> tuple[Leaf, ...]:
    uses = [0] * len(graph.nodes)
    for edge in graph.edges:
        uses[edge.target] += 1
    roles = {item.node: item.role for item in graph.inputs if item.node is not None}
    return tuple(
        Leaf(number, node.name, roles.get(number), node.shape, node.dtype, uses[number])
        for number, node in enumerate(graph.nodes)
        if node.kind == "leaf"
    )

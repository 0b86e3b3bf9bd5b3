"""How many nodes a graph has, and what they keep for backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    """Counts of one graph; `depth` is the number of edges on its longest path."""

    nodes: int
    edges: int
    depth: int
    leaves: tuple[Leaf, ...]
    unreached: tuple[str, ...]
    total: Row
    by: str
    rows: tuple[Row, ...]


GROUPINGS: dict[str, Callable[[Node], str]] = {"op": lambda node: node.op}


SORTS: dict[str, Callable[[Row], tuple[int | str, ...]]] = {
    "storage": lambda row: (-row.storage_bytes, -row.nodes, row.key),
    "nodes": lambda row: (-row.nodes, row.key),
    "saved": lambda row: (-row.saved_bytes, row.key),
    "key": lambda row: (row.key,),
}


def stats(graph: GradGraph, by: str = "op", sort: str = "storage") -> Stats:
    """Count nodes and saved tensors per group, the rows in the order of one of SORTS.

    Raises:
        ValueError: `by` or `sort` is not known.
    """
    if by not in GROUPINGS or sort not in SORTS:
        raise ValueError(f"by is one of {', '.join(GROUPINGS)}, sort one of {', '.join(SORTS)}; got {by!r}, {sort!r}")
    group = GROUPINGS[by]
    sums = graph.saved_by_node()
    members: dict[str, list[int]] = {}
    for number, node in enumerate(graph.nodes):
        members.setdefault(group(node), []).append(number)
    rows = [_row(key, graph, sums, numbers) for key, numbers in members.items()]
    rows.sort(key=SORTS[sort])
    return Stats(
        nodes=len(graph.nodes),
        edges=len(graph.edges),
        depth=depth(graph),
        leaves=_leaves(graph),
        unreached=tuple(item.name for item in graph.inputs if item.requires_grad and item.node is None),
        total=_row("total", graph, sums, range(len(graph.nodes))),
        by=by,
        rows=tuple(rows),
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


def _row(key: str, graph: GradGraph, sums: Sequence[SavedSums], numbers: Sequence[int]) -> Row:
    tensors, view_bytes, storages, storage_bytes, unknown = map(
        sum, zip(*(sums[number] for number in numbers), strict=True)
    )
    ledgers = [graph.nodes[number].ledger for number in numbers]
    hidden, freed = ledgers.count("hidden"), "freed" in ledgers
    return Row(key, len(numbers), tensors, view_bytes, storages, storage_bytes, unknown, freed, hidden)


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

"""From a folded graph back to the graph."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.wiring import Wire
from graphlens.graph import Edge, GradGraph, Node, SavedTensor

Rows = list[tuple[int, ...]]
Frame = tuple[Sequence[int], int, int, Sequence[Wire]]  # starts, period, drawn iteration, wires


def expand(graph: GradGraph, box_of: Sequence[int], groups: Sequence[Frame]) -> GradGraph:
    """Write out every iteration of every group, inner groups first."""
    sequence = ForwardSequence(graph)
    drawn = [box_of[number] == number for number in sequence.order]
    slots, sources, ports = (
        [row if here else () for row, here in zip(rows, drawn, strict=True)]
        for rows in (sequence.slots, sequence.sources, sequence.ports)
    )
    for starts, period, shown, wires in reversed(groups):
        _write_out(sources, ports, starts, period, shown, wires)
        body = slice(starts[shown], starts[shown] + period)
        for start in starts:
            slots[start : start + period] = slots[body]
    nodes = [_like(graph.nodes[box], node) for box, node in zip(box_of, graph.nodes, strict=True)]
    edges = _edges(sequence.order, slots, sources, ports)
    saved = _saved(graph, box_of)
    return GradGraph(nodes, edges, saved, graph.inputs, graph.outputs, graph.meta, graph.sources, graph.calls)


def _write_out(
    sources: Rows, ports: Rows, starts: Sequence[int], period: int, shown: int, wires: Sequence[Wire]
) -> None:
    base = starts[shown]
    wired: dict[int, list[Wire]] = {}
    for wire in wires:
        wired.setdefault(wire.place, []).append(wire)
    body_sources, body_ports = sources[base : base + period], ports[base : base + period]
    for iteration, start in enumerate(starts):
        if iteration == shown:
            continue
        shift = start - base
        for offset, row in enumerate(body_sources):
            moved = [source + shift if source >= base else source for source in row]
            changed = list(body_ports[offset])
            for wire in wired.get(base + offset, ()):
                if iteration < (wire.lag or len(starts)):
                    moved[wire.slot], changed[wire.slot] = wire.sources[iteration]
                else:
                    moved[wire.slot] = row[wire.slot] + shift
            sources[start + offset], ports[start + offset] = tuple(moved), tuple(changed)


def _like(box: Node, node: Node) -> Node:
    if box is node:
        return node
    # What a fold compares, the box has; the rest is the node's own.
    return node._replace(
        op=box.op, kind=box.kind, shape=box.shape, dtype=box.dtype, device=box.device, outputs=box.outputs,
        ledger=box.ledger,
    )  # fmt: skip


def _saved(graph: GradGraph, box_of: Sequence[int]) -> list[SavedTensor]:
    first: dict[int, int] = {}
    for index, item in enumerate(graph.saved):
        first.setdefault(item.node, index)
    saved = []
    for index, item in enumerate(graph.saved):
        model = graph.saved[first[box_of[item.node]] + index - first[item.node]]
        if model is not item:
            item = model._replace(
                node=item.node, storage=item.storage, storage_bytes=item.storage_bytes, role=item.role
            )
        saved.append(item)
    return saved


def _edges(order: Sequence[int], slots: Rows, sources: Rows, ports: Rows) -> list[Edge]:
    edges: list[Edge] = []
    for place, row in enumerate(sources):
        ends: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for slot, source, port in zip(slots[place], row, ports[place], strict=True):
            before = ends.get(source, ((), ()))
            ends[source] = (*before[0], slot), (*before[1], port)
        edges += [Edge(order[place], order[source], *ends[source]) for source in ends]
    edges.sort(key=lambda edge: edge[:2])
    return edges

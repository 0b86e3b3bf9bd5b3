"""Parts of a graph as graphs of their own: a neighbourhood, or what lies between two ends."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import NamedTuple

from graphlens.errors import DrawError
from graphlens.graph import Edge, GradGraph, Output


class Part(NamedTuple):
    """A part of a graph as a graph of its own.

    Attributes:
        graph: the part; after the outputs of the whole graph it lists the nodes that only nodes outside it read.
        nodes: their numbers in the whole graph.
        outputs: how many of `graph.outputs` are outputs of the whole graph.
    """

    graph: GradGraph
    nodes: tuple[int, ...]
    outputs: int


def neighbourhood(graph: GradGraph, node: int, radius: int, within: Set[int] | None = None) -> set[int]:
    """The nodes at most `radius` edges away from one node, whichever way the edges lead, but not through a leaf.

    Args:
        within: look at these nodes only.

    Raises:
        DrawError: there is no such node, or it is not within.
    """
    if not 0 <= node < len(graph.nodes):
        raise DrawError(f"there is no node {node}: nodes are numbered 0 to {len(graph.nodes) - 1:,} in forward order")
    if within is not None and node not in within:
        raise DrawError(f"node {node} is not on the path asked for; leave out one of the two")
    near: dict[int, list[int]] = {}
    for edge in graph.edges:
        if within is None or (edge.source in within and edge.target in within):
            near.setdefault(edge.source, []).append(edge.target)
            near.setdefault(edge.target, []).append(edge.source)
    kept = {node}
    rim = [node]
    for _ in range(radius):
        rim = [other for number in rim for other in near.get(number, ()) if other not in kept]
        kept.update(rim)
        # Not through a leaf: one that every iteration uses would bring in the whole graph.
        rim = [number for number in set(rim) if graph.nodes[number].kind != "leaf"]
    return kept


def between(graph: GradGraph, name: str) -> set[int]:
    """The nodes on the paths from a named leaf to the outputs.

    Raises:
        DrawError: no leaf has that name.
    """
    start = next((number for number, node in enumerate(graph.nodes) if node.kind == "leaf" and node.name == name), None)
    if start is None:
        names = [node.name for node in graph.nodes if node.kind == "leaf" and node.name]
        more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
        raise DrawError(
            f"the graph leads to no leaf called {name!r}; it leads to {', '.join(names[:12]) or 'none'}{more}"
        )
    kept = {start}
    for edge in graph.edges:  # sorted by source: a node's consumers come after it
        if edge.target in kept:
            kept.add(edge.source)
    return kept


def part_of(graph: GradGraph, kept: Collection[int]) -> Part:
    """The graph that the nodes `kept` form."""
    order = sorted(kept)
    number = {old: new for new, old in enumerate(order)}
    edges = [
        Edge(number[source], number[target], slots, ports)
        for source, target, slots, ports in graph.edges
        if source in number and target in number
    ]
    # Storages keep their bytes but are numbered anew, in the order of their first use here.
    storages: dict[int, int] = {}
    saved = []
    for item in graph.saved:
        if item.node in number:
            storage = item.storage
            if storage is not None:
                storage = storages.setdefault(storage, len(storages))
            saved.append(item._replace(node=number[item.node], storage=storage))
    inputs = [item._replace(node=number[item.node]) for item in graph.inputs if item.node in number]
    outputs = [item._replace(node=number[item.node]) for item in graph.outputs if item.node in number]
    read = {edge.target for edge in edges} | {item.node for item in outputs}
    # A graph names every node that nothing in it reads as an output.
    ends = [
        Output(f"node {old}", new, 0, graph.nodes[old].shape or (), graph.nodes[old].dtype or "")
        for new, old in enumerate(order)
        if new not in read
    ]
    nodes = [graph.nodes[old] for old in order]
    part = GradGraph(nodes, edges, saved, inputs, [*outputs, *ends], graph.meta, graph.sources, graph.calls).check()
    return Part(part, tuple(order), len(outputs))

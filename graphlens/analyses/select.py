"""Parts of a graph as graphs of their own: a neighbourhood, or what lies between two ends."""

from __future__ import annotations

from collections.abc import Iterable

from graphlens.errors import DrawError
from graphlens.graph import Edge, GradGraph, Output


def neighbourhood(graph: GradGraph, node: int, radius: int) -> GradGraph:
    """The nodes at most `radius` edges away from one node, whichever way the edges lead, but not through a leaf.

    Raises:
        DrawError: there is no such node.
    """
    if not 0 <= node < len(graph.nodes):
        raise DrawError(f"there is no node {node}: nodes are numbered 0 to {len(graph.nodes) - 1:,} in forward order")
    near: dict[int, list[int]] = {}
    for edge in graph.edges:
        near.setdefault(edge.source, []).append(edge.target)
        near.setdefault(edge.target, []).append(edge.source)
    kept = {node}
    rim = [node]
    for _ in range(radius):
        rim = [other for number in rim for other in near.get(number, ()) if other not in kept]
        kept.update(rim)
        # Not through a leaf: one that every iteration uses would bring in the whole graph.
        rim = [number for number in rim if graph.nodes[number].kind != "leaf"]
    return _part(graph, kept)


def between(graph: GradGraph, name: str) -> GradGraph:
    """The nodes on the paths from a named leaf to the outputs.

    Raises:
        DrawError: no leaf has that name.
    """
    start = next((number for number, node in enumerate(graph.nodes) if node.kind == "leaf" and node.name == name), None)
    if start is None:
        names = [node.name for node in graph.nodes if node.kind == "leaf" and node.name]
        raise DrawError(f"the graph leads to no leaf called {name!r}; it leads to {', '.join(names[:12]) or 'none'}")
    kept = {start}
    for edge in graph.edges:  # sorted by source: a node's consumers come after it
        if edge.target in kept:
            kept.add(edge.source)
    return _part(graph, kept)


def _part(graph: GradGraph, kept: Iterable[int]) -> GradGraph:
    """The graph that `kept` nodes form; what nothing in it reads becomes an output of its own."""
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
    inputs = [
        item._replace(node=number.get(item.node) if item.node is not None else None)
        for item in graph.inputs
        if item.node in number
    ]
    outputs = [item._replace(node=number[item.node]) for item in graph.outputs if item.node in number]
    read = {edge.target for edge in edges} | {item.node for item in outputs}
    for new, old in enumerate(order):
        if new not in read:
            node = graph.nodes[old]
            outputs.append(Output(f"node {old}", new, 0, node.shape or (), node.dtype or ""))
    return GradGraph([graph.nodes[old] for old in order], edges, saved, inputs, outputs, graph.meta).check()

"""Walk `grad_fn` nodes into forward order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.release import keep_for_release
from graphlens.graph import Edge

# What a node says that autograd gave no number: a leaf's, or one that stands in for an op without a derivative.
NO_NUMBER = 2**64 - 1
Links = tuple[tuple[AutogradNode | None, int], ...]


class Walk(NamedTuple):
    """Live autograd nodes in forward order, leaves first, and the edges between their numbers."""

    leaves: list[AutogradNode]
    functions: list[AutogradNode]
    seqs: list[int]  # autograd's sequence numbers of the functions, NO_NUMBER for those without
    number: dict[AutogradNode, int]
    edges: list[Edge]

    @property
    def nodes(self) -> list[AutogradNode]:
        """All nodes, by number."""
        return self.leaves + self.functions


def is_leaf(node: AutogradNode) -> bool:
    """Whether the node accumulates a gradient into a leaf tensor."""
    return type(node).__name__ == "AccumulateGrad"


def walk(roots: Iterable[AutogradNode]) -> Walk:
    """Every node that `roots` lead to, in a forward order that depends on the program alone.

    Leaves come first, in the order of their first use; then the functions, in the order in which
    the forward pass made them. Deep graphs are prepared for being freed, see `release`.
    """
    links: dict[AutogradNode, Links] = dict.fromkeys(roots, ())
    try:
        leaves, functions = _reach(links)
        found = _order(links, leaves, functions)
    except BaseException:
        # An interrupt half-way must not leave a graph behind that cannot be freed.
        keep_for_release(sorted(links, key=lambda node: node._sequence_nr()))
        raise
    keep_for_release(found.functions)
    return found


def _reach(links: dict[AutogradNode, Links]) -> tuple[dict[AutogradNode, None], list[AutogradNode]]:
    """Fill `links` with every node that those in it lead to; return the leaves and the functions."""
    # Keyed on the live objects: an id could be that of a wrapper that is gone. Chains run 10⁶ deep,
    # past Python's recursion limit: a stack it is.
    stack = list(links)
    leaves: dict[AutogradNode, None] = {}
    functions: list[AutogradNode] = []
    while stack:
        node = stack.pop()
        following = node.next_functions
        if not following and is_leaf(node):
            leaves[node] = None
            continue
        functions.append(node)
        links[node] = following
        for earlier, _ in following:
            if earlier is not None and earlier not in links:
                links[earlier] = ()
                stack.append(earlier)
    return leaves, functions


def _order(
    links: dict[AutogradNode, Links], leaves: dict[AutogradNode, None], functions: list[AutogradNode]
) -> Walk:
    seqs = {node: node._sequence_nr() for node in functions}
    functions.sort(key=seqs.__getitem__)
    number = _numbers(functions, links, leaves)
    edges = _edges(functions, links, number)
    if edges is None:
        functions = _forward_order(functions, links, seqs)
        number = _numbers(functions, links, leaves)
        edges = _edges(functions, links, number)
        assert edges is not None, "the graph of an autograd program has no cycle"
    ordered = sorted(leaves, key=number.__getitem__)
    return Walk(ordered, functions, list(map(seqs.__getitem__, functions)), number, edges)


def _numbers(
    functions: list[AutogradNode], links: dict[AutogradNode, Links], leaves: dict[AutogradNode, None]
) -> dict[AutogradNode, int]:
    number: dict[AutogradNode, int] = {}
    for function in functions:
        if len(number) == len(leaves):
            break
        for node, _ in links[function]:
            if node in leaves and node not in number:
                number[node] = len(number)
    for leaf in leaves:  # a leaf that is its own output has no consumer
        number.setdefault(leaf, len(number))
    number.update(zip(functions, range(len(leaves), len(leaves) + len(functions)), strict=True))
    return number


_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
_ALONE = tuple((k,) for k in range(64))  # shared, as nearly all edges have one slot and one port


def _edges(
    functions: list[AutogradNode], links: dict[AutogradNode, Links], number: dict[AutogradNode, int]
) -> list[Edge] | None:
    """The edges sorted by source and target; None if one leads to a later node."""
    edges: list[Edge] = []
    for source, node in enumerate(functions, len(number) - len(functions)):
        ends = []
        for slot, (earlier, port) in enumerate(links[node]):
            if earlier is not None:
                ends.append((number[earlier], slot, port))
        if len(ends) > 1:
            ends.sort()
        last = -1
        for target, slot, port in ends:
            if target >= source:
                return None
            slots: tuple[int, ...] = _ALONE[slot] if slot < 64 else (slot,)
            ports: tuple[int, ...] = _ALONE[port] if port < 64 else (port,)
            if target == last:  # a further slot of the same edge, as in x * x
                _, _, earlier_slots, earlier_ports = edges.pop()
                slots, ports = earlier_slots + slots, earlier_ports + ports
            edges.append(_new(Edge, (source, target, slots, ports)))
            last = target
    return edges


def _forward_order(
    functions: list[AutogradNode], links: dict[AutogradNode, Links], seqs: dict[AutogradNode, int]
) -> list[AutogradNode]:
    """Kahn's topological order, the lowest sequence number first.

    Needed where sequence numbers run against the edges: a view's `grad_fn` is made anew after an
    in-place write, when its consumer already has a number, and each thread counts for itself.
    """
    # The walk's own order breaks ties between equal sequence numbers of different threads.
    rank = {node: k for k, node in enumerate(functions)}
    waiting: dict[AutogradNode, int] = {}
    consumers: dict[AutogradNode, list[AutogradNode]] = {node: [] for node in functions}
    for node in functions:
        earlier = {other for other, _ in links[node] if other in rank}
        waiting[node] = len(earlier)
        for other in earlier:
            consumers[other].append(node)
    ready = [rank[node] for node, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[AutogradNode] = []
    while ready:
        node = functions[heapq.heappop(ready)]
        ordered.append(node)
        for consumer in consumers[node]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, rank[consumer])
    return ordered

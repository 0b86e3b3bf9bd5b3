"""Walk `grad_fn` nodes into forward order."""

from __future__ import annotations

import gc
import heapq
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import NamedTuple

from torch.autograd.graph import Node as AutogradNode

Links = tuple[tuple[AutogradNode | None, int], ...]


class Walk(NamedTuple):
    """Live autograd nodes in forward order, leaves first, with the links of each."""

    nodes: list[AutogradNode]
    links: list[Links]
    seqs: list[int | None]
    number: dict[AutogradNode, int]


def is_leaf(node: AutogradNode) -> bool:
    """Whether the node accumulates a gradient into a leaf tensor."""
    return type(node).__name__ == "AccumulateGrad"


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause Python's cyclic garbage collector.

    A capture allocates millions of small objects and no cycles; with the collector running each
    generation is scanned over and over, which makes the walk three to eight times slower.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def walk(roots: Iterable[AutogradNode]) -> Walk:
    """Every node that `roots` lead to, in a forward order that depends on the program alone.

    Leaves come first, in the order of their first use; then the functions, in the order in which
    the forward pass made them.
    """
    # Python's wrappers of autograd nodes are made on demand and their ids are reused, so the walk
    # keys on the live objects. Chains run 10⁶ deep, past Python's recursion limit: a stack it is.
    links: dict[AutogradNode, Links] = dict.fromkeys(roots, ())
    stack = list(links)
    leaves: dict[AutogradNode, None] = {}
    functions: list[tuple[int, AutogradNode]] = []
    while stack:
        node = stack.pop()
        following = node.next_functions
        links[node] = following
        if not following and is_leaf(node):
            leaves[node] = None
            continue
        functions.append((node._sequence_nr(), node))
        for later, _ in following:
            if later is not None and later not in links:
                links[later] = ()
                stack.append(later)

    functions.sort(key=itemgetter(0))
    if not _is_forward(functions, links, leaves):
        functions = _forward_order(functions, links, leaves)

    index: dict[AutogradNode, int] = {}
    for _, function in functions:
        for used, _ in links[function]:
            if used in leaves and used not in index:
                index[used] = len(index)
    for node in leaves:  # a leaf that is its own output has no consumer
        index.setdefault(node, len(index))
    for _, node in functions:
        index[node] = len(index)
    seqs = [*itertools.repeat(None, len(leaves)), *map(itemgetter(0), functions)]
    return Walk(list(index), [links[node] for node in index], seqs, index)


def _is_forward(
    functions: list[tuple[int, AutogradNode]],
    links: dict[AutogradNode, Links],
    leaves: dict[AutogradNode, None],
) -> bool:
    seen: set[AutogradNode | None] = {None, *leaves}
    for _, node in functions:
        for earlier, _ in links[node]:
            if earlier not in seen:
                return False
        seen.add(node)
    return True


def _forward_order(
    functions: list[tuple[int, AutogradNode]],
    links: dict[AutogradNode, Links],
    leaves: dict[AutogradNode, None],
) -> list[tuple[int, AutogradNode]]:
    """Kahn's topological order, the lowest sequence number first.

    Needed where sequence numbers run against the edges: a view's `grad_fn` is made anew after an
    in-place write, when its consumer already has a number, and each thread counts for itself.
    """
    # The walk's own order breaks ties between equal sequence numbers of different threads.
    rank = {node: (seq, k) for k, (seq, node) in enumerate(functions)}
    waiting: dict[AutogradNode, int] = {}
    consumers: dict[AutogradNode, list[AutogradNode]] = {node: [] for node in rank}
    for node in rank:
        earlier = {other for other, _ in links[node] if other is not None and other not in leaves}
        waiting[node] = len(earlier)
        for other in earlier:
            consumers[other].append(node)
    by_rank = {key: node for node, key in rank.items()}
    ready = [rank[node] for node, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[tuple[int, AutogradNode]] = []
    while ready:
        node = by_rank[heapq.heappop(ready)]
        ordered.append((rank[node][0], node))
        for consumer in consumers[node]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, rank[consumer])
    return ordered

"""What is kept for backward while both passes run: a curve, its peak, and what is alive there."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphlens.graph import GradGraph

_ITEM = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"), 1),
    "complex128": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """What a process of its own grew by for one forward pass whose graph was kept. Bytes of resident memory.

    `pass_bytes` is the median over `rounds`, of `passes` forward passes each; `low` and `high` are
    their range. `makes_leaves` says that each pass makes its parameters and inputs too.
    `reason` says why nothing was measured; the numbers are then None.
    """

    pass_bytes: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    passes: int = 0
    makes_leaves: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Alive:
    """What a group of nodes keeps for backward alone. A storage belongs to the first node that saves it."""

    key: str
    storages: int
    bytes: int


@dataclass(frozen=True)
class Memory:
    """Sizes in bytes.

    Attributes:
        views, storages: what the ledger holds, as references and as distinct storages.
        anyway: of the storages, what is in memory whatever is saved: parameters, inputs, buffers.
        kept: the other storages, which are there for the backward pass alone.
        unknown: nodes and tensors without a size; where it is not 0, all of these are lower bounds.
        forward: `kept` storages alive after each function node of the forward pass.
        backward: the same after 0, 1, … nodes of the backward pass have run.
        gradients: the gradients that have reached their leaves by then; None where a leaf has no size.
        peak: the most that `backward` and `gradients` reach together.
        peak_step: the number of nodes of the backward pass that have run by then.
        rows: what is alive when the forward pass ends, where `forward` and `backward` are at their
            peak (the backward pass only frees storages), the most first.
    """

    views: int
    storages: int
    storage_count: int
    anyway: int
    kept: int
    unknown: int
    forward: tuple[int, ...]
    backward: tuple[int, ...]
    gradients: tuple[int, ...] | None
    peak: int
    peak_step: int
    by: str
    rows: tuple[Alive, ...]

    @property
    def total(self) -> tuple[int, ...]:
        """Storages and gradients together, after 0, 1, … nodes of the backward pass."""
        if self.gradients is None:
            return self.backward
        return tuple(map(sum, zip(self.backward, self.gradients, strict=True)))


def backward_order(graph: GradGraph) -> list[int]:
    """The order in which autograd's engine runs the nodes on one device, known from the graph alone.

    Of the nodes that wait for nothing, a leaf goes first, then the one that was made last.
    """
    waiting = [0] * len(graph.nodes)
    following: list[list[int]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        waiting[edge.target] += 1
        following[edge.source].append(edge.target)

    def turn(number: int) -> tuple[float, int]:
        node = graph.nodes[number]
        if node.kind == "leaf":
            return -math.inf, number
        return -(number if node.seq is None else node.seq), -number

    ready = [(turn(number), number) for number, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        _, number = heapq.heappop(ready)
        order.append(number)
        for target in following[number]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, (turn(target), target))
    return order


def memory_of(
    graph: GradGraph,
    keys: Sequence[str],
    by: str = "op",
    *,
    persistent: Collection[int] = (),
    order: Sequence[int] | None = None,
) -> Memory:
    """Follow the storages through both passes.

    A storage is counted from the first node that saves it until the last node that saves it has
    run backward; what is set as an attribute of a custom Function's ctx, until the graph is gone.

    Args:
        keys: the group of each node.
        persistent: storages, by their number, that outlive the graph, as buffers do.
        order: the order of the backward pass; the engine's unless told.
    """
    order = backward_order(graph) if order is None else order
    place = {number: k for k, number in enumerate(order)}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    size: dict[int, int] = {}
    anyway = set(persistent)
    for item in graph.saved:
        if item.storage is None:
            continue
        size[item.storage] = item.storage_bytes or 0
        first.setdefault(item.storage, item.node)
        # An attribute of ctx is not released with the node's saved tensors.
        ends = len(order) if item.slot.startswith("ctx.") else place.get(item.node, len(order))
        last[item.storage] = max(last.get(item.storage, 0), ends)
        if item.role in ("parameter", "input"):
            anyway.add(item.storage)
    kept = [storage for storage in size if storage not in anyway]

    functions = [number for number, node in enumerate(graph.nodes) if node.kind != "leaf"]
    position = {number: k for k, number in enumerate(functions)}
    grown = [0] * len(functions)
    freed = [0] * (len(order) + 1)
    for storage in kept:
        grown[position[first[storage]]] += size[storage]
        if last[storage] < len(order):
            freed[last[storage] + 1] += size[storage]
    forward = tuple(itertools.accumulate(grown))
    whole = forward[-1] if forward else 0
    backward = tuple(whole - gone for gone in itertools.accumulate(freed))
    gradients = _gradients(graph, order)
    total = backward if gradients is None else tuple(map(sum, zip(backward, gradients, strict=True)))
    step = total.index(max(total))
    sums = graph.saved_by_node()
    return Memory(
        sum(row.view_bytes for row in sums), sum(size.values()), len(size),
        sum(size[storage] for storage in anyway if storage in size), sum(size[storage] for storage in kept),
        sum(row.unknown for row in sums), forward, backward, gradients, total[step], step, by,
        _alive([(keys[first[storage]], size[storage]) for storage in kept]),
    )  # fmt: skip


def _gradients(graph: GradGraph, order: Sequence[int]) -> tuple[int, ...] | None:
    arrived = [0]
    for number in order:
        node = graph.nodes[number]
        gained = 0
        if node.kind == "leaf":
            if node.shape is None or node.dtype not in _ITEM:
                return None
            gained = math.prod(node.shape) * _ITEM[node.dtype]
        arrived.append(arrived[-1] + gained)
    return tuple(arrived)


def _alive(storages: Sequence[tuple[str, int]]) -> tuple[Alive, ...]:
    groups: dict[str, list[int]] = {}
    for key, size in storages:
        group = groups.setdefault(key, [0, 0])
        group[0] += 1
        group[1] += size
    rows = [Alive(key, *group) for key, group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.key)))

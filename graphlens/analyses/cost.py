"""What the nodes cost, and what bounds their speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphlens.graph import GradGraph, Node
from graphlens.records import Machine

BOUNDS = ("overhead", "memory", "compute", "unknown")
# A pass of a node that takes more than this many times as long as its arithmetic and its memory
# traffic need at best spends its time elsewhere.
_SLACK = 4.0


@dataclass(frozen=True)
class CostRow:
    """A group of nodes, both passes together unless the name says otherwise. Nanoseconds, FLOPs, bytes.

    `flops` is None if no op of the group has a formula, and a lower bound if `uncounted`, the
    number of nodes without one, is not 0; and so are `moved` and `unsized`, the number of nodes
    whose bytes are not known. `bound` is what most of the time is bounded by.
    """

    key: str
    nodes: int
    forward_ns: int | None
    backward_ns: int | None
    flops: int | None
    moved: int | None
    uncounted: int
    bound: str
    unsized: int = 0

    @property
    def spent_ns(self) -> int | None:
        """Both passes."""
        known = [ns for ns in (self.forward_ns, self.backward_ns) if ns is not None]
        return sum(known) if known else None

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte."""
        return self.flops / self.moved if self.flops is not None and self.moved else None

    @property
    def flops_a_second(self) -> float | None:
        """What was achieved."""
        return self.flops * 1e9 / self.spent_ns if self.flops is not None and self.spent_ns else None

    @property
    def bytes_a_second(self) -> float | None:
        """What was achieved."""
        return self.moved * 1e9 / self.spent_ns if self.moved is not None and self.spent_ns else None


@dataclass(frozen=True)
class CostTable:
    """Rows by the time they took, longest first; they sum to the total."""

    by: str
    rows: tuple[CostRow, ...]
    total: CostRow
    machine: Machine | None


def cost_table(graph: GradGraph, keys: Sequence[str], by: str = "op", machine: Machine | None = None) -> CostTable:
    """Sum the costs of the nodes per group.

    Args:
        keys: the group of each node.
        machine: what the machine can do at best; without it nothing is said about bounds.
    """
    groups: dict[str, list[Node]] = {}
    for key, node in zip(keys, graph.nodes, strict=True):
        groups.setdefault(key, []).append(node)
    rows = [_row(key, nodes, machine) for key, nodes in groups.items()]
    rows.sort(key=lambda row: (-(row.spent_ns or 0), row.key))
    return CostTable(by, tuple(rows), _row("total", graph.nodes, machine), machine)


def _row(key: str, nodes: Sequence[Node], machine: Machine | None) -> CostRow:
    spent = dict.fromkeys(BOUNDS, 0)
    for node in nodes:
        for ns, flops, moved in (
            (node.forward_ns, node.forward_flops, node.forward_moved),
            (node.backward_ns, node.backward_flops, node.backward_moved),
        ):
            spent[bound_of(ns, flops, moved, machine)] += ns or 0
    work = [node for node in nodes if node.kind != "leaf"]
    uncounted = sum(node.forward_flops is None or node.backward_flops is None for node in work)
    return CostRow(
        key,
        len(nodes),
        _sum(nodes, lambda node: node.forward_ns),
        _sum(nodes, lambda node: node.backward_ns),
        _sum(nodes, lambda node: node.forward_flops, lambda node: node.backward_flops),
        _sum(nodes, lambda node: node.forward_moved, lambda node: node.backward_moved),
        uncounted,
        max(BOUNDS, key=lambda bound: spent[bound]) if any(spent.values()) else "unknown",
        sum(node.forward_moved is None or node.backward_moved is None for node in work),
    )


def bound_of(ns: int | None, flops: int | None, moved: int | None, machine: Machine | None) -> str:
    """What bounds one pass of one node: "overhead", "memory", "compute", or "unknown".

    The roofline model (Williams, Waterman and Patterson 2009): at best it takes as long as its
    arithmetic at the machine's peak or its bytes at the machine's bandwidth, whichever is longer.
    """
    if ns is None or machine is None or flops is None or moved is None:
        return "unknown"
    arithmetic, traffic = flops / machine.flops * 1e9, moved / machine.bandwidth * 1e9
    if max(arithmetic, traffic) * _SLACK < ns:
        return "overhead"
    return "compute" if arithmetic > traffic else "memory"


def _sum(nodes: Sequence[Node], *of: Callable[[Node], int | None]) -> int | None:
    known = [value for node in nodes for each in of if (value := each(node)) is not None]
    return sum(known) if known else None

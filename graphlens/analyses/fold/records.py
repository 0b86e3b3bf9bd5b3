"""FoldedGraph: a hierarchy of boxes and groups, from which the graph can be had back."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from graphlens.analyses.fold.expand import expand
from graphlens.analyses.fold.wiring import Wire
from graphlens.errors import GraphError
from graphlens.graph import GradGraph


class Totals(NamedTuple):
    """Sums over all nodes that a box or a group stands for. Sizes in bytes.

    `storage_bytes` counts a storage once, at the first node in forward order that saves it;
    `unknown` counts what has no size.
    """

    nodes: int = 0
    saved_tensors: int = 0
    view_bytes: int = 0
    storages: int = 0
    storage_bytes: int = 0
    unknown: int = 0


class Crossing(NamedTuple):
    """How a link passes the frame of a group.

    Into a group, `how` is "first": what the first iteration reads where the others read the one
    before; "shared": all iterations read the same; or "each": every iteration reads its own. Out
    of a group it is "last": the last iteration's result; or "each": the results of the iterations
    `low` … `high`.
    """

    group: int
    how: str
    low: int
    high: int


class Link(NamedTuple):
    """An edge of the picture, from an earlier box to a later one, both given by their nodes.

    `carried_by` is the number of the group that takes the value over to a later iteration, `lag`
    iterations on; None and 0 for other links. `enters` and `leaves` list the frames on the way,
    outer before inner. A link without any of the three stays inside one iteration.
    """

    earlier: int
    later: int
    carried_by: int | None = None
    lag: int = 0
    enters: tuple[Crossing, ...] = ()
    leaves: tuple[Crossing, ...] = ()

    @property
    def kind(self) -> str:
        """ "carried", "first", "each", "shared", "out" or "inside": the first of these that holds."""
        if self.carried_by is not None:
            return "carried"
        how = {crossing.how for crossing in self.enters}
        for kind in ("first", "each", "shared"):
            if kind in how:
                return kind
        return "out" if self.leaves else "inside"


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or all nodes that stand at the same place of every iteration, or each iteration's leaf.

    Attributes:
        node: the one that is drawn.
        count: how many nodes of the graph the box stands for.
        copies: how many of them are in one iteration of the group that the box is drawn in: 1, but
            for a stack of leaves, as of the weights of an inner loop that all outer rounds share.
        label: the leaf's name ("h.0.w … h.11.w" for several) or the op ("Mv").
        totals: over all of them.
    """

    node: int
    count: int
    copies: int
    label: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Group:
    """One iteration that stands for `count`.

    Attributes:
        number: its place in `FoldedGraph.groups`; a parent has a lower number than its children.
        parent: the number of the group that it is part of.
        count: iterations, within one iteration of the parent.
        body: boxes and groups of one iteration: its own leaves first, then in forward order.
        starts: where each iteration begins in `FoldedGraph.order`, within the iteration of the
            parent that is drawn.
        period: function nodes in an iteration.
        drawn: which iteration the body shows: the first one that reads what earlier ones made.
        label: the pattern of the names of its leaves, or its ops.
        totals: over all iterations, those of the parent included.
        carried: links from one iteration to a later one.
        entries: links that give the first iteration what later ones are carried.
        shared: nodes of boxes outside that every iteration reads.
        own: nodes of boxes that each iteration has one of: leaves in the body, or results outside.
        outputs: links that leave the group.
        wires: what changes from iteration to iteration by more than a shift.
    """

    number: int
    parent: int | None
    count: int
    body: tuple[Item, ...]
    starts: Sequence[int]
    period: int
    drawn: int
    label: str
    totals: Totals
    carried: tuple[Link, ...]
    entries: tuple[Link, ...]
    shared: tuple[int, ...]
    own: tuple[int, ...]
    outputs: tuple[Link, ...]
    wires: tuple[Wire, ...]


Item = Box | Group
Path = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FoldedGraph:
    """A graph in which what repeats is drawn once.

    Attributes:
        graph: the graph that was folded.
        items: boxes and groups at the top: leaves first, then in forward order.
        groups: every group, parents before children.
        links: the edges of the picture.
        order: the graph's node numbers, leaves first, then functions in forward order.
        box_of: per node of the graph, the node of its box.
    """

    graph: GradGraph
    items: tuple[Item, ...]
    groups: tuple[Group, ...]
    links: tuple[Link, ...]
    order: Sequence[int]
    box_of: Sequence[int]

    def __repr__(self) -> str:
        return f"<FoldedGraph: {len(self.graph):,} nodes in {self.boxes():,} boxes, {len(self.groups):,} groups>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from graphlens.notebook import mimebundle

        return mimebundle(self)

    def walk(self) -> Iterator[tuple[int, Item]]:
        """Every box and group with its depth, in the order of the picture."""
        stack: list[tuple[int, Item]] = [(0, item) for item in reversed(self.items)]
        while stack:
            depth, item = stack.pop()
            yield depth, item
            if isinstance(item, Group):
                stack.extend((depth + 1, inner) for inner in reversed(item.body))

    def boxes(self) -> int:
        """How many boxes a picture has in which every group is folded, outputs included."""
        return sum(isinstance(item, Box) for _, item in self.walk()) + len(self.graph.outputs)

    @cached_property
    def members(self) -> dict[int, tuple[int, ...]]:
        """The nodes of each box, by the node that is drawn."""
        members: dict[int, list[int]] = {}
        for number, box in enumerate(self.box_of):
            members.setdefault(box, []).append(number)
        return {box: tuple(numbers) for box, numbers in members.items()}

    def path(self, node: int) -> Path:
        """The iterations that a function node is part of: (group, iteration), outer before inner."""
        return self._paths.path(self._position[node])

    @cached_property
    def _position(self) -> Sequence[int]:
        if isinstance(self.order, range):
            return self.order
        position = [0] * len(self.order)
        for place, number in enumerate(self.order):
            position[number] = place
        return position

    @cached_property
    def _paths(self) -> Paths:
        return Paths([(group.parent, group.starts, group.period, group.drawn) for group in self.groups])

    def expand(self) -> GradGraph:
        """The graph again, from what is drawn and what the groups say about the other iterations.

        Of the original it reads the nodes that are drawn; and, for each other node, what tells it
        from the drawn one: sequence number, name, and which storages it saves in what role.
        """
        return expand(self.graph, self.box_of, [(g.starts, g.period, g.drawn, g.wires) for g in self.groups])

    def check(self) -> FoldedGraph:
        """Verify that nothing is lost or merged wrongly; return the folded graph itself.

        Raises:
            GraphError: naming what does not hold.
        """
        boxes = [item for _, item in self.walk() if isinstance(item, Box)]
        counts = Counter(self.box_of)
        if len(self.box_of) != len(self.graph) or counts != {box.node: box.count for box in boxes}:
            raise GraphError("the boxes of the folded graph do not stand for each node once")
        for items, totals in self._levels():
            if _sum(item.totals for item in items) != totals:
                raise GraphError("the totals of a group's items do not add up to those of the group")
        if self.expand() != self.graph:
            raise GraphError("the folded graph does not expand to the graph it was made from")
        return self

    def _levels(self) -> Iterator[tuple[tuple[Item, ...], Totals]]:
        rows = self.graph.saved_by_node()
        yield self.items, Totals(len(self.graph), *(sum(column) for column in zip(*rows, strict=True)))
        for group in self.groups:
            yield group.body, group.totals


def _sum(totals: Iterator[Totals]) -> Totals:
    return Totals(*(sum(column) for column in zip(*totals, strict=True)))


class Paths:
    """Finds the iterations that a position is part of.

    Each group is given by its parent's number, the starts of its iterations, their period, and the
    iteration that is drawn, in which its children lie.
    """

    def __init__(self, groups: Sequence[tuple[int | None, Sequence[int], int, int]]) -> None:
        self.groups = groups
        self._loops: dict[int | None, list[tuple[int, int]]] = {}
        self._twins: dict[int, tuple[int, int]] = {}
        for number, (parent, starts, _, _) in enumerate(groups):
            if isinstance(starts, range):
                self._loops.setdefault(parent, []).append((starts[0], number))
            else:
                self._twins.update((start, (number, k)) for k, start in enumerate(starts))
        for loops in self._loops.values():
            loops.sort()

    def path(self, place: int) -> Path:
        """(group, iteration), outer before inner."""
        path: list[tuple[int, int]] = []
        group: int | None = None
        # Each step goes one level down, into a body at most half as long.
        while (step := self._step(group, place)) is not None:
            path.append(step)
            group, iteration = step
            _, starts, _, drawn = self.groups[group]
            place += starts[drawn] - starts[iteration]
        return tuple(path)

    def _step(self, parent: int | None, place: int) -> tuple[int, int] | None:
        loops = self._loops.get(parent, [])
        index = bisect_right(loops, (place, len(self.groups))) - 1
        if index >= 0:
            start, number = loops[index]
            _, starts, period, _ = self.groups[number]
            iteration = (place - start) // period
            if iteration < len(starts):
                return number, iteration
        twin = self._twins.get(place)
        return twin if twin is not None and self.groups[twin[0]][0] == parent else None

"""`fold`: from a graph to its FoldedGraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphlens.analyses.fold.choice import choose
from graphlens.analyses.fold.labels import Calls, common_heads, heads_label, leaf_label, ops_label, short_op
from graphlens.analyses.fold.leaves import Family, families
from graphlens.analyses.fold.links import draw_links
from graphlens.analyses.fold.records import Box, FoldedGraph, Group, Item, Link, Paths, Totals
from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.twins import twins
from graphlens.analyses.fold.wiring import Wire, wiring_of
from graphlens.collector import paused_collector
from graphlens.graph import GradGraph


def fold(graph: GradGraph) -> FoldedGraph:
    """Find what repeats in a graph, so that it can be drawn once.

    Folded are consecutive iterations of a loop, equal layers, equal parallel branches, and loops
    inside them; only where op, shapes, dtypes, saved tensors and wiring agree. What differs, as a
    first layer with a bias of its own, stays outside. The same graph always folds the same way, in
    time near to linear in its size.
    """
    with paused_collector():
        return _Folding(graph).result()


class Loop(NamedTuple):
    """A group before it has a body: see the attributes of `Group`."""

    parent: int | None
    starts: Sequence[int]
    period: int
    drawn: int
    wires: tuple[Wire, ...]

    @property
    def body(self) -> range:
        start = self.starts[self.drawn]
        return range(start, start + self.period)


class _Folding:
    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        self.sequence = ForwardSequence(graph)
        self.level: list[int | None] = [None] * len(self.sequence)
        self.loops: list[Loop] = []
        for item, wiring in choose(self.sequence):
            self._add(range(item.start, item.end, item.period), item.period, wiring.drawn, wiring.wires)
        self._add_twins()
        self.boxes = self._boxes()
        self.paths = Paths([(loop.parent, loop.starts, loop.period, loop.drawn) for loop in self.loops])
        self.families = families(self.sequence, self.boxes, self.paths)
        for family in self.families:
            for place in family.places:
                self.boxes[place] = family.drawn

    def _add(self, starts: Sequence[int], period: int, drawn: int, wires: tuple[Wire, ...]) -> None:
        loop = Loop(self.level[starts[0]], starts, period, drawn, wires)
        for place in loop.body:
            self.level[place] = len(self.loops)
        self.loops.append(loop)

    def _add_twins(self) -> None:
        single: dict[int | None, list[int]] = {}
        boxes = self._boxes()
        for place in range(self.sequence.leaves, len(self.sequence)):
            if boxes[place] == place:
                single.setdefault(self.level[place], []).append(place)
        for places in single.values():
            for starts in twins(self.sequence, places):
                wiring = wiring_of(self.sequence, starts, 1)
                if wiring is not None:
                    self._add(starts, 1, wiring.drawn, wiring.wires)

    def _boxes(self) -> list[int]:
        """Per position, the position that is drawn for it; leaves stand for themselves."""
        boxes = list(range(len(self.sequence)))
        for loop in reversed(self.loops):  # inner loops first: outer ones copy what they hold
            body = boxes[loop.body.start : loop.body.stop]
            for start in loop.starts:
                boxes[start : start + loop.period] = body
        return boxes

    def result(self) -> FoldedGraph:
        order = self.sequence.order
        links = draw_links(self.sequence, self.loops, self.boxes, self.paths)
        items, groups = self._items(links)
        box_of = [0] * len(order)
        for place, box in enumerate(self.boxes):
            box_of[order[place]] = order[box]
        return FoldedGraph(self.graph, items, groups, links, order, tuple(box_of))

    def _items(self, links: Sequence[Link]) -> tuple[tuple[Item, ...], tuple[Group, ...]]:
        totals = self._totals()
        inside: dict[int | None, list[tuple[int, Item]]] = {}
        family_of = {family.drawn: family for family in self.families}
        for place, box in enumerate(self.boxes):
            if box != place:
                continue
            family = family_of.get(place)
            level = family.level if family else self.level[place]
            inside.setdefault(level, []).append((place, self._box(place, family, totals[place])))
        of_group = _links_by_group(links)
        labels = self._labels()
        groups: list[Group] = []
        for number in reversed(range(len(self.loops))):
            loop = self.loops[number]
            body = _ordered(inside.pop(number))
            group = self._group(number, body, of_group.get(number, []), labels[number])
            groups.append(group)
            inside.setdefault(loop.parent, []).append((loop.starts[0], group))
        return _ordered(inside.get(None, [])), tuple(reversed(groups))

    def _totals(self) -> list[Totals]:
        sums = [[0] * len(Totals._fields) for _ in self.boxes]
        rows = self.graph.saved_by_node()
        order = self.sequence.order
        for place, box in enumerate(self.boxes):
            row = sums[box]
            row[0] += 1
            for column, value in enumerate(rows[order[place]], 1):
                row[column] += value
        return [Totals(*row) for row in sums]

    def _box(self, place: int, family: Family | None, totals: Totals) -> Box:
        nodes, order = self.graph.nodes, self.sequence.order
        if family is None:
            return Box(order[place], totals.nodes, 1, short_op(nodes[order[place]].op), totals)
        label = leaf_label([nodes[order[leaf]].name for leaf in family.places])
        return Box(order[place], totals.nodes, family.copies, label, totals)

    def _group(self, number: int, body: tuple[Item, ...], links: Sequence[Link], label: str) -> Group:
        loop = self.loops[number]
        nodes, order = self.graph.nodes, self.sequence.order
        ops = [nodes[item.node].op for item in body if isinstance(item, Box) and nodes[item.node].kind != "leaf"]
        ops = ops or [nodes[order[place]].op for place in loop.body]
        enters = [(link, crossing.how) for link in links for crossing in link.enters if crossing.group == number]
        own = [item.node for item in body if isinstance(item, Box) and nodes[item.node].kind == "leaf"]
        own += [link.earlier for link, how in enters if how == "each"]
        return Group(
            number,
            loop.parent,
            len(loop.starts),
            body,
            loop.starts,
            loop.period,
            loop.drawn,
            label or ops_label(ops),
            Totals(*(sum(column) for column in zip(*(item.totals for item in body), strict=True))),
            tuple(link for link in links if link.carried_by == number),
            tuple(link for link, how in enters if how == "first"),
            tuple(dict.fromkeys(link.earlier for link, how in enters if how == "shared")),
            tuple(dict.fromkeys(own)),
            tuple(link for link in links if any(crossing.group == number for crossing in link.leaves)),
            loop.wires,
        )

    def _labels(self) -> list[str]:
        """What the groups are called after their leaves or their modules; "" for others."""
        calls = Calls(self.graph, self.sequence.order) if self.graph.calls else None
        heads: list[tuple[str, ...]] = []
        labels = []
        for loop in self.loops:  # parents before children
            of_parent = heads[loop.parent] if loop.parent is not None else ()
            inside = of_parent[self.loops[loop.parent].drawn] if loop.parent is not None and of_parent else ""
            own, label = common_heads(self._own_names(loop)), ""
            if own:
                label = heads_label(own, inside)
            elif calls is not None:
                label, own = calls.label(loop.starts, loop.period, inside)
            heads.append(own)
            labels.append(label)
        return labels

    def _own_names(self, loop: Loop) -> list[list[str]]:
        """For each slot in which each iteration reads a leaf of its own, the names of the leaves."""
        nodes, order, leaves = self.graph.nodes, self.sequence.order, self.sequence.leaves
        return [
            [nodes[order[place]].name for place, _ in wire.sources]
            for wire in loop.wires
            if not wire.lag and all(place < leaves for place, _ in wire.sources)
        ]


def _links_by_group(links: Sequence[Link]) -> dict[int, list[Link]]:
    found: dict[int, list[Link]] = {}
    for link in links:
        numbers = {crossing.group for crossing in (*link.enters, *link.leaves)}
        if link.carried_by is not None:
            numbers.add(link.carried_by)
        for number in numbers:
            found.setdefault(number, []).append(link)
    return found


def _ordered(items: list[tuple[int, Item]]) -> tuple[Item, ...]:
    return tuple(item for _, item in sorted(items, key=lambda pair: pair[0]))

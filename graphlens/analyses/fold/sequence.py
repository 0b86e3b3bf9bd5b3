"""A graph as a sequence of tokens with numbered sources: what the folding reads."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from functools import cached_property

from graphlens.analyses.fold.labels import varying_head
from graphlens.graph import GradGraph

NEVER = -1
FOREVER = 2**62


class ForwardSequence:
    """The nodes in forward order, leaves first, as numbers that can be compared quickly.

    Everything is indexed by position. A graph whose leaves come first, as every captured one, has
    positions equal to its node numbers.

    Attributes:
        order: position → node number.
        leaves: how many positions are leaves.
        slots, sources, ports: per position, one entry per link, in slot order.
    """

    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        leaves = [number for number, node in enumerate(graph.nodes) if node.kind == "leaf"]
        self.leaves = len(leaves)
        if leaves == list(range(len(leaves))):
            self.order: Sequence[int] = range(len(graph.nodes))
            self.position: Sequence[int] = self.order
        else:
            self.order = [*leaves, *(n for n, node in enumerate(graph.nodes) if node.kind != "leaf")]
            position = [0] * len(self.order)
            for place, number in enumerate(self.order):
                position[number] = place
            self.position = position
        self.slots, self.sources, self.ports = self._links()

    def __len__(self) -> int:
        return len(self.order)

    def _links(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[tuple[int, ...]]]:
        position = self.position
        slots: list[tuple[int, ...]] = [()] * len(position)
        sources: list[tuple[int, ...]] = [()] * len(position)
        ports: list[tuple[int, ...]] = [()] * len(position)
        for later, earlier, edge_slots, edge_ports in self.graph.edges:
            place, source = position[later], position[earlier]
            slots[place] += edge_slots
            ports[place] += edge_ports
            sources[place] += (source,) * len(edge_slots)
        for place, row in enumerate(slots):
            if len(row) > 1 and any(a > b for a, b in itertools.pairwise(row)):
                by_slot = sorted(zip(row, sources[place], ports[place], strict=True))
                slots[place], sources[place], ports[place] = zip(*by_slot, strict=True)
        return slots, sources, ports

    @cached_property
    def tokens(self) -> list[int]:
        """Per position, a number that is equal for nodes that look alike.

        That is op, kind, shape, dtype, device, outputs, the looks of the saved tensors, and which
        input slots carry a gradient; not who the sources are.
        """
        looks: list[tuple[int, ...]] = [()] * len(self.order)
        numbered: dict[Hashable, int] = {}
        position = self.position
        for item in self.graph.saved:
            # Neither storage nor role: the first round of a loop may read a parameter where the
            # later ones read a result, and still be the same round.
            look = (item.slot, item.shape, item.dtype, item.device, item.view_bytes, item.packed)
            looks[position[item.node]] += (numbered.setdefault(look, len(numbered)),)
        roles = {item.node: item.role for item in self.graph.inputs if item.node is not None}
        tokens = []
        nodes = self.graph.nodes
        for place, number in enumerate(self.order):
            node = nodes[number]
            key = (
                node.op, node.kind, node.shape, node.dtype, node.device, node.outputs, node.ledger,
                looks[place], self.slots[place], roles.get(number) if place < self.leaves else None,
            )  # fmt: skip
            tokens.append(numbered.setdefault(key, len(numbered)))
        return tokens

    def owner_name(self, leaf: int, other: int) -> str:
        """ "h.3" for leaf h.3.w and other h.2.w: the name up to the one part that differs, "" if none."""
        nodes, order = self.graph.nodes, self.order
        return varying_head(nodes[order[leaf]].name, nodes[order[other]].name)

    @cached_property
    def distances(self) -> list[tuple[int, ...]]:
        """Per position, how far back each source is."""
        return [tuple([place - source for source in row]) for place, row in enumerate(self.sources)]

    @cached_property
    def first_use(self) -> list[int]:
        """Per position, the first consumer; NEVER if there is none."""
        first = [NEVER] * len(self.order)
        for place in range(len(self.order) - 1, self.leaves - 1, -1):
            for source in self.sources[place]:
                first[source] = place
        return first

    @cached_property
    def last_use(self) -> list[int]:
        """Per position, the last consumer; FOREVER for an output of the graph."""
        last = [NEVER] * len(self.order)
        for place, row in enumerate(self.sources):
            for source in row:
                last[source] = place
        for output in self.graph.outputs:
            last[self.position[output.node]] = FOREVER
        return last

    @cached_property
    def _consumers(self) -> tuple[array[int], array[int]]:
        starts = array("q", bytes(8 * (len(self.order) + 1)))
        for row in self.sources:
            for source in row:
                starts[source + 1] += 1
        for place in range(len(self.order)):
            starts[place + 1] += starts[place]
        fill = array("q", starts)
        consumers = array("q", bytes(8 * starts[-1]))
        for place, row in enumerate(self.sources):
            for source in row:
                consumers[fill[source]] = place
                fill[source] += 1
        return starts, consumers

    def consumers(self, place: int) -> array[int]:
        """The positions that use `place`, ascending, once per link."""
        starts, consumers = self._consumers
        return consumers[starts[place] : starts[place + 1]]

    @cached_property
    def output_count(self) -> dict[int, int]:
        """How many outputs of the graph a position is."""
        counts: dict[int, int] = {}
        for output in self.graph.outputs:
            place = self.position[output.node]
            counts[place] = counts.get(place, 0) + 1
        return counts

    def uses_after(self, place: int, end: int) -> tuple[int, ...]:
        """The tokens of those that use `place` at or after `end`, sorted; NEVER stands for an output."""
        consumers = self.consumers(place)
        tokens = [self.tokens[consumer] for consumer in consumers[bisect_left(consumers, end) :]]
        tokens += [NEVER] * self.output_count.get(place, 0)
        return tuple(sorted(tokens))

    @cached_property
    def rhythm(self) -> list[int]:
        """Tokens that also say how long ago each source was last touched: made, or used.

        A value of the same iteration, of the one before, and one shared by all keep this distance
        from iteration to iteration, at every level of nesting.
        """
        touched: dict[int, int] = {}
        numbered: dict[Hashable, int] = {}
        tokens = [0] * len(self.order)
        for place in range(self.leaves, len(self.order)):
            row = self.sources[place]
            # A leaf is not made by the program: its first use has no distance.
            gaps = tuple([place - touched.get(s, place if s < self.leaves else s) for s in row])
            for source in row:
                touched[source] = place
            tokens[place] = numbered.setdefault((self.tokens[place], gaps), len(numbered))
        return tokens

    @cached_property
    def hubs(self) -> list[int]:
        """Tokens that also say who a source with many consumers is, and how far back any other.

        They tell apart loops that differ only in whom they share: A·y and A⁻¹·y look alike.
        """
        uses = [0] * len(self.order)
        for row in self.sources:
            for source in row:
                uses[source] += 1
        numbered: dict[Hashable, int] = {}
        tokens = [0] * len(self.order)
        for place in range(self.leaves, len(self.order)):
            who = tuple(
                [
                    -1 - source if uses[source] > 2 else 0 if source < self.leaves else place - source
                    for source in self.sources[place]
                ]
            )
            tokens[place] = numbered.setdefault((self.tokens[place], who), len(numbered))
        return tokens

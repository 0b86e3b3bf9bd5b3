"""What every part of the connectivity analysis looks up: leaves, lineage, places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from graphlens.analyses.findings import Place
from graphlens.analyses.lineage import Lineage
from graphlens.flow import BLOCKS, GRAD, LEAF, UNSEEN, Step
from graphlens.graph import Source
from graphlens.observation import MOST_ENTRIES as MOST_ENTRIES
from graphlens.observation import LeafFact, Observation


class Facts:
    """An observation with its lineage.

    Attributes:
        wanted: leaves that can receive a gradient and are asked to, those made on the way included
            where a whole program was recorded and not a forward pass alone; none of those `ignored`.
        lost: those of them that received none.
    """

    def __init__(self, seen: Observation, ignored: Collection[str] = ()) -> None:
        self.seen = seen
        self.ignored = frozenset(ignored)
        self.flow = seen.flow
        able = [leaf for leaf in seen.leaves if leaf.requires_grad and leaf.differentiable]
        self.wanted = [leaf for leaf in able if leaf.name not in self.ignored]
        self.lost = [leaf for leaf in self.wanted if leaf.gradient == "none"]
        self.lost += self._made_leaves()

    def _made_leaves(self) -> list[LeafFact]:
        """Leaves that a program made for itself and that its graph does not lead to."""
        if self.seen.is_forward:
            return []
        known = {leaf.value for leaf in self.seen.leaves}
        counts: Counter[str] = Counter()
        found = []
        for step in self.flow.steps:
            for value in step.outputs:
                if self.flow.values[value] & LEAF and value not in known:
                    known.add(value)
                    place = self.place(step).source
                    counts[place] += 1
                    another = f" (number {counts[place]})" if counts[place] > 1 else ""
                    found.append(LeafFact(f"leaf made at {place}{another}", "input", (), True, True, "none", value))
        return found

    @cached_property
    def lineage(self) -> Lineage:
        """The lineage of all leaves that take part in a recorded call."""
        leaves = {leaf.name: leaf.value for leaf in self._all_leaves() if leaf.value is not None}
        return Lineage.of(self.flow, leaves, self.ends)

    def _all_leaves(self) -> Sequence[LeafFact]:
        known = {leaf.name for leaf in self.seen.leaves}
        extra = [leaf for leaf in self.lost if leaf.name not in known]
        return [*(leaf for leaf in self.wanted if leaf not in extra), *extra]

    @cached_property
    def ends(self) -> frozenset[int]:
        """The values that are differentiated."""
        return frozenset(end.value for end in self.seen.ends if end.value is not None)

    @cached_property
    def read(self) -> frozenset[int]:
        """The values that some call read."""
        return frozenset(value for step in self.flow.steps for value in step.inputs)

    def is_used(self, leaf: LeafFact) -> bool:
        """Whether a recorded call read the leaf."""
        return leaf.value is not None and leaf.value in self.read

    def is_without_effect(self, leaf: LeafFact) -> bool:
        """Whether runs with other values of the leaf were made, and what is differentiated stayed the same."""
        return leaf.name in self.seen.dependence and not self.matters(leaf)

    def matters(self, leaf: LeafFact) -> bool:
        """Whether what is differentiated is known to change with the leaf, and is not connected to it."""
        changed = self.seen.dependence.get(leaf.name, ())
        return any(name in self._judged and not self._is_live(leaf, name) for name in changed)

    @cached_property
    def _judged(self) -> Mapping[str, int | None]:
        """The ends, and the outputs that they are computed from, by name with their values."""
        ends = {end.name: end.value for end in self.seen.ends}
        needed = self.lineage.needed
        return {
            **{end.name: end.value for end in self.seen.outputs if end.value is not None and needed[end.value]},
            **ends,
        }

    def _is_live(self, leaf: LeafFact, name: str) -> bool:
        value = self._judged[name]
        if value is None or leaf.name not in self.lineage.names:
            return False
        return bool(self.lineage.live[value] >> self.lineage.names.index(leaf.name) & 1)

    def place(self, step: Step) -> Place:
        """Where a call stands."""
        return self.place_of(step.source, step.call)

    def place_of(self, source: int | None, call: int | None, nodes: Sequence[int] = ()) -> Place:
        """A place from the numbers of its line and of its module call."""
        sources, calls = self.flow.sources, self.flow.calls
        line = sources[source] if source is not None else None
        return Place(
            "" if line is None else str(line),
            "" if line is None else line.text,
            "" if call is None else str(calls[call]),
            tuple(nodes),
            tuple(self._callers(line)),
        )

    def _callers(self, line: Source | None) -> Iterator[str]:
        while line is not None and line.caller is not None:
            line = self.flow.sources[line.caller]
            yield str(line)

    def place_of_node(self, number: int) -> Place:
        """Where a node of the graph was made."""
        assert self.seen.graph is not None
        node = self.seen.graph.nodes[number]
        return self.place_of(node.source, node.call, (number,))

    def is_unseen(self, value: int) -> bool:
        """Whether a value was there before the recorded run, or was made out of its sight."""
        return bool(self.flow.values[value] & UNSEEN)

    @cached_property
    def openings(self) -> list[int]:
        """The steps that switched gradients off for a block, or on."""
        return [number for number, step in enumerate(self.flow.steps) if step.function in (GRAD, *BLOCKS)]

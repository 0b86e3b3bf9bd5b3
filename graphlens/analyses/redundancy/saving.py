"""What goes away with some nodes of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from graphlens.graph import GradGraph
from graphlens.units import bytes_text, nodes_text, percent_text, seconds_text


@dataclass(frozen=True)
class Saving:
    """Nodes, the storages that they alone save (bytes), and their time (nanoseconds); None where not measured.

    `whole_ns` is the time of all nodes.
    """

    nodes: int
    storage_bytes: int | None
    forward_ns: int | None
    backward_ns: int | None
    whole_ns: int | None

    @property
    def evidence(self) -> dict[str, object]:
        """As plain values."""
        return {
            "nodes": self.nodes,
            "saved_storage_bytes": self.storage_bytes,
            "forward_ns": self.forward_ns,
            "backward_ns": self.backward_ns,
        }

    def sentence(self) -> str:
        """ "20,001 of the nodes, 1.2 MB that are kept for backward, and 88 % of the time of both passes"."""
        parts = [nodes_text(self.nodes)]
        if self.storage_bytes:
            parts.append(f"{bytes_text(self.storage_bytes)} kept for backward")
        if self.forward_ns is not None and self.backward_ns is not None and self.whole_ns:
            spent = self.forward_ns + self.backward_ns
            parts.append(
                f"{seconds_text(spent / 1e9)} of both passes, {percent_text(spent, self.whole_ns)} of their time"
            )
        return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


class Savings:
    """What the nodes of one graph take, summed over any of them."""

    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        self._places: dict[tuple[int | None, int | None], tuple[str, str, str]] = {}  # a loop asks for few
        self.storages: dict[int, list[tuple[int | None, int | None]]] = {}
        for item in graph.saved:
            self.storages.setdefault(item.node, []).append((item.storage, item.storage_bytes))
        self.users = Counter(storage for held in self.storages.values() for storage in {each[0] for each in held})
        functions = [node for node in graph.nodes if node.kind != "leaf"]
        self.whole = _sum(node.forward_ns for node in functions), _sum(node.backward_ns for node in functions)

    def of(self, numbers: Iterable[int]) -> Saving:
        """What goes with these nodes."""
        chosen = set(numbers)
        # A storage goes with its last user. A hub has as many users as the graph has nodes: they are only counted.
        users: Counter[int | None] = Counter()
        sizes: dict[int | None, int | None] = {}
        for number in chosen:
            held = self.storages.get(number)
            if held is None:
                continue
            if len(held) > 1:
                held = list(dict(held).items())  # twice in one node is once
            for storage, size in held:
                users[storage] += 1
                sizes[storage] = size
        unknown = None in sizes or None in sizes.values()
        nodes = [self.graph.nodes[number] for number in chosen]
        forward, backward = self.whole
        whole = None if forward is None or backward is None else forward + backward
        return Saving(
            len(chosen),
            None if unknown else sum(size or 0 for each, size in sizes.items() if users[each] == self.users[each]),
            _sum(node.forward_ns for node in nodes),
            _sum(node.backward_ns for node in nodes),
            whole,
        )

    def place(self, number: int | None) -> tuple[str, str, str]:
        """The line of code of a node, its text, and its module; empty where not known."""
        if number is None:
            return "", "", ""
        node = self.graph.nodes[number]
        key = node.source, node.call
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._place(*key)
        return place

    def _place(self, line: int | None, call: int | None) -> tuple[str, str, str]:
        source = None if line is None else self.graph.sources[line]
        module = "" if call is None else self.graph.calls[call].path
        return ("", "", module) if source is None else (str(source), source.text, module)


def _sum(times: Iterable[int | None]) -> int | None:
    total = 0
    for time in times:
        if time is None:
            return None
        total += time
    return total

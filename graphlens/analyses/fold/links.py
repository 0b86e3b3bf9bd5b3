"""The edges of the picture: which boxes are linked, and how a link passes the frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from graphlens.analyses.fold.records import Crossing, Link, Path, Paths
from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.wiring import Wire


class Framed(Protocol):
    """What is known of a group before it has a body."""

    @property
    def starts(self) -> Sequence[int]: ...
    @property
    def period(self) -> int: ...
    @property
    def drawn(self) -> int: ...
    @property
    def wires(self) -> tuple[Wire, ...]: ...


_Slot = tuple[int, int]  # place, index of the slot
_Entry = tuple[int, str, int, int]  # group, how, and which of its iterations: low … high
_Key = tuple[int, int, "int | None", int, tuple[tuple[int, str], ...]]
_Way = tuple[Path, list[_Entry]]  # the frames that a link leaves, and those that it enters


def draw_links(
    sequence: ForwardSequence, loops: Sequence[Framed], boxes: Sequence[int], paths: Paths
) -> tuple[Link, ...]:
    """One link for all edges between two boxes that pass the frames alike, in forward order."""
    order = sequence.order
    wires = [_Wires(sequence, loop, boxes) for loop in loops]
    framed = _framed(len(sequence), loops)
    links: list[Link] = []
    found: dict[_Key, list[_Way]] = {}
    for place, slot in _drawn_slots(sequence, boxes, wires):
        source = sequence.sources[place][slot]
        if not (framed[place] or framed[source]):
            links.append(Link(order[boxes[source]], order[place]))
            continue
        later = paths.path(place)
        earlier = paths.path(source) if source >= sequence.leaves else ()
        depth, carried_by, lag = _common(earlier, later)
        entries: list[_Entry] = []
        if carried_by is None:
            entries = _entries(wires, (place, slot), later, depth)
        names = tuple([(group, how) for group, how, _, _ in entries])
        way = (earlier[depth:] if carried_by is None else (), entries)
        found.setdefault((boxes[source], boxes[place], carried_by, lag, names), []).append(way)
    links += [_link(key, ways, wires, order) for key, ways in found.items()]
    return tuple(sorted(dict.fromkeys(links), key=lambda link: (link.later, link.earlier)))


class _Wires:
    """A group's wires by slot, and those of them that the picture cannot show by one iteration."""

    def __init__(self, sequence: ForwardSequence, loop: Framed, boxes: Sequence[int]) -> None:
        self.starts, self.base = loop.starts, loop.starts[loop.drawn]
        self.lags = {(wire.place, wire.slot): wire.lag for wire in loop.wires}
        self.several: dict[_Slot, int] = {}  # slot → how many iterations are looked at
        for wire in loop.wires:
            nodes = [source for source, _ in wire.sources]
            # What comes before a carried value, and results of another loop, are told one by one.
            if wire.lag or max(nodes) >= sequence.leaves or len({boxes[node] for node in nodes}) > 1:
                self.several[wire.place, wire.slot] = len(nodes)

    def slots(self) -> Iterator[_Slot]:
        for (place, slot), count in self.several.items():
            yield from ((start + place - self.base, slot) for start in self.starts[:count])


def _framed(size: int, loops: Sequence[Framed]) -> bytearray:
    """Which positions are in a group."""
    framed = bytearray(size)
    for loop in loops:
        if isinstance(loop.starts, range):
            end = loop.starts[-1] + loop.period
            framed[loop.starts[0] : end] = b"\x01" * (end - loop.starts[0])
        else:
            for start in loop.starts:
                framed[start] = 1
    return framed


def _drawn_slots(sequence: ForwardSequence, boxes: Sequence[int], wires: Sequence[_Wires]) -> Iterator[_Slot]:
    """The slots whose links, taken together, are all that the picture has.

    Those of the drawn iterations, and what other iterations read from elsewhere.
    """
    for place in range(sequence.leaves, len(sequence)):
        if boxes[place] == place:
            for slot in range(len(sequence.sources[place])):
                yield place, slot
    for group in wires:
        yield from group.slots()


def _common(earlier: Path, later: Path) -> tuple[int, int | None, int]:
    """How many frames two places share; and if a link passes between iterations, by whom and how far."""
    for depth, (a, b) in enumerate(zip(earlier, later, strict=False)):
        if a != b:
            return (depth, a[0], b[1] - a[1]) if a[0] == b[0] else (depth, None, 0)
    return min(len(earlier), len(later)), None, 0


def _entries(wires: Sequence[_Wires], at: _Slot, later: Path, depth: int) -> list[_Entry]:
    """How a link passes the frames on its way in, below the `depth` that both ends share."""
    entries = []
    place, slot = at
    for level, (number, iteration) in enumerate(later):
        group = wires[number]
        place += group.base - group.starts[iteration]
        if level >= depth:
            lag = group.lags.get((place, slot))
            how = "shared" if lag is None else "first" if lag else "each"
            one = (place, slot) in group.several
            low, high = (iteration, iteration) if one else (0, len(group.starts) - 1)
            entries.append((number, how, low, high))
    return entries


def _link(key: _Key, ways: list[_Way], wires: Sequence[_Wires], order: Sequence[int]) -> Link:
    earlier, later, carried_by, lag, names = key
    enters = []
    for level, (group, how) in enumerate(names):
        spans = [entries[level] for _, entries in ways]
        enters.append(Crossing(group, how, min(span[2] for span in spans), max(span[3] for span in spans)))
    leaves = []
    for column in zip(*(exits for exits, _ in ways), strict=True):
        group = column[0][0]
        low, high = min(iteration for _, iteration in column), max(iteration for _, iteration in column)
        leaves.append(Crossing(group, "last" if low == len(wires[group].starts) - 1 else "each", low, high))
    return Link(order[earlier], order[later], carried_by, lag, tuple(enters), tuple(leaves))

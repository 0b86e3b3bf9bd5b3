"""The edges of the picture: which boxes are linked, and how a link passes the frames."""

from __future__ import annotations

import itertools
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


_Key = tuple[int, int, "int | None", int, tuple[tuple[int, str], ...]]


def draw_links(
    sequence: ForwardSequence, loops: Sequence[Framed], boxes: Sequence[int], paths: Paths
) -> tuple[Link, ...]:
    """One link for all edges between two boxes that pass the frames alike, in forward order."""
    wires = [{(wire.place, wire.slot): wire.lag for wire in loop.wires} for loop in loops]
    order = sequence.order
    links: list[Link] = []
    found: dict[_Key, list[Path]] = {}
    framed = _framed(len(sequence), loops)
    written = _written(len(sequence), loops, sequence.leaves)
    slots = ((place, slot) for place in written for slot in range(len(sequence.sources[place])))
    for place, slot in itertools.chain(slots, _of_several_boxes(loops, boxes)):
        source = sequence.sources[place][slot]
        if not (framed[place] or framed[source]):
            links.append(Link(order[boxes[source]], order[place]))
            continue
        later = paths.path(place)
        earlier = paths.path(source) if source >= sequence.leaves else ()
        depth, carried_by, lag = _common(earlier, later)
        enters = () if carried_by is not None else _enters(loops, wires, place, slot, later, depth)
        key = (boxes[source], boxes[place], carried_by, lag, enters)
        found.setdefault(key, []).append(earlier[depth:] if carried_by is None else ())
    links += [_link(key, exits, loops, order) for key, exits in found.items()]
    return tuple(sorted(dict.fromkeys(links), key=lambda link: (link.later, link.earlier)))


def _framed(size: int, loops: Sequence[Framed]) -> bytearray:
    """Which positions are in a group."""
    framed = bytearray(size)
    for loop in loops:
        for start in loop.starts[:1] if isinstance(loop.starts, range) else loop.starts:
            length = loop.period * (len(loop.starts) if isinstance(loop.starts, range) else 1)
            framed[start : start + length] = b"\x01" * length
    return framed


def _written(size: int, loops: Sequence[Framed], leaves: int) -> list[int]:
    """Positions whose links are drawn: those of each drawn iteration, and of the ones before it.

    The ones before read from outside what the drawn one is carried.
    """
    written = bytearray(b"\x01") * size
    for loop in reversed(loops):
        body = written[loop.starts[loop.drawn] : loop.starts[loop.drawn] + loop.period]
        for iteration, start in enumerate(loop.starts):
            written[start : start + loop.period] = body if iteration <= loop.drawn else bytes(loop.period)
    return [place for place in range(leaves, size) if written[place]]


def _of_several_boxes(loops: Sequence[Framed], boxes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places and slots, of all iterations, where each reads its own source and these are not one box."""
    for loop in loops:
        for wire in loop.wires:
            if not wire.lag and len({boxes[source] for source, _ in wire.sources}) > 1:
                offset = wire.place - loop.starts[loop.drawn]
                yield from ((start + offset, wire.slot) for start in loop.starts)


def _common(earlier: Path, later: Path) -> tuple[int, int | None, int]:
    """How many frames two places share; and if a link passes between iterations, by whom and how far."""
    for depth, (a, b) in enumerate(zip(earlier, later, strict=False)):
        if a != b:
            return (depth, a[0], b[1] - a[1]) if a[0] == b[0] else (depth, None, 0)
    return min(len(earlier), len(later)), None, 0


def _enters(
    loops: Sequence[Framed],
    wires: Sequence[dict[tuple[int, int], int]],
    place: int,
    slot: int,
    later: Path,
    depth: int,
) -> tuple[tuple[int, str], ...]:
    entered = []
    for level, (group, iteration) in enumerate(later):
        loop = loops[group]
        place += loop.starts[loop.drawn] - loop.starts[iteration]
        if level >= depth:
            lag = wires[group].get((place, slot))
            how = "shared" if lag is None else "first" if lag else "each"
            entered.append((group, how))
    return tuple(entered)


def _link(key: _Key, exits: list[Path], loops: Sequence[Framed], order: Sequence[int]) -> Link:
    earlier, later, carried_by, lag, enters = key
    each = any(how == "each" for _, how in enters)
    return Link(
        order[earlier],
        order[later],
        carried_by,
        lag,
        tuple(_crossing_in(group, how, loops[group]) for group, how in enters),
        tuple(_crossing_out(column, loops, each) for column in zip(*exits, strict=True)),
    )


def _crossing_in(group: int, how: str, loop: Framed) -> Crossing:
    return Crossing(group, how, 0, 0 if how == "first" else len(loop.starts) - 1)


def _crossing_out(column: Sequence[tuple[int, int]], loops: Sequence[Framed], each: bool) -> Crossing:
    group = column[0][0]
    last = len(loops[group].starts) - 1
    iterations = [iteration for _, iteration in column]
    if each:
        return Crossing(group, "each", 0, last)
    low, high = min(iterations), max(iterations)
    return Crossing(group, "last" if low == last else "each", low, high)

"""Do consecutive iterations read the same things? The exact check behind a repeat of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from graphlens.analyses.fold.sequence import ForwardSequence

# How a slot of the body changes from one iteration to the next.
MOVES = 0  # its source moves along: it is inside the iteration, or in an earlier one
SHARED = 1  # its source stays: one thing outside that all iterations read
OWN = 2  # its source is outside, alike, and different in each iteration

Source = tuple[int, int]  # position, port


@dataclass
class _Slots:
    """What is known of the wiring after the first two iterations."""

    kinds: list[list[int]]
    moving: list[bool]  # per place in the body: all of its slots move
    shared: set[Source]
    owner: dict[Source, tuple[int, int]]  # own source → iteration, the slot that names it
    namer: dict[int, int]  # own slot → the first slot of the iteration with the same source
    owner_of_node: dict[int, tuple[int, int]]  # the same for nodes, of which iterations may read several outputs
    namer_of_node: dict[int, int]


def matching(sequence: ForwardSequence, start: int, period: int, count: int) -> int:
    """How many iterations from `start` on, up to `count`, are wired alike; at least one."""
    if count < 2:
        return count
    slots = _second_iteration(sequence, start, period)
    if slots is None:
        return 1
    for iteration in range(2, count):
        if not _continues(sequence, slots, start, period, iteration):
            return iteration
    return count


def _second_iteration(sequence: ForwardSequence, start: int, period: int) -> _Slots | None:
    found = _Slots([], [], set(), {}, {}, {}, {})
    entries: dict[Source, Source] = {}
    number = 0
    for place in range(start, start + period):
        kinds: list[int] = []
        rows = zip(
            sequence.sources[place + period],
            sequence.ports[place + period],
            sequence.sources[place],
            sequence.ports[place],
            strict=True,
        )
        for source, port, before, port_before in rows:
            kind = _kind(sequence, (source, port), (before, port_before), start, period)
            if kind is None:
                return None
            kinds.append(kind)
            if kind == SHARED:
                found.shared.add((source, port))
            elif kind == OWN:
                one_node = source == before
                if not _owns(found, number, 0, (before, port_before), one_node):
                    return None
                if not _owns(found, number, 1, (source, port), one_node):
                    return None
            elif source < start + period:
                # A carried value enters the first iteration as one value, however often it is read.
                entry = (before, port_before)
                if entries.setdefault((source, port), entry) != entry:
                    return None
            number += 1
        found.kinds.append(kinds)
        found.moving.append(not any(kinds))
    return found if found.shared.isdisjoint(found.owner) else None


def _kind(sequence: ForwardSequence, now: Source, before: Source, start: int, period: int) -> int | None:
    """How a slot changes from the first iteration to the second; None if that cannot repeat."""
    if now[0] >= start + period:
        return MOVES if (now[0] - period, now[1]) == before else None
    if before[0] >= start:
        return None
    if now[0] >= start:
        return MOVES
    if now == before:
        return SHARED
    return OWN if _alike(sequence, now, before) else None


def _alike(sequence: ForwardSequence, now: Source, before: Source) -> bool:
    """Whether two sources outside are interchangeable: nodes that look alike, or outputs of one.

    Whoever is alike to the first and to the one before is so in the same way as they are to one another.
    """
    if now[0] == before[0]:
        return True
    return now[1] == before[1] and sequence.tokens[now[0]] == sequence.tokens[before[0]]


def _owns(slots: _Slots, number: int, iteration: int, source: Source, one_node: bool) -> bool:
    """Record an iteration's own source; False if it belongs to another, or is read elsewhere.

    So for the node too, unless it is one for all iterations, each of which reads an output of its own.
    """
    owner, namer = slots.owner.setdefault(source, (iteration, number))
    if owner != iteration or slots.namer.setdefault(number, namer) != namer:
        return False
    if one_node:
        return True
    owner, namer = slots.owner_of_node.setdefault(source[0], (iteration, number))
    return owner == iteration and slots.namer_of_node.setdefault(number, namer) == namer


def _continues(sequence: ForwardSequence, slots: _Slots, start: int, period: int, iteration: int) -> bool:
    sources, ports, distances = sequence.sources, sequence.ports, sequence.distances
    place = start + iteration * period
    number = 0
    for offset, moving in enumerate(slots.moving):
        now = place + offset
        before = now - period
        if moving:
            if distances[now] != distances[before] or ports[now] != ports[before]:
                return False
            number += len(distances[now])
            continue
        kinds = slots.kinds[offset]
        for index, kind in enumerate(kinds):
            source, port = sources[now][index], ports[now][index]
            if kind == MOVES:
                if source - period != sources[before][index] or port != ports[before][index]:
                    return False
            elif kind == SHARED:
                if source != sources[before][index] or port != ports[before][index]:
                    return False
            elif source >= start:
                # Carried over several iterations: from here on it comes from the first one.
                if source >= start + period:
                    return False
                kinds[index] = MOVES
                slots.moving[offset] = not any(kinds)
            elif (
                not _alike(sequence, (source, port), (sources[before][index], ports[before][index]))
                or not _alike(sequence, (source, port), source_of(sequence, start + offset, index))
                or (source, port) in slots.shared
                or not _owns(slots, number, iteration, (source, port), source == sources[before][index])
            ):
                return False
            number += 1
    return True


def source_of(sequence: ForwardSequence, place: int, slot: int) -> Source:
    """What a slot, given by its index, reads."""
    return sequence.sources[place][slot], sequence.ports[place][slot]

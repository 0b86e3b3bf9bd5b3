"""Equal ops side by side that do not stand in a row: same sources, same readers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.wiring import STACK

_LEAST = STACK + 1  # so many hide as much as a stack costs


def twins(sequence: ForwardSequence, places: Sequence[int]) -> list[tuple[int, ...]]:
    """Groups of at least three of `places` that one could swap without changing the picture.

    They look alike, read the same nodes (or different outputs of one, or leaves of their own) and
    are read by the same ones.
    """
    found = []
    for alike in _grouped(places, lambda place: _readings(sequence, place)):
        for group in _grouped(alike, lambda place: tuple(sequence.consumers(place))):
            if sequence.output_count.keys().isdisjoint(group) and _independent(sequence, group):
                found.append(tuple(group))
    return sorted(found)


def _grouped(places: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for place in places:
        groups.setdefault(key(place), []).append(place)
    return [group for group in groups.values() if len(group) >= _LEAST]


def _readings(sequence: ForwardSequence, place: int) -> Hashable:
    readings = []
    for source in sequence.sources[place]:
        own = source < sequence.leaves and sequence.first_use[source] == sequence.last_use[source] == place
        readings.append((own, sequence.tokens[source] if own else source))
    return sequence.tokens[place], tuple(readings)


def _independent(sequence: ForwardSequence, group: Sequence[int]) -> bool:
    """Whether each slot reads one thing for all of the group, or a different one for each."""
    rows = [list(zip(sequence.sources[place], sequence.ports[place], strict=True)) for place in group]
    seen: set[tuple[int, int]] = set()
    for column in zip(*rows, strict=True):
        distinct = set(column)
        if len(distinct) not in (1, len(column)) or not (len(distinct) == 1 or seen.isdisjoint(distinct)):
            return False
        seen |= distinct
    return True

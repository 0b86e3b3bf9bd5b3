"""Leaves that take the same place in different iterations, to be drawn as one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from graphlens.analyses.fold.records import Path, Paths
from graphlens.analyses.fold.sequence import ForwardSequence


class Family(NamedTuple):
    """Leaves that the same slots of the same boxes read, in different iterations.

    `level` is the group whose iterations have `copies` of them each, None for the top.
    """

    places: tuple[int, ...]
    level: int | None
    copies: int
    drawn: int


def families(sequence: ForwardSequence, boxes: Sequence[int], paths: Paths) -> list[Family]:
    """Every leaf in one family, in forward order of the first of each."""
    members: dict[Hashable, list[int]] = {}
    where: dict[int, Path] = {}
    for leaf, readers in enumerate(_readers(sequence, boxes)):
        where[leaf] = _home(sequence, paths, leaf)
        level = where[leaf][-1][0] if where[leaf] else None
        members.setdefault((sequence.tokens[leaf], level, frozenset(readers.items())), []).append(leaf)
    return [_family(places, [where[leaf] for leaf in places], paths) for places in members.values()]


def _readers(sequence: ForwardSequence, boxes: Sequence[int]) -> list[dict[tuple[int, int], int]]:
    readers: list[dict[tuple[int, int], int]] = [{} for _ in range(sequence.leaves)]
    for place in range(sequence.leaves, len(sequence)):
        for slot, source in enumerate(sequence.sources[place]):
            if source < sequence.leaves:
                row = readers[source]
                key = (boxes[place], slot)
                row[key] = row.get(key, 0) + 1
    for number, output in enumerate(sequence.graph.outputs):
        place = sequence.position[output.node]
        if place < sequence.leaves:
            readers[place][-1, number] = 1
    return readers


def _home(sequence: ForwardSequence, paths: Paths, leaf: int) -> Path:
    """The innermost iteration that holds every reader of a leaf."""
    if leaf in sequence.output_count:
        return ()
    first, last = paths.path(sequence.first_use[leaf]), paths.path(sequence.last_use[leaf])
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return first[:depth]


def _family(places: list[int], homes: list[Path], paths: Paths) -> Family:
    # A leaf that only one iteration has, as the start value of a loop, belongs outside.
    while homes[0]:
        rounds = 1
        for group, _ in homes[0]:
            rounds *= len(paths.groups[group][1])
        shares = Counter(homes)
        if len(shares) == rounds and len(set(shares.values())) == 1:
            break
        homes = [home[:-1] for home in homes]
    level = homes[0][-1][0] if homes[0] else None
    drawn = next(
        place
        for place, home in zip(places, homes, strict=True)
        if all(iteration == paths.groups[group][3] for group, iteration in home)
    )
    return Family(tuple(places), level, Counter(homes)[homes[0]], drawn)

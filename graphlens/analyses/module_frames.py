"""Frames around the calls of modules in a folded graph, where they agree with what repeats."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

from graphlens.analyses.fold import FoldedGraph, Path
from graphlens.analyses.fold.labels import call_spans, paths_label
from graphlens.graph import ModuleCall


class _Place(NamedTuple):
    """Where a call stands in the drawn iterations: the groups around it, and its first and last position."""

    around: tuple[int, ...]
    low: int
    high: int


@dataclass(frozen=True)
class ModuleFrames:
    """Which frames the calls of modules get, beside those of a folding.

    A call gets a frame where its nodes are one stretch of the forward order that cuts no group in
    two, and where every iteration of the groups around it calls a module of the same class at the
    same place; then one frame stands for all of these calls. Frames of modules are numbered on from
    the folding's groups.

    Attributes:
        calls: the graph's calls.
        first: the number of the first frame of a module.
        paths: per node of the graph the iterations and calls around it, outer before inner, as
            (group, iteration) or (number of a frame, call); empty for leaves.
        kinds: the class of the module of which each iteration of a group is just one call.
        singles: per node that a call made that made nothing else, that call; it needs no frame.
    """

    calls: Sequence[ModuleCall]
    first: int
    paths: Sequence[Path]
    kinds: dict[int, str]
    singles: dict[int, int]

    @cached_property
    def depth(self) -> int:
        """How many frames stand inside one another."""
        return max(map(len, self.paths), default=0)

    def outline(self) -> ModuleFrames:
        """Without the frames that a group lies in: what repeats is then seen from outside, other modules closed."""
        around = {
            path[depth][0]
            for path in set(self.paths)
            for depth, (number, _) in enumerate(path)
            if number >= self.first and any(step[0] < self.first for step in path[depth + 1 :])
        }
        paths = [tuple(step for step in path if step[0] not in around) for path in self.paths]
        return replace(self, paths=paths)

    def named(self, calls: Sequence[int]) -> tuple[str, str]:
        """What a frame that stands for these calls is called: the modules' path, and their class."""
        return paths_label([self.calls[call].path for call in calls]), self.calls[calls[0]].kind


def module_frames(folded: FoldedGraph) -> ModuleFrames:
    """Find the frames; the same folding always gives the same ones, in time near to linear in its size."""
    return _Framing(folded).result()


class _Framing:
    def __init__(self, folded: FoldedGraph) -> None:
        self.folded = folded
        self.graph = folded.graph
        self.places = [
            (place, number) for place, number in enumerate(folded.order) if folded.graph.nodes[number].kind != "leaf"
        ]
        self.lows: Sequence[int] = ()
        self.images = {place: self._images(place, number) for place, number in self.places}

    def result(self) -> ModuleFrames:
        found: dict[_Place, dict[tuple[int, ...], int]] = {}
        for call, low, high in self._stretches():
            place, iterations = self._place(low, high)
            found.setdefault(place, {})[iterations] = call
        kinds: dict[int, str] = {}
        singles: dict[int, int] = {}
        frames: list[tuple[_Place, dict[tuple[int, ...], int]]] = []
        for place, calls in sorted(found.items(), key=lambda item: (item[0].low, -item[0].high)):
            if not self._is_everywhere(place, calls):
                continue
            if place.low == place.high:
                singles.update((self.folded.order[self.lows[call]], call) for call in calls.values())
            elif place.around and self._is_iteration(place):
                kinds[place.around[-1]] = self._kind(calls)
            elif not self._cuts(place):
                frames.append((place, calls))
        paths: list[Path] = [()] * len(self.graph.nodes)
        chains = _Chains(frames)
        first = len(self.folded.groups)
        for position, number in self.places:
            paths[number] = self._path(position, number, frames, chains, first)
        return ModuleFrames(self.graph.calls, first, paths, kinds, singles)

    def _images(self, place: int, number: int) -> tuple[int, ...]:
        """The position, and for each iteration that it is in the one in its stead in the drawn iteration."""
        images = [place]
        for group, iteration in self.folded.path(number):
            starts = self.folded.groups[group].starts
            images.append(images[-1] + starts[self.folded.groups[group].drawn] - starts[iteration])
        return tuple(images)

    def _stretches(self) -> list[tuple[int, int, int]]:
        """(call, first position, last position) of the calls whose nodes stand in one stretch; of equal ones the outer.

        The outermost call is left out: the picture is about nothing else.
        """
        calls = self.graph.calls
        counts, self.lows, highs = call_spans(self.graph, self.folded.order)
        taken: dict[tuple[int, int], int] = {}
        for call, (count, low, high) in enumerate(zip(counts, self.lows, highs, strict=True)):
            if count and high - low + 1 == count and (calls[call].path or calls[call].caller is not None):
                taken.setdefault((low, high), call)
        return [(call, low, high) for (low, high), call in taken.items()]

    def _place(self, low: int, high: int) -> tuple[_Place, tuple[int, ...]]:
        """Where a call stands in the drawn iterations, and the iterations that it is in."""
        path = self.folded.path(self.folded.order[low])
        other = self.folded.path(self.folded.order[high])
        shared = 0
        while shared < min(len(path), len(other)) and path[shared] == other[shared]:
            shared += 1
        around = tuple(group for group, _ in path[:shared])
        place = _Place(around, self.images[low][shared], self.images[high][shared])
        return place, tuple(iteration for _, iteration in path[:shared])

    def _kind(self, calls: dict[tuple[int, ...], int]) -> str:
        return self.graph.calls[next(iter(calls.values()))].kind

    def _is_everywhere(self, place: _Place, calls: dict[tuple[int, ...], int]) -> bool:
        """Whether every iteration around has such a call, and all of one class."""
        rounds = prod(self.folded.groups[group].count for group in place.around)
        return len(calls) == rounds and len({self.graph.calls[call].kind for call in calls.values()}) == 1

    def _is_iteration(self, place: _Place) -> bool:
        """Whether the call is the whole of an iteration of the innermost group."""
        group = self.folded.groups[place.around[-1]]
        start = group.starts[group.drawn]
        return (place.low, place.high) == (start, start + group.period - 1)

    def _cuts(self, place: _Place) -> bool:
        """Whether the frame would go through the frame of a group, or tear parallel ops apart."""
        parent = place.around[-1] if place.around else None
        for group in self.folded.groups:
            if group.parent != parent:
                continue
            if isinstance(group.starts, range):
                first, last = group.starts[0], group.starts[-1] + group.period - 1
                apart = last < place.low or first > place.high
                if not (apart or (place.low <= first and last <= place.high)):
                    return True
            else:
                inside = sum(place.low <= start <= place.high for start in group.starts)
                if 0 < inside < len(group.starts):
                    return True
        return False

    def _path(
        self,
        position: int,
        number: int,
        frames: Sequence[tuple[_Place, dict[tuple[int, ...], int]]],
        chains: _Chains,
        first: int,
    ) -> Path:
        path = self.folded.path(number)
        steps: list[tuple[int, int]] = []
        for depth, image in enumerate(self.images[position]):
            iterations = tuple(iteration for _, iteration in path[:depth])
            for frame in chains.at(tuple(group for group, _ in path[:depth]), image):
                steps.append((first + frame, frames[frame][1][iterations]))
            steps += path[depth : depth + 1]
        return tuple(steps)


class _Chains:
    """Finds the frames around a position, outer before inner; those of one level lie inside one another or apart."""

    def __init__(self, frames: Sequence[tuple[_Place, object]]) -> None:
        self._starts: dict[tuple[int, ...], list[int]] = {}
        self._chains: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        levels: dict[tuple[int, ...], list[int]] = {}
        for number, (place, _) in enumerate(frames):
            levels.setdefault(place.around, []).append(number)
        for around, numbers in levels.items():
            ends: dict[int, list[int]] = {}
            for number in numbers:
                for edge in (frames[number][0].low, frames[number][0].high + 1):
                    ends.setdefault(edge, []).append(number)
            chain: list[int] = []
            starts, chains = self._starts.setdefault(around, []), self._chains.setdefault(around, [])
            for edge in sorted(ends):
                opened = [number for number in ends[edge] if frames[number][0].low == edge]
                chain = [number for number in chain if frames[number][0].high + 1 != edge] + opened
                starts.append(edge)
                chains.append(tuple(chain))

    def at(self, around: tuple[int, ...], place: int) -> tuple[int, ...]:
        """The numbers of the frames inside these groups that hold a position."""
        index = bisect_right(self._starts.get(around, []), place) - 1
        return self._chains[around][index] if index >= 0 else ()

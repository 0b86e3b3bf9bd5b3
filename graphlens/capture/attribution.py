"""Where the nodes of a graph come from: what the recorded calls of each thread lay claim to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphlens.capture.walk import NO_NUMBER
from graphlens.graph import ModuleCall, Source

Origin = tuple[int | None, int | None, int | None]

BEFORE = "made before the recording, or on a thread that was not recorded"
AFTER = "made after the forward pass for views of memory that was written, or on a thread that was not recorded"
THREADS = "made on several threads, whose nodes have the same numbers"
UNRECORDED = "made on a thread that was not recorded"
UNNUMBERED = "made in the place of an op that has no derivative, and without a number"
OUT_OF_SIGHT = "made by code that Python does not see, such as TorchScript or an extension in C++"


@dataclass(frozen=True)
class Attribution:
    """Where nodes come from: per sequence number the line, the module call, and nanoseconds.

    Attributes:
        shared: numbers that were given to nodes of several threads, and of how many. What is known
            of such a number holds for each of its nodes.
        first, end: the numbers of the thread that the recording ran on.
        together: of that thread the numbers of each call that made several nodes, which have equal parts of its time.
    """

    sources: Sequence[Source]
    calls: Sequence[ModuleCall]
    origins: Mapping[int, Origin]
    shared: Mapping[int, int] = field(default_factory=dict)
    first: int = 0
    end: int = 0
    together: Sequence[Sequence[int]] = ()

    def origin(self, number: int, count: int = 1) -> Origin:
        """The origin of a node, of which the graph holds `count` with the same number."""
        if count > self.shared.get(number, 1):
            return (None, None, None)
        return self.origins.get(number, (None, None, None))

    def why_unknown(self, number: int, count: int = 1) -> str:
        """Why the line of a node is not known."""
        if number == NO_NUMBER:
            return UNNUMBERED
        if number in self.shared:
            return THREADS
        if count > 1:
            return UNRECORDED
        if number < self.first:
            return BEFORE
        return AFTER if number >= self.end else OUT_OF_SIGHT


def agreed(claims: Sequence[Mapping[int, Origin]], ranges: Sequence[range]) -> tuple[dict[int, Origin], dict[int, int]]:
    """What is known of numbers that several threads may have given: that in which they agree."""
    origins: dict[int, Origin] = {}
    shared: dict[int, int] = {}
    for numbers, lane in zip(ranges, claims, strict=True):
        for number in numbers:
            origin = lane.get(number, (None, None, None))
            if number in origins:
                source, call, _ = origins[number]
                shared[number] = shared.get(number, 1) + 1
                origin = (source if source == origin[0] else None, call if call == origin[1] else None, None)
            origins[number] = origin
    return origins, shared

"""Which repeats to fold: greedily the one that hides most, then what is left beside and inside it."""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterable

from graphlens.analyses.fold.repeats import Repeat, repeats
from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.wiring import Candidate, Wiring, candidates, wiring_of

_MOST_CLIPS = 6  # how often what is left of one candidate is tried again


def choose(sequence: ForwardSequence) -> list[tuple[Candidate, Wiring]]:
    """The groups to fold, outer before inner, each with its wiring.

    Inner groups lie inside the iteration of their parent that is drawn.
    """
    free = _Free(sequence.leaves, len(sequence))
    chosen: list[tuple[Candidate, Wiring]] = []
    heap = [_entry(item, 0) for item in _all_candidates(sequence)]
    heapq.heapify(heap)
    while heap:
        *_, clips, item = heapq.heappop(heap)
        spaces = free.overlapping(item.start, item.end)
        if spaces == [(item.start, item.end)]:
            wiring = wiring_of(sequence, range(item.start, item.end, item.period), item.period)
            if wiring is not None:
                free.fold(item, wiring.drawn)
                chosen.append((item, wiring))
        elif clips < _MOST_CLIPS:
            for start, end in spaces:
                if end - start >= 2 * item.period:
                    rest = candidates(sequence, Repeat(start, end, item.period))
                    for part in rest:
                        heapq.heappush(heap, _entry(part, clips + 1))
    return chosen


def _entry(item: Candidate, clips: int) -> tuple[int, int, int, int, Candidate]:
    return (-item.gain, item.period, item.start, clips, item)


def _all_candidates(sequence: ForwardSequence) -> list[Candidate]:
    found: dict[Candidate, None] = {}
    uneven: list[Repeat] = []
    for repeat in _within(sequence, sequence.tokens, sequence.leaves, len(sequence)):
        pieces = candidates(sequence, repeat)
        found.update(dict.fromkeys(pieces))
        whole = (repeat.end - repeat.start) // repeat.period
        if whole >= 4 and max((piece.count for piece in pieces), default=0) < whole - 1:
            uneven.append(repeat)
    # Ops that look alike can hide a longer period, which shows in what they read.
    for start, end in _merged(uneven):
        for tokens in (sequence.rhythm, sequence.hubs):
            for repeat in _within(sequence, tokens, start, end):
                # The first iteration reads its values from outside, and so has another rhythm.
                wider = Repeat(max(start, repeat.start - 2 * repeat.period), min(end, repeat.end), repeat.period)
                trimmed = _alike_only(sequence, wider)
                if trimmed.end - trimmed.start >= 2 * trimmed.period:
                    found.update(dict.fromkeys(candidates(sequence, trimmed)))
    return list(found)


def _within(sequence: ForwardSequence, tokens: list[int], start: int, end: int) -> Iterable[Repeat]:
    for repeat in repeats(tokens[start:end]):
        yield Repeat(repeat.start + start, repeat.end + start, repeat.period)


def _alike_only(sequence: ForwardSequence, repeat: Repeat) -> Repeat:
    """The repeat without the positions at its front whose nodes differ from those a period later."""
    start, end, period = repeat
    tokens = sequence.tokens
    for place in range(min(start + 2 * period, end - period) - 1, start - 1, -1):
        if tokens[place] != tokens[place + period]:
            return Repeat(place + 1, end, period)
    return repeat


def _merged(parts: list[Repeat]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end, _ in sorted(parts):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class _Free:
    """The positions that are drawn one by one so far, as disjoint intervals."""

    def __init__(self, start: int, end: int) -> None:
        self._spaces = [(start, end)] if start < end else []

    def overlapping(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of start … end−1 that are free; a part ends where a group or its body ends."""
        index = max(bisect_right(self._spaces, (start, 2**62)) - 1, 0)
        parts = []
        while index < len(self._spaces) and self._spaces[index][0] < end:
            low, high = self._spaces[index]
            if high > start:
                parts.append((max(low, start), min(high, end)))
            index += 1
        return parts

    def fold(self, item: Candidate, drawn: int) -> None:
        """Replace a free interval by what is left of it, and the body of the group inside it."""
        index = bisect_right(self._spaces, (item.start, 2**62)) - 1
        low, high = self._spaces.pop(index)
        body = item.start + drawn * item.period
        for part in ((low, item.start), (body, body + item.period), (item.end, high)):
            if part[0] < part[1]:
                insort(self._spaces, part)

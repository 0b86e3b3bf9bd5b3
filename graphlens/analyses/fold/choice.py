"""Which repeats to fold: greedily the one that hides most, then what is left beside and inside it."""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator

from graphlens.analyses.fold.repeats import Repeat, repeats
from graphlens.analyses.fold.sequence import ForwardSequence
from graphlens.analyses.fold.wiring import Candidate, Wiring, candidates, may_pay, wiring_of

_MOST_CLIPS = 6  # how often what is left of one candidate is tried again
_UNEVEN = 4  # iterations from which on a repeat that breaks is looked at more closely

_Entry = tuple[int, int, int, int, Repeat | Candidate]  # minus the nodes hidden, clips, period, start, what


def choose(sequence: ForwardSequence) -> list[tuple[Candidate, Wiring]]:
    """The groups to fold, outer before inner, each with its wiring.

    Inner groups lie inside the iteration of their parent that is drawn.
    """
    return _Choice(sequence).run()


class _Choice:
    """A queue of repeats, which may hide so many nodes, and of candidates, which do.

    A repeat is only looked at when its turn comes, and only where nothing larger is folded yet:
    most small ones are copies inside the iterations of a large one.
    """

    def __init__(self, sequence: ForwardSequence) -> None:
        self.sequence = sequence
        self.free = _Free(sequence.leaves, len(sequence))
        self.refined = _Free(0, 0)
        repeats_found = _within(sequence.tokens, sequence.leaves, len(sequence))
        self.queue: list[_Entry] = [_entry(repeat, 0) for repeat in repeats_found]
        heapq.heapify(self.queue)

    def run(self) -> list[tuple[Candidate, Wiring]]:
        chosen: list[tuple[Candidate, Wiring]] = []
        while self.queue:
            _, clips, _, _, item = heapq.heappop(self.queue)
            if isinstance(item, Repeat):
                self._look_at(item, clips)
                continue
            if self.free.overlapping(item.start, item.end) == [(item.start, item.end)]:
                wiring = wiring_of(self.sequence, range(item.start, item.end, item.period), item.period)
                if wiring is not None:
                    self.free.fold(item, wiring.drawn)
                    chosen.append((item, wiring))
            elif clips < _MOST_CLIPS:
                self._push(Repeat(item.start, item.end, item.period), clips + 1)
        return chosen

    def _push(self, item: Repeat | Candidate, clips: int) -> None:
        heapq.heappush(self.queue, _entry(item, clips))

    def _look_at(self, repeat: Repeat, clips: int) -> None:
        period = repeat.period
        for start, end in self.free.overlapping(repeat.start, repeat.end):
            part = Repeat(start, end, period)
            if not may_pay(self.sequence, part):
                continue
            whole = (end - start) // period
            pieces = candidates(self.sequence, part)
            for piece in pieces:
                self._push(piece, clips)
            if whole >= _UNEVEN and max((piece.times for piece in pieces), default=0) < whole - 1:
                self._refine(start, end)

    def _refine(self, start: int, end: int) -> None:
        """Look for longer periods, hidden behind ops that look alike: they show in what the ops read."""
        if not self.refined.claim(start, end):
            return
        sequence = self.sequence
        for tokens in (sequence.rhythm, sequence.hubs):
            for repeat in _within(tokens, start, end):
                # The first iteration reads its values from outside, and so has another rhythm.
                first = max(start, repeat.start - 2 * repeat.period)
                trimmed = _alike_only(sequence, repeat._replace(start=first))
                if may_pay(sequence, trimmed):
                    self._push(trimmed, 0)


def _entry(item: Repeat | Candidate, clips: int) -> _Entry:
    # Function nodes alone decide on the order. A group that lies inside one iteration of another
    # then always comes after it, whatever leaves the two would hide.
    return (-(item.end - item.start - item.period), clips, item.period, item.start, item)


def _within(tokens: list[int], start: int, end: int) -> Iterator[Repeat]:
    for repeat in repeats(tokens[start:end]):
        yield Repeat(repeat.start + start, repeat.end + start, repeat.period)


def _alike_only(sequence: ForwardSequence, repeat: Repeat) -> Repeat:
    """The repeat without the positions at its front whose nodes differ from those a period later."""
    start, end, period = repeat
    tokens = sequence.tokens
    for place in range(min(start + 2 * period, end - period) - 1, start - 1, -1):
        if tokens[place] != tokens[place + period]:
            return repeat._replace(start=place + 1)
    return repeat


class _Free:
    """Disjoint intervals of positions: those that are drawn one by one so far."""

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

    def claim(self, start: int, end: int) -> bool:
        """Add an interval; False if part of it is there already."""
        if self.overlapping(start, end):
            return False
        insort(self._spaces, (start, end))
        return True

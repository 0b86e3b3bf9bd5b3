"""Which stretches of a repeat are worth a group, where its iterations begin, and what wires them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphlens.analyses.fold.matching import Source, matching, source_of
from graphlens.analyses.fold.repeats import Repeat
from graphlens.analyses.fold.sequence import ForwardSequence

# A frame costs as much as three boxes, and each value that it carries from one iteration to the
# next as much as one; parallel ops, which need no frame but one box drawn as a stack, cost two. A
# group must hide at least what it costs: three parallel ops are worth it, two equal neighbours and
# a chain of four are not. A mere pair must hide more, since a reader has to be told what is equal
# for only one copy less.
FRAME = 3
STACK = 2
PAIR = 8

_ROTATIONS = 8  # how many starts of equal merit are looked at


class Candidate(NamedTuple):
    """`times` iterations of `period` positions from `start` on."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.times


def candidates(sequence: ForwardSequence, repeat: Repeat) -> list[Candidate]:
    """The stretches of the repeat whose wiring repeats too, cut where a reader would begin.

    An iteration begins where the fewest values pass from one to the next; of several such places,
    where the last iteration hands the fewest on; then where an op reads a leaf of its iteration's
    own, as a layer does; and then at the earliest.
    """
    start, end, period = repeat
    crossing = _crossing(sequence, repeat)
    spare = (end - start) % period
    narrow = sorted(range(spare + 1), key=lambda offset: (crossing[offset], offset))[:_ROTATIONS]

    def order(offset: int) -> tuple[int, int, bool, int]:
        handed_on = _handed_on(sequence, repeat, offset)
        return crossing[offset], handed_on, not _reads_own_leaf(sequence, repeat, offset), offset

    offsets = sorted(narrow, key=order)
    best = _first_that_repeats(sequence, repeat, offsets)
    found, gain = _split(sequence, start + best, period, (end - start - best) // period, crossing[best])
    narrowest = min(range(period), key=lambda offset: (crossing[offset], offset))
    if crossing[narrowest] < crossing[best] and end - start >= 3 * period:
        # One iteration less may be the price of a cleaner cut, or of one that repeats at all.
        count = (end - start - narrowest) // period
        other, other_gain = _split(sequence, start + narrowest, period, count, crossing[narrowest])
        if other_gain > gain:
            found = other
    return found


def _first_that_repeats(sequence: ForwardSequence, repeat: Repeat, offsets: list[int]) -> int:
    start, end, period = repeat
    for offset in offsets:
        count = min(3, (end - start - offset) // period)
        if matching(sequence, start + offset, period, count) == count:
            return offset
    return offsets[0]


def _handed_on(sequence: ForwardSequence, repeat: Repeat, offset: int) -> int:
    """How many values of the last iteration are read after it, if iterations begin at an offset."""
    start, end, period = repeat
    stop = end - (end - start - offset) % period
    return sum(use >= stop for use in sequence.last_use[stop - period : stop])


def _reads_own_leaf(sequence: ForwardSequence, repeat: Repeat, offset: int) -> bool:
    """Whether the op at an offset reads another leaf in each iteration."""
    place = repeat.start + offset + repeat.period
    if place >= repeat.end:
        return False
    rows = zip(sequence.sources[place], sequence.sources[place - repeat.period], strict=False)
    return any(source < sequence.leaves and source != other for source, other in rows)


def _crossing(sequence: ForwardSequence, repeat: Repeat) -> list[int]:
    """Per offset into the period, how many values pass from one iteration to the next there."""
    start, end, period = repeat
    sample = start + period * ((end - start) // period // 2)
    reach = _reach(sequence, start, sample, period)
    steps = [0] * (period + 1)
    always = 0
    for offset, distance in reach:
        whole, rest = divmod(distance, period)
        always += whole
        low = (offset + 1) % period
        steps[low] += rest > 0
        if low + rest <= period:
            steps[low + rest] -= rest > 0
        else:
            steps[0] += 1
            steps[low + rest - period] -= 1
    crossing = []
    for step in steps[:period]:
        always += step
        crossing.append(always)
    return crossing


def _reach(sequence: ForwardSequence, start: int, sample: int, period: int) -> list[tuple[int, int]]:
    """What spans part of the period: where each begins (an offset), and how far it reaches.

    That is a value up to its last reader; a leaf of one iteration, from its first reader to its
    last; and each iteration's leaves together, where their names say that they belong together.
    """
    reach: dict[tuple[int, int], int] = {}
    owned: dict[str, list[int]] = {}
    for place in range(sample, sample + period):
        row, before = sequence.sources[place], sequence.sources[place - period]
        for source, other in zip(row, before, strict=True):
            if source == other:
                continue
            if source >= start:
                key, distance = ((source - start) % period, 0), place - source
            elif source < sequence.leaves:
                first = sequence.first_use[source]
                key, distance = ((first - start) % period, 1), place - first
                if distance >= period:
                    continue
                owned.setdefault(sequence.owner_name(source, other), []).append(place)
            else:
                continue
            reach[key] = max(reach.get(key, 0), distance)
    found = [(offset, distance) for (offset, _), distance in reach.items()]
    owned.pop("", None)
    if len(owned) == 1:
        (places,) = owned.values()
        found.append(((places[0] - start) % period, places[-1] - places[0]))
    elif len(owned) == 2:
        # The sample shows the end of one iteration and the start of the next.
        ending, starting = owned.values()
        if ending[-1] < starting[0]:
            found.append(((starting[0] - start) % period, ending[-1] - starting[0] + period))
    return found


def _split(sequence: ForwardSequence, start: int, period: int, count: int, carried: int) -> tuple[list[Candidate], int]:
    """Cut `count` iterations wherever the wiring changes; keep the pieces that are worth a frame.

    Returns them with the boxes that they save.
    """
    pieces: list[Candidate] = []
    saved = 0
    for first, alike in _equal_stretches(sequence, start, period, count):
        gain = _gain(sequence, first, period, alike, carried)
        if gain >= 0:
            pieces.append(Candidate(first, period, alike))
            saved += gain
    return pieces, saved


def _equal_stretches(sequence: ForwardSequence, start: int, period: int, count: int) -> list[tuple[int, int]]:
    """The stretches of at least two iterations that are wired alike and read alike: (start, count) of each.

    What one piece hands on to the next comes from outside once they are cut apart, and there it may
    be another thing than what the other iterations read. So every piece is looked at again.
    """
    done: list[tuple[int, int]] = []
    waiting = [(start, count)]
    while waiting:
        first, length = waiting.pop()
        wired = matching(sequence, first, period, length)
        if wired < length:
            waiting.append((first + wired * period, length - wired))
        for piece in _same_outputs(sequence, first, period, wired) if wired > 1 else ():
            (done if piece == (first, wired) else waiting).append(piece)
    return sorted(done)


def _gain(sequence: ForwardSequence, start: int, period: int, count: int, carried: int) -> int:
    if count < 2:
        return -1
    last = start + (count - 1) * period
    own = {
        source
        for place in range(last, last + period)
        for source, other in zip(sequence.sources[place], sequence.sources[place - period], strict=True)
        if source < sequence.leaves and source != other
    }
    if count == 2:
        cost = PAIR
    else:
        cost = STACK if period == 1 and not carried else FRAME
    return (count - 1) * (period + len(own)) - cost - carried


def may_pay(sequence: ForwardSequence, repeat: Repeat) -> bool:
    """Whether a repeat can hide as much as it costs; cheap, and true for all but short ones."""
    start, end, period = repeat
    if end - start >= 3 * period:
        return True
    most = period + (sum(map(len, sequence.sources[start : start + period])) if period < PAIR else 0)
    return end - start >= 2 * period and most >= PAIR


def _same_outputs(sequence: ForwardSequence, start: int, period: int, count: int) -> list[tuple[int, int]]:
    """Cut where iterations differ in who reads them from outside: (start, count) of each piece.

    The last iteration of a piece may differ: it hands its results on. Of a pair the other one then
    hands nothing on, since one iteration makes no habit.
    """
    done: list[tuple[int, int]] = []
    waiting = [(start, count)]
    while waiting:
        first, length = waiting.pop()
        pieces = _cut_by_readers(sequence, first, period, length)
        done.append(pieces.pop())
        # What an earlier piece passes on to a later one is now read from outside: look again.
        waiting += pieces
    return [(first, length) for first, length in sorted(done) if length > 1]


def _cut_by_readers(sequence: ForwardSequence, start: int, period: int, count: int) -> list[tuple[int, int]]:
    end = start + period * count
    last_use = sequence.last_use
    read: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in range(count)]
    for place in range(start, end):
        if last_use[place] >= end:
            iteration, offset = divmod(place - start, period)
            read[iteration].append((offset, sequence.uses_after(place, end)))
    pieces = []
    first = 0
    for iteration in range(1, count - 1):
        if iteration > first and read[iteration] != read[first]:
            # Where a new habit begins, cut before it; an odd one out ends its piece.
            begins = iteration + 1 < count - 1 and read[iteration] == read[iteration + 1]
            cut = iteration if begins else iteration + 1
            pieces.append((first, cut - first))
            first = cut
    if count - first == 2 and read[first] and read[first] != read[first + 1]:
        pieces.append((first, 1))
        first += 1
    pieces.append((first, count - first))
    return [(start + period * a, length) for a, length in pieces]


class Wire(NamedTuple):
    """A slot of the body whose source changes from iteration to iteration by more than a shift.

    `place` and `slot` (its index) are those of the drawn iteration. With a `lag`, the source is
    the result of `lag` iterations before, and `sources` are what the first `lag` iterations read
    instead. Without one, `sources` holds each iteration's own source.
    """

    place: int
    slot: int
    lag: int
    sources: tuple[Source, ...]


class Wiring(NamedTuple):
    """`drawn` is the first iteration that takes all of its carried values from earlier ones."""

    drawn: int
    wires: tuple[Wire, ...]


def wiring_of(sequence: ForwardSequence, starts: Sequence[int], period: int) -> Wiring | None:
    """The wires of a group with these iterations; None if carried values enter it unequally."""
    first, last = starts[0], starts[-1]
    count = len(starts)
    drawn = 0
    if isinstance(starts, range):  # scattered twins read nothing of one another
        for place in range(last, last + period):
            for source in sequence.sources[place]:
                if first <= source < last:
                    drawn = max(drawn, count - 1 - (source - first) // period)
    shift = starts[drawn]
    entries: dict[Source, tuple[Source, ...]] = {}
    wires: list[Wire] = []
    for offset in range(period):
        place = shift + offset
        for slot, (node, port) in enumerate(zip(sequence.sources[place], sequence.ports[place], strict=True)):
            if node >= shift:
                continue
            carried = drawn > 0 and node >= first
            if not carried and source_of(sequence, first + offset, slot) == source_of(sequence, last + offset, slot):
                continue
            lag = drawn - (node - first) // period if carried else 0
            given = tuple([source_of(sequence, start + offset, slot) for start in starts[: lag or count]])
            if lag and entries.setdefault((node, port), given) != given:
                return None
            wires.append(Wire(place, slot, lag, given))
    return Wiring(drawn, tuple(wires))

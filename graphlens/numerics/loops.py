"""Loops on a tape: what each round of a folded loop hands to the next, in the forward and in the backward pass."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphlens.analyses.fold.records import FoldedGraph, Group
from graphlens.capture.tape import Call, Tape
from graphlens.collector import paused_collector
from graphlens.numerics.numbering import first_equal
from graphlens.numerics.shadow import is_float
from graphlens.numerics.sums import parts_of

FEWEST_ROUNDS = 8
_TOLD = 200
_MOST_MERGED = 6  # rounds


class Spot(NamedTuple):
    """A result of the body: the place of its op in the round, and which of the op's results it is."""

    step: int
    output: int


@dataclass(frozen=True)
class Loop:
    """A chain of rounds in which each computes something from what the one before it made.

    Attributes:
        group: the number of the loop in the folded graph.
        backward: whether the rounds are those of the backward pass: the last one comes first.
        rounds: per round the positions of its calls, those alone on which the next round depends.
            What all rounds compute alike, from the same values, is not among them: it is `shared`.
        spots: the results that are handed on; `lags`: how many rounds later they are read at most.
        carried: per round the values that it hands on, in the order of `spots`; before the first
            one, those that it begins with.
        begins: all values from before the loop that stand in the place of handed on ones.
        shared: values that every round reads, or computes anew from the same values.
        own: values from outside that single rounds read.
        first: per value of the tape the first one that is the same, see `first_equal`.
    """

    group: int
    backward: bool
    rounds: Sequence[Sequence[int]]
    spots: Sequence[Spot]
    lags: Sequence[int]
    carried: Sequence[tuple[int, ...]]
    begins: frozenset[int]
    shared: frozenset[int]
    own: frozenset[int]
    first: Sequence[int]

    @property
    def wanted(self) -> set[int]:
        """The values whose true values tell how the error grows, and where it comes from; of many rounds some."""
        told = (value for number in told_rounds(len(self.rounds)) for value in self.carried[number])
        return {*told} | self.begins | self.shared | self.own


def told_rounds(rounds: int) -> list[int]:
    """All of few rounds; of many some at even distances, and some at even distances of their logarithm."""
    if rounds <= 2 * _TOLD:
        return list(range(rounds + 1))
    evenly = {round(part * rounds / _TOLD) for part in range(_TOLD + 1)}
    return sorted(evenly | {round(rounds ** (part / _TOLD)) for part in range(_TOLD + 1)})


def carried_values(tape: Tape, folded: FoldedGraph) -> list[Loop]:
    """The loops of a run that hand numbers on: for each loop the forward chain, then the backward one."""
    groups = [group for group in folded.groups if group.carried and group.count >= FEWEST_ROUNDS]
    if not groups:
        return []
    with paused_collector():
        return _chains(tape, groups, folded.order)


def _chains(tape: Tape, groups: Sequence[Group], order: Sequence[int]) -> list[Loop]:
    first = first_equal(tape)
    made_by = tape.made_by()
    adding = _leaf_additions(tape, made_by)
    found = []
    for group in groups:
        round_of = _rounds_of_nodes(group, order)
        for backward in (False, True):
            places = _calls_by_round(tape, made_by, round_of, group.count, backward=backward)
            places = [[place for place in row if place not in adding] for row in places]
            loop = _Chain(tape, first, made_by, places).loop(group.number, backward=backward)
            if loop is not None:
                found.append(loop)
    return found


def _leaf_additions(tape: Tape, made_by: Sequence[int | None]) -> set[int]:
    """The calls that add up the gradients of leaves: sums beside a chain and no part of it."""
    return {place for gradient in tape.gradients.values() for place in parts_of(tape, gradient, made_by).calls}


def _rounds_of_nodes(group: Group, order: Sequence[int]) -> dict[int, int]:
    return {
        order[place]: number
        for number, start in enumerate(group.starts)
        for place in range(start, start + group.period)
    }


def _calls_by_round(
    tape: Tape, made_by: Sequence[int | None], round_of: Mapping[int, int], count: int, *, backward: bool
) -> list[list[int]]:
    """The calls of each round in the order in which the pass runs them."""
    rounds: dict[int, int] = {}
    for place, call in enumerate(tape.calls):
        if call.backward is backward and call.node is not None and call.node in round_of:
            rounds[place] = round_of[call.node]
    # A call without a node, as a write into a view has, belongs to the first round that reads its result.
    for place in sorted(rounds, reverse=backward):
        stack = list(tape.calls[place].inputs)
        while stack:
            maker = made_by[stack.pop()]
            if maker is None or maker in rounds:
                continue
            call = tape.calls[maker]
            if call.node is None and call.backward is backward:
                rounds[maker] = rounds[place]
                stack.extend(call.inputs)
    found: list[list[int]] = [[] for _ in range(count)]
    for place in sorted(rounds):
        found[rounds[place]].append(place)
    return found[::-1] if backward else found


class _Chain:
    """The rounds of one loop in one pass, while it is found out what they hand on."""

    def __init__(
        self, tape: Tape, first: Sequence[int], made_by: Sequence[int | None], rounds: list[list[int]]
    ) -> None:
        self.tape, self.first = tape, first
        rounds = self._merged(rounds)
        unvaried = self._unvaried(rounds)
        rounds = [[place for place in row if not self._is_unvaried(tape.calls[place], unvaried)] for row in rounds]
        self.rounds = self._alike(rounds)
        self.spot_of: dict[int, tuple[int, Spot]] = {}
        for number, row in enumerate(self.rounds):
            for step, place in enumerate(row):
                for output, value in enumerate(tape.calls[place].outputs):
                    if value is not None and is_float(tape.tensors[value]):
                        self.spot_of[value] = number, Spot(step, output)

    def _merged(self, rounds: list[list[int]]) -> list[list[int]]:
        """Rounds that alternate, taken together: the graph does not tell them apart where its nodes are alike."""
        reads = [
            [tuple(self.first[value] for value in self.tape.calls[place].inputs) for place in row] for row in rounds
        ]
        met = Counter(value for row in reads for value in {value for values in row for value in values})
        again = {value for value, count in met.items() if count >= max(3, len(rounds) // (2 * _MOST_MERGED))}
        kinds = [
            [
                (self.tape.calls[place].function, tuple(value if value in again else None for value in values))
                for place, values in zip(row, wanted, strict=True)
            ]
            for row, wanted in zip(rounds, reads, strict=True)
        ]
        for period in range(1, _MOST_MERGED + 1):
            stretch = _longest([one == other for one, other in zip(kinds, kinds[period:], strict=False)])
            if len(stretch) >= len(rounds) // 2 and period > 1:
                ends = range(stretch.start, stretch.stop + 1, period)
                return [[place for row in rounds[end : end + period] for place in row] for end in ends]
            if len(stretch) >= len(rounds) // 2:
                break
        return rounds

    def _unvaried(self, rounds: Sequence[Sequence[int]]) -> set[int]:
        """The values that every round computes anew, and that come out the same."""
        met = Counter(
            value
            for row in rounds
            for value in {
                self.first[output] for place in row for output in self.tape.calls[place].outputs if output is not None
            }
        )
        return {value for value, count in met.items() if count == len(rounds)}

    def _is_unvaried(self, call: Call, unvaried: set[int]) -> bool:
        outputs = [value for value in call.outputs if value is not None]
        return all(self.first[value] in unvaried for value in outputs)

    def _alike(self, rounds: list[list[int]]) -> list[list[int]]:
        """The longest stretch of rounds that call the same ops."""
        kinds = [tuple((self.tape.calls[place].function, len(self.tape.calls[place].outputs)) for place in row)
                 for row in rounds]  # fmt: skip
        # The stretches of equal neighbours, each with the one that it begins with.
        alike = _longest([one == other for one, other in itertools.pairwise(kinds)])
        best = range(alike.start, alike.stop + 1)
        return rounds[best.start : best.stop] if rounds and kinds[best.start] else []

    def loop(self, group: int, *, backward: bool) -> Loop | None:
        """The loop, if there are rounds enough and they hand something on."""
        if len(self.rounds) < FEWEST_ROUNDS:
            return None
        lags = self._handed_on()
        if not lags:
            return None
        spots = sorted(lags)
        before = self._before(lags)
        if any((spot, 1) not in before for spot in spots):
            return None  # nothing that the first round begins with stands for it
        live = self._live(spots)
        rounds = [[row[step] for step in live] for row in self.rounds]
        steps = {step: place for place, step in enumerate(live)}
        carried = [tuple(before[spot, 1] for spot in spots)]
        for row in self.rounds:
            outputs = (self.tape.calls[row[spot.step]].outputs[spot.output] for spot in spots)
            carried.append(tuple(value for value in outputs if value is not None))
        begins = frozenset(before.values())
        shared, own = self._outside(rounds, max(lags.values()), begins)
        return Loop(
            group, backward, rounds, [Spot(steps[spot.step], spot.output) for spot in spots],
            [lags[spot] for spot in spots], carried, begins, shared, own, self.first,
        )  # fmt: skip

    def _reads(self, number: int) -> Iterable[tuple[int, int, int, tuple[int, Spot] | None]]:
        """Step, slot, value, and where the value was made, of what a round reads."""
        for step, place in enumerate(self.rounds[number]):
            for slot, value in enumerate(self.tape.calls[place].inputs):
                yield step, slot, value, self.spot_of.get(value)

    def _handed_on(self) -> dict[Spot, int]:
        """The results that a later round reads, and that depend on those of an earlier one; with their lags."""
        middle = len(self.rounds) // 2
        lags: dict[Spot, int] = {}
        within: dict[int, set[int]] = {}  # step: the steps of its own round that it reads
        across: dict[int, set[Spot]] = {}
        for step, _, _, made in self._reads(middle):
            if made is None or made[0] > middle:
                continue
            number, spot = made
            if number == middle:
                within.setdefault(step, set()).add(spot.step)
            elif spot.step == step and self.tape.calls[self.rounds[middle][step]].accumulates:
                continue  # the gradient of something that all rounds read: a sum beside the chain
            else:
                across.setdefault(step, set()).add(spot)
                lags[spot] = max(lags.get(spot, 0), middle - number)
        while True:
            # Both prunings may leave nothing for the other to hold on to: until neither does anything.
            kept = {spot: lag for spot, lag in lags.items() if self._descends(spot.step, within, across, lags)}
            live = _reached((spot.step for spot in kept), within)
            read = {spot for step in live for spot in across.get(step, ())}
            kept = {spot: lag for spot, lag in kept.items() if spot in read}
            if kept == lags:
                return lags
            lags = kept

    def _descends(
        self, step: int, within: Mapping[int, set[int]], across: Mapping[int, set[Spot]], lags: Mapping[Spot, int]
    ) -> bool:
        return any(spot in lags for each in _reached((step,), within) for spot in across.get(each, ()))

    def _live(self, spots: Iterable[Spot]) -> list[int]:
        """The steps that the handed on results depend on, in order."""
        middle = len(self.rounds) // 2
        within: dict[int, set[int]] = {}
        for step, _, _, made in self._reads(middle):
            if made is not None and made[0] == middle:
                within.setdefault(step, set()).add(made[1].step)
        return sorted(_reached((spot.step for spot in spots), within))

    def _before(self, lags: Mapping[Spot, int]) -> dict[tuple[Spot, int], int]:
        """What the first rounds read where later ones read handed on results: by spot and rounds before the loop."""
        middle = len(self.rounds) // 2
        slots = {
            (step, slot): (made[1], middle - made[0])
            for step, slot, _, made in self._reads(middle)
            if made is not None and made[0] < middle and made[1] in lags
        }
        found: dict[tuple[Spot, int], int] = {}
        for number in range(min(max(lags.values()), len(self.rounds))):
            for step, slot, value, _ in self._reads(number):
                spot, lag = slots.get((step, slot), (None, 0))
                if spot is not None and lag > number:
                    found[spot, lag - number] = value
        return found

    def _outside(
        self, rounds: Sequence[Sequence[int]], lag: int, begins: frozenset[int]
    ) -> tuple[frozenset[int], frozenset[int]]:
        """What comes from outside: to all rounds the same, and to single ones."""
        body = {value for row in rounds for place in row for value in self.tape.calls[place].outputs}
        met: Counter[int] = Counter()
        for row in rounds[lag:]:  # the first ones read what the loop begins with
            read = {value for place in row for value in self.tape.calls[place].inputs} - body
            met.update({self.first[value] for value in read if is_float(self.tape.tensors[value])})
        shared = frozenset(value for value, count in met.items() if count == len(rounds) - lag)
        early = {value for row in rounds[:lag] for place in row for value in self.tape.calls[place].inputs}
        own = met.keys() | {self.first[v] for v in early - body - begins if is_float(self.tape.tensors[v])}
        return shared, frozenset(own) - shared


def _longest(holds: Sequence[bool]) -> range:
    """The longest stretch over which something holds."""
    best, start = range(0), 0
    for place, one in enumerate((*holds, False)):
        if not one:
            best = max(best, range(start, place), key=len)
            start = place + 1
    return best


def _reached(start: Iterable[int], reads: Mapping[int, set[int]]) -> set[int]:
    """These steps, and those that they depend on."""
    found: set[int] = set()
    stack = list(start)
    while stack:
        step = stack.pop()
        if step not in found:
            found.add(step)
            stack.extend(reads.get(step, ()))
    return found

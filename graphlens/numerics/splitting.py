"""The error that a loop carries, taken apart: every error that comes in is propagated round by round."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd import forward_ad

from graphlens.accuracy import Origin, Split
from graphlens.numerics.loops import Loop
from graphlens.numerics.shadow import is_float
from graphlens.numerics.study import Study
from graphlens.numerics.tangents import Change, pushed

INHERITED, SYSTEMATIC, ROUNDING, INJECTED, PROBE = range(5)
_SAMPLED = 5  # rounds in which the ops are looked at one by one
_MOST_OPS = 16  # ops that are looked at: those that round most, relative to their results

Changes = dict[int, torch.Tensor]  # by value; what is missing is 0


def known_error(study: Study, value: int) -> npt.NDArray[np.float64] | None:
    """The error of a value; None where the reference does not know all of it."""
    error = study.error(value)
    return None if error is None or np.isnan(error).any() else error


class OutOfTime(Exception):
    """The time allowed has passed."""


class LoopSweep:
    """One loop of one study, gone through from its first round to the last."""

    def __init__(self, study: Study, loop: Loop, stop_at: float = math.inf) -> None:
        self.study, self.loop, self.stop_at = study, loop, stop_at
        self.tape = study.tape
        self.lag = max(loop.lags)
        self.unmeasured = 0
        self.errors: dict[int, Change] = {}
        self.kinds: list[Changes] = [{} for _ in range(5)]
        self.start = self._probe()
        self.kinds[PROBE].update(self.start)

    def _probe(self) -> Changes:
        """A small change of what the loop begins with, in a direction that is random and always the same."""
        generator = torch.Generator().manual_seed(0)
        made = {
            value: torch.randn(self.tape.tensors[value].shape, generator=generator, dtype=torch.float64)
            for value in sorted(self.loop.begins)
            if is_float(self.tape.tensors[value])
        }
        length = _length(made.values())
        return {value: change / length for value, change in made.items()} if length else {}

    def split(self) -> Split:
        """Go through all rounds.

        Raises:
            NoDerivative: an op of the body has no derivative.
            OutOfTime: it took too long.
        """
        rounds = len(self.loop.rounds)
        norms = np.zeros((4, rounds + 1))
        rest = np.full(rounds + 1, np.nan)
        gain = np.zeros(rounds + 1)
        turn = 0.0 if self.lag == 1 else math.inf
        for value in self.loop.begins:
            self._add(INHERITED, value, self._error(value))
        for number in range(rounds + 1):
            if number:
                if time.perf_counter() > self.stop_at:
                    raise OutOfTime
                self._round(number - 1)
            values = self.loop.carried[number]
            for kind in (INHERITED, SYSTEMATIC, ROUNDING, INJECTED):
                norms[kind, number] = self._norm(kind, values)
            rest[number] = self._rest(values)
            gain[number] = gain[number - 1] + self._scale() if number else 0.0
            if self.lag == 1:
                turn = max(turn, self._turn(values, gain[number]))
        return Split(
            norms[INHERITED],
            norms[SYSTEMATIC],
            norms[ROUNDING],
            rest if self.study.reference is not None else None,
            norms[INJECTED],
            gain,
            turn,
            self._origins(),
            self.unmeasured,
        )

    # One round

    def _round(self, number: int) -> None:
        self.kinds[INJECTED] = {}
        with forward_ad.dual_level():
            for place in self.loop.rounds[number]:
                call = self.tape.calls[place]
                reads = list(call.inputs)
                for kind in (INHERITED, SYSTEMATIC, ROUNDING, INJECTED, PROBE):
                    changes = pushed(self.tape, call, [self._change(kind, value, number) for value in reads])
                    for value, change in zip(call.outputs, changes, strict=True):
                        # ROUNDING takes in what INJECTED gathers at the end of the round.
                        self._add(kind, value, change)
                for value, own in zip(call.outputs, self._own(place), strict=True):
                    self._add(INJECTED, value, own)
        self._hand_on(number)

    def _change(self, kind: int, value: int, number: int) -> Change:
        found = self.kinds[kind].get(value)
        if found is not None or kind in (ROUNDING, INJECTED, PROBE) or self.study.made_by[value] in self._body(number):
            return found
        if number < self.lag and value in self.loop.begins:
            return None
        first = self.loop.first[value]
        is_shared = first in self.loop.shared
        return self._error(first) if is_shared == (kind == SYSTEMATIC) else None

    def _body(self, number: int) -> set[int]:
        if self._known_body[0] != number:
            rows = self.loop.rounds[max(0, number - self.lag) : number + 1]
            self._known_body = number, {place for row in rows for place in row}
        return self._known_body[1]

    _known_body: tuple[int, set[int]] = (-1, set())

    def _add(self, kind: int, value: int | None, change: Change) -> None:
        if value is None or change is None:
            return
        known = self.kinds[kind]
        known[value] = known[value] + change if value in known else change

    def _error(self, value: int) -> Change:
        """The error of a value from outside; one that is not known counts as none."""
        if value not in self.errors:
            error = known_error(self.study, value) if is_float(self.tape.tensors[value]) else None
            if error is None and is_float(self.tape.tensors[value]):
                self.unmeasured += self.study.made_by[value] is not None
            self.errors[value] = torch.from_numpy(np.array(error)) if error is not None and error.any() else None
        return self.errors[value]

    def _own(self, place: int) -> Sequence[Change]:
        """The rounding of one op of the body."""
        local = self.study.local[place]
        if local is None:
            self.unmeasured += 1
            return [None] * len(self.tape.calls[place].outputs)
        return [torch.from_numpy(np.array(own)) if own is not None and own.any() else None for own in local]

    def _hand_on(self, number: int) -> None:
        """Forget what no later round reads, and count this round's roundings among those of all."""
        rows = self.loop.carried[max(0, number + 2 - self.lag) : number + 2]
        kept = {value for row in rows for value in row} | (self.loop.begins if number + 1 < self.lag else set())
        for value in self.loop.carried[number + 1]:
            self._add(ROUNDING, value, self.kinds[INJECTED].get(value))
        for kind in (INHERITED, SYSTEMATIC, ROUNDING, PROBE):
            self.kinds[kind] = {value: change for value, change in self.kinds[kind].items() if value in kept}

    # What it comes to

    def _norm(self, kind: int, values: Sequence[int]) -> float:
        return _length(self.kinds[kind][value] for value in values if value in self.kinds[kind])

    def _rest(self, values: Sequence[int]) -> float:
        """‖error − inherited − systematic − rounding‖."""
        parts = []
        for value in values:
            error = known_error(self.study, value)
            if error is None:
                return math.nan
            rest = torch.from_numpy(np.array(error))
            for kind in (INHERITED, SYSTEMATIC, ROUNDING):
                if value in self.kinds[kind]:
                    rest = rest - self.kinds[kind][value]
            parts.append(rest)
        return _length(parts)

    def _scale(self) -> float:
        """Bring the probe back to length 1; the logarithm of what it was."""
        length = _length(self.kinds[PROBE].values())
        if not length or not math.isfinite(length):
            return math.log(length) if length else -math.inf
        self.kinds[PROBE] = {value: change / length for value, change in self.kinds[PROBE].items()}
        return math.log(length)

    def _turn(self, values: Sequence[int], gain: float) -> float:
        if not math.isfinite(gain) or gain > 100:
            return math.inf if gain > 0 else 1.0
        parts = []
        for value, begun in zip(values, self.loop.carried[0], strict=True):
            before, now = self.start.get(begun), self.kinds[PROBE].get(value)
            if before is None:
                return math.inf
            if now is not None and now.shape != before.shape:
                return math.inf
            parts.append(before if now is None else now * math.exp(gain) - before)
        return _length(parts)

    # Who injects it

    def _origins(self) -> list[Origin]:
        """Each shared value, and each op of the body, alone through a few rounds."""
        rounds = len(self.loop.rounds)
        sampled = sorted({round((part + 0.5) * rounds / _SAMPLED - 0.5) for part in range(_SAMPLED)})
        squares: dict[tuple[int, bool], list[float]] = {}
        for value in sorted(self.loop.shared):
            error = self._error(value)
            maker = None if error is None else self._maker(value)
            if error is None or maker is None:
                continue
            found = squares.setdefault((maker, True), [])
            found += [self._alone(number, -1, {value: error}) ** 2 for number in sampled]
        for step in self._rounding_steps(sampled):
            middle = self.loop.rounds[rounds // 2][step]
            found = squares.setdefault((middle, False), [])
            for number in sampled:
                call, own = self.tape.calls[self.loop.rounds[number][step]], self._own(self.loop.rounds[number][step])
                changed = {v: o for v, o in zip(call.outputs, own, strict=True) if v is not None and o is not None}
                found.append(self._alone(number, step, changed) ** 2)
        origins = [Origin(place, same, math.sqrt(sum(rows) / len(rows))) for (place, same), rows in squares.items()]
        return sorted((origin for origin in origins if origin.injects), key=lambda origin: (-origin.injects, origin.op))

    def _rounding_steps(self, sampled: Sequence[int]) -> list[int]:
        """The ops of the body that round most, relative to their results."""
        ranked = []
        for step, place in enumerate(self.loop.rounds[sampled[len(sampled) // 2]]):
            own = _length(each for each in self._own(place) if each is not None)
            outputs = [self.tape.tensors[value] for value in self.tape.calls[place].outputs if value is not None]
            size = _length(tensor.double() for tensor in outputs if is_float(tensor))
            if own:
                ranked.append((-own / size if size else -math.inf, step))
        return sorted(step for _, step in sorted(ranked)[:_MOST_OPS])

    def _alone(self, number: int, after: int, changes: Changes) -> float:
        """What changes of a few values make of what one round hands on."""
        known = dict(changes)
        first = self.loop.first
        with forward_ad.dual_level():
            for place in self.loop.rounds[number][after + 1 :]:
                call = self.tape.calls[place]
                found = pushed(self.tape, call, [known.get(v, known.get(first[v])) for v in call.inputs])
                known |= {v: c for v, c in zip(call.outputs, found, strict=True) if v is not None and c is not None}
        return _length(known[value] for value in self.loop.carried[number + 1] if value in known)

    def _maker(self, value: int) -> int | None:
        """The op that made the error of a value: ops that only move numbers are passed by."""
        while True:
            place = self.study.made_by[value]
            if place is None:
                return None
            local = self.study.local[place]
            floats = [each for each in self.tape.calls[place].inputs if is_float(self.tape.tensors[each])]
            moves = local is not None and not any(own is not None and own.any() for own in local)
            if not moves or len(floats) != 1 or self.study.made_by[floats[0]] is None:
                return place
            value = floats[0]


def _length(parts: Iterable[torch.Tensor]) -> float:
    """The Euclidean norm of several tensors together."""
    whole = 0.0
    for part in parts:
        whole = math.hypot(whole, float(torch.linalg.vector_norm(part)))
    return whole

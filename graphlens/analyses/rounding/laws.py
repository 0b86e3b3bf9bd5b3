"""By which law the error along a loop grows: a verdict on what was measured, never a forced one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graphlens.accuracy import LoopErrors, Split
from graphlens.analyses.fits import FEWEST, Power, fit_line, fit_power
from graphlens.analyses.rounding.matters import FEW

if TYPE_CHECKING:
    from graphlens.accuracy import Array

SYSTEMATIC, DRIFT, RANDOM, FROZEN, STALLED = "systematic", "drift", "random", "frozen", "stalled"
AMPLIFIED, DAMPED, BOUNDED, EXACT, UNCLEAR = "amplified", "damped", "bounded", "exact", "unclear"
INHERITED = "inherited"

_AMPLIFIED = 100.0  # times: by as much a small change has to grow, beyond the growth of the values themselves
_BENT = 0.25  # of its logarithm: what the second half of the rounds adds at least where growth is geometric
_DAMPED = 0.5  # of a small change is left at the end
_CLEARLY = 1.5  # times: one part of the error against the other
_LEANING = 3.0  # times what as many roundings of random sign come to: a chance of less than 1 in 300
_CANCELLED = 0.2  # of what as many roundings of random sign come to
_STILL = 0.01  # by which a round may turn a small change where it counts as handing it on
_MOVING = 1.5  # times: by as much the error grows in the second half of the rounds where the truth moves on
_SATURATED = 0.1  # of the true value: an error so large grows no longer by the law of small ones
NEUTRAL = math.log(2.0)  # of the gain: beyond it growth is no matter of a power
_FIRST_ORDER = 0.5  # of an error that first order may leave out
_FITTED = 60  # points


@dataclass(frozen=True)
class Law:
    """How the error of one loop grows.

    Attributes:
        verdict: "systematic": the same error comes in at every round, growth is linear; "drift": roundings
            that differ, but lean to one side; "random": roundings of random sign, growth like √n;
            "frozen": the floats repeat, and the error grows no more; "stalled": the floats repeat, but
            the truth moves on; "amplified": each round enlarges
            what it is given, growth is geometric; "damped": each round lessens it; "bounded": roundings
            cancel; "inherited": the loop adds next to nothing to an error that was there before it;
            "exact": no error; or "unclear".
        final: the error after the last round; None where not known.
        predicted: what theory says it is, from one round alone: rounds times what the first round
            takes in through repeated values, where a round hands on what it is given. None where
            nothing is repeated.
        expected: what the roundings of all rounds come to if their signs are random.
        worst: and if all point the same way.
        power: the error as a power of the number of rounds, fitted on the last nine tenths of the
            rounds; None where it is 0 there, was there before, or is amplified or damped.
        factor: of an amplified error, the growth of a small change per round, over `over` rounds.
        measured_factor: that of the error itself over the same rounds; None where not known.
        saturated: the first round after which the error is no longer small against the value.
    """

    verdict: str
    final: float | None
    predicted: float | None
    expected: float
    worst: float
    power: Power | None
    factor: float | None = None
    measured_factor: float | None = None
    over: int = 0
    saturated: int | None = None


def law_of(loop: LoopErrors) -> Law:
    """Judge one loop."""
    split = loop.split
    final = _last(loop.error)
    if split is None:
        verdict = _repeating(loop) if loop.cycle else EXACT if _is_exact(loop) else UNCLEAR
        return Law(verdict, final, None, math.nan, math.nan, _power(loop))
    expected, worst = random_walk(split), one_way(split)
    verdict = _verdict(loop, split, float(expected[-1]), float(worst[-1]))
    told = prediction(split)
    law = Law(
        verdict, final, None if told is None else float(told[-1]), float(expected[-1]), float(worst[-1]), _power(loop)
    )
    if verdict != AMPLIFIED:
        return law
    saturated = _saturated(loop)
    over = _amplified_rounds(loop, split) if saturated is None or saturated < 5 else saturated - 1
    return replace(
        law,
        factor=_per_round(split.gain, over),
        measured_factor=_measured_factor(loop, over),
        over=over,
        saturated=saturated,
    )


def hands_on(split: Split) -> bool:
    """Whether each round leaves a small change as it was."""
    return split.turn <= _STILL


def prediction(split: Split) -> Array | None:
    """The systematic part by round, as theory tells it beforehand.

    Where each round hands on what it was given, k times what the first one takes in. Elsewhere that
    is propagated through the derivatives of the rounds.
    """
    if not split.systematic.any():
        return None
    if hands_on(split):
        return np.arange(len(split.systematic), dtype=np.float64) * float(split.systematic[1])
    return split.systematic


def random_walk(split: Split) -> Array:
    """By round what the roundings so far come to if their signs are random: √Σ (gain since · injected)²."""
    walk = np.zeros(len(split.injected))
    for k in range(1, len(walk)):
        step = split.gain[k] - split.gain[k - 1]
        walk[k] = math.hypot(walk[k - 1] * math.exp(min(step, 700.0)), split.injected[k])
    return walk


def one_way(split: Split) -> Array:
    """By round what the roundings so far come to if all point the same way."""
    way = np.zeros(len(split.injected))
    for k in range(1, len(way)):
        step = split.gain[k] - split.gain[k - 1]
        way[k] = way[k - 1] * math.exp(min(step, 700.0)) + split.injected[k]
    return way


def worst_case(split: Split) -> Array:
    """By round what all errors come to if all point the same way: to first order a bound of the error."""
    return split.inherited + split.systematic + one_way(split)


def _verdict(loop: LoopErrors, split: Split, expected: float, worst: float) -> str:
    if _is_exact(loop):
        return EXACT
    if _amplified_rounds(loop, split):
        return AMPLIFIED
    relative = _relative_gain(loop, split)
    if max(split.gain[-1], relative[-1]) <= math.log(_DAMPED):
        return DAMPED
    if loop.cycle is not None:
        return _repeating(loop)
    same, others = float(split.systematic[-1]), float(split.rounding[-1])
    if not (math.isfinite(same) and math.isfinite(others)) or _is_beyond(loop, split):
        return UNCLEAR
    if max(same, others) < FEW * float(split.inherited[-1]):
        return INHERITED
    if same > _CLEARLY * others:
        return SYSTEMATIC
    if others <= _CLEARLY * same:
        return UNCLEAR
    if others > _CLEARLY * worst:
        return UNCLEAR  # more than all roundings can come to: one gain does not tell what became of each of them
    if others > _LEANING * expected:
        return DRIFT
    late = slice(len(split.rounding) // 2, None)
    walk = random_walk(split)[late]
    if (split.rounding[late] <= _CANCELLED * walk).all():
        return BOUNDED
    return RANDOM


def _repeating(loop: LoopErrors) -> str:
    """What it comes to that the floats repeat: the error stays, unless the truth does not."""
    if loop.error is None or loop.cycle is None:
        return FROZEN
    start = loop.cycle[0]
    early = loop.error[start : (start + loop.rounds) // 2 + 1]
    early = early[np.isfinite(early)]
    return STALLED if early.size and loop.error[-1] > _MOVING * early.max() else FROZEN


def _is_exact(loop: LoopErrors) -> bool:
    if loop.error is not None:
        return not np.nan_to_num(loop.error).any()
    return loop.split is not None and not (loop.split.systematic.any() or loop.split.rounding.any())


def _relative_gain(loop: LoopErrors, split: Split) -> Array:
    """Logarithm of the growth of a small change beyond that of the values."""
    begun = next((size for size in loop.size if size > 0), None)
    if begun is None:
        return split.gain
    with np.errstate(divide="ignore"):
        return split.gain - np.where(loop.size > 0, np.log(loop.size / begun), 0.0)


def _is_beyond(loop: LoopErrors, split: Split) -> bool:
    """Whether first order leaves out so much of the error that it does not tell its law."""
    if split.rest is None or loop.error is None:
        return False
    return bool(split.rest[-1] > _FIRST_ORDER * loop.error[-1])


def _amplified_rounds(loop: LoopErrors, split: Split) -> int:
    """How many rounds a small change grows geometrically for, faster than the values; 0 if it does not."""
    gain = np.minimum(split.gain, _relative_gain(loop, split))
    gain = np.where(np.isfinite(gain), gain, -np.inf)
    over = int(gain.argmax())
    if over < 4 or gain[over] < math.log(_AMPLIFIED):
        return 0
    # Growth by a power of k, as that of a Jordan block, adds a constant to the logarithm at each doubling.
    return over if gain[over] - gain[over // 2] >= _BENT * gain[over] else 0


def _saturated(loop: LoopErrors) -> int | None:
    if loop.error is None or loop.truth is None:
        return None
    return next((k for k in range(1, loop.rounds + 1) if loop.error[k] > _SATURATED * loop.truth[k]), None)


def _measured_factor(loop: LoopErrors, over: int) -> float | None:
    """The growth of the error itself per round."""
    if loop.error is None:
        return None
    with np.errstate(divide="ignore"):
        return _per_round(np.log(loop.error), over)


def _per_round(logarithms: Array, over: int) -> float | None:
    """The factor per round by a straight line through logarithms."""
    known = [k for k in range(1, over + 1) if math.isfinite(logarithms[k])]
    if len(known) < FEWEST:
        return None
    return math.exp(fit_line([float(k) for k in known], [float(logarithms[k]) for k in known]).slope)


def _power(loop: LoopErrors) -> Power | None:
    """The error as a power of the round, on points at even distances of the logarithm."""
    if loop.error is None or (loop.split is not None and abs(loop.split.gain[-1]) > NEUTRAL):
        return None
    if loop.split is not None and loop.split.inherited[-1] > _SATURATED * loop.error[-1]:
        return None  # most of it was there before
    low, high = max(2, loop.rounds // 10), loop.rounds
    asked = sorted({round(low * (high / low) ** (part / _FITTED)) for part in range(_FITTED + 1)})
    known = [k for k in asked if math.isfinite(loop.error[k])]
    if len(known) < FEWEST or any(loop.error[k] <= 0 for k in known):
        return None
    return fit_power([float(k) for k in known], [float(loop.error[k]) for k in known])


def _last(values: Array | None) -> float | None:
    return None if values is None or not math.isfinite(values[-1]) else float(values[-1])

"""GL301: how the rounding error grows over the rounds of a loop."""

from __future__ import annotations

import math
from collections.abc import Iterator

from graphlens.accuracy import Accuracy, LoopErrors, Origin, Split
from graphlens.analyses.findings import Finding
from graphlens.analyses.fold.labels import short_op
from graphlens.analyses.rounding.laws import (
    AMPLIFIED,
    DRIFT,
    FROZEN,
    NEUTRAL,
    RANDOM,
    STALLED,
    SYSTEMATIC,
    UNCLEAR,
    Law,
    hands_on,
    law_of,
)
from graphlens.analyses.rounding.matters import FEW, is_lost
from graphlens.analyses.rounding.places import place_of
from graphlens.units import count_text, significant

_NOTICED = 8.0  # unit roundoffs: a smaller error is that of a few ops
_MANY = 100  # rounds: of fewer, growth like √n is nothing to tell
_MOST_NAMED = 4

_SUM_BETTER = (
    "carry what each addition rounds away along (compensated summation), add in pairs (torch.sum of all terms at "
    "once), or accumulate in a wider format"
)
_FIXES = {
    SYSTEMATIC: "leave out rounds that undo each other; else make the value that all rounds read more exact, or do "
    "without it: torch.linalg.solve(A, b) in place of torch.linalg.inv(A) @ b, or that one value in a wider format",
    DRIFT: _SUM_BETTER,
    RANDOM: "a wider format, if these digits are needed: the error is that of as many roundings of random sign",
    FROZEN: "more rounds change nothing: leave the loop when what it hands on repeats",
    STALLED: _SUM_BETTER,
    AMPLIFIED: "write the recurrence so that a round does not enlarge what it is given (run it in the other "
    "direction, or solve for all rounds at once); a wider format only delays the loss",
    UNCLEAR: "look at --plot: no simple law fits",
}


def growth_findings(accuracy: Accuracy) -> Iterator[Finding]:
    """One for each loop, and each of its two passes, that makes an error worth telling."""
    for loop in accuracy.loops:
        law = law_of(loop)
        relative = relative_error(loop)
        if law.verdict in _FIXES and relative is not None and _is_told(loop, law, relative):
            yield _finding(accuracy, loop, law, relative)


def relative_error(loop: LoopErrors) -> float | None:
    """The error after the last round ÷ the true value; None where not known."""
    if loop.error is None or loop.truth is None or not math.isfinite(loop.error[-1]):
        return None
    whole = float(loop.truth[-1]) or float(loop.size[-1])
    return float(loop.error[-1]) / whole if whole else None


def _is_told(loop: LoopErrors, law: Law, relative: float) -> bool:
    if relative < _NOTICED * loop.unit:
        return False
    if law.verdict == AMPLIFIED:
        return True
    split = loop.split
    if split is not None and loop.error is not None:
        made = max(float(split.systematic[-1]), float(split.rounding[-1]))
        if made < FEW * loop.error[-1] and law.verdict not in (FROZEN, STALLED):
            return False  # it was there before the loop
    # Where the values themselves grow or fade, so do errors: a few units in the last place are nothing to tell.
    is_scaled = split is not None and abs(float(split.gain[-1])) > NEUTRAL
    if law.verdict == UNCLEAR or (is_scaled and law.verdict not in (FROZEN, STALLED)):
        return is_lost(relative, loop.unit)
    return law.verdict != RANDOM or loop.rounds >= _MANY


def _finding(accuracy: Accuracy, loop: LoopErrors, law: Law, relative: float) -> Finding:
    split = loop.split
    source = _source(law, split)
    told = (source.op,) if source is not None else loop.makers
    level = "warning" if is_lost(relative, loop.unit) and law.verdict != UNCLEAR else "info"
    whole = f"{'The backward pass of a' if loop.backward else 'A'} loop of {count_text(loop.rounds)} rounds"
    claim = f"{whole} {_said(accuracy, loop, law, source)}{_split_words(split, law)}."
    return Finding(
        "GL301",
        level,
        claim,
        place_of(accuracy, told, also=loop.makers),
        _evidence(accuracy, loop, law, relative),
        _FIXES[law.verdict],
    )


def _source(law: Law, split: Split | None) -> Origin | None:
    """The op that injects most, of the kind that the verdict is about."""
    if split is None or law.verdict in (FROZEN, STALLED, UNCLEAR):
        return None
    if law.verdict == AMPLIFIED:
        return split.origins[0] if split.origins else None
    kind = law.verdict == SYSTEMATIC
    return next((origin for origin in split.origins if origin.is_repeated == kind), None)


def _said(accuracy: Accuracy, loop: LoopErrors, law: Law, source: Origin | None) -> str:
    """What the verdict says, with the numbers that it rests on."""
    op = "one value" if source is None else f"what {op_words(accuracy, source.op)} makes"
    final = _number(law.final)
    if law.verdict == SYSTEMATIC:
        return (
            f"takes in the same error every time, that of {op}, which is the same in all rounds, so that it adds up "
            "like n. "
            f"{formula(loop, law)}"
        )
    if law.verdict == DRIFT:
        return (
            f"makes roundings that lean to one side: they come to {final}, where random signs would give "
            f"{_number(law.expected)}, and {_number(law.worst)} if all pointed the same way"
        )
    if law.verdict == RANDOM:
        grows = "their error grows like √n" if law.power is not None else "relative to the values, it grows like √n"
        return f"makes roundings of random sign: {grows}. √(Σ squares) = {_number(law.expected)}, measured {final}"
    if law.verdict in (FROZEN, STALLED):
        return _repeating_words(loop, law)
    if law.verdict == AMPLIFIED:
        return _amplified_words(law)
    return f"has an error of {final} that follows no simple law"


def formula(loop: LoopErrors, law: Law) -> str:
    """ "n·‖R y‖ = 10,000 × 3.5e-13 = 3.5e-09, measured 3.5e-09", with what R y is."""
    split = loop.split
    if split is None or law.predicted is None or not law.final:
        return ""
    ends = f"{_number(law.predicted)}, measured {_number(law.final)}"
    if not hands_on(split):
        return f"Propagated through the derivatives of all rounds it comes to {ends}"
    one = float(split.systematic[1])
    return (
        f"n·‖R y‖ = {count_text(loop.rounds)} × {_number(one)} = {ends}, where R y is what this error makes of y "
        "in one round"
    )


def _repeating_words(loop: LoopErrors, law: Law) -> str:
    start, period = loop.cycle or (0, 1)
    every = "each is the one before it" if period == 1 else f"they come again every {count_text(period)} rounds"
    text = f"repeats itself to the last bit from round {count_text(start)} on ({every}), "
    if law.verdict == STALLED:
        return (
            f"{text}while the true value moves on: what the rounds do to it is rounded away, and the error has grown "
            f"to {_number(law.final)}"
        )
    text += f"and its error of {_number(law.final)} grows no more"
    if law.predicted and law.final and law.predicted > 1.1 * law.final:
        text += f": the prediction for an error that adds up, {_number(law.predicted)}, overshoots"
    return text


def _amplified_words(law: Law) -> str:
    text = (
        f"enlarges whatever error it is given by a factor of {_number(law.factor, 3)} per round (its Jacobian, by a "
        f"line through the logarithms of {count_text(law.over)} rounds"
    )
    text += ")" if law.measured_factor is None else f"; the error itself: {_number(law.measured_factor, 3)})"
    if law.saturated is not None:
        text += f", and from round {count_text(law.saturated)} on it is as large as a tenth of the value and more"
    return text


def _split_words(split: Split | None, law: Law) -> str:
    if split is None or law.verdict == AMPLIFIED:
        return ""
    return (
        f". Systematic are {_number(float(split.systematic[-1]))}, roundings that differ from round to round make "
        f"{_number(float(split.rounding[-1]))}, and {_number(float(split.inherited[-1]))} was there before"
    )


def op_words(accuracy: Accuracy, place: int) -> str:
    """ "LinalgInvEx", "Mv (backward)"."""
    op = accuracy.ops[place]
    name = op.name if op.node is None else short_op(accuracy.graph.nodes[op.node].op)
    return f"{name} (backward)" if op.backward else name


def _evidence(accuracy: Accuracy, loop: LoopErrors, law: Law, relative: float) -> dict[str, object]:
    split, power = loop.split, law.power
    evidence: dict[str, object] = {
        "verdict": law.verdict,
        "pass": "backward" if loop.backward else "forward",
        "rounds": loop.rounds,
        "error": law.final,
        "relative_error": relative,
        "unit_roundoff": loop.unit,
        "predicted": law.predicted,
        "measured_over_predicted": law.final / law.predicted if law.final and law.predicted else None,
        "exponent": None if power is None else power.exponent,
        "exponent_error": None if power is None else power.error,
        "fitted_rounds": None if power is None else [power.low, power.high],
        "factor_per_round": law.factor,
        "measured_factor_per_round": law.measured_factor,
        "saturated_at": law.saturated,
        "cycle": None if loop.cycle is None else {"start": loop.cycle[0], "period": loop.cycle[1]},
    }
    if split is not None:
        evidence |= {
            "systematic": float(split.systematic[-1]),
            "rounding": float(split.rounding[-1]),
            "inherited": float(split.inherited[-1]),
            "left_out_by_first_order": None if split.rest is None else float(split.rest[-1]),
            "first_round_takes_in": float(split.systematic[1]),
            "hands_on_unchanged": hands_on(split),
            "random_signs": law.expected,
            "one_direction": law.worst,
            "sources": [
                {
                    "op": op_words(accuracy, origin.op),
                    "source": place_of(accuracy, (origin.op,)).source,
                    "same_in_every_round": origin.is_repeated,
                    "per_round": origin.injects,
                }
                for origin in split.origins[:_MOST_NAMED]
            ],
            "ops_without_known_rounding": split.unmeasured,
        }
    return evidence


def _number(value: float | None, digits: int = 2) -> str:
    return "not known" if value is None else significant(value, digits)

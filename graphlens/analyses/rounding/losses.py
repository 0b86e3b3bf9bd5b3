"""Digits that a single op loses: what was measured of suspects, as findings GL303 to GL307."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphlens.accuracy import Accuracy, Quantity, Suspect
from graphlens.analyses.findings import Finding
from graphlens.analyses.rounding.loss_words import claim_of, fix_of
from graphlens.analyses.rounding.matters import FEW, NO_DIGIT, relative_error
from graphlens.analyses.rounding.places import place_of

CODES = {
    "ill-conditioned": "GL303",
    "cancellation": "GL304",
    "absorption": "GL305",
    "overflow": "GL306",
    "underflow": "GL306",
    "subnormal": "GL306",
    "saturation": "GL306",
    "cast": "GL307",
}
_MADE = ("absorption", "underflow", "subnormal", "saturation", "cast")  # blamed for their own rounding alone
_HALF = ("float16", "bfloat16")
_MOST_NAMED = 3
_MOST_OF_IT = 10.0  # times an error; a larger share is one only where all shares sum to the error


class _Result(NamedTuple):
    """A result that a suspect lost digits of.

    Attributes:
        share: of its error; None for a result that is infinite, NaN or 0 in place of the truth.
        word: what it is instead; "" where it has a relative error.
    """

    quantity: Quantity
    share: float | None
    word: str

    @property
    def is_measured(self) -> bool:
        """Whether the share says how much of the error it is."""
        made = self.quantity.attribution
        if self.share is None or (made is not None and made.holds):
            return self.share is not None
        return (made is None or bool(made.unmeasured)) and abs(self.share) <= _MOST_OF_IT

    @property
    def digits(self) -> float:
        return 0.0 if self.word or self.quantity.digits is None else self.quantity.digits


def losses(accuracy: Accuracy) -> list[Finding]:
    """One finding for every line that lost digits in one way, in the order in which the lines ran."""
    lines: dict[tuple[str, object], list[tuple[Suspect, list[_Result]]]] = {}
    for suspect in accuracy.suspects:
        results = _results(accuracy, suspect)
        if results:
            source = place_of(accuracy, suspect.ops).source
            lines.setdefault((CODES[suspect.kind], source or suspect.ops), []).append((suspect, results))
    return [_finding(accuracy, code, group) for (code, _), group in lines.items()]


def _results(accuracy: Accuracy, suspect: Suspect) -> list[_Result]:
    """The results for whose error a suspect matters, those that kept least first."""
    spoils = suspect.evidence.get("spoils", {})
    shares = suspect.made if suspect.kind in _MADE else suspect.shares
    found = []
    for quantity in accuracy.quantities:
        share = shares.get(quantity.label)
        if isinstance(spoils, dict) and quantity.label in spoils:
            found.append(_Result(quantity, None, str(spoils[quantity.label])))
        elif share is not None and abs(share) >= FEW and relative_error(quantity) is not None:
            found.append(_Result(quantity, share, ""))
    return sorted(found, key=lambda item: item.digits)


def _finding(accuracy: Accuracy, code: str, group: Sequence[tuple[Suspect, list[_Result]]]) -> Finding:
    """What the worst suspect of a line did, in the forward pass if there is one, and what became of all results."""
    suspect, results = max(group, key=lambda item: _weight(item[0]))
    known = {item.quantity.label for item in results}
    for _, more in group:
        results = results + [item for item in more if item.quantity.label not in known]
        known.update(item.quantity.label for item in more)
    ops = [place for one, _ in group for place in one.ops]
    where = place_of(accuracy, ops)
    evidence = {
        "kind": suspect.kind,
        **suspect.evidence,
        "results": {item.quantity.label: item.word or item.digits for item in results},
        "shares": {item.quantity.label: item.share for item in results if item.is_measured},
        "made": {item.quantity.label: suspect.made.get(item.quantity.label) for item in results if item.is_measured},
        "others_on_this_line": len(group) - 1,
    }
    claim = f"{claim_of(suspect)}; {_consequence(suspect, results)}."
    return Finding(code, _level(suspect, results), claim, where, evidence, fix_of(suspect))


def _consequence(suspect: Suspect, results: Sequence[_Result]) -> str:
    """ "y keeps 8.3 digits, and 100 % of its error comes through here"."""
    first, *others = results
    label = _named(first.quantity)
    if first.word:
        text = f"{label} becomes {first.word}"
    else:
        text = f"{label} keeps {_digits(first)} digits, and {_part(first)} {_way(suspect)}"
    if others:
        told = [f"{_named(item.quantity)} {item.word or _digits(item)}" for item in others[:_MOST_NAMED]]
        more = len(others) - _MOST_NAMED
        text += f" ({', '.join(told)}{f' and {more:,} more' if more > 0 else ''})"
    return text


def _part(item: _Result) -> str:
    """How much of a result's error; where first order does not hold, its terms are no measure of that."""
    if item.is_measured:
        return f"{100 * abs(item.share or 0.0):.0f} % of its error"
    return "more of its error than first order can tell"


def _way(suspect: Suspect) -> str:
    return "is made here" if suspect.kind in _MADE else "comes through here"


def _digits(item: _Result) -> str:
    return "no" if item.digits < NO_DIGIT else f"{item.digits:.1f}"


def _named(quantity: Quantity) -> str:
    return f"the {quantity.label}" if quantity.kind == "gradient" else quantity.label


def _level(suspect: Suspect, results: Sequence[_Result]) -> str:
    """An error where a result is of no use; information where somebody chose half precision."""
    if any(item.word not in ("", "0") or (not item.word and item.digits < NO_DIGIT) for item in results):
        return "error"
    return "info" if suspect.kind == "cast" and suspect.evidence.get("format") in _HALF else "warning"


def _weight(suspect: Suspect) -> tuple[bool, bool, float]:
    lost = suspect.evidence.get("digits_lost")
    told = suspect.evidence
    return bool(told.get("spoils")), told.get("during") == "forward", lost if isinstance(lost, float) else 0.0

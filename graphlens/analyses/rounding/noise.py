"""GL302: a gradient that is noise, as its parts cancel or as no digit of it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator

from graphlens.accuracy import Accuracy, Quantity, TermSum
from graphlens.analyses.findings import Finding, Place, listed
from graphlens.analyses.rounding.matters import NO_DIGIT
from graphlens.graph import Input
from graphlens.units import count_text, significant

_MOST_GROUPS = 4
_CANCELS = 1e-3  # of the parts' magnitudes: a sum that leaves less is why the gradient is noise
_ROUNDOFF = 4.0  # times √parts · u: what sums of random roundings leave


def noise_findings(accuracy: Accuracy) -> Iterator[Finding]:
    """One for each gradient without a right digit, and for each whose parts leave nothing but roundoff."""
    sums = {found.leaf: found for found in accuracy.sums}
    leaves = {item.name: item for item in accuracy.graph.inputs}
    for quantity in accuracy.quantities:
        if quantity.kind != "gradient" or not quantity.size:
            continue
        parts = sums.get(quantity.name)
        if _is_noise(quantity, parts, accuracy.unit):
            yield _finding(accuracy, quantity, parts, leaves.get(quantity.name))


def _is_noise(quantity: Quantity, parts: TermSum | None, unit: float) -> bool:
    if quantity.error is not None:
        if not math.isfinite(quantity.error):
            return False  # what overflowed is told as that
        if quantity.is_zero:
            return quantity.error > 0
        return quantity.digits is not None and quantity.digits < NO_DIGIT and quantity.error >= quantity.size / 2
    if quantity.significant is not None and quantity.significant[2] < NO_DIGIT:
        return True
    # Where the truth is not known: cancellation down to what the additions alone round.
    return parts is not None and parts.left <= _ROUNDOFF * math.sqrt(parts.terms) * unit


def _finding(accuracy: Accuracy, quantity: Quantity, parts: TermSum | None, leaf: Input | None) -> Finding:
    label = f"The gradient of {quantity.name}"
    claim = f"{label} is noise: {_truth_words(quantity)}"
    if parts is not None and parts.left < _CANCELS:
        claim += f". {_parts_words(parts)}"
    evidence: dict[str, object] = {
        "largest_entry": quantity.size,
        "error": quantity.error,
        "true_value": quantity.truth,
        "is_zero": quantity.is_zero,
        "right_digits": quantity.digits,
        "significant_digits": quantity.significant,
    }
    if parts is not None:
        evidence |= {
            "parts": parts.terms,
            "sum_of_magnitudes": parts.magnitude,
            "left": parts.left,
            "left_of_largest": parts.kept,
            "groups": [
                {"op": op, "parts": count, "norm_of_sum": total, "sum_of_norms": norms}
                for op, count, total, norms in parts.groups
            ],
            "cosine": parts.opposite,
        }
    return Finding(
        "GL302",
        "warning",
        f"{claim}.",
        Place("", "", "", () if leaf is None or leaf.node is None else (leaf.node,)),
        evidence,
        _fix(quantity, parts, leaf is not None and leaf.role == "parameter"),
    )


def _fix(quantity: Quantity, parts: TermSum | None, is_parameter: bool) -> str:
    """A gradient that is 0, or that cancels, is none to have; another one is there, and has to be computed better."""
    if is_parameter and quantity.is_zero:
        return (
            f"do not train {quantity.name}: leave it out, as by bias=False before a normalisation, or freeze it "
            "(requires_grad_(False))"
        )
    if quantity.is_zero or (parts is not None and parts.left < _CANCELS):
        return (
            f"do not step along it: take {quantity.name} out of the graph (.detach()), or write the computation so "
            "that what cancels is not computed"
        )
    return (
        "do not step along it: look at where the digits are lost (a step that cancels, rounds that enlarge errors) "
        "and write that otherwise, or compute it in a wider format"
    )


def _truth_words(quantity: Quantity) -> str:
    largest = f"its largest entry is {significant(quantity.size, 3)}"
    if quantity.is_zero:
        return f"{largest}, the true value is 0, and no digit is right"
    if quantity.error is not None and quantity.truth is not None:
        return (
            f"{largest}, that of the true value {significant(quantity.truth, 3)}; it is off by "
            f"{significant(quantity.error, 2)}, and no digit is right"
        )
    if quantity.significant is not None:
        return f"{largest}, and runs that round otherwise agree in no digit of it"
    return f"{largest}, no more than what adding its parts rounds away"


def _parts_words(parts: TermSum) -> str:
    """ "It is the sum of 20,000 parts: 10,000 from LinalgInvEx and 10,000 from Mv, equal and opposite …"."""
    groups = [f"{count_text(count)} from {op}" for op, count, _, _ in parts.groups[:_MOST_GROUPS]]
    text = f"It is the sum of {count_text(parts.terms)} parts, {listed(groups)}"
    if len(parts.groups) > _MOST_GROUPS:
        text += f" and of {count_text(len(parts.groups) - _MOST_GROUPS)} other ops"
    left = f"the largest entry is {significant(parts.kept, 2)} of its parts' magnitudes, which come to "
    left += significant(parts.magnitude, 3)
    if parts.opposite is not None and parts.opposite < -1 + _CANCELS:
        (_, _, one, _), (_, _, other, _) = parts.groups[:2]
        norms = f"Euclidean norms {significant(one, 3)} and {significant(other, 3)}"
        return f"{text}, which are equal and opposite ({norms}, cosine {parts.opposite:.6g}): {left}"
    return f"{text}: {left}"

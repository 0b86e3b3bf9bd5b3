"""What is said of ops that lose digits, on records made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from graphlens.accuracy import Accuracy, Op, Quantity, Suspect
from graphlens.analyses.findings import Finding
from graphlens.analyses.rounding.losses import losses
from graphlens.graph import Edge, GradGraph, Node, Source

COMMON = {"op": "sub", "during": "forward", "calls": 1, "worst_op": 0, "format": "float64", "format_digits": 15.95}
CANCELS = {**COMMON, "factor": 4e8, "terms": 2, "before": 1.1e-16, "after": 5.2e-9, "digits_lost": 7.7}
SOLVES = {
    **COMMON, "op": "_linalg_solve_ex", "kappa": 1.5e10, "at_least": False, "rows": 8, "columns": 8,
    "expected": 1.7e-6, "expected_from_input": 0.0, "after": 7e-9, "digits_lost": 7.8,
}  # fmt: skip
ABSORBS = {**COMMON, "op": "add", "calls": 5904, "ratio": 5120.0, "lost_of_addend": 2.4e-4, "digits_lost": 3.6}
LEAVES = {
    **COMMON, "op": "exp", "makes": "inf", "true_log10": 434.3, "largest_input": 1000.0,
    "largest_number": 1.7976931348623157e308, "least_normal_number": 2.2e-308, "spoils": {"y": "inf"},
}  # fmt: skip
CASTS = {**COMMON, "op": "_to_copy", "from": "float64", "from_digits": 15.95, "format": "float32", "unit": 6e-8,
         "format_digits": 7.2}  # fmt: skip


def accuracy(*suspects: Suspect, digits: float = 8.3) -> Accuracy:
    nodes = [Node("AccumulateGrad", "leaf", name="x"), Node("SubBackward0", seq=0, source=0)]
    graph = GradGraph(nodes, [Edge(1, 0, (0,), (0,))], sources=[Source("model.py", 7, "forward", "y = a - b")])
    y = Quantity("y", "output", (), "float64", 1.0, error=10.0**-digits, norm=10.0**-digits, truth=1.0, digits=digits)
    ops = [Op("sub", 1, False, False), Op("add", 1, True, True)]
    return Accuracy(graph, "exact", 128, 2.0**-53, ops, [y], suspects)


def suspect(kind: str, told: Mapping[str, object], share: float = 1.0, op: int = 0) -> Suspect:
    return Suspect(kind, (op,), told, {"y": share}, {"y": share})


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


@pytest.mark.parametrize(
    ("kind", "told", "code", "claim"),
    [
        (
            "cancellation", CANCELS, "GL304",
            "sub of two terms leaves 1 part in 4.0e+08 of them and loses 7.7 of 15.9 digits: relative error 1.1e-16 "
            "before, 5.2e-09 after; y keeps 8.3 digits, and 100 % of its error comes through here.",
        ),
        (
            "ill-conditioned", SOLVES, "GL303",
            "solve on a matrix of 8 × 8 with κ₂ = 1.5e+10 loses 7.8 of 15.9 digits: relative error 7.0e-09, where up "
            "to some κ·u = 1.7e-06 is to be expected; y keeps 8.3 digits, and 100 % of its error comes through here.",
        ),
        (
            "absorption", ABSORBS, "GL305",
            "add, the worst of 5,904 calls, loses 3.6 of 15.9 digits of an addend 5,100 times smaller than the other; "
            "y keeps 8.3 digits, and 100 % of its error is made here.",
        ),
        (
            "overflow", LEAVES, "GL306",
            "exp of numbers up to 1,000 makes inf where the true size is 10^434.3 (the largest number of float64 is "
            "1.8e+308); y becomes inf.",
        ),
        (
            "cast", CASTS, "GL307",
            "a cast from float64 to float32 leaves 7.2 of 15.9 digits (unit roundoff 6.0e-08), more than any other op "
            "rounds; y keeps 8.3 digits, and 100 % of its error is made here.",
        ),
    ],
)  # fmt: skip
def test_a_claim_has_its_numbers(kind: str, told: dict[str, object], code: str, claim: str) -> None:
    found = only(losses(accuracy(suspect(kind, told))))

    assert (found.code, found.claim) == (code, claim)
    assert (found.where.source, found.where.text, found.where.nodes) == ("model.py:7 (forward)", "y = a - b", (1,))
    assert found.fix
    assert json.dumps(found.evidence, allow_nan=False)


def test_a_condition_beyond_float64_is_told_as_a_bound() -> None:
    claim = only(losses(accuracy(suspect("ill-conditioned", {**SOLVES, "at_least": True})))).claim

    assert "κ₂ of at least 1.5e+10" in claim
    assert "κ·u = 1.7e-06 or more is to be expected" in claim


def test_an_error_that_came_with_the_input_is_held_against_kappa_times_it() -> None:
    claim = only(losses(accuracy(suspect("ill-conditioned", {**SOLVES, "expected_from_input": 2e-3})))).claim

    assert "κ times that of its input = 0.0020" in claim


def test_a_small_share_is_not_reported() -> None:
    assert losses(accuracy(suspect("cancellation", CANCELS, share=0.09))) == []
    assert only(losses(accuracy(suspect("cancellation", CANCELS, share=-0.11)))).code == "GL304"


def test_the_passes_of_one_line_are_one_finding_told_of_the_forward_pass() -> None:
    backward = {**CANCELS, "during": "sums of gradients", "digits_lost": 9.0}
    found = only(losses(accuracy(suspect("cancellation", CANCELS), suspect("cancellation", backward, op=1))))

    assert found.claim.startswith("sub of two terms")
    assert found.evidence["others_on_this_line"] == 1


@pytest.mark.parametrize(
    ("kind", "told", "digits", "level"),
    [
        ("cancellation", CANCELS, 8.3, "warning"),
        ("cancellation", CANCELS, 0.3, "error"),
        ("overflow", LEAVES, 8.3, "error"),
        ("underflow", {**LEAVES, "spoils": {"y": "0"}, "makes": "0"}, 8.3, "warning"),
        ("cast", CASTS, 8.3, "warning"),
        ("cast", {**CASTS, "format": "bfloat16"}, 8.3, "info"),
    ],
)
def test_levels(kind: str, told: dict[str, object], digits: float, level: str) -> None:
    assert only(losses(accuracy(suspect(kind, told), digits=digits))).level == level

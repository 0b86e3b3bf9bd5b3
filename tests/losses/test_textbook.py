"""Every textbook fault is told under its code, and nothing is said of a sound program."""

from __future__ import annotations

import warnings

import pytest
import torch

import graphlens
from graphlens.analyses.explanation import Explanation
from graphlens.subject import Subject
from tests.losses.textbook import TEXTBOOK_FAULTS, TEXTBOOK_SOUND


def explained(subject: Subject) -> Explanation:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of an overflow or an invalid value on the way
        return graphlens.explain(subject, topics=["rounding"])


@pytest.mark.parametrize("name", TEXTBOOK_FAULTS)
def test_a_fault_is_told(name: str) -> None:
    code, build = TEXTBOOK_FAULTS[name]

    assert code in {finding.code for finding in explained(build()).rounding}


@pytest.mark.parametrize("name", TEXTBOOK_SOUND)
def test_nothing_is_said_of_a_sound_program(name: str) -> None:
    assert [finding.claim for finding in explained(TEXTBOOK_SOUND[name]()).rounding] == []


def test_roundings_are_never_said_to_come_to_more_than_their_bound() -> None:
    """The terms of exp(-20) grow to 4e7 and shrink to nothing: one gain for all roundings does not describe it."""
    _, build = TEXTBOOK_FAULTS["series"]
    (growth,) = (item for item in explained(build()).rounding if item.code == "GL301")

    assert growth.evidence["verdict"] == "unclear"
    assert "if all pointed the same way" not in growth.claim


@pytest.mark.parametrize("name", ["saturated_logarithm", "hypotenuse_of_tiny_numbers"])
def test_no_share_is_told_of_an_error_that_first_order_does_not_reach(name: str) -> None:
    found = explained(TEXTBOOK_FAULTS[name][1]())
    accuracy = found.accuracy
    assert accuracy is not None
    beyond = {item.label for item in accuracy.quantities if item.attribution and not item.attribution.holds}

    assert "output" in beyond
    for finding in found.rounding:
        assert beyond.isdisjoint(finding.evidence["shares"])
        assert "% of its error" not in finding.claim
    assert "Not known. First order is off by" in " ".join(str(found).split())


def test_an_op_of_the_backward_pass_is_not_blamed_for_an_output() -> None:
    """The solve of the normal equations loses the output's digits, and that of the backward pass those of gradients."""
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    x = torch.stack([t**k for k in range(8)], 1).requires_grad_()
    y = torch.cos(8 * t).requires_grad_()
    found = explained(Subject(lambda x, y: torch.linalg.solve(x.T @ x, x.T @ y), [x, y]))
    (finding,) = (item for item in found.rounding if item.code == "GL303")

    assert finding.claim.startswith("solve on a matrix of 8 × 8")
    assert finding.evidence["during"] == "forward"
    # Its κ is the square of that of x, which the remedy goes by.
    of_x = float(torch.linalg.cond(x.detach()))
    assert finding.evidence["kappa_of_root"] == pytest.approx(of_x, rel=1e-6)
    assert finding.evidence["kappa"] == pytest.approx(of_x**2, rel=1e-3)
    assert "lstsq" in finding.fix

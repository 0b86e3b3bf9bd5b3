"""Every textbook fault is told under its code, and nothing is said of a sound program."""

from __future__ import annotations

import warnings

import pytest

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

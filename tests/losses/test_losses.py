"""Findings GL303 to GL307 against programs that lose digits in a known way, their remedies, and sound programs."""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections import Counter

import pytest
import torch

import graphlens
from graphlens.accuracy import Accuracy, Quantity
from graphlens.analyses.findings import Finding
from graphlens.analyses.rounding.losses import losses
from graphlens.capture.program import subject_program
from graphlens.numerics.rounding import measure_accuracy
from graphlens.subject import Subject
from tests.losses import FAULTY, HEALTHY, Fault, Sound


def accuracy_of(subject: Subject) -> Accuracy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return measure_accuracy(subject_program(subject), graphlens.trace(subject).graph)


@functools.cache
def told(name: str) -> tuple[Accuracy, tuple[Finding, ...]]:
    """What is measured of a case; of a fault's remedy under its name and ", mended"."""
    built = {**{case.name: case.bad for case in FAULTY}, **{f"{case.name}, mended": case.good for case in FAULTY}}
    built.update({case.name: case.build for case in HEALTHY})
    accuracy = accuracy_of(built[name]())
    return accuracy, tuple(losses(accuracy))


def line_of(finding: Finding) -> int:
    match = re.search(r":(\d+) \(", finding.where.source)
    return int(match[1]) if match else 0


def results_of(finding: Finding) -> set[str]:
    results = finding.evidence["results"]
    assert isinstance(results, dict)
    return set(results)


def unit_of(item: Quantity) -> float:
    return float(torch.finfo(getattr(torch, item.dtype)).eps) / 2


def lost(accuracy: Accuracy, kept: frozenset[str]) -> float:
    """log₁₀ of the worst result's relative error, float64's u at least; infinite for a result that is ruined."""
    worst = math.log10(2.0**-53)
    for item in accuracy.quantities:
        if item.label in kept:
            continue
        if item.error is None or not math.isfinite(item.error) or (item.size == 0 and item.shape == ()):
            worst = math.inf
        elif item.error and item.truth:
            worst = max(worst, math.log10(item.error / item.truth))
    return worst


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_a_loss_is_found_where_it_happens(case: Fault) -> None:
    _, found = told(case.name)
    right = [finding for finding in found if finding.code == case.code]

    assert right, f"not found; only {[(finding.code, finding.claim) for finding in found]}"
    assert case.line in {line_of(finding) for finding in right}
    assert {finding.code for finding in found} <= {case.code, *case.allowed}
    assert {finding.level for finding in right} == {case.level}


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_the_remedy_wins_the_digits_back(case: Fault) -> None:
    before, _ = told(case.name)
    after, found = told(f"{case.name}, mended")

    assert [finding.claim for finding in found if not results_of(finding) <= case.kept] == []
    assert lost(before, case.kept) - lost(after, case.kept) >= case.gains


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_what_a_claim_says_was_lost_is_what_the_remedy_wins(case: Fault) -> None:
    """Where an op passes its lost digits on to a result as they are, mending it wins as many."""
    before, found = told(case.name)
    after, _ = told(f"{case.name}, mended")
    right = {item.label: item for item in after.quantities}
    for item in before.quantities:
        claims = [finding.evidence for finding in found if item.label in results_of(finding) - case.kept]
        able = [told for told in claims if "digits_lost" in told and told.get("amplification") is not None]
        passed = [told["digits_lost"] for told in able if abs(float(str(told["amplification"])) - 1) < 0.5]
        other = right.get(item.label)
        if not passed or other is None or not item.error or not item.truth or not other.truth:
            continue
        won = math.log10(item.error / item.truth) - math.log10(max((other.error or 0) / other.truth, unit_of(item)))
        assert won >= max(float(str(lost)) for lost in passed) - 1.5


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_a_sound_program_is_not_accused(case: Sound) -> None:
    _, found = told(case.name)

    assert [(finding.code, finding.claim) for finding in found] == []


def test_the_confusion_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    matrix: Counter[tuple[str, str]] = Counter()
    for case in FAULTY:
        codes = {finding.code for finding in told(case.name)[1]}
        matrix[case.code, "found" if case.code in codes else "another" if codes else "nothing"] += 1
    for sound in HEALTHY:
        matrix["sound", "another" if told(sound.name)[1] else "nothing"] += 1
    with capsys.disabled():
        print("\n\nfault    found  another  nothing")
        for code in (*sorted({case.code for case in FAULTY}), "sound"):
            print(f"{code}{matrix[code, 'found']:9}{matrix[code, 'another']:9}{matrix[code, 'nothing']:9}")

    assert (
        sum(matrix[case.code, "found"] for case in {case.code: case for case in FAULTY}.values()) == len(FAULTY) >= 25
    )
    assert matrix["sound", "nothing"] == len(HEALTHY) >= 25

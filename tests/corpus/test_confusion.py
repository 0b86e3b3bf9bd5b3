"""The findings against the corpus: every fault is found at its line, and no sound program is accused."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import pytest

import graphlens
from graphlens.analyses.findings import Finding
from tests.corpus import FAULTY, HEALTHY, Case


def findings_of(case: Case) -> tuple[Finding, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return graphlens.trace(case.build(), diagnose=True).findings


def line_of(finding: Finding) -> int | None:
    match = re.search(r":(\d+) \(", finding.where.source)
    return int(match[1]) if match else None


def names_in(finding: Finding, key: str) -> set[str]:
    names = finding.evidence.get(key, [])
    assert isinstance(names, list)
    return set(names)


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_a_fault_is_found_where_it_stands(case: Case) -> None:
    findings = findings_of(case)
    right = [finding for finding in findings if finding.code == case.code]

    assert right, f"not found; only {[finding.code for finding in findings]}"
    level = {"GL102": "warning", "GL103": "info", "GL104": "warning"}.get(str(case.code), "error")
    assert {finding.level for finding in right} == {level}
    if case.line is not None:
        assert {line_of(finding) for finding in right} <= {case.line, *case.near}
    if case.code == "GL101":
        assert set().union(*(names_in(finding, "lost") for finding in right)) == case.lost
    if case.code == "GL105":
        assert set().union(*(names_in(finding, "leaves") for finding in right)) == case.zero
    beside = {finding.code for finding in findings if finding.level != "info"} - {case.code}
    assert beside <= case.allowed


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_a_sound_program_is_not_accused(case: Case) -> None:
    findings = findings_of(case)

    assert [finding for finding in findings if finding.level != "info"] == []
    assert {finding.code for finding in findings} <= case.allowed


def test_the_confusion_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    matrix: Counter[tuple[str, str]] = Counter()
    for case in (*FAULTY, *HEALTHY):
        found = {finding.code for finding in findings_of(case) if finding.level != "info" or finding.code == case.code}
        said = case.code if case.code in found else "nothing" if found <= case.allowed else "another"
        matrix[case.code or "sound", str(said)] += 1
    codes = sorted({case.code for case in FAULTY if case.code})
    with capsys.disabled():
        print("\n\nfault    found  another  nothing")
        for code in codes:
            print(f"{code}  {matrix[code, code]:7}{matrix[code, 'another']:9}{matrix[code, 'nothing']:9}")
        print(f"sound          {matrix['sound', 'another']:9}{matrix['sound', 'nothing']:9}")

    assert sum(matrix[code, code] for code in codes) == len(FAULTY) >= 40
    assert matrix["sound", "nothing"] == len(HEALTHY) >= 40

"""Models have hundreds of parameters: what a report says of them stays short, and hides no missing one."""

from __future__ import annotations

import numpy
import pytest

from graphlens.analyses.comparison import compare_records
from graphlens.records import Gradient, RunRecord, TensorValue
from graphlens.views.comparison_report import comparison_report
from graphlens.views.run_report import run_report


def value(number: float) -> Gradient:
    return Gradient(TensorValue((), "float64", numpy.array(number), 2.0**-52))


def run(name: str, numbers: list[float | None]) -> RunRecord:
    gradients = {f"p{k}": Gradient(None, "no path") if n is None else value(n) for k, n in enumerate(numbers)}
    return RunRecord(name, None, gradients=gradients)


def gradient_lines(report: str) -> list[str]:
    return [line for line in report.splitlines() if line.startswith("p")]


def test_a_long_table_begins_with_what_is_missing() -> None:
    report = run_report(run("model", [1.0] * 70 + [None, None]))
    lines = gradient_lines(report)
    assert [line.split() for line in lines[:2]] == [["p70", "None:", "no", "path"], ["p71", "None:", "no", "path"]]
    assert len(lines) == 60
    assert "… and 12 more, each with a value (--json lists them all)" in report


def test_what_is_cut_is_not_said_to_have_a_value_where_it_has_none() -> None:
    assert "… and 11 more, 3 of them None (--json" in run_report(run("model", [1.0] * 8 + [None] * 63))


def test_few_gradients_are_shown_with_their_values() -> None:
    report = run_report(run("model", [0.25] * 12))
    assert report.count("0.25") == 12
    assert "more" not in report


def test_a_long_comparison_shows_what_tells_most() -> None:
    a, b = [1.0] * 50, [1.0] * 50
    b[47], b[48] = 3.0, 2.0
    a_side, b_side = run("a", a), run("b", [*b[:49], None])
    report = comparison_report(compare_records(a_side, b_side))
    lines = gradient_lines(report)
    assert [line.split()[0] for line in lines[:3]] == ["p49", "p47", "p48"]
    assert len(lines) == 40
    assert "… and 10 more (--json lists them all)" in report


@pytest.mark.parametrize(("count", "sentences"), [(6, 6), (7, 1)])
def test_many_differences_are_one_sentence_that_names_the_largest(count: int, sentences: int) -> None:
    a, b = run("a", [1.0] * count), run("b", [1.0 + (k + 1) / 8 for k in range(count)])
    claims = [reason for reason in compare_records(a, b).reasons if reason.code == "gradient-differs"]
    assert len(claims) == sentences
    if sentences == 1:
        said = "The gradients of p0, p1, p2 and 4 others differ, most that of p6: by at most 0.8"
        assert claims[0].claim.startswith(said)
        assert claims[0].evidence["max_abs_diff"] == 7 / 8
        assert claims[0].evidence["names"] == [f"p{k}" for k in range(7)]


def test_many_missing_ones_are_one_sentence_that_names_the_side() -> None:
    reasons = compare_records(run("a", [1.0] * 7), run("b", [None] * 7)).reasons
    assert [(reason.code, reason.claim) for reason in reasons] == [
        ("gradient-none", "The gradients of p0, p1, p2 and 4 others are None for b, which stands for 0.")
    ]

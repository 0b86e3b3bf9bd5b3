"""Budgets: ratios by hand, and what cannot be checked."""

from __future__ import annotations

import math

import pytest

from graphlens.analyses.budgets import check_budgets
from graphlens.analyses.comparison import compare_records
from graphlens.errors import MeasureError
from graphlens.graph import Edge, GradGraph, Node, Output, SavedTensor
from graphlens.records import RunRecord, Timing
from graphlens.views.comparison_report import comparison_report


def chain(length: int, sizes: tuple[int | None, ...] = ()) -> GradGraph:
    """x → `length` ops; the k-th op saves one tensor of sizes[k] bytes."""
    nodes = [Node("AccumulateGrad", "leaf", name="x"), *(Node("ExpBackward0", seq=k) for k in range(length))]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(length)]
    saved = [
        SavedTensor(k + 1, "result", (), "float32", "cpu", size, None if size is None else k, size, None)
        for k, size in enumerate(sizes)
    ]
    return GradGraph(nodes, edges, saved, outputs=[Output("y", length, 0, (), "float32")]).check()


def seconds(median: float) -> Timing:
    return Timing(median, median, median, 3)


def test_ratios_by_hand() -> None:
    a = RunRecord("a", chain(5, (400, 200)), forward=seconds(0.3), backward=seconds(0.5))
    b = RunRecord("b", chain(2, (300,)), forward=seconds(0.1), backward=seconds(0.1))

    nodes, saved, time = check_budgets(compare_records(a, b), {"nodes": 2.0, "saved": 1.9, "time": 4.0})

    assert (nodes.a, nodes.b, nodes.ratio, nodes.is_exceeded) == (6, 3, 2.0, False)
    assert (saved.a, saved.b, saved.ratio, saved.is_exceeded) == (600, 300, 2.0, True)
    assert time.ratio == pytest.approx(4.0)
    assert str(nodes) == "nodes: 2.000 × of at most 2.000 ×"


def test_nothing_against_nothing_is_once_and_something_against_nothing_is_endless() -> None:
    a, b = RunRecord("a", chain(2, (8,))), RunRecord("b", chain(2))

    (over,) = check_budgets(compare_records(a, b), {"saved": 1e9})
    (even,) = check_budgets(compare_records(b, b), {"saved": 1.0})

    assert (over.ratio, over.is_exceeded) == (math.inf, True)
    assert (even.ratio, even.is_exceeded) == (1.0, False)


def timed(target: str, forward: tuple[float, float, float], backward: tuple[float, float, float]) -> RunRecord:
    """Each pass as its shortest, median and longest time."""
    both = [Timing(median, low, high, 5) for low, median, high in (forward, backward)]
    return RunRecord(target, None, forward=both[0], backward=both[1])


@pytest.mark.parametrize(
    ("longest_of_b", "least", "is_exceeded", "is_open"),
    [
        # A takes 3 + 5 s at the median and 2 + 4 at least, B 1 + 1: 4 × measured, at most 2 allowed.
        (1.2, 2.5, True, False),
        (1.5, 2.0, False, True),  # 6 over 1.5 + 1.5
        (6.0, 0.5, False, True),
    ],
)
def test_the_ranges_excuse_a_time(longest_of_b: float, least: float, is_exceeded: bool, is_open: bool) -> None:
    a = timed("a", (2.0, 3.0, 9.0), (4.0, 5.0, 9.0))
    b = timed("b", (0.9, 1.0, longest_of_b), (0.9, 1.0, longest_of_b))
    (budget,) = check_budgets(compare_records(a, b), {"time": 2.0})

    assert (budget.a, budget.b, budget.ratio) == (8.0, 2.0, 4.0)
    assert budget.least == pytest.approx(least)
    assert (budget.is_exceeded, budget.is_open) == (is_exceeded, is_open)
    text = " ".join(comparison_report(compare_records(a, b), budgets=[budget]).split())
    assert "both passes together, 8.0 s over 2.0 s" in text
    assert ("not exceeded beyond doubt" in text) == is_open


def test_medians_within_the_limit_keep_it() -> None:
    same = timed("a", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    (budget,) = check_budgets(compare_records(same, same), {"time": 1.0})

    assert (budget.ratio, budget.least, budget.is_exceeded, budget.is_open) == (1.0, 1.0, False, False)


@pytest.mark.parametrize(
    ("name", "a", "message"),
    [
        ("time", RunRecord("a", chain(2)), r"--max-time-ratio cannot be checked for a: it was not timed"),
        ("nodes", RunRecord("a", None), r"--max-nodes-ratio cannot be checked for a: it has no backward graph"),
        ("saved", RunRecord("a", chain(2, (None,))), r"--max-saved-ratio cannot be checked for a: .* hides"),
    ],
)
def test_what_was_not_measured_is_not_kept(name: str, a: RunRecord, message: str) -> None:
    b = RunRecord("b", chain(2), forward=seconds(1), backward=seconds(1))

    with pytest.raises(MeasureError, match=message):
        check_budgets(compare_records(a, b), {name: 1.0})

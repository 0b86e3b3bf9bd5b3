"""Two runs side by side."""

from __future__ import annotations

import numpy
import pytest
import torch

import graphlens
from graphlens.analyses.comparison import compare_records
from graphlens.capture.trace import trace
from graphlens.graph import GradGraph
from graphlens.records import RunRecord, TensorValue
from tests.builders import small_graph


@pytest.fixture(scope="module")
def lessons() -> dict[str, graphlens.Trace]:
    return {name: trace(graphlens.lesson(name, n=20)) for name in ("wasteful", "hoisted", "efficient", "severed")}


def codes(comparison: graphlens.Comparison) -> list[str]:
    return [reason.code for reason in comparison.reasons]


def test_wasteful_against_efficient(lessons) -> None:
    comparison = graphlens.compare(lessons["wasteful"], lessons["efficient"])

    assert comparison.stats_a.nodes > comparison.stats_b.nodes
    assert {row.name: (row.a, row.b) for row in comparison.gradients} == {
        "x": ("value", "value"),
        "A": ("value", "none"),
        "M": ("value", "value"),
    }
    assert [row.name for row in comparison.outputs] == ["g"]
    assert codes(comparison)[:3] == ["more-nodes", "deeper", "more-saved"]
    assert {"gradient-none", "gradient-differs"} <= set(codes(comparison))
    assert not {"forward-time", "backward-time"} & set(codes(comparison))  # nothing was timed


def test_a_run_against_itself(lessons) -> None:
    comparison = graphlens.compare(lessons["efficient"], lessons["efficient"])

    assert all(row.max_abs == 0.0 for row in (*comparison.outputs, *comparison.gradients) if row.a == "value")
    assert codes(comparison) == ["same-counts", "gradient-equal"]


def test_a_severed_gradient_is_missing_on_its_side(lessons) -> None:
    comparison = graphlens.compare(lessons["severed"], lessons["wasteful"])
    missing = [reason.evidence for reason in comparison.reasons if reason.code == "gradient-none"]

    assert [(facts["name"], facts["none"]) for facts in missing] == [("A", "severed")]


def test_graphs_are_compared_without_values() -> None:
    comparison = graphlens.compare(small_graph(), small_graph(), names=("old", "new"))

    assert (comparison.a.target, comparison.b.target) == ("old", "new")
    assert comparison.outputs == comparison.gradients == ()
    assert codes(comparison) == ["same-counts"]


def test_names_come_from_the_graphs() -> None:
    graph = small_graph()
    named = GradGraph(graph.nodes, graph.edges, graph.saved, graph.inputs, graph.outputs, {"target": "lesson"})
    comparison = graphlens.compare(named, graph)

    assert (comparison.a.target, comparison.b.target) == ("lesson", "b")


def test_a_run_without_a_graph(lessons) -> None:
    comparison = graphlens.compare(trace(torch.Tensor.detach, torch.ones(1)), lessons["efficient"])

    assert comparison.stats_a is None
    assert comparison.stats_b is not None


def test_nothing_to_compare() -> None:
    comparison = compare_records(RunRecord("a", None), RunRecord("b", None))

    assert comparison.reasons == comparison.outputs == comparison.gradients == ()


def test_the_loss_is_compared_where_it_is_no_output() -> None:
    def side(loss: float | None, name: str = "phi") -> RunRecord:
        return RunRecord("t", None, {"g": TensorValue((), "float64", numpy.array(1.0), 2.0**-52)}, loss, name)

    found = compare_records(side(3.0), side(2.0)).loss
    assert found is not None
    assert (found.name, found.a, found.b, found.max_abs, found.relative, found.ulps) == (
        "phi", "value", "value", 1.0, 0.5, None,
    )  # fmt: skip
    assert compare_records(side(3.0), side(2.0, "psi")).loss.name == "phi / psi"  # type: ignore[union-attr]
    assert compare_records(side(3.0, "g"), side(2.0, "g")).loss is None
    assert compare_records(side(None), side(2.0)).loss is None

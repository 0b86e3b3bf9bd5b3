"""The JSON that scripts rely on: exact keys, unrounded numbers, null for what was not measured."""

from __future__ import annotations

import json
import math

import numpy
import pytest
import torch

from graphlens.analyses.comparison import compare_records
from graphlens.analyses.counts import stats
from graphlens.capture.trace import value_of
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.records import Gradient, RunRecord, TensorValue, Timing
from graphlens.views.documents import MOST_VALUES, comparison_document, run_document, stats_document, to_json
from tests.builders import recorded_graph, small_graph

TIME = Timing(0.1 + 0.2, 0.25, 1 / 3, 5)
TIME_DOCUMENT = {"median": 0.1 + 0.2, "min": 0.25, "max": 1 / 3, "repeats": 5}


def tensor(*values: float, dtype: torch.dtype = torch.float64) -> TensorValue:
    return value_of(torch.tensor(values, dtype=dtype))


def run(target: str = "t", **changes: object) -> RunRecord:
    gradients = {"x": Gradient(tensor(1 / 3)), "A": Gradient(None, "no path")}
    return RunRecord(**{
        "target": target, "graph": small_graph(), "outputs": {"g": tensor(0.1, -2.0)}, "loss": 1 / 3,
        "gradients": gradients, "forward": TIME, "threads": 2, **changes,
    })  # fmt: skip


def read(document: dict) -> dict:
    return json.loads(to_json(document), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_run() -> None:
    assert read(run_document(run())) == {
        "target": "t",
        "outputs": {"g": {"shape": [2], "dtype": "float64", "value": [0.1, -2.0]}},
        "loss": 1 / 3,
        "gradients": {
            "x": {"status": "value", "shape": [1], "dtype": "float64", "value": [1 / 3]},
            "A": {"status": "none", "shape": None, "value": None, "reason": "no path"},
        },
        "time": {"forward": TIME_DOCUMENT, "backward": None},
        "threads": 2,
        "nodes": 5,
        "notes": [],
    }


def test_a_run_of_nothing() -> None:
    assert read(run_document(RunRecord("t", None))) == {
        "target": "t",
        "outputs": {},
        "loss": None,
        "gradients": {},
        "time": {"forward": None, "backward": None},
        "threads": None,
        "nodes": None,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (tensor(math.nan, math.inf, -math.inf, 1.0), ["nan", "inf", "-inf", 1.0]),
        (tensor(0.1, dtype=torch.float32), [0.10000000149011612]),
        (tensor(0.1, dtype=torch.bfloat16), [0.10009765625]),
        (value_of(torch.tensor(2.5)), 2.5),
        (value_of(torch.tensor(math.nan)), "nan"),
        (value_of(torch.tensor([[1, 2], [3, 4]])), [[1, 2], [3, 4]]),
        (value_of(torch.tensor([True])), [True]),
        (value_of(torch.tensor([1 + 2j])), [[1.0, 2.0]]),
        (value_of(torch.tensor([complex(math.inf, 2)])), [["inf", 2.0]]),
        (value_of(torch.ones(2, device="meta")), None),
        (value_of(torch.ones(0, 3)), []),
    ],
    ids=str,
)
def test_values(value: TensorValue, shown: object) -> None:
    document = read(run_document(run(outputs={"y": value})))["outputs"]["y"]

    assert document == {"shape": list(value.shape), "dtype": value.dtype, "value": shown}


@pytest.mark.parametrize("size", [MOST_VALUES, MOST_VALUES + 1])
def test_long_values_are_cut_and_say_so(size: int) -> None:
    value = TensorValue((size, 1), "float64", numpy.arange(float(size)).reshape(size, 1))
    document = run_document(run(outputs={"y": value}))["outputs"]["y"]

    assert len(document["value"]) == MOST_VALUES
    assert document.get("cut") == (None if size == MOST_VALUES else {"shown": MOST_VALUES, "of": size})
    assert document["shape"] == [size, 1]


def test_stats() -> None:
    document = read(stats_document("t", stats(small_graph(), sort="key")))

    assert document == {
        "target": "t",
        "nodes": 5,
        "edges": 5,
        "depth": 3,
        "leaves": [
            {"name": "w", "role": "parameter", "shape": [2, 3], "dtype": "float64", "uses": 2},
            {"name": "x", "role": "input", "shape": [3], "dtype": "float64", "uses": 1},
        ],
        "unreached": [],
        "saved": {"tensors": 4, "bytes": 96, "storages": 2, "storage_bytes": 4144, "not_available": 2},
        "by": "op",
        "rows": [
            {"key": key, "nodes": nodes, "saved_tensors": tensors, "saved_bytes": size, "storage_bytes": storage,
             "not_available": unknown, "calls": None, "forward_ns": None, "not_timed": untimed}
            for key, nodes, tensors, size, storage, unknown, untimed in [
                ("AccumulateGrad", 2, 0, 0, 0, 0, 0),
                ("CopySlices", 1, 0, 0, 0, 1, 1),
                ("MvBackward0", 1, 2, 72, 4144, 0, 1),
                ("OwnBackward", 1, 2, 24, 0, 1, 1),
            ]
        ],
        "forward_ns": None,
        "tensors": None,
        "notes": [],
    }  # fmt: skip


def test_stats_by_module_with_tensors_and_times() -> None:
    document = read(stats_document("t", stats(recorded_graph(), "module", "key", tensors=True)))

    assert document["forward_ns"] == 7_000
    assert [(row["key"], row["calls"], row["forward_ns"], row["not_timed"]) for row in document["rows"]] == [
        ("(Net)", 1, 3_000, 0), ("(inputs)", None, None, 0), ("(outside modules)", None, None, 1),
        ("a.0", 2, 4_000, 0), ("a.1", 1, None, 1),
    ]  # fmt: skip
    assert document["tensors"][1] == {
        "key": "a.0", "dtype": "float32", "shape": [2, 3], "role": "parameter", "tensors": 2, "saved_bytes": 48,
        "storages": 1, "storage_bytes": 24, "not_available": 0,
    }  # fmt: skip


def test_stats_of_a_freed_graph() -> None:
    nodes = [Node("AccumulateGrad", "leaf"), Node("ExpBackward0", seq=0, ledger="freed")]
    graph = GradGraph(nodes, [Edge(1, 0, (0,), (0,))], outputs=[Output("y", 1, 0, (), "float64")]).check()
    document = read(stats_document("t", stats(graph)))

    assert document["saved"] == {
        "tensors": None, "bytes": None, "storages": None, "storage_bytes": None, "not_available": 1
    }  # fmt: skip
    rows = {row["key"]: row["storage_bytes"] for row in document["rows"]}
    assert rows == {"AccumulateGrad": 0, "ExpBackward0": None}


def test_comparison() -> None:
    other = run("u", gradients={"x": Gradient(tensor(2 / 3)), "A": Gradient(tensor(0.5))}, forward=None, loss=math.nan)
    document = read(comparison_document(compare_records(run(), other)))
    side = {
        "target": "t", "nodes": 5, "edges": 5, "depth": 3, "loss": 1 / 3, "threads": 2,
        "saved": {"tensors": 4, "bytes": 96, "storages": 2, "storage_bytes": 4144, "not_available": 2},
    }  # fmt: skip
    equal = {"max_abs_diff": 0.0, "relative": 0.0, "ulps": 0.0, "largest_of_one": None, "note": ""}

    why = document.pop("why")
    assert document == {
        "budgets": {},
        "truth": None,
        "a": side,
        "b": {**side, "target": "u", "loss": "nan"},
        "output": {"max_abs_diff": 0.0, "tensors": {"g": {"a": "value", "b": "value", **equal}}},
        "loss": {"name": "loss", "a": "value", "b": "value", "max_abs_diff": None, "relative": None, "ulps": None,
                 "largest_of_one": None, "note": "1 entry has no finite difference"},
        "gradients": {
            "x": {
                "a": "value", "b": "value", "max_abs_diff": 1 / 3, "relative": 0.5, "ulps": (1 / 3) / 2.0**-53,
                "largest_of_one": None, "note": "",
            },
            "A": {
                "a": "none", "b": "value", "max_abs_diff": None, "relative": None, "ulps": None,
                "largest_of_one": 0.5, "note": "no path",
            },
        },
        "time": {
            "forward": {"a": TIME_DOCUMENT, "b": None, "ratio": None},
            "backward": {"a": None, "b": None, "ratio": None},
        },
        "notes": [],
    }  # fmt: skip
    assert [set(reason) for reason in why] == [{"code", "claim", "evidence"}] * 3
    assert [reason["code"] for reason in why] == ["same-counts", "gradient-differs", "gradient-none"]


def test_a_comparison_of_graphs_alone() -> None:
    saved = RunRecord("t", small_graph())
    document = read(comparison_document(compare_records(saved, RunRecord("u", None))))

    assert document["output"] == {"max_abs_diff": None, "tensors": {}}
    assert document["b"]["nodes"] is document["b"]["saved"] is document["b"]["loss"] is None


def test_what_is_not_finite_in_a_comparison() -> None:
    a = run(outputs={"g": tensor(math.nan)}, gradients={"x": Gradient(tensor(math.inf)), "y": Gradient(tensor(1e300))})
    b = run(gradients={"x": Gradient(None, "no path"), "y": Gradient(tensor(1e-300))}, outputs={"g": tensor(1.0)})
    document = read(comparison_document(compare_records(a, b)))

    assert document["output"]["max_abs_diff"] is None
    assert document["gradients"]["x"]["largest_of_one"] == "inf"
    assert document["gradients"]["y"]["relative"] is None
    assert {"inf"} == {reason["evidence"].get("largest_of_other", "inf") for reason in document["why"]}

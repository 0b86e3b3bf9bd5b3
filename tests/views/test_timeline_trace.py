"""The trace that chrome://tracing and Perfetto open: its events, nested as the format demands."""

from __future__ import annotations

import json
from typing import Any

import torch

import graphlens
from graphlens.capture.costing import measure_costs
from graphlens.capture.program import subject_program
from graphlens.subject import Subject
from graphlens.views.timeline_trace import trace_document, trace_json
from tests.analyses.test_timeline import GRAPH, RUN, backwards


def nested(events: list[dict[str, Any]]) -> None:
    """Of two events of a track one lies in the other, or before it."""
    opened: list[tuple[float, float]] = []
    for event in events:
        start, end = event["ts"], event["ts"] + event["dur"]
        while opened and opened[-1][1] <= start + 1e-6:
            opened.pop()
        assert not opened or end <= opened[-1][1] + 1e-6
        opened.append((start, end))


def track(document: dict[str, Any], number: int) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == "X" and event["tid"] == number]


def test_events_by_hand() -> None:
    document = trace_document(GRAPH, backwards(GRAPH), RUN, "target")
    forward, backward = track(document, 1), track(document, 2)

    names = {(event["tid"], event["args"].get("name")) for event in document["traceEvents"] if event["ph"] == "M"}
    assert names >= {(0, "target"), (1, "forward pass"), (2, "backward pass")}
    assert [(event["name"], event["cat"], event["ts"], event["dur"]) for event in forward][:4] == [
        ("(Net)", "module", 0.0, 0.06),
        ("h.0", "module", 0.0, 0.03),
        ("h.0.fc", "module", 0.0, 0.01),
        ("Mm", "node", 0.0, 0.01),
    ]
    assert [event["name"] for event in backward] == [
        "engine", "Sum", "(Net)", "h.1", "h.1.fc", "Mm", "h.0", "Own", "h.0.fc", "Mm", "AccumulateGrad", "engine",
    ]  # fmt: skip
    nested(forward)
    nested(backward)
    assert backward[5]["args"] == {
        "node": 3, "source": "net.py:3 (f)", "line": "", "module": "h.1.fc", "shape": "", "dtype": None,
        "flops": None, "bytes_moved": None, "saved_view_bytes": 0, "saved_storage_bytes": 0,
    }  # fmt: skip
    assert backward[10]["args"]["leaf"] == "w"
    other = document["otherData"]
    assert "median" in other["durations"]
    assert "hooks cost" in other["durations"]
    assert (other["forward_sum_ns"], other["backward_sum_ns"]) == (100, 373)


def test_a_measured_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    subject = Subject(model, (torch.ones(2, 3, requires_grad=True),))
    graph = graphlens.trace(subject).graph
    assert graph is not None
    costly, run, times = measure_costs(subject_program(subject), graph, 2)
    document = json.loads(trace_json(costly, times.order, run, "model"))
    forward, backward = track(document, 1), track(document, 2)

    nested(forward)
    nested(backward)
    functions = [number for number, node in enumerate(graph.nodes) if node.kind != "leaf"]
    assert [event["args"]["node"] for event in forward if event["cat"] == "node"] == functions
    assert [event["args"]["node"] for event in backward if event["cat"] == "node"] == list(times.order)
    addmm = next(event for event in forward if event["name"] == "AddmmBackward0")
    assert addmm["args"]["flops"] == 2 * 2 * 3 * 4
    assert addmm["args"]["shape"] == "[2, 4]"
    assert addmm["args"]["module"] == "0"
    durations = {event["args"]["node"]: event["dur"] for event in backward if event["cat"] == "node"}
    assert durations == {number: (costly.nodes[number].backward_ns or 0) / 1000 for number in times.order}
    calls = [event["name"] for event in forward if event["cat"] == "module"]
    assert calls == ["(Sequential)", "0", "1", "2"]

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch

from graphlens.capture.build import capture
from graphlens.errors import NoGraphError
from graphlens.graph import Input, Node, Output
from tests.builders import captured, lesson_loss


def leaf(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64, requires_grad=True)


def test_smallest_program_by_hand() -> None:
    x = leaf(2, 3)
    graph = capture(x.exp(), {"x": x})
    assert graph.nodes == (
        Node("AccumulateGrad", "leaf", None, "x", (2, 3), "float64", "cpu"),
        Node("ExpBackward0", "function", 0, "", (2, 3), "float64", "cpu"),
    )
    assert graph.inputs == (Input("x", "input", (2, 3), "float64", True, 0),)
    assert graph.outputs == (Output("output", 1, 0, (2, 3), "float64"),)


def test_leaf_that_is_its_own_output() -> None:
    w = torch.nn.Parameter(leaf(3))
    graph = capture(w, {"w": w})
    assert graph.nodes == (Node("AccumulateGrad", "leaf", None, "w", (3,), "float64", "cpu"),)
    assert graph.outputs == (Output("output", 0, 0, (3,), "float64"),)
    assert graph.inputs[0].role == "parameter"


def test_output_names() -> None:
    a, b = leaf(2).unbind()
    assert [(end.name, end.node, end.port) for end in capture([a, b]).outputs] == [
        ("output[0]", 1, 0),
        ("output[1]", 1, 1),
    ]
    assert [(end.name, end.port) for end in capture({"second": b, "first": a}).outputs] == [
        ("second", 1),
        ("first", 0),
    ]


def test_names_that_are_not_reached_have_no_node() -> None:
    x, unused, data = leaf(3), leaf(2), torch.ones(1)
    inputs = capture(x.exp(), {"unused": unused, "x": x, "data": data}).inputs
    assert [(item.name, item.node, item.requires_grad) for item in inputs] == [
        ("unused", None, True),
        ("x", 0, True),
        ("data", None, False),
    ]


def test_first_name_of_a_shared_tensor_is_the_leaf_name() -> None:
    w = torch.nn.Parameter(leaf(3))
    graph = capture((w * w).sum(), {"encoder.w": w, "decoder.w": w})
    assert graph.nodes[0].name == "encoder.w"
    assert [(item.name, item.node) for item in graph.inputs] == [("encoder.w", 0), ("decoder.w", 0)]


def test_leaf_without_a_name() -> None:
    assert capture(leaf(3).exp()).nodes[0].name == ""


def test_control_characters_in_names_are_escaped() -> None:
    x = leaf(3)
    graph = capture({"out\x1b[31m": x.exp()}, {"x\n\u2028": x})
    assert graph.nodes[0].name == graph.inputs[0].name == r"x\n\u2028"
    assert graph.outputs[0].name == r"out\x1b[31m"


def test_meta_tells_versions_and_what_was_added() -> None:
    meta = capture(leaf(3).exp(), meta={"target": "mine"}).meta
    assert meta["target"] == "mine"
    assert meta["torch"] == str(torch.__version__)
    assert meta["dtype"] == "float64"


def test_date_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert capture(leaf(3).exp()).meta["date"] == "1970-01-02"


def no_grad() -> torch.Tensor:
    with torch.no_grad():
        return leaf(3).exp()


def inference() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(3).exp()


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (no_grad, ["output `output` has no grad_fn", "torch.no_grad", "call .requires_grad_() on an input"]),
        (lambda: leaf(3).exp().detach(), ["output `output` has no grad_fn", "detach"]),
        (lambda: torch.ones(3), ["no input required a gradient", "module with parameters"]),
        (inference, ["made in inference mode", "outside torch.inference_mode()"]),
        (lambda: leaf(3).argmax(), ["its dtype is int64", "only floating-point tensors carry gradients"]),
        (lambda: leaf(3) > 0, ["its dtype is bool"]),
        (lambda: {"loss": leaf(3).exp(), "aux": torch.ones(3)}, ["output `aux` has no grad_fn"]),
        (list, ["no tensor to capture", "pass at least one output"]),
        (dict, ["no tensor to capture"]),
        (lambda: [leaf(3).exp(), 3], ["output `output[1]` is of type int, not a tensor"]),
        (lambda: None, ["output `output` is of type NoneType, not a tensor"]),
        (lambda: 3.0, ["output `output` is of type float, not a tensor"]),
        (lambda: "loss", ["output `output` is of type str, not a tensor"]),
    ],
    ids=[
        "no_grad", "detach", "no gradient wanted", "inference", "int", "bool", "one of a mapping", "empty list",
        "empty mapping", "a number in a list", "None", "a number", "a text",
    ],
)  # fmt: skip
def test_no_graph_error_says_why_and_what_to_do(make: Any, facts: list[str]) -> None:
    with pytest.raises(NoGraphError) as caught:
        capture(make())
    for fact in facts:
        assert fact in str(caught.value)


def test_two_captures_of_a_lesson_are_equal_and_so_are_their_bytes() -> None:
    first, second = (captured(lambda: lesson_loss("wasteful", n=10)) for _ in range(2))
    assert first == second
    assert pickle.loads(pickle.dumps(first)) == second
    assert repr(list(first.nx.nodes(data=True))) == repr(list(second.nx.nodes(data=True)))


def test_graph_outlives_the_tensors() -> None:
    x = leaf(3)
    y = x.exp()
    saved, wanted = weakref.ref(y), weakref.ref(x)
    out = y.sin()
    graph = capture(out, {"x": x})
    del x, y, out
    gc.collect()
    assert saved() is None
    assert wanted() is None
    assert len(graph.check()) == 3


def test_capture_leaves_the_graph_usable() -> None:
    x = leaf(3)
    out = x.exp().sum()
    capture(out)
    out.backward()
    assert torch.equal(x.grad, x.detach().exp())


def test_a_capture_leaves_no_trace_in_the_next_one() -> None:
    loss = lesson_loss("wasteful", n=5)
    assert capture(loss) == capture(loss)


def test_a_node_that_stands_in_for_an_op_without_a_derivative_has_no_number() -> None:
    x = torch.ones(3, requires_grad=True)
    y = torch.heaviside(x * 2, torch.zeros(()))
    assert y.grad_fn is not None
    assert y.grad_fn._sequence_nr() == 2**64 - 1
    graph = capture((y * 3).sum(), {"x": x})

    assert [(node.op, node.seq) for node in graph.nodes] == [
        ("AccumulateGrad", None), ("MulBackward0", 0), ("NotImplemented", None), ("MulBackward0", 1),
        ("SumBackward0", 2),
    ]  # fmt: skip
    assert [(edge.source, edge.target) for edge in graph.edges] == [(1, 0), (2, 1), (3, 2), (4, 3)]

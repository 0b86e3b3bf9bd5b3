"""The raw picture: torchviz's own boxes and arrows, with numbers for names."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
import torchviz

from graphlens.capture.build import capture
from graphlens.capture.torchviz_dot import check_drawable, deepest_drawable, torchviz_dot
from graphlens.errors import DrawError
from tests.builders import MODELS, captured, lesson_loss

Picture = tuple[Counter[str], Counter[tuple[str, str]]]


def boxes_and_arrows(source: str) -> Picture:
    """Labels of the boxes, and pairs of labels that an arrow joins."""
    statement = re.compile(r'^\t(\w+) \[label="?(.*?)"?(?: fillcolor=\w+)?\]$', re.MULTILINE | re.DOTALL)
    labels = dict(statement.findall(source))
    arrows = re.findall(r"^\t(\w+) -> (\w+)", source, re.MULTILINE)
    assert labels
    return Counter(labels.values()), Counter((labels[a], labels[b]) for a, b in arrows)


def small() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x, w = torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(3))
    return ((x * w).exp() * x).sum(), {"x": x, "w": w}


@pytest.mark.parametrize("name", ["small", "soft-threshold", "wasteful", "gpt2"])
def test_boxes_and_arrows_are_torchvizs_own(name: str) -> None:
    if name == "small":
        loss, names = small()
    else:
        loss = MODELS[name]() if name in MODELS else lesson_loss(name, **({"n": 4} if name == "wasteful" else {}))
        names = {}
    plain = torchviz.make_dot(loss, params={**names, "loss": loss}).source

    drawn = torchviz_dot({"loss": loss}, names)

    assert boxes_and_arrows(drawn) == boxes_and_arrows(plain)


def test_saved_tensors_can_be_shown() -> None:
    loss, names = small()
    plain = torchviz.make_dot(loss, params={**names, "loss": loss}, show_saved=True).source

    drawn = torchviz_dot({"loss": loss}, names, show_saved=True)

    assert boxes_and_arrows(drawn) == boxes_and_arrows(plain)
    assert len(drawn) > len(torchviz_dot({"loss": loss}, names))


def test_several_outputs_are_drawn() -> None:
    x = torch.ones(3, requires_grad=True)
    boxes, _ = boxes_and_arrows(torchviz_dot({"a": x.exp(), "b": x.sin()}, {"x": x}))

    assert {label.split("\n")[0].strip() for label in boxes} >= {"ExpBackward0", "SinBackward0", "x", "a", "b"}


def test_equal_programs_give_equal_text_without_addresses() -> None:
    texts = {torchviz_dot({"loss": loss}, names) for loss, names in [small() for _ in range(3)]}

    assert len(texts) == 1
    assert re.search(r"\d{6,}", texts.pop()) is None


def test_names_cannot_break_the_text() -> None:
    x = torch.ones(3, requires_grad=True)
    source = torchviz_dot({"loss": x.sum()}, {'a"b\\ <c>\x1b\n-> 12': x})

    assert "\x1b" not in source
    assert sum(boxes_and_arrows(source)[1].values()) == 3


def test_after_backward_the_saved_tensors_cannot_be_shown() -> None:
    loss, names = small()
    loss.backward()

    with pytest.raises(DrawError, match=r"torchviz cannot read the saved tensors: Trying to .*freed"):
        torchviz_dot({"loss": loss}, names, show_saved=True)


def chain(length: int) -> torch.Tensor:
    y = torch.ones(1, requires_grad=True)
    for _ in range(length):
        y = y.sin()
    return y.sum()


def test_what_is_let_through_can_be_drawn_and_the_next_is_refused() -> None:
    deepest = deepest_drawable()
    most = chain(deepest - 8)  # this test's own frames come on top

    check_drawable("most", capture(most), lays_out=False)
    assert "SinBackward0" in torchviz_dot({"loss": most}, {})

    with pytest.raises(DrawError, match=r"more has [\d,]+ nodes and [\d,]+ edges on paths of [\d,]+; torchviz follows"):
        check_drawable("more", captured(lambda: chain(deepest + 8)), lays_out=False)


def test_a_graph_too_large_to_lay_out_can_still_be_written_as_text() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=100))

    check_drawable("wasteful", graph, lays_out=False)
    with pytest.raises(DrawError, match=r"wasteful has 31\d nodes and 51\d edges, whose arrows cross [\d,]+ ranks"):
        check_drawable("wasteful", graph, lays_out=True)


def test_too_deep_is_one_error_even_without_the_check() -> None:
    with pytest.raises(DrawError, match="too deep for torchviz"):
        torchviz_dot({"loss": chain(3000)}, {})

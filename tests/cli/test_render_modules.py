"""graphlens render by modules, with lines of code, and shaded by time, as a user types it."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

import graphlens
from graphlens.errors import DrawError, MeasureError
from tests.builders import small_graph
from tests.cli.commands import run_cli
from tests.drawing import SVG, texts

pytestmark = pytest.mark.usefixtures("model")

MODEL = """\
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.act = torch.nn.Tanh()

    def forward(self, x):
        y = self.act(self.linear(x))
        return x + y

class Net(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.h = torch.nn.ModuleList(Block() for _ in range(layers))
        self.last = torch.nn.Linear(4, 1)

    def forward(self, x):
        for block in self.h:
            x = block(x)
        return self.last(x).mean()

def build(*, layers=5):
    return Net(layers), (torch.ones(2, 4, requires_grad=True),)

def plain():
    return (lambda x: x.exp().sum()), (torch.ones(2, requires_grad=True),)
"""
TARGET = "model.py:build"


@pytest.fixture
def model(folder: Path) -> None:
    Path("model.py").write_text(MODEL)


def draw(*arguments: object, path: str = "a.svg") -> bytes:
    outcome = run_cli("render", *arguments, "-o", path, "--force")
    assert (outcome.code, outcome.err) == (0, "")
    return Path(path).read_bytes()


def words(*arguments: object) -> list[str]:
    return draw(*arguments, path="a.txt").decode().splitlines()


def tips(svg: bytes) -> list[str]:
    return [unescape("".join(title.itertext())) for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def refusal(*arguments: object) -> str:
    outcome = run_cli("render", *arguments, "-o", "no.svg")
    assert (outcome.code, outcome.out) == (2, "")
    assert not Path("no.svg").exists()
    return outcome.err


def test_the_picture_by_modules() -> None:
    shown = texts(draw(TARGET, "--group", "module"))

    # A layer has 6 nodes: the leaves and T, Addmm of its map; Tanh; Add. The map saves its input
    # (32 B), which nothing before it does, and its weight (64 B).
    assert "× 5 h.0 … h.4 Block 30 nodes · " in shown
    assert "h.0…4.linear" not in shown
    assert "…linear Linear 5 calls · 20 nodes · 480 B in all" in shown
    assert "…act Tanh" in shown
    assert "last Linear 4 nodes · " in shown


def test_the_same_in_words() -> None:
    lines = words(TARGET, "--group", "module")

    assert any(line.startswith("× 5 h.0 … h.4  Block  (30 nodes, ") for line in lines)
    assert "  …linear  Linear  (5 calls, 20 nodes, 480 B)" in lines
    assert any(re.match(r"  \d+\. Tanh \[2, 4\] \(…act  Tanh\) ← ", line) for line in lines)
    assert any(line.startswith("last  Linear  (4 nodes, ") for line in lines)


@pytest.mark.parametrize("depth", [0, 1])
def test_depth_closes_modules(depth: int) -> None:
    lines = words(TARGET, "--group", "module", "--depth", depth)

    if depth:
        assert any(re.match(r"  \d+\. …linear  Linear \(20 nodes\) ← ", line) for line in lines)
    else:
        assert any(re.match(r"\d+\. h.0 … h.4  Block × 5  \(30 nodes\) ← ", line) for line in lines)
        assert any(re.match(r"\d+\. last  Linear \(4 nodes\) ← ", line) for line in lines)
    assert "Linear" in texts(draw(TARGET, "--group", "module", "--depth", depth))


def test_a_small_model_by_modules_is_not_drawn_raw() -> None:
    assert "h.0 Block 6 nodes" in texts(draw(TARGET, "--set", "layers=1", "--group", "module"))


def test_pointing_at_a_box_tells_its_line_and_what_stands_there() -> None:
    told = tips(draw(TARGET, "--group", "module"))

    assert any(
        re.fullmatch(
            r"TanhBackward0: 5 nodes, the first is node \d+\nh\.0…4\.act  Tanh\n"
            r"model\.py:10 \(Block\.forward\)\ny = self\.act\(self\.linear\(x\)\)",
            tip,
        )
        for tip in told
    )
    closed = next(tip for tip in tips(draw(TARGET, "--depth", "0")) if tip.startswith("h.0"))
    assert closed.endswith("model.py:10 (Block.forward) and 1 more line")


def test_lines_on_the_boxes() -> None:
    shown = texts(draw(TARGET, "--lines"))
    assert "model.py:11" in shown
    assert "model.py:1" not in texts(draw(TARGET))
    assert any(line.endswith("  model.py:11") for line in words(TARGET, "--lines"))
    assert any(line.endswith("  model.py:10 and 1 more line") for line in words(TARGET, "--lines", "--depth", "0"))
    assert not any("model.py:1" in line for line in words(TARGET))
    assert "naming lines of code needs to know where the nodes come from" in refusal("wasteful.json", "--lines")


@pytest.mark.parametrize("options", [[], ["--group", "module"], ["--lines"]])
def test_the_same_program_gives_the_same_bytes(options: list[str]) -> None:
    for path in ("a.dot", "a.svg", "a.txt"):
        assert draw(TARGET, *options, path=path) == draw(TARGET, *options, path=path)


def test_shaded_by_time() -> None:
    shown = texts(draw(TARGET, "--heat", "time"))

    assert "the larger the share of all time of both passes, in percent" in shown
    assert re.search(r"Tanh \[2, 4\] saves 32 B each · [\d.]+ [µm]s in all · [\d.]+ %", shown)
    message = refusal("wasteful.json", "--heat", "time")
    assert "shading by time needs the times of the forward ops, and this graph tells none" in message
    assert message.count("\n") == 1


def test_what_has_no_modules_is_refused_in_one_line() -> None:
    message = refusal("wasteful.json", "--group", "module")
    assert "grouping by module needs to know where the nodes come from, and this graph does not" in message
    assert message.count("\n") == 1
    assert "no module was called in the forward pass" in refusal("model.py:plain", "--group", "module")
    assert "a raw picture has no frames" in refusal(TARGET, "--group", "module", "--expand", "raw")
    assert "--group goes with --engine graphlens" in refusal(TARGET, "--engine", "torchviz", "--group", "module")
    assert "--lines goes with --engine graphlens" in refusal(TARGET, "--engine", "torchviz", "--lines")


def test_from_python() -> None:
    x = graphlens.lesson("wasteful", n=40)
    picture = graphlens.render(graphlens.trace(x, times=True), group="module", lines=True, heat="time")

    assert "soft_threshold  SoftThreshold" in picture.text
    assert "chain.py:61" in picture.text
    with pytest.raises(MeasureError, match="shading by time"):
        graphlens.render(graphlens.trace(x), heat="time")
    with pytest.raises(MeasureError, match="grouping by module"):
        graphlens.render(small_graph(), group="module")
    with pytest.raises(DrawError, match="group must be one of"):
        graphlens.render(small_graph(), group="layers")

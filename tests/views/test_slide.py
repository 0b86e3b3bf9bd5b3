"""Pictures for a slide: the text is as large as is said, and nothing is lost between columns."""

from __future__ import annotations

import json
import re
import statistics
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import graphlens
from graphlens.analyses.columns import columns
from graphlens.analyses.compose import Wish
from graphlens.analyses.scene import Scene
from graphlens.errors import DrawError
from graphlens.graph import GradGraph
from graphlens.views import layout
from graphlens.views.look import Look
from graphlens.views.scene_dot import box_columns, scene_dot
from graphlens.views.slide import fit_slide, left_to_right, slide_dpi, text_points
from tests.builders import captured, lesson_loss
from tests.cli.commands import run_cli
from tests.drawing import SVG, graph_of, nested_loops, scene_of, texts, weighted
from tests.test_pictures_of_models import MODELS

WASTEFUL = captured(lambda: lesson_loss("wasteful", n=200))
GRAPHS = {
    "wasteful": lambda: WASTEFUL,
    "nested": lambda: graph_of(nested_loops),
    "weighted": lambda: graph_of(lambda: weighted(12)),
}


def of_model(name: str) -> GradGraph:
    loss, model = MODELS[name][0]()
    return graphlens.capture({"loss": loss}, dict(model.named_parameters()) if model is not None else {})


def smallest_on_a_slide(svg: str) -> float:
    """What a reader would measure: the smallest text, when the picture fills 960 × 540 pt."""
    root = ElementTree.fromstring(svg)
    width, height = (float(part) for part in root.get("viewBox", "").split()[2:])
    sizes = [float(text.get("font-size", "nan")) for text in root.iter(f"{SVG}text")]
    return min(sizes) * min(960 / width, 540 / height)


@pytest.mark.parametrize("name", [*GRAPHS, "gpt2", "llama", "vit", "mamba", "lstm"])
def test_the_text_is_large_enough_to_be_read(name: str) -> None:
    graph = GRAPHS[name]() if name in GRAPHS else of_model(name)
    picture = graphlens.render(graph, slide=True, title=name)

    assert smallest_on_a_slide(picture.svg) >= 10
    assert picture.points == pytest.approx(smallest_on_a_slide(picture.svg), rel=1e-3)
    assert sum(box.nodes for box in picture.scene.boxes if box.kind != "output") == len(graph)


def test_modules_are_closed_where_they_are_known() -> None:
    trace = graphlens.trace(graphlens.lesson("wasteful", n=40))
    assert "SoftThreshold" in texts(graphlens.render(trace, slide=True).svg)


def test_what_is_too_large_for_a_slide_is_drawn_all_the_same_and_its_small_print_admitted() -> None:
    picture = graphlens.render(of_model("t5"), slide=True)
    assert picture.points is not None
    assert picture.points < 10
    assert picture.points == pytest.approx(smallest_on_a_slide(picture.svg), rel=1e-3)


@pytest.mark.parametrize("program", ["embedded", "dot"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_box_and_every_arrow_is_there(
    name: str, count: int, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "embedded":
        monkeypatch.setenv("PATH", "")
    elif layout.find_program().embedded:
        pytest.skip("no dot on PATH")
    graph = GRAPHS[name]()
    scene = replace(scene_of(graph, expand="first,last"), columns=count, dense=True)
    dot = scene_dot(scene, Look())
    shown = texts(layout.lay_out(dot, "svg"))
    titles = Counter(box.title for box in scene.boxes if box.kind == "function")

    assert all(len(re.findall(rf"\b{title}\b", shown)) >= times for title, times in titles.items())
    # A cut arrow starts at a copy: what is read elsewhere says so at its own place, and at each use.
    assert ("read in another column" in shown) == ("from another column" in shown)
    defined = set(re.findall(r"^ *([brtc]\w*) \[", dot, re.MULTILINE))
    ends = {end for pair in re.findall(r"^ *([brt]\w+)[:a-z]* -> ([brt]\w+)", dot, re.MULTILINE) for end in pair}
    assert ends <= defined


def middles(svg: str | bytes, scene: Scene) -> list[float]:
    """How far to the right the boxes of each column stand, on average."""
    middle: dict[int, list[float]] = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        number = re.fullmatch(r"b(\d+)", group.findtext(f"{SVG}title") or "")
        if number:
            place = columns(scene)[scene.boxes[int(number[1])].key]
            middle.setdefault(place, []).append(float(group.find(f"{SVG}text").get("x")))
    return [statistics.mean(middle[number]) for number in sorted(middle)]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", GRAPHS)
def test_columns_that_do_not_stand_from_left_to_right_are_told(name: str, count: int) -> None:
    scene = replace(scene_of(GRAPHS[name](), expand="first,last"), columns=count)
    svg = layout.lay_out(scene_dot(scene, Look()), "svg")
    found = middles(svg, scene)

    assert left_to_right(svg, box_columns(scene)) == (found == sorted(found))
    place = {name: count - number for name, number in box_columns(scene).items()}
    assert left_to_right(svg, place) == (found == sorted(found, reverse=True))


def test_columns_of_a_slide_stand_from_left_to_right() -> None:
    wanted = Wish(depth=1)
    fit = fit_slide(WASTEFUL, wanted, Look())
    found = middles(layout.lay_out(scene_dot(fit.scene, fit.look), "svg"), fit.scene)
    assert fit.scene.columns == len(found) > 1
    assert found == sorted(found)


@pytest.mark.parametrize(("size", "points"), [((960, 540), 11), ((1920, 540), 5.5), ((480, 540), 11), ((96, 54), 110)])
def test_the_page_is_filled_in_one_direction(size: tuple[int, int], points: float) -> None:
    width, height = size
    assert text_points(f'<svg width="{width}pt" height="{height}pt">'.encode()) == points


def test_a_png_fills_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "slide.png"
    picture = graphlens.render(WASTEFUL, path, slide=True)
    width, height = struct.unpack(">II", path.read_bytes()[16:24])

    assert width <= 1920
    assert height <= 1080
    assert max(width / 1920, height / 1080) > 0.97
    assert picture.points is not None
    assert slide_dpi(picture.points) == int(144 * picture.points / 11)


def test_the_command_line_says_how_large_the_text_is(tmp_path: Path) -> None:
    path = tmp_path / "slide.svg"
    done = run_cli("render", "wasteful", "--set", "n=40", "--slide", "-o", path)
    size = smallest_on_a_slide(path.read_text(encoding="utf-8"))
    assert (done.code, done.out.splitlines()[-1]) == (
        0, f"On a slide of 1920 × 1080 pixels its smallest text is {size:.1f} pt",
    )  # fmt: skip

    done = run_cli("render", "wasteful", "--set", "n=40", "--slide", "--json", "-o", path, "--force")
    assert json.loads(done.out)["text_points"] == pytest.approx(size, rel=1e-3)


class Wrapped(torch.nn.Module):
    """As models with a head are built: all of what repeats lies in one module."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, 4), *(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()) for _ in range(layers))
        )
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(self.head(torch.sin(self.body(x)))).sum()


def traced(model: torch.nn.Module, *inputs: torch.Tensor, **named: torch.Tensor) -> GradGraph:
    graph = graphlens.trace(model, *inputs, **named).graph
    assert graph is not None
    return graph


def counts(scene: Scene) -> set[int]:
    return {box.count for box in scene.boxes} | {frame.count for frame in scene.frames}


@pytest.mark.parametrize("layers", [4, 12, 40])
def test_what_repeats_is_seen_though_one_module_holds_all_of_it(layers: int) -> None:
    picture = graphlens.render(traced(Wrapped(layers), torch.randn(2, 4)), slide=True)
    assert layers in counts(picture.scene)
    assert f"× {layers}" in texts(picture.svg)
    assert picture.points is not None
    assert picture.points >= 10


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_transformer_with_a_head_shows_its_layers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokens = torch.arange(8)[None]
    if name == "gpt2":
        config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=5, n_head=2)
        graph = traced(transformers.GPT2LMHeadModel(config), input_ids=tokens, labels=tokens)
    else:
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=5, num_attention_heads=2, intermediate_size=32
        )
        model = transformers.BertForSequenceClassification(config)
        graph = traced(model, input_ids=tokens, labels=torch.tensor([1]))

    picture = graphlens.render(graph, slide=True, title=name)

    assert picture.points is not None
    assert picture.points >= 10
    assert "× 5" in texts(picture.svg)
    assert name != "gpt2" or len(picture.scene.boxes) == 20  # as the README says
    assert sum(box.nodes for box in picture.scene.boxes if box.kind != "output") == len(graph)


def test_more_boxes_are_drawn_where_they_are_asked_for() -> None:
    graph = traced(Wrapped(6), torch.randn(2, 4))
    sizes = {most: len(graphlens.render(graph, slide=True, max_boxes=most).scene.boxes) for most in (6, 9, 60)}
    assert all(boxes <= most for most, boxes in sizes.items())
    assert sizes[6] < sizes[9] < sizes[60]
    assert sizes[60] == max(len(scene_of(graph, group=group).boxes) for group in ("module", "repeats"))

    graph = of_model("vit")
    alone, more = (graphlens.render(graph, slide=True, **most) for most in ({}, {"max_boxes": 60}))
    assert len(alone.scene.boxes) < len(more.scene.boxes) <= 60
    assert more.points == pytest.approx(smallest_on_a_slide(more.svg), rel=1e-3)
    assert more.points < 10 <= alone.points


def test_a_slide_of_too_few_boxes_is_refused() -> None:
    with pytest.raises(DrawError, match="raise --max-nodes"):
        graphlens.render(traced(Wrapped(6), torch.randn(2, 4)), slide=True, max_boxes=2)


def test_an_outline_opens_what_holds_a_repeat_and_closes_the_rest() -> None:
    graph = traced(Wrapped(6), torch.randn(2, 4))
    scene = scene_of(graph, group="outline", depth=0)
    closed = {(box.title, box.count) for box in scene.boxes if box.kind == "closed"}
    whole = scene_of(graph, group="outline")

    assert ("head", 1) in closed
    assert 6 in {count for _, count in closed}
    assert "body" not in {title for title, _ in closed} | {frame.label for frame in whole.frames}
    assert sum(box.nodes for box in whole.boxes if box.kind != "output") == len(graph)

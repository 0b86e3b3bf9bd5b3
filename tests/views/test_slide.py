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

import graphlens
from graphlens.analyses.columns import columns
from graphlens.analyses.compose import Wish
from graphlens.analyses.scene import Scene
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

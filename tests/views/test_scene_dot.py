"""Scenes as DOT text: what torchviz shows, nothing that a name can break, the same text every time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch

from graphlens.analyses.fold.labels import short_op
from graphlens.capture.build import capture
from graphlens.capture.torchviz_dot import torchviz_dot
from graphlens.graph import GradGraph
from graphlens.views import layout
from graphlens.views.palette import DARK, LIGHT
from graphlens.views.scene_dot import HEATS, Look, box_tips, heat_step, scene_dot
from tests.builders import captured, lesson_loss, small_graph, small_parts
from tests.drawing import SVG, drawn, ensemble, graph_of, loop, nested_loops, scene_of, texts

WASTEFUL = captured(lambda: lesson_loss("wasteful", n=50))
NASTY = (
    '"', "<b>", "a & b", "&lt;", r"\n\N\G\l", "]]>", "-->", "'; DROP", "größe 表 😀", "x" * 5_000, "a." * 2_000, "}",
    "\\", "{a|b}", "//", "#", "%s", " ", "&#0;",
)  # fmt: skip


@pytest.fixture(params=["embedded", "dot"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each layout program in turn."""
    if request.param == "dot" and shutil.which("dot") is None:
        pytest.skip("no dot on PATH")
    if request.param == "embedded":
        monkeypatch.setenv("PATH", "")
        if not layout.find_program().embedded:
            pytest.skip("no embedded renderer")
    return request.param


SCENES = {
    "small": lambda: scene_of(small_graph()),
    "wasteful": lambda: scene_of(WASTEFUL),
    "first,last": lambda: scene_of(WASTEFUL, expand="first,last"),
    "closed": lambda: scene_of(WASTEFUL, depth=0),
    "focus": lambda: scene_of(WASTEFUL, focus=30),
    "nested": lambda: scene_of(graph_of(nested_loops)),
}


@pytest.mark.parametrize("name", SCENES)
def test_layout_programs_draw_every_box(program: str, name: str) -> None:
    scene = SCENES[name]()
    dot = scene_dot(scene, Look(title=name, caption="below", heat="count"))
    root = ElementTree.fromstring(layout.lay_out(dot, "svg"))
    titles = {title.text for title in root.iter(f"{SVG}title")}

    assert set(drawn(dot).nodes) <= titles
    assert texts(ElementTree.tostring(root)).count("below") == 1


def torchviz_graph(dot: str) -> nx.DiGraph:
    """torchviz's picture, with the box of a leaf and its AccumulateGrad as one."""
    graph = nx.DiGraph()
    for name, label in re.findall(r"^\t(n\d+) \[label=(\w+|\"[^\"]*\" fillcolor=\w+)\]$", dot, re.MULTILINE):
        graph.add_node(name, words=["tensor"] if "fillcolor" in label else [short_op(label)])
    graph.add_edges_from(re.findall(r"^\t(n\d+) -> (n\d+)", dot, re.MULTILINE))
    for name in [name for name, words in graph.nodes("words") if words == ["AccumulateGrad"]]:
        [leaf] = graph.predecessors(name)
        graph = nx.contracted_nodes(graph, leaf, name, self_loops=False)
    return graph


def diamond() -> torch.Tensor:
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    return (y.sin() * y.cos() + x * x).sum()


@pytest.mark.parametrize(
    "build",
    [diamond, lambda: loop(2), lambda: lesson_loss("efficient", n=5), lambda: lesson_loss("soft-threshold", y=5.0)],
)
def test_unrolled_it_is_torchvizs_picture(build) -> None:
    loss = build()
    theirs = torchviz_graph(torchviz_dot({"loss": loss}, {}))
    scene = scene_of(capture({"loss": loss}), expand="all")
    ours = drawn(scene_dot(scene, Look()))
    tensors = {f"b{k}" for k, box in enumerate(scene.boxes) if box.kind in ("leaf", "output")}
    for name, words in ours.nodes("words"):
        ours.nodes[name]["words"] = ["tensor"] if name in tensors else words[:1]

    assert len(theirs) > 2
    assert nx.is_isomorphic(ours, theirs, node_match=lambda a, b: a["words"] == b["words"])


def with_leaf(name: str) -> GradGraph:
    parts = small_parts()
    parts["nodes"][0] = parts["nodes"][0]._replace(name=name)
    return GradGraph(**parts).check()


@pytest.mark.parametrize("name", NASTY, ids=lambda name: repr(name[:12]))
def test_names_that_mean_something_elsewhere_stay_text(program: str, name: str) -> None:
    scene = scene_of(with_leaf(name))
    svg = layout.lay_out(scene_dot(scene, Look(title=f"title {name}", caption=f"caption {name}")), "svg")
    shown = texts(svg)

    assert f"title {' '.join(name.split())}".strip() in shown
    assert f"caption {' '.join(name.split())}".strip() in shown
    if len(name) <= 24:
        assert shown.count(" ".join(name.split())) >= 3
    else:
        assert re.sub(r"\W", "", name[:40]) in re.sub(r"\W", "", shown)


def test_a_leaf_without_a_name() -> None:
    graph = drawn(scene_dot(scene_of(with_leaf("")), Look()))
    assert ["(unnamed)", "[2,", "3]", "parameter"] in [words for _, words in graph.nodes("words")]


def test_long_names_are_broken_and_shortened() -> None:
    dot = scene_dot(scene_of(with_leaf("encoder.stages.0.layers.0.normalization.weight")), Look())
    assert "<b>encoder.stages.0.layers.</b><br/><b>0.normalization.weight" in dot
    assert max(map(len, scene_dot(scene_of(with_leaf("x" * 5_000)), Look()).splitlines())) < 600


def test_equal_graphs_give_equal_text_in_every_process() -> None:
    code = (
        "from tests.drawing import *; from graphlens.views.scene_dot import *; "
        "print(scene_dot(scene_of(graph_of(nested_loops)), Look('t', 'c', heat='bytes')))"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    )
    assert one == two
    assert len(one) > 1000


def test_direction_turns_the_arrows_and_nothing_else() -> None:
    scene = scene_of(WASTEFUL)
    forward, backward = (scene_dot(scene, Look(direction=way)) for way in ("forward", "backward"))

    assert backward.replace(" dir=back", "") == forward
    assert backward.count("dir=back") == 1  # for all edges


def test_themes() -> None:
    scene = scene_of(WASTEFUL)
    light, auto, dark = (scene_dot(scene, Look(theme=theme)) for theme in ("light", "auto", "dark"))

    assert light == auto
    assert LIGHT.text in light
    assert DARK.text not in light
    assert DARK.text in dark
    assert "bgcolor=transparent" in light


@pytest.mark.parametrize("heat", HEATS)
def test_shares_add_up_to_all(heat: str) -> None:
    scene = scene_of(graph_of(lambda: ensemble()[0]))
    graph = drawn(scene_dot(scene, Look(heat=heat)))
    shares = [float(share) for _, words in graph.nodes("words")
              for share in re.findall(r"([\d.]+) %", " ".join(words))]  # fmt: skip

    values = [HEATS[heat](box) for box in scene.boxes]
    assert len(shares) == sum(value > 0 for value in values)
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


@pytest.mark.parametrize(
    ("value", "step"), [(0, 0), (1, 1), (200_000, 1), (200_040, 1), (400_000, 2), (410_100, 3), (10**6, 5)]
)
def test_heat_steps(value: int, step: int) -> None:
    assert heat_step(value, 10**6) == step
    assert heat_step(0, 0) == 0


def test_equal_shares_are_shaded_alike() -> None:
    # Both Mv of the chain save 14.3 %, one of them 200 B more than the other.
    dot = scene_dot(scene_of(captured(lambda: lesson_loss("wasteful", n=10_000))), Look(heat="bytes"))
    shades = {re.findall(r"gl-heat\d", line)[0] for line in dot.splitlines() if "14.3" in line}
    assert shades == {"gl-heat1"}


def test_every_kind_has_a_class() -> None:
    kinds = set()
    for build in SCENES.values():
        scene = build()
        kinds |= set(re.findall(r'class="gl-(\w+)"', scene_dot(scene, Look())))
    assert kinds == {
        "function", "custom", "leaf", "output", "closed", "middle", "frame", "heading", "arrow", "carried"
    }  # fmt: skip


def test_the_heading_of_a_part_and_its_node() -> None:
    scene = scene_of(WASTEFUL, focus=30)
    dot = scene_dot(scene, Look(title="wasteful"))

    assert f"of {len(WASTEFUL)} nodes, at most 2 edges from node 30" in dot
    assert dot.count("penwidth=3") == 1


def test_closed_boxes_say_how_often() -> None:
    assert "<b>× 50&#160;&#160;</b>Mv · LinalgInvEx · Mv" in scene_dot(SCENES["closed"](), Look())
    assert "<b>iterations 2 … 49&#160;&#160;</b>Mv · LinalgInvEx · Mv" in scene_dot(SCENES["first,last"](), Look())


def test_leaves_in_a_frame_do_not_repeat_its_label() -> None:
    _, members = ensemble()
    loss = torch.stack([member(torch.ones(2, 4)) for member in members]).sum()
    graph = capture(loss, {f"net.{name}": value for name, value in members.named_parameters()})
    scene = scene_of(graph)
    words = [" ".join(words) for _, words in drawn(scene_dot(scene, Look())).nodes("words")]

    assert "…2.bias [1] 6 parameters" in words
    assert "net.0…5.2.bias: 6 nodes, the first is node 4" in {
        re.sub(r"node \d+", "node 4", tip) for tip in box_tips(scene).values()
    }


def test_the_heading_stands_above_what_is_in_the_frame(program: str) -> None:
    for build in (SCENES["nested"], SCENES["wasteful"], lambda: scene_of(graph_of(lambda: ensemble()[0]))):
        scene = build()
        svg = ElementTree.fromstring(layout.lay_out(scene_dot(scene, Look()), "svg"))
        height = {  # of each node's first text; down is positive
            group.find(f"{SVG}title").text: float(group.find(f"{SVG}text").get("y"))
            for group in svg.iter(f"{SVG}g")
            if group.get("class", "").startswith("node")
        }
        for number, frame in enumerate(scene.frames):
            for place, box in enumerate(scene.boxes):
                if box.key.frames[: len(frame.frames)] == frame.frames:
                    assert height[f"t{number}"] < height[f"b{place}"] - 10


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("palette", "page"), [(LIGHT, "#ffffff"), (DARK, "#0d1117")], ids=["light", "dark"])
def test_text_can_be_read_on_every_fill(palette, page: str) -> None:
    fills = [fill for fill, _ in palette.boxes.values()] + [palette.frame[0], *palette.heat, page]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert min(contrast(palette.text, fill) for fill in fills) >= 4.5  # WCAG AA
    assert min(contrast(palette.carried, fill) for fill in (page, palette.frame[0])) >= 4.5
    assert contrast(palette.arrow, page) >= 3

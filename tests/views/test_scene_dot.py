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
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.scene import Scene
from graphlens.capture.build import capture
from graphlens.capture.torchviz_dot import torchviz_dot
from graphlens.capture.trace import trace
from graphlens.graph import GradGraph
from graphlens.lessons import FACTORIES
from graphlens.views import layout
from graphlens.views.heat import heat_step
from graphlens.views.palette import DARK, LIGHT, MIDDLE_GREY
from graphlens.views.scene_dot import Look, box_tips, scene_dot
from tests.builders import captured, lesson_loss, small_graph, small_parts
from tests.drawing import SVG, drawn, ensemble, graph_of, loop, nested_loops, scene_of, texts
from tests.test_pictures_of_models import MODELS

WASTEFUL = captured(lambda: lesson_loss("wasteful", n=50))
NASTY = (
    '"', "<b>", "a & b", "&lt;", r"\n\N\G\l", "]]>", "-->", "'; DROP", "größe 表 😀", "x" * 5_000, "a." * 2_000, "}",
    "\\", "{a|b}", "//", "#", "%s", " ", "&#0;",
)  # fmt: skip


def long_chain() -> torch.Tensor:
    """Too many boxes for arrows between all of them."""
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    y = x
    for _ in range(20):
        y = torch.neg(torch.sin(y))
    return (y * w).sum()


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
    "large": lambda: scene_of(graph_of(long_chain), expand="raw"),
}


@pytest.mark.parametrize("name", SCENES)
def test_layout_programs_draw_every_box(program: str, name: str) -> None:
    scene = SCENES[name]()
    dot = scene_dot(scene, Look(title=name, caption="below"))
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
        "print(scene_dot(scene_of(graph_of(nested_loops), 'bytes'), Look('t', 'c')))"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    )
    assert one == two
    assert len(one) > 1000


def heads(dot: str) -> list[tuple[str, str]]:
    """Where each arrow starts and where its head is; an arrow with a remark is two edges."""
    usual = "back" if re.search(r"^  edge \[.* dir=back", dot, re.MULTILINE) else "forward"
    whole: list[tuple[str, str]] = []
    halves: dict[str, list[tuple[str, str]]] = {}
    for tail, head, rest in re.findall(r"^  ([br]\w+)[:a-z]* -> ([br]\w+)[:a-z]*(.*)$", dot, re.MULTILINE):
        way = re.search(r"dir=(\w+)", rest)
        ends = {"forward": ("", head), "back": ("", tail), "none": ("", "")}[way[1] if way else usual][1]
        remark = next((name for name in (tail, head) if name.startswith("r")), None)
        other = head if ends == tail else tail
        if remark is None:
            whole.append((other, ends))
        else:
            halves.setdefault(remark, []).append((head if tail == remark else tail, ends))
    for (one, pointed), (two, also) in halves.values():
        assert bool(pointed) != bool(also)
        whole.append((two, one) if pointed else (one, two))
        assert (pointed or also) == whole[-1][1]
    return whole


def test_direction_turns_the_arrows_and_nothing_else() -> None:
    scene = scene_of(WASTEFUL)
    forward, backward = (scene_dot(scene, Look(direction=way)) for way in ("forward", "backward"))

    without = [re.sub(r" dir=\w+", "", dot) for dot in (forward, backward)]
    assert without[0] == without[1]
    for one, other in zip(heads(forward), heads(backward), strict=True):
        assert one == other[::-1]
    assert len(heads(forward)) == len(scene.arrows)


def test_themes() -> None:
    scene = scene_of(WASTEFUL)
    light, auto, dark = (scene_dot(scene, Look(theme=theme)) for theme in ("light", "auto", "dark"))

    assert light == auto
    assert LIGHT.text in light
    assert DARK.text not in light
    assert DARK.text in dark
    assert "bgcolor=transparent" in light


@pytest.mark.parametrize("heat", ["count", "bytes"])
def test_shares_add_up_to_all(heat: str) -> None:
    scene = scene_of(graph_of(lambda: ensemble()[0]), heat)
    graph = drawn(scene_dot(scene, Look()))
    shares = [float(share) for _, words in graph.nodes("words")
              for share in re.findall(r"([\d.]+) %", " ".join(words))]  # fmt: skip

    values = [box.nodes if heat == "count" else box.storage_bytes for box in scene.boxes]
    assert len(shares) == sum(value > 0 for value in values)
    assert sorted(shares) == sorted(round(100 * value / sum(values), 1) for value in values if value)
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


@pytest.mark.parametrize(
    ("value", "step"), [(0, 0), (1, 1), (200_000, 1), (200_040, 1), (400_000, 2), (410_100, 3), (10**6, 5)]
)
def test_heat_steps(value: int, step: int) -> None:
    assert heat_step(value, 10**6) == step
    assert heat_step(0, 0) == 0


def test_equal_shares_are_shaded_alike() -> None:
    # Both Mv of the chain save 14.3 %, one of them 200 B more than the other.
    dot = scene_dot(scene_of(captured(lambda: lesson_loss("wasteful", n=10_000)), "bytes"), Look())
    shades = {re.findall(r"gl-heat\d", line)[0] for line in dot.splitlines() if "14.3" in line}
    assert shades == {"gl-heat1"}


def test_every_kind_has_a_class() -> None:
    kinds = set()
    for build in SCENES.values():
        scene = build()
        kinds |= set(re.findall(r'class="gl-(\w+)"', scene_dot(scene, Look())))
    assert kinds == {
        "function", "custom", "leaf", "output", "closed", "middle", "frame", "heading", "arrow", "carried", "remark",
        "stack",
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
    assert contrast(MIDDLE_GREY, page) >= 3


def measured(scene: Scene, *times: int | None) -> Scene:
    """The scene with times for its functions; those beyond the given ones were not measured."""
    given = iter(times)
    functions = [box for box in scene.boxes if box.kind == "function"]
    for box in functions:
        box.spent_ns = next(given, None)
        box.untimed = 0 if box.spent_ns is not None else box.nodes
    return scene


def words_of(dot: str) -> str:
    return re.sub(r"<[^>]*>", " ", dot.replace("&#160;", " "))


def test_boxes_show_their_time_where_it_is_known() -> None:
    scene = measured(scene_of(small_graph()), 1_200_000)
    dot = words_of(scene_dot(scene, Look()))
    assert dot.count("1.2 ms") == 1
    assert "≥" not in dot


def test_a_time_of_several_nodes_is_theirs_in_all_and_a_lower_bound_if_some_are_missing() -> None:
    scene = scene_of(WASTEFUL)
    [box] = [box for box in scene.boxes if box.title == "LinalgInvEx" and box.nodes == 50]
    box.spent_ns, box.untimed = 50_000, 0
    assert "50.0 µs in all" in words_of(scene_dot(scene, Look()))
    box.untimed = 3
    assert "≥ 50.0 µs in all" in words_of(scene_dot(scene, Look()))


def test_frames_add_their_times_up() -> None:
    chain = captured(lambda: loop(20))
    timed = [node._replace(forward_ns=None if node.kind == "leaf" else 1000) for node in chain.nodes]
    graph = GradGraph(timed, chain.edges, inputs=chain.inputs, outputs=chain.outputs).check()
    frames = [frame for frame in scene_of(graph).frames if frame.nodes > 1]
    assert frames
    for frame in frames:
        assert (frame.spent_ns, frame.untimed) == (1000 * frame.nodes, 0)


def test_a_heat_of_which_not_everything_was_measured() -> None:
    functions = [number for number, node in enumerate(small_graph().nodes) if node.kind != "leaf"]
    column = NodeColumn("measured forward time", "ns", dict(zip(functions, (300, 100), strict=False)))
    dot = scene_dot(scene_of(small_graph(), column), Look())

    assert "75.0 %" in words_of(dot)
    assert "25.0 %" in words_of(dot)
    assert len(re.findall(r"gl-heat\d", dot)) == 2  # neither leaves nor what was not measured
    said = " ".join(re.sub("<[^>]*>", " ", dot).split())
    assert "share of all measured forward time, in percent; all: 400 ns" in said
    assert "were not measured" in dot
    whole = NodeColumn("time", "ns", dict.fromkeys(functions, 1))
    assert "were not measured" not in scene_dot(scene_of(small_graph(), whole), Look())


def shared_leaf() -> torch.Tensor:
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    y = x
    for f in (torch.sin, torch.exp, torch.tanh, torch.cos, torch.sigmoid):
        y = f(y * w)
    return y.sum()


def test_each_copy_of_a_leaf_states_the_share_of_the_leaf() -> None:
    graph = graph_of(shared_leaf)
    dot = scene_dot(scene_of(graph, "count", expand="raw"), Look())

    copies = [words_of(line) for line in dot.splitlines() if "dashed" in line]
    assert len(copies) == 5
    for copy in copies:
        assert f"{100 / len(graph):.1f} % · drawn 5 times" in copy
        assert "gl-heat5" in copy
    for heat in (None, "bytes"):  # without heat there is no share to explain, and a leaf saves nothing
        assert "drawn 5 times" not in scene_dot(scene_of(graph, heat, expand="raw"), Look())


def test_boxes_that_touch_are_the_boxes_of_the_chain_in_order(program: str) -> None:
    scene = SCENES["large"]()
    dot = scene_dot(scene, Look())
    chain = [box.title for box in scene.boxes if box.kind == "function"]
    [stack] = [line for line in dot.splitlines() if "gl-stack" in line and chain[0] in line]

    assert re.findall(r"<tr><td[^>]*>(\w+)", stack) == chain
    assert dot.count("Boxes that touch") == 1
    assert stack.count("(unnamed)") == 2  # beside the sine and the product that read them
    assert len(heads(dot)) == len(scene.arrows) - stack.count("</tr><tr>") - 2
    svg = layout.lay_out(dot, "svg")
    assert [word for word in texts(svg).split() if word in set(chain)] == chain


def test_small_pictures_have_no_stacks() -> None:
    for name in SCENES.keys() - {"large"}:
        assert "gl-stack" not in scene_dot(SCENES[name](), Look())


def test_pointing_at_a_stack_tells_all_its_nodes() -> None:
    scene = SCENES["large"]()
    [tip] = [tip for tip in box_tips(scene).values() if "\n" in tip]
    chain = [f"{'Sin' if number % 2 == 0 else 'Neg'}Backward0: node {number}" for number in range(2, 42)]
    ends = ["MulBackward0: node 42", "SumBackward0: node 43"]
    assert tip.splitlines() == ["(unnamed): node 0", "(unnamed): node 1", *chain, *ends]


def test_every_box_of_a_stack_has_its_own_shade_and_share() -> None:
    lines = scene_dot(scene_of(graph_of(long_chain), "bytes", expand="raw"), Look()).splitlines()
    [stack] = [line for line in lines if "gl-stack" in line and "Sin" in line]
    cells = re.findall(r'<tr><td bgcolor="(#\w+)"[^>]*>(\w+)(.*?)</td>', stack)
    assert [name for _, name, _ in cells[40:]] == ["Mul", "Sum"]
    del cells[40:]
    for colour, name, told in cells:  # the sine keeps its input, a sign nothing
        assert ("saves 12 B" in told and "%" in told) == (name == "Sin")
        assert (colour == LIGHT.heat[0]) == (name == "Neg")


BORDERS = {
    **{name: SCENES[name] for name in ("wasteful", "nested")},
    "ensemble": lambda: scene_of(graph_of(lambda: ensemble()[0])),
}


@pytest.mark.parametrize("name", BORDERS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_no_words_lie_on_a_border(program: str, name: str, direction: str) -> None:
    svg = ElementTree.fromstring(layout.lay_out(scene_dot(BORDERS[name](), Look(direction=direction)), "svg"))
    groups = {kind: [g for g in svg.iter(f"{SVG}g") if kind in g.get("class", "")] for kind in ("gl-frame", "node")}
    frames = []
    for group in groups["gl-frame"]:
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", group.find(f"{SVG}path").get("d"))]
        frames.append((min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])))
    remarks = [g.find(f"{SVG}text") for g in groups["node"] if re.search("gl-(remark|carried)", g.get("class"))]
    assert remarks
    assert frames
    for text in remarks:
        wide = 3.6 * len(text.text)  # of 9 points
        x0 = float(text.get("x")) - (wide / 2 if text.get("text-anchor") == "middle" else 0)
        x1, y0, y1 = x0 + wide, float(text.get("y")) - 7, float(text.get("y")) + 2
        for left, top, right, bottom in frames:
            inside = left <= x0 and x1 <= right and top <= y0 and y1 <= bottom
            outside = x1 <= left or right <= x0 or y1 <= top or bottom <= y0
            assert inside or outside, text.text


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_layers_of_a_transformer_are_no_strip(program: str, name: str) -> None:
    """With an arrow between all boxes they were 3,200 to 3,400 points high, and twice as high as wide or more."""
    torch.manual_seed(0)
    loss, model = MODELS[name][0]()
    scene = scene_of(capture({"loss": loss}, dict(model.named_parameters())))
    svg = ElementTree.fromstring(layout.lay_out(scene_dot(scene, Look(title=name)), "svg"))
    width, height = (float(part) for part in svg.get("viewBox").split()[2:])

    assert height < 2_300
    assert height < 2 * width


def test_an_arrow_from_a_box_to_itself_has_no_words_that_another_arrow_could_strike_through() -> None:
    closed = scene_dot(scene_of(graph_of(lambda: loop(9)), depth=0), Look())
    assert re.search(r'^  (b\d+) -> \1 \[class="gl-carried" .*label=" "\]$', closed, re.MULTILINE)
    assert "carried on [3]" in closed


def key_of(dot: str) -> str:
    heading = re.search(r'^  graph \[id="graph".*label=<(.*)>\]$', dot, re.MULTILINE)
    assert heading
    return " ".join(re.sub(r"<[^>]*>", " ", heading[1]).split())


SIGNS = ("Boxes that touch:", "Double border:", "Dashed outline:", "Bold arrow:")


@pytest.mark.parametrize(
    ("made", "signs"),
    [
        (lambda: scene_of(small_graph(), expand="raw"), ()),
        (lambda: scene_of(graph_of(lambda: loop(9))), ("Bold arrow:",)),
        (lambda: scene_of(graph_of(lambda: loop(9)), depth=0), ("Double border:", "Bold arrow:")),
        (lambda: scene_of(graph_of(shared_leaf), expand="raw"), ("Dashed outline:",)),
        (lambda: SCENES["large"](), ("Boxes that touch:",)),
    ],
)
def test_the_key_names_the_signs_that_the_picture_has_and_no_others(made, signs: tuple[str, ...]) -> None:
    dot = scene_dot(made(), Look())
    assert tuple(sign for sign in SIGNS if sign in key_of(dot)) == signs
    assert ("peripheries=2" in dot) == ("Double border:" in signs)
    assert ("dashed" in dot) == ("Dashed outline:" in signs)
    assert ('class="gl-carried"' in dot) == ("Bold arrow:" in signs)
    assert ("gl-stack" in dot) == ("Boxes that touch:" in signs)


@pytest.mark.parametrize("expand", ["raw", "none"])
def test_each_copy_of_a_leaf_says_what_it_is_and_has_the_look_of_the_others(expand: str) -> None:
    graph = trace(FACTORIES["wasteful"](n=30 if expand == "none" else 5)).graph
    assert graph is not None
    for heat in (None, "bytes"):
        scene = scene_of(graph, heat, expand=expand)
        dot = scene_dot(scene, Look())
        leaves = [line for line in dot.splitlines() if "gl-leaf" in line]
        assert leaves
        roles = {box.title: box.role for box in scene.boxes if box.kind == "leaf"}
        for line in leaves:
            name = next(name for name in roles if name in words_of(line).split())
            assert roles[name] in words_of(line)
            assert ("gl-heat0" in line) == (heat == "bytes")  # a leaf saves nothing

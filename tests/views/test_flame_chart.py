"""The flame chart as a picture: well-formed, described, true to its times."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from graphlens.analyses.timeline import flame
from graphlens.graph import GradGraph, ModuleCall, Source
from graphlens.views.flame_chart import Chart, flame_png, flame_svg
from tests.analyses.test_timeline import BARE, GRAPH, RUN, backwards, chain

SVG = "{http://www.w3.org/2000/svg}"


def chart(graph: GradGraph = GRAPH, name: str = "target") -> Chart:
    return Chart(graph, flame(graph, backwards(graph), RUN), RUN, name)


def rounds() -> GradGraph:
    return chain([("MvBackward0", 0, 1, 7_000), ("LinalgInvExBackward0", 0, 1, 3_000)] * 5000)


def boxes(root: ElementTree.Element) -> Iterator[tuple[str, dict[str, str], str]]:
    """(tip, attributes of the box, label) of each bar."""
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        yield group.findtext(f"{SVG}title", ""), rect.attrib, group.findtext(f"{SVG}text", "")


def test_widths_are_proportional_to_times() -> None:
    made = chart()
    root = ElementTree.fromstring(flame_svg(made))
    found = list(boxes(root))

    assert len(found) == len(made.flame.bars)
    scale = 1160 / made.flame.total
    for bar, (_, rect, _) in zip(made.flame.bars, found, strict=True):
        assert float(rect["width"]) == pytest.approx(bar.length * scale, abs=0.011)
        assert float(rect["x"]) == pytest.approx(20 + bar.start * scale, abs=0.011)


def test_it_is_described_and_its_text_is_text() -> None:
    root = ElementTree.fromstring(flame_svg(chart()))
    title, description = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")

    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{root.get('id')}-title {root.get('id')}-desc"
    assert title == "Backward pass of target: 373 ns"
    assert description is not None
    assert "Mm 300 ns (80.4 %), Own 50.0 ns (13.4 %)" in description
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "milliseconds" in texts
    assert "Mm: 200 ns" in texts
    assert "(Net): 351 ns" in texts


def test_tips_tell_time_share_place_and_line() -> None:
    graph = GradGraph(
        GRAPH.nodes, GRAPH.edges, outputs=GRAPH.outputs, calls=GRAPH.calls,
        sources=[Source("net.py", 3, "f", "y = a < b & c")],
    )  # fmt: skip
    tips = [tip for tip, _, _ in boxes(ElementTree.fromstring(flame_svg(chart(graph))))]

    assert "Mm: 200 ns, 53.6 % of the pass, 1 node\nin (Net) › h › h.1 › fc\nnet.py:3 (f): y = a < b & c" in tips
    assert "what the engine does around the nodes: 7.0 ns, 1.9 % of the pass" in tips


def test_many_rounds_make_a_small_picture_that_says_how_to_read_it() -> None:
    svg = flame_svg(chart(rounds()))
    root = ElementTree.fromstring(svg)
    labels = [label for _, _, label in boxes(root)]

    assert len(svg) < 20_000
    assert "MvBackward0 × 5,000: 35.0 ms" in labels
    assert "LinalgInvExBackward0 × 5,000: 15.0 ms" in labels
    assert any("put together by name" in (text.text or "") for text in root.iter(f"{SVG}text"))
    dashed = [tip for tip, rect, _ in boxes(root) if "stroke-dasharray" in rect]
    assert len(dashed) == 3
    assert any("too short to be shown by themselves" in tip for tip in dashed)
    assert "Dashed" not in flame_svg(chart()).decode()


def test_the_axis_is_in_milliseconds() -> None:
    root = ElementTree.fromstring(flame_svg(chart(rounds())))
    ticks = [text.text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "middle"]

    assert ticks == ["0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50"]


def test_the_same_data_gives_the_same_bytes() -> None:
    assert flame_svg(chart()) == flame_svg(chart())
    assert flame_png(chart()) == flame_png(chart())


def test_two_pictures_on_one_page_have_ids_of_their_own() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', flame_svg(made).decode())) for made in (chart(), chart(rounds()))]

    assert not ids[0] & ids[1]


def test_it_follows_the_page() -> None:
    style = ElementTree.fromstring(flame_svg(chart())).findtext(f"{SVG}style", "")

    assert style.count("light-dark(") >= 12
    assert "currentColor" in style


def test_png() -> None:
    data = flame_png(chart(rounds()))

    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (1800, 300)


def test_hostile_names() -> None:
    calls = [ModuleCall("", "<script>&", 1)]
    graph = chain([('Mm"<x>$\\alpha$', 0, 1, 100), ("Bell'", 0, 1, 100)], calls)
    made = chart(graph, "a</svg>$b$\x1b[31m")
    text = flame_svg(made).decode()

    ElementTree.fromstring(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert flame_png(made).startswith(b"\x89PNG")


def test_a_pass_without_times_is_drawn_empty() -> None:
    graph = chain([("Mm", None, None, None)], leaf_ns=None)
    made = Chart(graph, flame(graph, backwards(graph), BARE), replace(BARE), "empty")

    ElementTree.fromstring(flame_svg(made))
    assert flame_png(made).startswith(b"\x89PNG")

"""Whole SVG pictures, as they stand in a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

import graphlens
from graphlens.views.scene_dot import box_tips
from graphlens.views.svg import id_prefix
from tests.builders import captured, lesson_loss, small_graph
from tests.drawing import SVG, graph_of, texts, weighted

GRAPH = captured(lambda: lesson_loss("wasteful", n=20), meta={"target": "wasteful"})


def svg(**options: object) -> ElementTree.Element:
    return ElementTree.fromstring(graphlens.render(GRAPH, **options).svg)  # type: ignore[arg-type]


def ids(root: ElementTree.Element) -> list[str]:
    return [element.attrib["id"] for element in root.iter() if "id" in element.attrib]


def test_it_is_an_image_with_title_and_description() -> None:
    root = svg()
    named = {element.get("id"): element.text for element in root}
    title, description = (named[name] for name in root.get("aria-labelledby", "").split())

    assert root.get("role") == "img"
    assert title == "Backward graph of wasteful"
    assert "A frame stands for 20 repeats of Mv · LinalgInvEx · Mv" in description


def test_pictures_on_one_page_share_no_id() -> None:
    pictures = [svg(), svg(title="another"), svg(caption="below"), svg(theme="light"), svg(expand="first,last")]
    every = [name for root in pictures for name in ids(root)]

    assert len(every) == len(set(every))
    assert all(name.startswith("graphlens-wasteful-") for name in every)


def test_the_same_picture_has_the_same_bytes() -> None:
    one, two = (graphlens.render(captured(lambda: lesson_loss("wasteful", n=20))).svg for _ in range(2))
    assert one == two


@pytest.mark.parametrize(("theme", "styled"), [("auto", True), ("light", False), ("dark", False)])
def test_a_style_sheet_stands_only_where_the_theme_is_the_readers(theme: str, styled: bool) -> None:
    root = svg(theme=theme)
    style = root.find(f"{SVG}style")

    assert (style is not None) is styled
    if style is not None:
        rules = re.findall(r"^(\S.*?) \{ ", style.text, re.MULTILINE)
        assert len(rules) > 10
        assert all(re.match(f"#{root.get('id')}(:root)?[ $]", f"{rule} ") for rule in rules)


def test_every_class_of_the_style_sheet_is_drawn_or_known() -> None:
    root = svg(heat="bytes")
    used = {name for element in root.iter() for name in element.get("class", "").split() if name.startswith("gl-")}
    ruled = set(re.findall(r"\.(gl-[\w]+)", root.find(f"{SVG}style").text))

    assert used - ruled == {"gl-heading", "gl-remark"}  # plain text, which the rule for text covers


@pytest.mark.parametrize("heat", [None, "bytes"])
def test_every_colour_of_a_stack_has_a_tone_for_dark_pages(heat: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphlens.analyses.stacks.MOST_BOXES_APART", 0)
    graph = graph_of(lambda: weighted(6))
    root = ElementTree.fromstring(graphlens.render(graph, heat=heat).svg)
    cells = [cell for group in root.iter(f"{SVG}g") if group.get("class", "").endswith("gl-stack")
             for cell in group.iter(f"{SVG}polygon")]  # fmt: skip
    drawn = {f'{name}="{cell.get(name)}"' for cell in cells for name in ("fill", "stroke")}
    ruled = set(re.findall(r"gl-stack polygon\[(.*?)\]", root.find(f"{SVG}style").text))

    assert len(cells) > 5
    assert drawn - {'fill="none"', 'stroke="none"', 'stroke="transparent"'} <= ruled


def test_the_background_is_the_pages() -> None:
    for theme in ("auto", "dark"):
        root = svg(theme=theme)
        whole = root.find(f"{SVG}g")
        fills = [child.get("fill") for child in whole if child.tag == f"{SVG}polygon"]
        assert root.get("style") == "max-width: 100%; height: auto"
        assert set(fills) <= {"none", "transparent"}


def test_text_can_be_selected() -> None:
    shown = texts(graphlens.render(GRAPH, title="A title").svg)
    for words in ("A title", "× 20 Mv · LinalgInvEx · Mv", "saves 200 B each", "carried [5]"):
        assert words in shown


def test_pointing_at_a_box_tells_its_node() -> None:
    root = svg(focus=30)
    tips = {title.text for group in root.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")}

    assert "MvBackward0: node 30" in tips or "LinalgInvExBackward0: node 30" in tips
    assert tips <= set(box_tips(graphlens.render(GRAPH, focus=30).scene).values())


def test_tips_of_all_kinds() -> None:
    tips = set(box_tips(graphlens.render(GRAPH).scene).values())
    assert {"LinalgInvExBackward0: 20 nodes, the first is node 5", f"output: output of node {len(GRAPH) - 1}"} <= tips
    assert "w: node 0" in box_tips(graphlens.render(small_graph()).scene).values()


def test_prefixes() -> None:
    assert id_prefix("wasteful", "a") != id_prefix("wasteful", "b")
    assert re.fullmatch(r"graphlens-wasteful-[0-9a-f]{8}", id_prefix("wasteful", "a"))

"""Pictures as files and in a notebook."""

from __future__ import annotations

import io
import re
import shutil
import sys
from pathlib import Path

import pytest
from matplotlib import image

import graphlens
from graphlens import notebook
from graphlens.errors import DrawError, OutputError
from graphlens.graph import GradGraph
from graphlens.views import layout
from graphlens.views.palette import DARK, LIGHT
from tests.builders import captured, lesson_loss, small_graph
from tests.drawing import texts

GRAPH = small_graph()


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded renderer alone."""
    monkeypatch.setenv("PATH", "")
    if not layout.find_program().embedded:
        pytest.skip("no embedded renderer")


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.parametrize(
    ("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".dot", b"digraph"), (".txt", b"small: 5 nodes")]
)
def test_the_ending_decides_the_format(no_dot: None, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"picture{suffix.upper()}"
    picture = graphlens.render(GRAPH, path, title="small")

    assert path.read_bytes().startswith(start)
    assert path.read_bytes() == picture.encode(suffix)


@pytest.mark.skipif(shutil.which("dot") is None, reason="no dot on PATH")
def test_dot_writes_pdf(tmp_path: Path) -> None:
    assert graphlens.render(GRAPH, tmp_path / "a.pdf").save(tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["a", "a.gif", "a.json", ".svg"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DrawError, match=r"a picture is written as one of .svg, .png, .pdf, .dot, .txt, not"):
        graphlens.render(GRAPH, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_pdf_without_dot_is_refused(no_dot: None, tmp_path: Path) -> None:
    with pytest.raises(DrawError, match="PDF needs Graphviz's own `dot`"):
        graphlens.render(GRAPH, tmp_path / "a.pdf")


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.dot"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        graphlens.render(GRAPH, path)
    assert path.read_text() == "precious"

    graphlens.render(GRAPH, path, force=True)
    assert path.read_text().startswith("digraph")


def test_dpi_sets_the_size_of_a_png(no_dot: None) -> None:
    picture = graphlens.render(GRAPH)
    small, large = (image.imread(io.BytesIO(picture.encode(".png", dpi=dpi))).shape[1] for dpi in (50, 200))
    assert large / small == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"heat": "colour"}, "heat must be one of None, 'count', 'bytes', 'time', or a NodeColumn, got 'colour'"),
        ({"group": "op"}, "group must be one of 'repeats', 'module', got 'op'"),
        ({"direction": "up"}, "direction must be one of 'forward', 'backward', got 'up'"),
        ({"theme": "blue"}, "theme must be one of 'auto', 'light', 'dark', got 'blue'"),
    ],
)
def test_unknown_values_are_refused(option: dict[str, str], message: str) -> None:
    with pytest.raises(DrawError, match=re.escape(message)):
        graphlens.render(GRAPH, **option)


def test_a_trace_a_graph_and_a_folded_graph_give_one_picture() -> None:
    trace = graphlens.trace(graphlens.lesson("wasteful", n=20))
    assert trace.graph is not None
    pictures = [graphlens.render(target) for target in (trace, trace.graph, graphlens.fold(trace.graph))]
    assert len({picture.dot for picture in pictures}) == 1


def test_it_prints_as_text() -> None:
    picture = graphlens.render(GRAPH)
    assert repr(picture) == "<Picture of graph: 5 nodes as 6 boxes>"
    assert str(picture) == picture.text
    assert "3. Mv [2] ← 1 w, 2 x" in picture.text


def test_a_notebook_gets_svg_and_text(no_dot: None) -> None:
    picture = graphlens.render(GRAPH, title="small")
    bundle = picture._repr_mimebundle_()

    assert bundle == {"text/plain": picture.text, "image/svg+xml": picture._repr_svg_()}
    assert "CopySlices [2]" in texts(bundle["image/svg+xml"])


def test_without_a_layout_program_a_notebook_gets_text_and_the_reason(no_program: None) -> None:
    picture = graphlens.render(GRAPH)
    bundle = picture._repr_mimebundle_()

    assert list(bundle) == ["text/plain"]
    assert bundle["text/plain"].startswith(picture.text)
    assert "(not drawn: no layout program found: install Graphviz" in bundle["text/plain"]
    with pytest.raises(DrawError, match="no layout program"):
        picture._repr_svg_()


def test_without_a_layout_program_text_and_dot_can_be_written(no_program: None, tmp_path: Path) -> None:
    assert graphlens.render(GRAPH, tmp_path / "a.txt").save(tmp_path / "a.dot").read_text().startswith("digraph")
    with pytest.raises(DrawError, match="no layout program"):
        graphlens.render(GRAPH, tmp_path / "a.svg")


@pytest.mark.parametrize("folded", [False, True])
def test_graphs_show_themselves_in_a_notebook(no_dot: None, folded: bool) -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=20))
    bundle = notebook.mimebundle(graphlens.fold(graph)) if folded else graph._repr_mimebundle_()

    assert "× 20 Mv · LinalgInvEx · Mv" in texts(bundle["image/svg+xml"])
    assert "× 20 Mv · LinalgInvEx · Mv" in bundle["text/plain"]


def test_a_large_graph_is_not_drawn_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_MOST_NODES", 4)
    assert GRAPH._repr_mimebundle_() == {
        "text/plain": "<GradGraph: 5 nodes, 5 edges>, not drawn unasked: graphlens.render(graph) draws it"
    }


def test_a_graph_that_cannot_be_drawn_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DrawError("too large")

    monkeypatch.setattr("graphlens.views.picture.compose", refuse)
    assert GRAPH._repr_mimebundle_() == {"text/plain": "<GradGraph: 5 nodes, 5 edges>, not drawn: too large"}


def test_a_picture_is_not_laid_out_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    lay_out = layout.lay_out
    monkeypatch.setattr(layout, "lay_out", lambda *a, **k: calls.append(a) or lay_out(*a, **k))
    picture = graphlens.render(GRAPH)
    assert (picture.text, picture.dot) != ("", "")
    assert calls == []
    assert picture.svg == picture.svg
    assert len(calls) == 1


def test_the_graph_is_left_as_it_was() -> None:
    graph = small_graph()
    graphlens.render(graph, heat="bytes", expand="all").text  # noqa: B018
    assert graph == small_graph()
    assert isinstance(graph, GradGraph)


def test_a_png_has_paper_that_its_letters_can_be_read_on(tmp_path: Path) -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=4))
    for theme, paper in (("auto", LIGHT.paper), ("light", LIGHT.paper), ("dark", DARK.paper)):
        path = tmp_path / f"{theme}.png"
        graphlens.render(graph, path, theme=theme)
        corner = image.imread(path)[0, 0]
        assert len(corner) == 3 or corner[3] == 1
        assert "#" + "".join(f"{round(255 * part):02x}" for part in corner[:3]) == paper
    assert "bgcolor=transparent" in graphlens.render(graph).dot


def test_the_leaf_of_a_path_is_drawn_solid_once() -> None:
    dot = graphlens.render(graphlens.trace(graphlens.lesson("wasteful", n=20)), through="A").dot
    drawn = [line for line in dot.splitlines() if "gl-leaf" in line and "A&#160;&#160;[5, 5]" in line]

    assert len(drawn) > 1
    assert sum("dashed" not in line for line in drawn) == 1

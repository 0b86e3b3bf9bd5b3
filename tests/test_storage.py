"""Save, load and export: the same counts and attributes in every format."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import networkx as nx
import pytest

from graphlens.errors import GraphError, OutputError
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.storage import load, save
from tests.builders import captured, lesson_loss, small_graph

FORMATS = (".json", ".graphml", ".gexf", ".dot")


def awkward_names() -> GradGraph:
    """Names that mean something to XML, DOT or a shell."""
    names = ['a"b', "a\\", "<b>&amp;", "größe 表 😀", "\\N", "a;b -> c", "", "{x|y}"]
    leaves = [Node("AccumulateGrad", "leaf", None, name, (2,), "float32", "cpu") for name in names]
    edges = [Edge(len(names), k, (k,), (0,)) for k in range(len(names))]
    output = Output("y", len(names), 0, (2,), "float32")
    return GradGraph([*leaves, Node("Strange<Op>&Backward0", seq=0)], edges, outputs=[output]).check()


GRAPHS = {
    "small": small_graph,
    "awkward names": awkward_names,
    "wasteful": lambda: captured(lambda: lesson_loss("wasteful", n=5)),
}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> GradGraph:
    return GRAPHS[request.param]()


def test_json_round_trip(graph: GradGraph, tmp_path: Path) -> None:
    path = save(graph, tmp_path / "graph.json")

    assert load(path) == graph


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_graph_gives_the_same_bytes(graph: GradGraph, tmp_path: Path, suffix: str) -> None:
    first = save(graph, tmp_path / f"a{suffix}").read_bytes()
    second = save(graph, tmp_path / f"b{suffix}").read_bytes()

    assert first == second
    assert first.endswith(b"\n") or suffix in (".graphml", ".gexf")


@pytest.mark.parametrize(("suffix", "read"), [(".graphml", nx.read_graphml), (".gexf", nx.read_gexf)])
def test_networkx_reads_back_every_attribute(graph: GradGraph, tmp_path: Path, suffix: str, read) -> None:
    again = read(save(graph, tmp_path / f"graph{suffix}"), node_type=int)
    nodes = {number: dict(facts) for number, facts in again.nodes(data=True)}
    edges = {(source, target): dict(facts) for source, target, facts in again.edges(data=True)}
    for facts in (*nodes.values(), *edges.values()):
        for added in ("label", "id"):  # what GEXF adds
            facts.pop(added, None)

    assert nodes == dict(graph.nx.nodes(data=True))
    assert edges == {(source, target): facts for source, target, facts in graph.nx.edges(data=True)}


def test_gexf_has_no_date(tmp_path: Path) -> None:
    text = save(small_graph(), tmp_path / "graph.gexf").read_text(encoding="utf-8")

    assert "lastmodified" not in text
    assert re.search(r"20\d\d-\d\d-\d\d", text) is None


def test_dot_has_a_box_per_node_and_an_arrow_per_edge(graph: GradGraph, tmp_path: Path) -> None:
    text = save(graph, tmp_path / "graph.dot").read_text(encoding="utf-8")
    boxes = re.findall(r'^  (\d+) \[label="(?:[^"\\]|\\.)*"(?: shape=ellipse)?\]$', text, re.MULTILINE)
    arrows = re.findall(r"^  (\d+) -> (\d+)$", text, re.MULTILINE)

    assert list(map(int, boxes)) == list(range(len(graph)))
    assert [(int(later), int(earlier)) for earlier, later in arrows] == [edge[:2] for edge in graph.edges]
    assert len(text.splitlines()) == len(boxes) + len(arrows) + 3


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
def test_graphviz_reads_the_dot_file(graph: GradGraph, tmp_path: Path) -> None:
    path = save(graph, tmp_path / "graph.dot")
    done = subprocess.run(["dot", "-Tplain", str(path)], capture_output=True, timeout=60, check=True)
    words = [line.split(" ", 1)[0] for line in done.stdout.decode().splitlines()]

    assert done.stderr == b""
    assert (words.count("node"), words.count("edge")) == (len(graph), len(graph.edges))


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    path = save(awkward_names(), tmp_path / "graph.dot")
    svg = subprocess.run(["dot", "-Tsvg", str(path)], capture_output=True, timeout=60, check=True).stdout.decode()

    for text in ("a&quot;b [2]", "a\\ [2]", "&lt;b&gt;&amp;amp; [2]", "größe 表 😀 [2]", "\\N [2]", "{x|y} [2]"):
        assert f">{text}</text>" in svg


@pytest.mark.parametrize("name", ["graph", "graph.txt", "graph.json.gz", "json"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"use one of \.dot, \.gexf, \.graphml, \.json"):
        save(small_graph(), tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text("mine")

    with pytest.raises(OutputError, match="exists"):
        save(small_graph(), path)

    assert path.read_text() == "mine"
    assert load(save(small_graph(), path, force=True)) == small_graph()


def test_an_unsound_fact_leaves_no_file(tmp_path: Path) -> None:
    graph = small_graph()
    graph.meta["options"] = {"x": object()}

    with pytest.raises(GraphError, match="meta holds a value of type object"):
        save(graph, tmp_path / "graph.json")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("missing.json", "cannot be read: no such file or directory; check the path"),
        (".", "cannot be read: is a directory; check the path"),
        ("n" * 300, "cannot be read: file name too long; check the path"),
        ("nul\0.json", "cannot be read: embedded null byte; check the path"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, fact: str) -> None:
    with pytest.raises(GraphError) as caught:
        load(tmp_path / name)

    assert str(caught.value).endswith(fact)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(save(small_graph(), tmp_path / "good.json").read_bytes()[:-50])

    with pytest.raises(GraphError, match=r"graph\.json: not a saved graph, or a damaged one: .*; save the graph again"):
        load(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 2**31 + 1)  # sparse: it takes no room on the disk

    with pytest.raises(GraphError, match="larger than 2,147,483,648 bytes"):
        load(path)

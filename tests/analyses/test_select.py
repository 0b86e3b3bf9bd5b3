"""Parts of graphs against NetworkX."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphlens.analyses.select import between, neighbourhood, part_of
from graphlens.errors import DrawError
from graphlens.graph import Edge, GradGraph, Node, Output
from tests.builders import captured, programs, small_graph


def split_leaves(graph: GradGraph) -> nx.Graph:
    """Undirected, with a leaf for each of its uses: no path leads through one."""
    split = nx.Graph()
    for source, target in graph.nx.edges:
        leaf = graph.nodes[target].kind == "leaf"
        split.add_edge(source, (target, source) if leaf else target)
    return split


def number(node: object) -> int:
    return node[0] if isinstance(node, tuple) else node  # type: ignore[return-value]


@settings(max_examples=40, deadline=None)
@given(program=programs(), data=st.data(), radius=st.integers(0, 4))
def test_a_neighbourhood_is_an_ego_graph_that_ends_at_leaves(program, data: st.DataObject, radius: int) -> None:
    graph = captured(program)
    node = data.draw(st.integers(0, len(graph) - 1))
    split = split_leaves(graph)
    starts = [end for end in split if number(end) == node]

    expected = {number(end) for start in starts for end in nx.ego_graph(split, start, radius)}

    assert neighbourhood(graph, node, radius) == expected | {node}


@settings(max_examples=40, deadline=None)
@given(program=programs())
def test_a_path_holds_the_leaf_and_all_that_was_made_of_it(program) -> None:
    graph = captured(program, names={})
    named = GradGraph(
        [node._replace(name=f"leaf{k}") if node.kind == "leaf" else node for k, node in enumerate(graph.nodes)],
        graph.edges, graph.saved, graph.inputs, graph.outputs,
    )  # fmt: skip
    for leaf, node in enumerate(named.nodes):
        if node.kind == "leaf":
            assert between(named, f"leaf{leaf}") == nx.ancestors(named.nx, leaf) | {leaf}


@settings(max_examples=40, deadline=None)
@given(program=programs(), data=st.data())
def test_a_part_is_a_sound_graph_with_the_edges_between_its_nodes(program, data: st.DataObject) -> None:
    graph = captured(program)
    kept = data.draw(st.sets(st.integers(0, len(graph) - 1), min_size=1))

    part = part_of(graph, kept)

    part.graph.check()
    assert part.nodes == tuple(sorted(kept))
    assert [graph.nodes[old] for old in part.nodes] == list(part.graph.nodes)
    edges = {(part.nodes[edge.source], part.nodes[edge.target]) for edge in part.graph.edges}
    assert edges == set(graph.nx.subgraph(kept).edges)
    assert part.outputs == sum(output.node in kept for output in graph.outputs)


def test_storages_are_numbered_anew_and_keep_their_bytes() -> None:
    graph = small_graph()
    part = part_of(graph, {3, 4})

    [first, hidden] = part.graph.saved
    assert (first.node, first.storage, first.storage_bytes) == (0, 0, 4096)  # storage 1 of the whole graph
    assert (hidden.node, hidden.packed, hidden.storage) == (0, True, None)


def test_what_is_read_outside_only_ends_the_part() -> None:
    part = part_of(small_graph(), {0, 1, 2})

    assert part.outputs == 0
    assert [(output.name, output.node) for output in part.graph.outputs] == [("node 2", 2)]


def test_a_neighbourhood_within_a_path() -> None:
    graph = small_graph()

    assert neighbourhood(graph, 3, 2) == {0, 1, 2, 3, 4}
    assert neighbourhood(graph, 3, 2, between(graph, "x")) == {1, 2, 3, 4}  # w is on no path from x
    with pytest.raises(DrawError, match="node 0 is not on the path"):
        neighbourhood(graph, 0, 2, between(graph, "x"))


def test_radius_0_is_the_node_alone() -> None:
    assert neighbourhood(small_graph(), 2, 0) == {2}


@pytest.mark.parametrize("node", [-1, 5])
def test_a_node_that_is_not_there(node: int) -> None:
    with pytest.raises(DrawError, match=f"there is no node {node}: nodes are numbered 0 to 4"):
        neighbourhood(small_graph(), node, 1)


def test_a_leaf_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(DrawError, match=r"no leaf called 'nobody'; it leads to w, x$"):
        between(small_graph(), "nobody")


def test_a_leaf_with_20000_consumers() -> None:
    nodes = [Node("AccumulateGrad", "leaf", name="w"), *(Node("SinBackward0", seq=k) for k in range(20_000))]
    edges = [Edge(k, 0, (0,), (0,)) for k in range(1, 20_001)]
    edges += [Edge(20_001, k, (k - 1,), (0,)) for k in range(1, 20_001)]
    stack = Node("StackBackward0", seq=20_000)
    graph = GradGraph([*nodes, stack], edges, outputs=[Output("y", 20_001, 0, (), "float64")]).check()

    assert len(neighbourhood(graph, 0, 1)) == 20_001
    assert neighbourhood(graph, 7, 1) == {0, 7, 20_001}  # not the leaf's other consumers
    assert len(between(graph, "w")) == 20_002

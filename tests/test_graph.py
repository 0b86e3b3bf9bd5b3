from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from graphlens.errors import GraphError
from graphlens.graph import Edge, GradGraph, Node, Output, printable, shape_text
from tests.builders import captured, lesson_loss, small_graph, small_parts

Fault = Callable[[dict[str, Any]], None]


def replaced(part: str, row: int, **fields: Any) -> Fault:
    """A fault that gives one record of a part other values."""

    def plant(parts: dict[str, Any]) -> None:
        parts[part][row] = parts[part][row]._replace(**fields)

    return plant


def appended(part: str, record: Any) -> Fault:
    return lambda parts: parts[part].append(record)


def removed(part: str, row: int) -> Fault:
    return lambda parts: parts[part].pop(row)


def emptied(*names: str) -> Fault:
    def plant(parts: dict[str, Any]) -> None:
        for name in names:
            parts[name].clear()

    return plant


def swapped(part: str, one: int, other: int) -> Fault:
    def plant(parts: dict[str, Any]) -> None:
        rows = parts[part]
        rows[one], rows[other] = rows[other], rows[one]

    return plant


FAULTS: dict[str, tuple[Fault, str]] = {
    "no node": (emptied("nodes", "edges", "saved", "inputs"), "the graph has no node"),
    "node: op empty": (replaced("nodes", 2, op=""), "a node's op cannot be ''"),
    "node: op with a control character": (replaced("nodes", 2, op="Mv\x1b[31m"), "a node's op cannot be"),
    "node: op a list": (replaced("nodes", 2, op=["Mv"]), "a node's op is a list or mapping"),
    "node: op no text": (replaced("nodes", 2, op=7), "a node's op cannot be 7"),
    "node: kind unknown": (replaced("nodes", 2, kind="leaves"), "a node's kind cannot be 'leaves'"),
    "node: seq negative": (replaced("nodes", 2, seq=-1), "a node's seq cannot be -1"),
    "node: seq too large": (replaced("nodes", 2, seq=2**63), "a node's seq cannot be"),
    "node: seq a fraction": (replaced("nodes", 2, seq=0.5), "a node's seq cannot be 0.5"),
    "node: seq a list": (replaced("nodes", 2, seq=[1]), r"a node's seq cannot be \[1\]"),
    "node: seq true beside an equal 1": (replaced("nodes", 2, seq=True), "a node's seq cannot be True"),
    "node: name no text": (replaced("nodes", 0, name=None), "a node's name cannot be None"),
    "node: name with a line break": (replaced("nodes", 0, name="w\n"), "a node's name cannot be"),
    "node: name on a function": (replaced("nodes", 2, name="mv"), "only a leaf has a name, and yet a function"),
    "node: shape a number": (replaced("nodes", 2, shape=2), "a node's shape cannot be 2"),
    "node: shape negative": (replaced("nodes", 2, shape=(-2,)), r"a node's shape cannot be \(-2,\)"),
    "node: shape of fractions": (replaced("nodes", 2, shape=(2.5,)), "a node's shape cannot be"),
    "node: shape 3.0 beside an equal 3": (replaced("nodes", 2, shape=(3.0,)), r"a node's shape cannot be \(3\.0,\)"),
    "node: shape 2.0 after an equal 2": (replaced("nodes", 4, shape=(2.0,)), r"a node's shape cannot be \(2\.0,\)"),
    "node: dtype no text": (replaced("nodes", 2, dtype=64), "a node's dtype cannot be 64"),
    "node: device no text": (replaced("nodes", 2, device=("cpu",)), "a node's device cannot be"),
    "node: outputs unknown": (replaced("nodes", 2, outputs=None), "a node's outputs cannot be None"),
    "node: outputs 1.0 beside an equal 1": (replaced("nodes", 2, outputs=1.0), r"a node's outputs cannot be 1\.0"),
    "node: ledger unknown": (replaced("nodes", 2, ledger="lost"), "a node's ledger cannot be 'lost'"),
    "node: leaf with a seq": (replaced("nodes", 0, seq=3), "a leaf has a sequence number"),
    "edge: no slot": (replaced("edges", 0, slots=(), ports=()), r"an edge's slots cannot be \(\)"),
    "edge: slots a list": (replaced("edges", 0, slots=[0]), r"an edge's slots cannot be \[0\]"),
    "edge: slot negative": (replaced("edges", 0, slots=(-1,)), "an edge's slots cannot be"),
    "edge: slot true beside an equal 1": (replaced("edges", 3, slots=(True,)), r"an edge's slots cannot be \(True,\)"),
    "edge: port negative": (replaced("edges", 0, ports=(-1,)), "an edge's ports cannot be"),
    "edge: more slots than ports": (replaced("edges", 2, ports=(0,)), "more slots than ports"),
    "edge: source a fraction": (replaced("edges", 0, source=2.0), "an edge's end is not a whole number"),
    "edge: target true": (replaced("edges", 1, target=True), "an edge's end is not a whole number"),
    "edge: source beyond the nodes": (
        appended("edges", Edge(5, 0, (0,), (0,))),
        "an edge's end is none of the 5 nodes",
    ),
    "edge: target negative": (replaced("edges", 0, target=-1), "an edge's end is none of the 5 nodes"),
    "edge: forward": (replaced("edges", 2, source=2, target=3), "edge 2→3 runs against the gradient"),
    "edge: to itself": (replaced("edges", 2, source=2, target=2), "edge 2→2 runs against the gradient"),
    "edges: unsorted sources": (swapped("edges", 1, 2), "the edges are not sorted"),
    "edges: unsorted targets": (swapped("edges", 0, 1), "the edges are not sorted"),
    "edges: one twice": (lambda p: p["edges"].insert(1, Edge(2, 0, (2,), (0,))), "or one stands twice"),
    "edge: out of a leaf": (lambda p: p["edges"].insert(0, Edge(1, 0, (0,), (0,))), "node 1 is a leaf"),
    "edges: one slot taken twice": (replaced("edges", 3, slots=(0,)), "one slot of a node is used by two edges"),
    "edges: one slot taken twice, with another between": (
        lambda p: p["edges"].append(Edge(4, 2, (2,), (0,))) or p["edges"].sort() or replaced("edges", 3, slots=(0,))(p),
        "one slot of a node is used by two edges",
    ),
    "edges: one slot taken by a wide and a narrow edge": (
        lambda p: p["edges"].insert(2, Edge(3, 1, (1,), (0,))),
        "one slot of a node is used by two edges",
    ),
    "edge: one slot taken twice by itself": (replaced("edges", 2, slots=(0, 0)), "one slot of a node is used"),
    "saved: slot empty": (replaced("saved", 0, slot=""), "a saved tensor's slot cannot be ''"),
    "saved: slot with a control character": (replaced("saved", 0, slot="a\x00"), "a saved tensor's slot cannot be"),
    "saved: shape negative": (replaced("saved", 0, shape=(2, -3)), "a saved tensor's shape cannot be"),
    "saved: shape of floats beside equals": (replaced("saved", 2, shape=(3.0,)), "a saved tensor's shape cannot be"),
    "saved: dtype no text": (replaced("saved", 0, dtype=0), "a saved tensor's dtype cannot be 0"),
    "saved: device no text": (replaced("saved", 0, device=0), "a saved tensor's device cannot be 0"),
    "saved: view bytes negative": (replaced("saved", 0, view_bytes=-1), "a saved tensor's view_bytes cannot be -1"),
    "saved: view bytes a float": (
        replaced("saved", 2, view_bytes=24.0),
        r"a saved tensor's view_bytes cannot be 24\.0",
    ),
    "saved: view bytes not a number": (
        replaced("saved", 2, view_bytes=math.nan),
        "a saved tensor's view_bytes cannot be nan",
    ),
    "saved: role unknown": (replaced("saved", 0, role="weight"), "a saved tensor's role cannot be 'weight'"),
    "saved: packed no truth value": (replaced("saved", 0, packed=0), "a saved tensor's packed cannot be 0"),
    "saved: node a float": (replaced("saved", 0, node=2.0), "the node of a saved tensor is not a whole number"),
    "saved: node beyond": (replaced("saved", 3, node=5), "the node of a saved tensor is none of the 5 nodes"),
    "saved: unsorted": (replaced("saved", 3, node=2, slot="late"), "the saved tensors are not sorted by node"),
    "saved: slot twice": (replaced("saved", 1, slot="self"), "a node saves one slot twice"),
    "saved: slot twice, with another between": (
        lambda p: p["saved"].insert(2, p["saved"][0]),
        "a node saves one slot twice",
    ),
    "saved: by a leaf": (replaced("saved", 0, node=0), "node 0 is a leaf, which saves nothing"),
    "saved: storages out of order": (replaced("saved", 0, storage=2), "storage 2 is out of order"),
    "saved: storage skipped": (
        lambda p: (replaced("saved", 1, storage=2)(p), replaced("saved", 2, storage=2)(p)),
        "storage 2 is out of order",
    ),
    "saved: storage a truth value": (
        lambda p: (replaced("saved", 1, storage=True)(p), replaced("saved", 2, storage=True)(p)),
        "a saved tensor's storage cannot be True",
    ),
    "saved: storage true after an equal 1": (
        replaced("saved", 2, storage=True),
        "a saved tensor's storage cannot be True",
    ),
    "saved: storage of two sizes": (replaced("saved", 2, storage_bytes=24), "has two sizes"),
    "saved: storage without a size": (
        lambda p: (
            replaced("saved", 1, storage_bytes=None)(p),
            replaced("saved", 2, storage_bytes=None)(p),
        ),
        "storage 1 has no size",
    ),
    "saved: storage size negative": (
        replaced("saved", 0, storage_bytes=-1),
        "a saved tensor's storage_bytes cannot be -1",
    ),
    "saved: storage size a float": (
        replaced("saved", 2, storage_bytes=4096.0),
        r"a saved tensor's storage_bytes cannot be 4096\.0",
    ),
    "saved: size without a storage": (replaced("saved", 3, storage_bytes=8), "storage None is out of order"),
    "saved: storage a list": (replaced("saved", 0, storage=[0]), r"a saved tensor's storage cannot be \[0\]"),
    "no output": (emptied("outputs"), "the graph has no output"),
    "output: name empty": (replaced("outputs", 0, name=""), "'': name, shape or dtype"),
    "output: shape a list": (replaced("outputs", 0, shape=[2]), "'loss': name, shape or dtype"),
    "output: dtype no text": (replaced("outputs", 0, dtype=None), "'loss': name, shape or dtype"),
    "output: no such node": (replaced("outputs", 0, node=9), "output loss: there is no node 9"),
    "output: node true": (replaced("outputs", 0, node=True), "output loss: there is no node True"),
    "output: port negative": (replaced("outputs", 0, port=-1), "output loss: -1 is not an output number"),
    "input: name with a control character": (replaced("inputs", 0, name="x\x07"), "name, shape or dtype"),
    "input: shape none": (replaced("inputs", 0, shape=None), "'x': name, shape or dtype"),
    "input: name twice": (replaced("inputs", 0, name="w"), "two inputs are called w"),
    "input: role unknown": (replaced("inputs", 0, role="data"), "input x: role or requires_grad"),
    "input: requires_grad a number": (replaced("inputs", 0, requires_grad=1), "input x: role or requires_grad"),
    "input: no such node": (replaced("inputs", 0, node=-1), "input x: there is no node -1"),
    "input: node is no leaf": (replaced("inputs", 0, node=2), "input x: node 2 is no leaf"),
    "unreachable leaf": (removed("edges", 1), "node 1 cannot be reached from any output"),
    "unreachable function": (
        appended("nodes", Node("SinBackward0", "function", 3)),
        "node 5 cannot be reached from any output",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_finds_one_planted_fault(name: str) -> None:
    plant, message = FAULTS[name]
    parts = small_parts()
    GradGraph(**parts).check()
    plant(parts)
    with pytest.raises(GraphError, match=message):
        GradGraph(**parts).check()


def test_check_returns_the_graph_itself() -> None:
    graph = GradGraph(**small_parts())
    assert graph.check() is graph


def test_check_accepts_a_single_leaf() -> None:
    graph = GradGraph([Node("AccumulateGrad", "leaf")], [], outputs=[Output("w", 0, 0, (), "float64")])
    assert len(graph.check()) == 1


def test_sums_by_hand() -> None:
    sums = small_graph().saved_by_node()
    assert sums[0] == sums[1] == (0, 0, 0, 0, 0)
    assert sums[2] == (2, 48 + 24, 2, 48 + 4096, 0)
    assert sums[3] == (2, 24, 0, 0, 1)  # storage 1 was counted at node 2; one tensor is packed
    assert sums[4] == (0, 0, 0, 0, 1)  # hidden


def test_freed_node_counts_as_unknown() -> None:
    parts = small_parts()
    parts["nodes"][2] = parts["nodes"][2]._replace(ledger="freed")
    parts["saved"] = []
    assert GradGraph(**parts).check().saved_by_node()[2].unknown == 1


def test_nx_attributes_by_hand() -> None:
    graph = small_graph().nx
    assert graph.nodes[0] == {
        "op": "AccumulateGrad", "kind": "leaf", "name": "w", "shape": "[2, 3]", "dtype": "float64", "device": "cpu",
    }  # fmt: skip
    assert graph.nodes[2] == {
        "op": "MvBackward0", "kind": "function", "seq": 0, "shape": "[2]", "dtype": "float64", "device": "cpu",
        "saved_tensors": 2, "saved_bytes": 72, "storage_bytes": 4144,
    }  # fmt: skip
    assert graph.nodes[3]["outputs"] == 2
    assert "saved_bytes" not in graph.nodes[3]  # one of its tensors has no size
    assert "saved_tensors" not in graph.nodes[4]  # hidden
    assert graph.edges[3, 2] == {"slots": "0,1", "ports": "0,0"}


def test_nx_is_a_plain_acyclic_digraph_with_scalar_attributes() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=4))
    assert type(graph.nx) is nx.DiGraph
    assert graph.nx is graph.nx
    assert nx.is_directed_acyclic_graph(graph.nx)
    assert list(graph.nx.nodes) == list(range(len(graph)))
    assert [(s, t) for s, t in graph.nx.edges] == [(edge.source, edge.target) for edge in graph.edges]
    attributes = [value for _, data in graph.nx.nodes(data=True) for value in data.values()]
    attributes += [value for _, _, data in graph.nx.edges(data=True) for value in data.values()]
    assert {type(value) for value in attributes} == {str, int}


@pytest.mark.parametrize("form", ["graphml", "gexf"])
def test_networkx_writers_accept_the_graph(form: str) -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=2))
    for subject in (graph, small_graph()):
        stream = io.BytesIO()
        getattr(nx, f"write_{form}")(subject.nx, stream)
        stream.seek(0)
        read = getattr(nx, f"read_{form}")(stream)
        assert (len(read), read.size()) == (len(subject.nodes), len(subject.edges))


def test_sums_of_node_attributes_are_the_totals() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=4))
    nodes = graph.nx.nodes
    storages = {item.storage: item.storage_bytes for item in graph.saved}
    assert sum(node.get("saved_tensors", 0) for node in nodes.values()) == len(graph.saved)
    assert sum(node.get("saved_bytes", 0) for node in nodes.values()) == sum(i.view_bytes or 0 for i in graph.saved)
    assert sum(node.get("storage_bytes", 0) for node in nodes.values()) == sum(b or 0 for b in storages.values())
    assert sum(sums.storages for sums in graph.saved_by_node()) == len(storages)


def test_graphs_are_compared_by_value() -> None:
    parts = small_parts()
    assert small_graph() == small_graph()
    parts["saved"][0] = parts["saved"][0]._replace(view_bytes=47)
    assert GradGraph(**parts) != small_graph()
    assert small_graph() != "a graph"
    with pytest.raises(TypeError, match="unhashable"):
        hash(small_graph())


def test_pickle_gives_an_equal_graph_and_leaves_networkx_out() -> None:
    graph = small_graph()
    before = len(pickle.dumps(graph))
    assert len(graph.nx) == 5
    data = pickle.dumps(graph)
    assert len(data) == before
    assert pickle.loads(data) == graph


def test_graph_is_short_in_print() -> None:
    assert repr(small_graph()) == "<GradGraph: 5 nodes, 5 edges>"
    assert len(small_graph()) == 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ε", "plain ε"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x00\x7f\x9f", r"\x00\x7f\x9f"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable_escapes_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_shape_text() -> None:
    assert [shape_text(shape) for shape in ((5, 5), (), None)] == ["[5, 5]", "[]", ""]

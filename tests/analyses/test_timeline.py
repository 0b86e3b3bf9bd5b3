"""Spans and flame charts of hand-made passes, and of long ones."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from graphlens.analyses.timeline import REST, Flame, backward_timeline, flame, forward_timeline
from graphlens.graph import Edge, GradGraph, ModuleCall, Node, Output, Source
from graphlens.records import CostRun, Timing

SOME = Timing(1e-3, 1e-3, 1e-3, 1)
RUN = CostRun(1, SOME, SOME, 1.0, 0.0, {}, 0, 0, 0, before_ns=5, after_ns=7)
BARE = CostRun(1, SOME, SOME, 1.0, 0.0, {}, 0, 0, 0)

CALLS = [
    ModuleCall("", "Net", 1),
    ModuleCall("h.0", "Block", 1, 0),
    ModuleCall("h.0.fc", "Linear", 1, 1),
    ModuleCall("h.1", "Block", 1, 0),
    ModuleCall("h.1.fc", "Linear", 1, 3),
]


def chain(steps: Sequence[tuple[str, int | None, int | None, int | None]], calls: Sequence[ModuleCall] = CALLS,
          leaf_ns: int | None = 1) -> GradGraph:  # fmt: skip
    """A leaf, and nodes of (op, call, forward_ns, backward_ns), each after the one before it."""
    nodes = [Node("AccumulateGrad", "leaf", name="w", backward_ns=leaf_ns)]
    for k, (op, call, forward, backward) in enumerate(steps):
        kind = "custom" if op == "Own" else "function"
        nodes.append(Node(op, kind, k, call=call, source=0, forward_ns=forward, backward_ns=backward))
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(len(steps))]
    outputs = [Output("y", len(steps), 0, (), "float32")]
    return GradGraph(nodes, edges, outputs=outputs, calls=calls, sources=[Source("net.py", 3, "f")]).check()


def backwards(graph: GradGraph) -> list[int]:
    return list(range(len(graph)))[::-1]


GRAPH = chain([("Mm", 2, 10, 100), ("Own", 1, 20, 50), ("Mm", 4, 30, 200), ("Sum", None, 40, 10)])


def test_forward_spans_by_hand() -> None:
    timeline = forward_timeline(GRAPH)

    assert [(span.start, span.length, span.node, span.call) for span in timeline.spans] == [
        (0, 60, None, 0),  # Net
        (0, 30, None, 1),  # h.0
        (0, 10, None, 2),  # h.0.fc
        (0, 10, 1, 2),
        (10, 20, 2, 1),
        (30, 30, None, 3),
        (30, 30, None, 4),
        (30, 30, 3, 4),
        (60, 40, 4, None),
    ]
    assert (timeline.total, timeline.untimed) == (100, ())


def test_backward_spans_by_hand() -> None:
    timeline = backward_timeline(GRAPH, backwards(GRAPH), RUN)

    assert [(span.start, span.length, span.node, span.call) for span in timeline.spans] == [
        (0, 5, None, None),  # the engine
        (5, 10, 4, None),
        (15, 351, None, 0),
        (15, 200, None, 3),
        (15, 200, None, 4),
        (15, 200, 3, 4),
        (215, 151, None, 1),
        (215, 50, 2, 1),
        (265, 101, None, 2),
        (265, 100, 1, 2),
        (365, 1, 0, 2),  # the leaf, in the call of the node before it
        (366, 7, None, None),
    ]
    assert timeline.total == 5 + 361 + 7


def test_what_was_not_timed_has_no_span() -> None:
    graph = chain([("Mm", 2, None, 100), ("Sum", None, 40, None)], leaf_ns=None)

    assert forward_timeline(graph).untimed == (1,)
    timeline = backward_timeline(graph, backwards(graph), BARE)
    assert timeline.untimed == (2, 0)
    assert [span.node for span in timeline.spans if span.node is not None] == [1]
    assert timeline.total == 100


def bars(found: Flame) -> list[tuple[int, str, str, int, int, int]]:
    return [(bar.row, bar.name, bar.path, bar.start, bar.length, bar.nodes) for bar in found.bars]


def test_a_flame_by_hand() -> None:
    found = flame(GRAPH, backwards(GRAPH), RUN)

    assert bars(found) == [
        (0, "backward pass", "", 0, 373, 5),
        (1, "engine", "", 0, 5, 0),
        (1, "Sum", "", 5, 10, 1),
        (1, "(Net)", "", 15, 351, 4),
        (1, "engine", "", 366, 7, 0),
        (2, "h", "(Net)", 15, 351, 4),
        (3, "h.1", "(Net) › h", 15, 200, 1),
        (3, "h.0", "(Net) › h", 215, 151, 3),
        (4, "fc", "(Net) › h › h.1", 15, 200, 1),
        (4, "Own", "(Net) › h › h.0", 215, 50, 1),
        (4, "fc", "(Net) › h › h.0", 265, 101, 2),
        (5, "Mm", "(Net) › h › h.1 › fc", 15, 200, 1),
        (5, "Mm", "(Net) › h › h.0 › fc", 265, 100, 1),
        (5, "AccumulateGrad", "(Net) › h › h.0 › fc", 365, 1, 1),
    ]
    assert {bar.name: bar.kind for bar in found.bars} == {
        "backward pass": "pass", "engine": "engine", "Sum": "op", "(Net)": "module", "h": "module", "h.1": "module",
        "h.0": "module", "fc": "module", "Own": "custom", "Mm": "op", "AccumulateGrad": "op",
    }  # fmt: skip
    assert (found.total, found.nodes, found.rows) == (373, 5, 6)
    assert all(bar.lines == Counter({0: 1}) for bar in found.bars if bar.name == "Mm")
    assert not any(bar.is_gathered for bar in found.bars)


def test_neighbours_of_one_name_are_one_bar() -> None:
    graph = chain([("Neg", 0, 1, 10)] * 1000)
    found = flame(graph, backwards(graph), BARE)

    assert [(bar.name, bar.length, bar.nodes, bar.is_gathered) for bar in found.bars][2:] == [
        ("Neg", 10_000, 1000, False),
        ("AccumulateGrad", 1, 1, False),
    ]
    assert found.bars[2].lines == Counter({0: 1000})


def check_true(found: Flame) -> None:
    """Bars lie side by side within the bar above them, and their times are never more than its own."""
    rows: dict[int, list[tuple[int, int]]] = {}
    for bar in found.bars:
        rows.setdefault(bar.row, []).append((bar.start, bar.start + bar.length))
    for row, places in rows.items():
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
        if row:
            above = rows[row - 1]
            assert all(any(low <= start and end <= high for low, high in above) for start, end in places)
    assert sum(bar.length for bar in found.bars if bar.row == 1) == found.total
    assert sum(bar.nodes for bar in found.bars if bar.row == 1) == found.nodes


def test_rounds_that_alternate_are_put_together_by_name() -> None:
    graph = chain([("Mv", 0, 1, 7), ("Inv", 0, 1, 3)] * 5000)
    found = flame(graph, backwards(graph), BARE)

    check_true(found)
    assert [(bar.name, bar.length, bar.nodes, bar.is_gathered) for bar in found.bars if bar.row == 2] == [
        ("Mv", 35_000, 5000, True),
        ("Inv", 15_000, 5000, True),
        (REST, 1, 1, True),
    ]


def test_the_rest_has_its_true_time() -> None:
    steps = [(f"Op{k}", 0, 1, 1) for k in range(5000)] + [("Large", 0, 1, 100_000)]
    graph = chain(steps)
    found = flame(graph, backwards(graph), BARE)

    check_true(found)
    assert [(bar.name, bar.length, bar.nodes) for bar in found.bars if bar.row == 2] == [
        ("Large", 100_000, 1),
        (REST, 5001, 5001),
    ]


@pytest.mark.parametrize("blocks", [50, 400, 3000])
def test_the_picture_stays_small(blocks: int) -> None:
    calls = [ModuleCall("", "Net", 1)]
    steps: list[tuple[str, int | None, int | None, int | None]] = []
    for k in range(blocks):
        block = len(calls)
        calls.append(ModuleCall(f"h.{k}", "Block", 1, 0))
        for name in ("q", "k", "v", "out"):
            calls.append(ModuleCall(f"h.{k}.{name}", "Linear", 1, block))
            steps += [("Mm", len(calls) - 1, 1, 50 + k % 7), ("Add", len(calls) - 1, 1, 20)]
    graph = chain(steps, calls)
    found = flame(graph, backwards(graph), BARE)

    check_true(found)
    assert 10 < len(found.bars) <= 600
    if blocks == 3000:
        assert [(bar.name, bar.nodes, bar.is_gathered) for bar in found.bars if bar.row == 3] == [
            ("h.*", 24_001, True)
        ]
        assert {bar.name for bar in found.bars if bar.row == 4} == {"q", "k", "v", "out"}
    assert found.total == sum(node.backward_ns or 0 for node in graph.nodes)


def test_long_passes_take_work_in_proportion() -> None:
    """Counted in calls of functions, built-in ones too: a machine that is busy makes no more of them."""

    def calls(rounds: int) -> int:
        graph = chain([("Mv", 0, 1, 7), ("Inv", 0, 1, 3), ("Mv", 0, 1, 8)] * rounds)
        order = backwards(graph)
        met = itertools.count()
        before = sys.getprofile()
        sys.setprofile(lambda *_: next(met) and None)
        try:
            flame(graph, order, BARE)
            backward_timeline(graph, order, BARE)
        finally:
            sys.setprofile(before)
        return next(met)

    assert calls(10_000) < 11 * calls(1_000)


def test_modules_of_any_nesting_need_no_recursion() -> None:
    calls = [ModuleCall("", "Net", 1)]
    for k in range(3000):
        calls.append(ModuleCall(".".join(["m"] * (k + 1)), "Block", 1, k))
    graph = chain([("Mm", 3000, 1, 10)], calls)

    assert len(forward_timeline(graph).spans) == 3002
    found = flame(graph, backwards(graph), BARE)
    assert found.rows == 1 + 24 + 1


def test_a_pass_without_times_is_empty() -> None:
    graph = chain([("Mm", None, None, None)], leaf_ns=None)
    found = flame(graph, backwards(graph), BARE)

    assert bars(found) == [(0, "backward pass", "", 0, 0, 0)]


def test_hundreds_of_bars_without_room_for_a_name_are_put_together() -> None:
    graph = chain([("Mv", 0, 1, 7), ("Inv", 0, 1, 3)] * 100)  # each 0.3 to 0.7 % of the pass: drawn, but nameless
    found = flame(graph, backwards(graph), BARE)

    check_true(found)
    assert [(bar.name, bar.length, bar.nodes) for bar in found.bars if bar.row == 2] == [
        ("Mv", 700, 100),
        ("Inv", 300, 100),
        (REST, 1, 1),
    ]
    few = flame(*(lambda graph: (graph, backwards(graph), BARE))(chain([("Mv", 0, 1, 7), ("Inv", 0, 1, 3)] * 12)))
    assert sum(bar.row == 2 for bar in few.bars) == 25  # so few can be looked at one by one

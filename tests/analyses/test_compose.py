"""From a graph and a wish to a scene that can be laid out, or to one clear refusal, in good time."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import torch

from graphlens.analyses.compose import Wish, compose
from graphlens.analyses.fold import fold
from graphlens.analyses.layout_cost import MOST_ARROWS_OF_A_LEAF, MOST_RANKS, long_arrows, scene_cost
from graphlens.analyses.scene import Deeper
from graphlens.errors import DrawError
from graphlens.graph import Edge, GradGraph, Input, Node, Output
from graphlens.views.scene_text import closed_text, describe
from tests.builders import captured, lesson_loss
from tests.drawing import graph_of, loop, nested_loops, scene_of

WASTEFUL = captured(lambda: lesson_loss("wasteful", n=200))
SMALL_CHAIN = captured(lambda: lesson_loss("wasteful", n=3))
NESTED = graph_of(nested_loops)


def made(edges: set[tuple[int, int]], leaves: int, count: int, ops: tuple[str, ...] = ("Sin",)) -> GradGraph:
    """`edges` are (source, target); what nothing reads is read by a last node."""
    edges = edges | {(count, k) for k in range(count) if k not in {target for _, target in edges}}
    nodes = [Node("AccumulateGrad", "leaf", name=f"w{k}") for k in range(leaves)]
    nodes += [Node(f"{ops[k % len(ops)]}Backward0", seq=k) for k in range(count + 1 - leaves)]
    slots: dict[int, int] = {}
    rows = []
    for source, target in sorted(edges):
        slots[source] = slots.get(source, -1) + 1
        rows.append(Edge(source, target, (slots[source],), (0,)))
    return GradGraph(nodes, rows, outputs=[Output("y", count, 0, (), "float64")]).check()


def random_dag(count: int = 3_000) -> GradGraph:
    draw = random.Random(0)
    ops = tuple(draw.choice(["Sin", "Add", "Mul", "Exp"]) for _ in range(997))
    return made({(k, draw.randrange(k)) for k in range(1, count) for _ in range(2)}, 1, count, ops)


def dense_hubs(count: int = 300) -> GradGraph:
    edges = {(k, j) for k in range(1, count) for j in range(max(0, k - 60), k)}
    return made(edges, 1, count, ("Sin", "Add", "Mul", "Exp", "Cos"))


def many_leaves(leaves: int = 2_000) -> GradGraph:
    draw = random.Random(0)
    ops = tuple(draw.choice(["Sin", "Add", "Mul", "Exp"]) for _ in range(leaves + 1))
    edges = {(leaves + k, k) for k in range(leaves)} | {(leaves + k, leaves + k - 1) for k in range(1, leaves)}
    return made(edges, leaves, 2 * leaves, ops)


@pytest.mark.parametrize("build", [random_dag, dense_hubs, many_leaves])
def test_what_cannot_be_laid_out_is_refused_in_one_sentence(build) -> None:
    graph = build()
    with pytest.raises(DrawError, match=r"^even with every repeat closed .* boxes") as caught:
        compose(graph, Wish())
    assert "--focus NODE" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", [random_dag, many_leaves])
def test_a_part_of_it_can_be_drawn(build) -> None:
    graph = build()
    scene = compose(graph, Wish(focus=len(graph) // 2, radius=1))
    assert 1 < len(scene.boxes) < 20
    assert scene_cost(scene).is_feasible


@pytest.mark.parametrize(("most", "boxes", "deepest"), [(27, 27, 2), (26, 23, 1), (22, 12, 0)])
def test_groups_are_closed_until_the_boxes_are_few_enough(most: int, boxes: int, deepest: int) -> None:
    scene = scene_of(NESTED, max_boxes=most)
    assert len(scene.boxes) == boxes
    assert max((len(frame.frames) for frame in scene.frames), default=0) == deepest


def test_what_is_closed_for_want_of_room_is_told_with_what_opens_it() -> None:
    assert scene_of(NESTED).deeper is None
    assert scene_of(NESTED, depth=1).deeper is None  # as asked for
    closed = scene_of(NESTED, max_boxes=26)
    assert closed.deeper == (27, True)
    assert re.fullmatch(
        r"Closed, as open it takes 27 boxes: × [\d,]+ .*; --max-nodes 27 opens them\.", closed_text(closed)
    )
    assert closed_text(closed) in describe(closed, "x")
    assert closed_text(scene_of(NESTED, max_boxes=27)) == ""
    tangled = replace(closed, deeper=Deeper(27, is_feasible=False))
    assert closed_text(tangled).endswith("--focus NODE or --path INPUT shows a part.")


def test_one_box_less_than_can_be_is_refused() -> None:
    fewest = len(scene_of(NESTED, depth=0).boxes)
    with pytest.raises(DrawError, match=f"need {fewest} boxes"):
        scene_of(NESTED, max_boxes=fewest - 1)


def test_unrolling_too_much_names_the_other_way() -> None:
    with pytest.raises(DrawError, match=r"about 60\d boxes or more, .* allows 400; use --expand first,last"):
        scene_of(WASTEFUL, expand="all")


def test_what_was_to_be_unrolled_is_never_closed_instead() -> None:
    tangled = captured(lambda: lesson_loss("wasteful", n=1_000))
    with pytest.raises(DrawError, match=r"unrolled it takes 3,0\d\d boxes, too many or too entangled to lay out"):
        scene_of(tangled, expand="all", max_boxes=9_000)

    inner = str(next(group.number + 1 for group in fold(NESTED).groups if group.parent is not None))
    with pytest.raises(DrawError, match="unrolled it takes"):
        scene_of(NESTED, expand=inner, max_boxes=25)
    assert all(box.kind != "closed" for box in scene_of(NESTED, expand=inner).boxes)
    assert any(box.kind == "closed" for box in scene_of(NESTED, expand=inner, depth=0).boxes)  # asked for


def test_a_group_by_its_name_and_by_its_number() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=6))
    folded = fold(graph)
    chain = next(group for group in folded.groups if group.count == 6)

    by_name = scene_of(graph, expand=chain.label)
    assert scene_of(graph, expand=str(chain.number + 1)) == by_name
    assert sum(frame.frames[-1].group == chain.number for frame in by_name.frames) == 6


def test_an_unknown_group_is_answered_with_those_there_are() -> None:
    folded = fold(WASTEFUL)
    known = ", ".join(f"{group.number + 1} ({group.label})" for group in folded.groups)
    with pytest.raises(DrawError, match=re.escape(f"there is no group 'nobody' to expand; there is {known}")):
        scene_of(WASTEFUL, expand="nobody")
    with pytest.raises(DrawError, match="there is none at all"):
        scene_of(captured(lambda: lesson_loss("soft-threshold", y=5.0)), expand="1")


def test_a_folded_graph_gives_the_same_scene() -> None:
    assert compose(fold(WASTEFUL), Wish()) == compose(WASTEFUL, Wish())


def test_a_neighbourhood_says_which_part_it_is_and_marks_the_node() -> None:
    scene = scene_of(WASTEFUL, focus=300)

    assert scene.extract is not None
    assert (scene.extract.what, scene.extract.whole) == ("at most 2 edges from node 300", len(WASTEFUL))
    [focus] = [box for box in scene.boxes if box.key == scene.focus]
    assert scene.number(focus) == 300
    assert WASTEFUL.nodes[300].op.startswith(focus.title)
    assert not any(box.kind == "output" for box in scene.boxes)  # phi is far away


def test_radius_0_is_one_box() -> None:
    scene = scene_of(WASTEFUL, focus=300, radius=0)
    assert [scene.number(box) for box in scene.boxes] == [300]


def test_a_path_and_a_neighbourhood_number_nodes_alike() -> None:
    graph = graph_of(lambda: loop(9))
    names = GradGraph(
        [node._replace(name="ab"[k]) if node.kind == "leaf" else node for k, node in enumerate(graph.nodes)],
        graph.edges, graph.saved, [Input("a", "input", (3,), "float32", True, 0)], graph.outputs,
    )  # fmt: skip
    scene = scene_of(names, path="a", focus=10, radius=1)

    assert scene.extract is not None
    assert scene.extract.what == "at most 1 edge from node 10, on the paths from a"
    assert sorted(scene.extract.nodes) == [9, 10, 11]
    with pytest.raises(DrawError, match="node 1 is not on the path asked for"):
        scene_of(names, path="a", focus=1)


def test_a_focus_on_a_leaf_with_20000_consumers() -> None:
    nodes = [Node("AccumulateGrad", "leaf", name="w"), *(Node("SinBackward0", seq=k) for k in range(20_000))]
    edges = [Edge(1, 0, (0,), (0,))]
    for k in range(2, 20_001):
        edges += [Edge(k, 0, (1,), (0,)), Edge(k, k - 1, (0,), (0,))]
    graph = GradGraph(nodes, edges, outputs=[Output("y", 20_000, 0, (), "float64")]).check()

    scene = scene_of(graph, focus=0, radius=1)

    assert sum(box.nodes for box in scene.boxes if box.kind != "output") == 20_001
    assert len(scene.boxes) < 10


def test_far_and_busy_leaves_are_copied_at_each_use() -> None:
    near = scene_of(graph_of(lambda: loop(2)), expand="all")
    assert long_arrows(near) == frozenset()

    busy = scene_of(graph_of(lambda: loop(MOST_ARROWS_OF_A_LEAF + 1)), expand="all")
    [leaf] = {earlier for earlier, _, _ in long_arrows(busy)}
    assert len(long_arrows(busy)) == MOST_ARROWS_OF_A_LEAF + 1
    # The copies need no virtual node.
    assert scene_cost(busy).virtual_nodes == 0
    assert leaf.what == "node"


def test_an_arrow_back_over_many_ranks_starts_at_a_copy() -> None:
    def rounds(length: int) -> torch.Tensor:
        x = torch.ones(3, requires_grad=True)
        for _ in range(5):
            for k in range(length):
                x = x.sin() if k % 2 else (x.exp() if k % 3 else x.cos())
            x = x + 1
            x = x.tanh()
        return x.sum()

    assert [carried for _, _, carried in long_arrows(scene_of(graph_of(lambda: rounds(5))))] == []
    assert [carried for _, _, carried in long_arrows(scene_of(graph_of(lambda: rounds(MOST_RANKS + 1))))] == [True]


def test_raw_is_the_graph_node_by_node_without_frames() -> None:
    scene = scene_of(SMALL_CHAIN, expand="raw")
    nodes = {box.first: box.nodes for box in scene.boxes if box.kind != "output"}
    names = {box.key: box.first for box in scene.boxes if box.kind != "output"}
    arrows = {(names[arrow.later], names[arrow.earlier]) for arrow in scene.arrows if arrow.later in names}
    assert scene.frames == ()
    assert nodes == dict.fromkeys(range(len(SMALL_CHAIN)), 1)
    assert arrows == {(edge.source, edge.target) for edge in SMALL_CHAIN.edges}

"""Which boxes touch: chains in which each reads nothing but the one before it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from graphlens.analyses import stacks as module
from graphlens.analyses.layout_cost import long_arrows
from graphlens.analyses.scene import Scene
from graphlens.analyses.stacks import stacks
from graphlens.capture.build import capture
from graphlens.graph import Edge, GradGraph, Node, Output
from tests.builders import captured, lesson_loss
from tests.drawing import graph_of, nested_loops, scene_of, weighted


def chains(graph: GradGraph, monkeypatch: pytest.MonkeyPatch, **wish: object) -> list[tuple[int, ...]]:
    """The chains, as node numbers, of a graph that is drawn node by node."""
    monkeypatch.setattr(module, "MOST_BOXES_APART", 0)
    return [tuple(key.number for key in stack.chain) for stack in stacks(scene_of(graph, expand="raw", **wish))]


def graph(*edges: tuple[int, int], outputs: tuple[int, ...], custom: int = -1) -> GradGraph:
    """A graph whose first node is a leaf; edges lead from the earlier node to the later one."""
    count = 1 + max(later for _, later in edges)
    nodes = [Node("AccumulateGrad", "leaf")]
    nodes += [Node(f"Op{k}Backward0", "custom" if k == custom else "function", seq=k) for k in range(1, count)]
    slots: dict[int, int] = {}
    made = []
    for earlier, later in edges:
        slots[later] = slots.get(later, -1) + 1
        made.append(Edge(later, earlier, (slots[later],), (0,)))
    ends = [Output(f"y{k}", number, 0, (), "float64") for k, number in enumerate(outputs)]
    return GradGraph(nodes, sorted(made), outputs=ends).check()


def test_a_row_is_one_chain_without_leaf_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    row = graph((0, 1), (1, 2), (2, 3), outputs=(3,))
    assert chains(row, monkeypatch) == [(1, 2, 3)]


def test_where_two_read_one_the_chain_ends_and_where_one_reads_two_another_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diamond = graph((0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (4, 6), (5, 6), (6, 7), outputs=(7,))
    assert chains(diamond, monkeypatch) == [(1, 2), (3, 4), (6, 7)]


def test_an_output_in_the_middle_ends_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chains(graph((0, 1), (1, 2), (2, 3), outputs=(2, 3)), monkeypatch) == [(1, 2)]


def test_the_box_that_was_asked_for_stands_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    row = graph((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), outputs=(5,))
    assert chains(row, monkeypatch, focus=3, radius=9) == [(1, 2), (4, 5)]


def test_functions_of_the_user_are_stacked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chains(graph((0, 1), (1, 2), (2, 3), outputs=(3,), custom=2), monkeypatch) == [(1, 2, 3)]


def beside(scene: Scene) -> dict[str, list[str]]:
    """What stands beside which box, by title; "*" marks what an earlier iteration carries on."""
    titles = {box.key: box.title for box in scene.boxes}
    return {
        titles[key]: [titles[arrow.earlier] + "*" * arrow.carried for arrow in arrows]
        for stack in stacks(scene)
        for key, arrows in stack.beside.items()
    }


def test_a_leaf_that_nothing_else_reads_stands_beside_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BOXES_APART", 0)
    names = {"x": torch.ones(3, requires_grad=True), "w": torch.ones(3, requires_grad=True)}
    once = (torch.sin(names["x"]) * names["w"]).sum()
    assert beside(scene_of(capture(once, names))) == {"Sin": ["x"], "Mul": ["w"]}
    twice = (torch.sin(names["x"]) * names["w"] * names["w"]).sum()
    assert beside(scene_of(capture(twice, names))) == {"Sin": ["x"]}


def test_what_a_frame_shares_keeps_its_arrow_and_what_is_carried_to_a_stack_stands_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_BOXES_APART", 0)
    scene = scene_of(graph_of(lambda: weighted(6)))
    ops = [[scene.graph.nodes[key.number].op for key in stack.chain] for stack in stacks(scene)]
    assert ["TanhBackward0", "MulBackward0", "ExpBackward0"] in ops
    assert beside(scene)["Tanh"] == ["Sin*"]
    arrows = [arrow for stack in stacks(scene) for arrows in stack.beside.values() for arrow in arrows]
    [weights] = [arrow.earlier for arrow in arrows if scene.graph.nodes[arrow.later.number].op == "MulBackward0"]
    assert {box.key: box.nodes for box in scene.boxes}[weights] == 6
    assert "Add" not in beside(scene)


def check(scene: Scene) -> None:
    kinds = {box.key: box.kind for box in scene.boxes}
    copies = long_arrows(scene)
    gone = [arrow.ends for stack in stacks(scene) for arrows in stack.beside.values() for arrow in arrows]
    assert len(gone) == len(set(gone))
    assert len({key for stack in stacks(scene) for key in stack.chain}) == sum(len(s.chain) for s in stacks(scene))
    for chain, others in stacks(scene):
        assert len(chain) >= 2 or others
        assert len({key.frames for key in chain}) == 1
        assert {kinds[key] for key in chain} <= {"function", "custom"}
        for one, other in pairwise(chain):
            assert [arrow.later for arrow in scene.arrows if arrow.earlier == one] == [other]
            apart = [arrow for arrow in scene.arrows if arrow.later == other and arrow.ends not in gone]
            assert [arrow.earlier for arrow in apart] == [one]
        for key, arrows in others.items():
            assert key in chain
            for arrow in arrows:
                assert arrow.later == key
                assert arrow.around == key.frames
                uses = [each for each in scene.arrows if each.earlier == arrow.earlier]
                alone = kinds[arrow.earlier] == "leaf" and uses == [arrow]
                assert alone or arrow.ends in copies or (arrow.carried and key == chain[0])


def test_no_arrow_and_no_frame_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BOXES_APART", 0)
    wasteful = captured(lambda: lesson_loss("wasteful", n=6))
    found = 0
    for program in (wasteful, graph_of(nested_loops)):
        for expand in ("none", "all", "raw", "first,last"):
            scene = scene_of(program, expand=expand)
            check(scene)
            found += len(stacks(scene))
    scene = scene_of(graph_of(lambda: weighted(30)))
    check(scene)
    check(scene_of(graph_of(lambda: weighted(30)), expand="raw"))
    assert found > 10


def test_small_pictures_keep_their_arrows() -> None:
    edges = [(k, k + 1) for k in range(39)]
    assert stacks(scene_of(graph(*edges[:-1], outputs=(38,)), expand="raw")) == ()  # 40 boxes
    assert len(stacks(scene_of(graph(*edges, outputs=(39,)), expand="raw"))) == 1

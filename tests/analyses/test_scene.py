"""A scene stands for every node and every edge of its graph once, however much of it is unrolled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphlens.analyses.fold import FoldedGraph, Group, fold
from graphlens.analyses.fold.labels import short_op
from graphlens.analyses.scene import Expansion, Scene, SceneArrow, build_scene, compact_label, group_names
from graphlens.graph import GradGraph
from graphlens.views.scene_text import arrow_remark
from tests.builders import captured, lesson_loss, programs, small_graph
from tests.drawing import ensemble, graph_of, loop, nested_loops

GRAPHS = {
    "small": small_graph(),
    "wasteful": captured(lambda: lesson_loss("wasteful", n=6)),
    "efficient": captured(lambda: lesson_loss("efficient", n=6)),
    "severed": captured(lambda: lesson_loss("severed", n=6)),
    "nested": graph_of(nested_loops),
    "ensemble": graph_of(lambda: ensemble()[0]),
}


def expansions(folded: FoldedGraph, *, depth: bool = True) -> st.SearchStrategy[Expansion]:
    some = st.frozensets(st.sampled_from(range(len(folded.groups)))) if folded.groups else st.just(frozenset())
    depths = st.sampled_from([None, 0, 1, 2]) if depth else st.none()
    return st.builds(Expansion, some, some, depths)


def flow(scene: Scene) -> int:
    return sum(arrow.edges for arrow in scene.arrows if arrow.later.what != "output")


def check_totals(graph: GradGraph, scene: Scene) -> None:
    rows = graph.saved_by_node()
    boxes = [box for box in scene.boxes if box.kind != "output"]
    assert sum(box.nodes for box in boxes) == len(graph)
    assert sum(box.storage_bytes for box in boxes) == sum(row.storage_bytes for row in rows)
    assert sum(box.unknown for box in boxes) == sum(row.unknown for row in rows)
    for frame in scene.frames:
        inside = [box for box in boxes if box.key.frames[: len(frame.frames)] == frame.frames]
        assert (frame.nodes, frame.storage_bytes) == (
            sum(box.nodes for box in inside), sum(box.storage_bytes for box in inside)
        )  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_boxes_and_frames_add_up_to_the_graph(name: str, data: st.DataObject) -> None:
    folded = fold(GRAPHS[name])
    check_totals(GRAPHS[name], build_scene(folded, data.draw(expansions(folded))))


@settings(max_examples=40, deadline=None)
@given(program=programs(), data=st.data())
def test_boxes_of_random_programs_add_up(program, data: st.DataObject) -> None:
    graph = captured(program)
    folded = fold(graph)
    check_totals(graph, build_scene(folded, data.draw(expansions(folded))))


@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_edge_is_in_one_arrow_where_nothing_is_closed(name: str, data: st.DataObject) -> None:
    folded = fold(GRAPHS[name])
    expansion = data.draw(expansions(folded, depth=False))
    scene = build_scene(folded, Expansion(expansion.unrolled))

    assert flow(scene) == len(GRAPHS[name].edges)


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_within_one_iteration_of_a_closed_box_are_not_drawn_and_all_others_are(name: str) -> None:
    graph = GRAPHS[name]
    folded = fold(graph)
    own = {}  # the outermost iteration of each node, from the folded graph alone
    for group in folded.groups:
        if group.parent is None:
            for leaf in leaves_below(folded, group):
                first = min(edge.source for edge in graph.edges if edge.target == leaf)
                own[leaf] = folded.path(first)[0]
    for number, node in enumerate(graph.nodes):
        if node.kind != "leaf" and folded.path(number):
            own[number] = folded.path(number)[0]
    inside = sum(edge.source in own and own[edge.source] == own.get(edge.target) for edge in graph.edges)

    scene = build_scene(folded, Expansion(depth=0))

    assert flow(scene) + inside == len(graph.edges)
    assert scene.frames == ()


def leaves_below(folded: FoldedGraph, group: Group) -> list[int]:
    leaves: list[int] = []
    for item in group.body:
        if isinstance(item, Group):
            leaves += leaves_below(folded, item)
        elif folded.graph.nodes[item.node].kind == "leaf":
            leaves += folded.members[item.node]
    return leaves


@pytest.mark.parametrize("name", GRAPHS)
def test_unrolled_whole_a_scene_is_the_graph(name: str) -> None:
    graph = GRAPHS[name]
    folded = fold(graph)
    scene = build_scene(folded, Expansion(unrolled=frozenset(range(len(folded.groups)))))
    first = {box.key: box.first for box in scene.boxes}

    functions = [box for box in scene.boxes if box.kind != "output"]
    assert sorted(box.first for box in functions) == list(range(len(graph)))
    pairs = [(first[arrow.later], first[arrow.earlier]) for arrow in scene.arrows if arrow.later.what != "output"]
    assert sorted(pairs) == [(edge.source, edge.target) for edge in graph.edges]
    assert not any(arrow.carried for arrow in scene.arrows)


def test_folded_once_a_loop_is_one_frame_with_its_count() -> None:
    scene = build_scene(fold(graph_of(lambda: loop(9))))

    [frame] = scene.frames
    assert (frame.count, frame.nodes) == (9, 18)
    assert [(box.title, box.nodes) for box in scene.boxes if box.key.frames] == [("Mul", 9), ("Sin", 9)]
    [carried] = [arrow for arrow in scene.arrows if arrow.carried]
    assert carried.edges == 8
    assert carried.earlier.frames == carried.later.frames == frame.frames


def test_first_and_last_leave_one_box_for_the_iterations_between() -> None:
    scene = build_scene(fold(graph_of(lambda: loop(9))), Expansion(ends=frozenset({0})))

    assert [frame.frames[-1].iteration for frame in scene.frames] == [0, 8]
    [middle] = [box for box in scene.boxes if box.kind == "middle"]
    assert (middle.nodes, middle.count, middle.skipped) == (14, 7, 1)
    assert flow(scene) + 13 == len(scene.graph.edges)  # 7 mul to sin and 6 sin to mul lie in the middle


def test_first_and_last_of_two_iterations_leave_nothing_between() -> None:
    graph = graph_of(lambda: ensemble_of_two())
    scene = build_scene(fold(graph), Expansion(ends=frozenset({0})))

    assert [box.kind for box in scene.boxes if box.kind == "middle"] == []
    assert flow(scene) == len(graph.edges)


def ensemble_of_two() -> torch.Tensor:
    members = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)) for _ in range(2)]
    return torch.stack([member(torch.ones(2, 4)) for member in members]).sum()


def test_a_closed_group_is_one_box_with_its_count() -> None:
    scene = build_scene(fold(graph_of(lambda: loop(9))), Expansion(depth=0))

    [closed] = [box for box in scene.boxes if box.kind == "closed"]
    assert (closed.nodes, closed.count, closed.skipped) == (18, 9, 0)


def test_depth_keeps_the_outer_frames() -> None:
    folded = fold(GRAPHS["nested"])
    scene = build_scene(folded, Expansion(depth=1))

    assert {len(frame.frames) for frame in scene.frames} == {1}
    assert {len(box.key.frames) for box in scene.boxes if box.kind == "closed"} == {1}


def test_one_group_is_unrolled_and_the_other_stays_folded() -> None:
    folded = fold(GRAPHS["wasteful"])
    chain = next(group for group in folded.groups if group.count == 6)
    scene = build_scene(folded, Expansion(unrolled=frozenset({chain.number})))

    assert sum(frame.frames == ((chain.number, k),) for frame in scene.frames for k in range(6)) == 6
    assert all(
        frame.frames[-1].iteration is None for frame in scene.frames if frame.frames[-1].group != chain.number
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_carried_arrows_stay_in_a_group_that_is_drawn_once(name: str) -> None:
    scene = build_scene(fold(GRAPHS[name]))
    for arrow in scene.arrows:
        if arrow.carried:
            assert arrow.around
            assert arrow.around[-1].iteration is None


def remarks(graph: GradGraph) -> dict[tuple[str, str], str]:
    scene = build_scene(fold(graph))
    titles = {box.key: box.title for box in scene.boxes}
    return {
        (titles[arrow.earlier], titles[arrow.later]): arrow_remark(arrow)
        for arrow in scene.arrows
        if not arrow.carried and arrow_remark(arrow)
    }


def test_one_each_and_from_all() -> None:
    def program() -> torch.Tensor:
        parts = torch.ones(4, requires_grad=True).unbind()
        return torch.stack([part.tanh().exp() for part in parts])

    assert remarks(graph_of(program)) == {("Unbind", "Tanh"): "one each", ("Exp", "Stack"): "from all 4"}


def test_from_the_first_two_of_three() -> None:
    def program() -> torch.Tensor:  # as query, key and value in attention
        query, key, value = [part.view(2, 2).t() for part in torch.ones(12, requires_grad=True).split(4)]
        return ((query @ key).softmax(1) @ value).sum()

    assert remarks(graph_of(program)) == {
        ("Split", "View"): "one each",
        ("T", "Mm"): "from iterations 1 and 2",
    }


def test_what_goes_on_inside_a_closed_box_is_not_carried_by_it() -> None:
    graph = GRAPHS["nested"]
    folded = fold(graph)
    scene = build_scene(folded, Expansion(depth=0))

    outer = folded.groups[0]
    assert outer.count == 6
    [arrow] = [a for a in scene.arrows if a.carried and a.earlier.number == outer.number]
    assert arrow.edges == 5  # from each round of the outer loop to the next one; the inner loop carries 18 more


def test_what_all_three_read_alike_in_every_layer_is_not_one_each() -> None:
    def program() -> torch.Tensor:
        x = torch.randn(2, 4, requires_grad=True)
        for _ in range(5):
            x = x.softmax(1)
            x = torch.stack([torch.nn.Linear(4, 4)(x).relu() for _ in range(3)]).mean(0)
        return x.sum()

    scene = build_scene(fold(graph_of(program)))
    into = [arrow for arrow in scene.arrows if arrow.entered_count == 3 and arrow.edges > 3]
    assert into  # the three maps are a group inside the layers
    assert not any(arrow.one_each for arrow in into)


def test_the_last_iteration_and_what_all_share_need_no_words() -> None:
    assert remarks(graph_of(lambda: loop(5))) == {}


@pytest.mark.parametrize(
    ("left", "entered", "one_each", "words"),
    [
        ({5}, {0}, False, ""),
        ({2}, {0}, False, "from iteration 3"),
        ({0, 1}, {0, 1, 2}, True, "from iterations 1 and 2, one each"),
        ({1, 2, 3}, set(), False, "from iterations 2 … 4"),
        ({0, 2, 4}, set(), False, "from 3 of 6 iterations"),
        (set(range(6)), {2}, False, "from all 6, to iteration 3"),
        (set(), {1, 2}, False, "to iterations 2 and 3"),
    ],
)
def test_words_of_an_arrow(left: set[int], entered: set[int], one_each: bool, words: str) -> None:
    key = build_scene(fold(small_graph())).boxes[0].key
    arrow = SceneArrow(key, key, False, None, 1, entered, 3, left, 6, one_each=one_each)
    assert arrow_remark(arrow) == words


def test_groups_go_by_their_label_and_by_their_place() -> None:
    _, members = ensemble()
    names = group_names(fold(graph_of(lambda: torch.stack([m(torch.ones(2, 4)) for m in members]).sum(),
                                      **{f"net.{name}": p for name, p in members.named_parameters()})))  # fmt: skip
    assert names == {"net.0 … net.5": {0}, "net.0…5": {0}, "1": {0}}


@pytest.mark.parametrize(
    ("label", "compact"),
    [
        ("h.0.ln.weight … h.11.ln.weight", "h.0…11.ln.weight"),
        ("h.0 … g.1.x", "h.0 … g.1.x"),
        ("Mv · LinalgInvEx", "Mv · LinalgInvEx"),
        ("", ""),
    ],
)
def test_compact_labels(label: str, compact: str) -> None:
    assert compact_label(label) == compact


@pytest.mark.parametrize(
    ("op", "short"), [("MvBackward0", "Mv"), ("Own", "Own"), ("Backward", "Backward"), ("OwnBackward", "Own")]
)
def test_short_ops(op: str, short: str) -> None:
    assert short_op(op) == short

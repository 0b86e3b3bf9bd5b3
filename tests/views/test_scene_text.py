"""Scenes in words, whole, from hand-made programs."""

from __future__ import annotations

import torch

from graphlens.analyses.scene import SceneBox
from graphlens.capture.build import capture
from graphlens.views.scene_text import describe, iterations_text, scene_text
from tests.builders import captured, lesson_loss, small_graph
from tests.drawing import ensemble, graph_of, loop, scene_of


def attention() -> torch.Tensor:
    query, key, value = [part.view(2, 2).t() for part in torch.ones(12, requires_grad=True).split(4)]
    return ((query @ key).softmax(1) @ value).sum()


def test_a_plain_graph() -> None:
    assert scene_text(scene_of(small_graph()), "small") == (
        "small: 5 nodes, at least 4.14 kB saved, drawn as 6 boxes\n"
        "\n"
        "1. w [2, 3] parameter\n"
        "2. x [3] input\n"
        "3. Mv [2] ← 1 w, 2 x\n"
        "4. Own [2] ← 3 Mv\n"
        "5. CopySlices [2] ← 1 w, 4 Own\n"
        "6. loss [2] ← 5 CopySlices\n"
    )


def test_a_loop_is_indented_and_says_what_is_carried() -> None:
    assert scene_text(scene_of(graph_of(lambda: loop(4)))).splitlines()[2:] == [
        "1. (unnamed) [3]",
        "2. (unnamed) [3]",
        "× 4 Mul · Sin  (8 nodes, 108 B)",
        "  3. Mul [3] ← 1 (unnamed), 2 (unnamed), 4 Sin (carried)",
        "  4. Sin [3] ← 3 Mul",
        "5. Sum [] ← 4 Sin",
        "6. output [] ← 5 Sum",
    ]


def test_which_iterations_are_read() -> None:
    lines = scene_text(scene_of(graph_of(attention))).splitlines()
    assert "  3. View [2, 2] ← 2 Split (one each)" in lines
    assert "5. Mm [2, 2] ← 4 T (from iterations 1 and 2)" in lines
    assert "7. Mm [2, 2] ← 4 T, 6 Softmax" in lines  # from the last one


def test_first_last_and_closed() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=50))
    ends = scene_text(scene_of(graph, expand="first,last"))
    assert "iteration 1 of Mv · LinalgInvEx · Mv  (3 nodes, 480 B)" in ends
    assert "iterations 2 … 49  (144 nodes)" in ends
    assert "× 50  (150 nodes)" in scene_text(scene_of(graph, depth=0))


def test_a_part_says_of_what() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=50))
    text = scene_text(scene_of(graph, focus=20, radius=1), "wasteful")
    assert text.startswith(f"wasteful: 3 of {len(graph)} nodes, at most 1 edge from node 20, ")


def test_iterations() -> None:
    key = scene_of(small_graph()).boxes[0].key
    words = [
        iterations_text(SceneBox(key, "closed", "", None, 0, count=count, skipped=skipped))
        for count, skipped in ((10_000, 0), (9_998, 1), (1, 1))
    ]
    assert words == ["× 10,000", "iterations 2 … 9,999", "iteration 2"]


def test_every_number_that_is_read_is_that_of_a_box_of_that_name() -> None:
    loss, members = ensemble()
    scene = scene_of(capture(loss, dict(members.named_parameters())))
    titles, reads = {}, []
    for line in scene_text(scene).splitlines()[2:]:
        head, _, tail = line.strip().partition(" ← ")
        number, _, rest = head.partition(". ")
        if number.isdecimal():
            titles[number] = rest.split(" ")[0]
            reads += [piece.split(" ")[:2] for piece in tail.split(", ") if tail]
    assert len(titles) == len(scene.boxes)
    assert reads
    assert all(titles[number] == title for number, title in reads)


def test_the_description_counts_and_names() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=50))
    assert describe(scene_of(graph), "wasteful") == (
        "Backward graph of wasteful: 165 nodes, 14.7 kB saved, drawn as 17 boxes. Leaves: 3 unnamed. "
        "A frame stands for 50 repeats of Mv · LinalgInvEx · Mv, 150 nodes in all. "
        "A frame stands for 3 repeats of Add, 3 nodes in all. "
        "1 arrow leads from one repeat to the next. Output: output."
    )
    assert "Leaves: w, x." in describe(scene_of(small_graph()), "small")
    assert "Output" not in describe(scene_of(graph, focus=30), "wasteful")

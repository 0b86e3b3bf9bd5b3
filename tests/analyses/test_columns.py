"""Columns side by side: every box in one of them, in forward order, cut where few arrows cross."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphlens.analyses.columns import columns, cut_arrows
from graphlens.analyses.scene import Scene
from graphlens.analyses.stacks import stacks
from tests.builders import captured, lesson_loss
from tests.drawing import ensemble, graph_of, nested_loops, scene_of, weighted

SCENES = {
    "wasteful": lambda: scene_of(captured(lambda: lesson_loss("wasteful", n=30))),
    "nested": lambda: scene_of(graph_of(nested_loops)),
    "raw": lambda: scene_of(graph_of(nested_loops), expand="raw"),
    "weighted": lambda: scene_of(graph_of(lambda: weighted(12)), expand="all"),
    "ensemble": lambda: scene_of(graph_of(lambda: ensemble()[0])),
}


@pytest.fixture(params=[(name, count, dense) for name in SCENES for count in (2, 3, 4) for dense in (False, True)])
def scene(request: pytest.FixtureRequest) -> Scene:
    name, count, dense = request.param
    return replace(SCENES[name](), columns=count, dense=dense)


def test_each_box_has_a_column_and_functions_stand_in_forward_order(scene: Scene) -> None:
    place = columns(scene)
    stacked = {key for stack in stacks(scene) for key in stack.chain[1:]}

    assert place.keys() == {box.key for box in scene.boxes}
    assert set(place.values()) <= set(range(scene.columns))
    row = [place[box.key] for box in scene.boxes if box.kind != "leaf" and box.key not in stacked]
    assert row == sorted(row)


def test_what_touches_stays_together_and_a_leaf_stands_with_its_first_reader(scene: Scene) -> None:
    place = columns(scene)
    for stack in stacks(scene):
        assert len({place[key] for key in stack.chain}) == 1
    order = {box.key: number for number, box in enumerate(scene.boxes)}
    for box in scene.boxes:
        readers = [arrow.later for arrow in scene.arrows if arrow.earlier == box.key]
        if box.kind == "leaf" and readers:
            assert place[box.key] == place[min(readers, key=order.__getitem__)]


def test_an_arrow_is_cut_just_where_its_ends_stand_apart_or_its_leaf_is_drawn_again(scene: Scene) -> None:
    place = columns(scene)
    cut = cut_arrows(scene, place)
    kinds = {box.key: box.kind for box in scene.boxes}
    apart = {arrow.ends for arrow in scene.arrows if place[arrow.earlier] != place[arrow.later]}
    again = {earlier for earlier, _, _ in apart if kinds[earlier] == "leaf"}

    assert apart <= cut
    assert {earlier for earlier, _, _ in cut - apart} <= again
    assert all((arrow.ends in cut) == (arrow.earlier in again or arrow.ends in apart) for arrow in scene.arrows)


def test_one_column_holds_all() -> None:
    assert set(columns(SCENES["nested"]()).values()) == {0}


def test_a_long_row_is_cut_into_equal_parts() -> None:
    scene = replace(scene_of(graph_of(nested_loops), expand="raw"), columns=4)
    sizes = [list(columns(scene).values()).count(number) for number in range(4)]
    assert sum(sizes) == len(scene.boxes)
    assert max(sizes) < 2 * min(sizes)

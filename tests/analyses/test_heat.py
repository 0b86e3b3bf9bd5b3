"""Pictures shaded by numbers of one's own: shares against sums made here, of folded graphs and parts of graphs."""

from __future__ import annotations

import math
import re

import pytest

import graphlens
from graphlens.analyses.heat import NodeColumn, heat_of
from graphlens.analyses.scene import Scene
from graphlens.errors import DrawError, MeasureError
from graphlens.graph import GradGraph
from graphlens.views.heat import amount_text, heat_legend, share_text, warmth
from tests.builders import captured, lesson_loss, small_graph
from tests.drawing import scene_of, texts

GRAPH = captured(lambda: lesson_loss("wasteful", n=40))
# Signs alternate, so that within each folded box nearly all cancels; every seventh node was not measured.
VALUES = {n: (-1) ** n * (n + 0.5) for n in range(len(GRAPH)) if n % 7 and GRAPH.nodes[n].kind != "leaf"}
ERROR = NodeColumn("rounding error", "of the output", VALUES)


def column(scene: Scene) -> dict[str, float]:
    return {f"{box.title} {box.first}": box.heat for box in scene.boxes if box.heat is not None}


@pytest.mark.parametrize("wish", [{}, {"depth": 0}, {"expand": "first,last"}, {"expand": "all"}, {"focus": 60}])
def test_a_box_sums_the_magnitudes_of_its_nodes(wish: dict[str, object]) -> None:
    scene = scene_of(GRAPH, ERROR, **wish)
    drawn = range(len(GRAPH)) if scene.extract is None else scene.extract.nodes

    assert sum(column(scene).values()) == pytest.approx(sum(abs(VALUES[n]) for n in drawn if n in VALUES), rel=1e-12)
    functions = [n for n in drawn if GRAPH.nodes[n].kind != "leaf"]
    assert sum(box.cold for box in scene.boxes) == sum(n not in VALUES for n in functions)
    for box in scene.boxes:
        if box.kind in ("function", "custom") and box.nodes == 1:
            assert box.heat == (abs(VALUES[scene.number(box)]) if scene.number(box) in VALUES else None)
    for frame in scene.frames:
        inside = [box.heat or 0 for box in scene.boxes if box.key.frames[: len(frame.frames)] == frame.frames]
        assert frame.heat == pytest.approx(sum(inside), rel=1e-12)


def test_the_picture_states_each_share_and_the_whole() -> None:
    picture = graphlens.render(GRAPH, heat=ERROR)
    whole = sum(map(abs, VALUES.values()))
    assert round(whole, -1) == 7_770
    [inverse] = [box for box in picture.scene.boxes if box.title == "LinalgInvEx" and box.nodes == 40]
    share = f"{100 * sum(abs(VALUES.get(n, 0)) for n in nodes_of('LinalgInvExBackward0')) / whole:.1f} %"

    assert inverse.cold == sum(n not in VALUES for n in nodes_of("LinalgInvExBackward0"))
    for told in (texts(picture.svg), picture.text):
        assert "the share of all rounding error, in percent; all: 7,770 of the output" in told
        assert share in told
        assert f"{inverse.cold} not measured" in told
    assert "Shaded by the share of all rounding error." in picture.svg


def nodes_of(op: str) -> list[int]:
    return [n for n, node in enumerate(GRAPH.nodes) if node.op == op][:40]


def test_nothing_measured_but_zero_is_no_share_and_no_division_by_zero() -> None:
    picture = graphlens.render(GRAPH, heat=NodeColumn("rounding error", "", dict.fromkeys(range(len(GRAPH)), 0.0)))
    assert "all: 0" in picture.text
    assert "%" not in picture.text.partition("all: 0")[2]
    assert set(re.findall(r"gl-heat\d", picture.dot)) == {"gl-heat0"}


def test_what_is_made_from_the_graph_itself() -> None:
    assert sum(heat_of(GRAPH, "count").values.values()) == len(GRAPH)
    assert sum(heat_of(GRAPH, "bytes").values.values()) == sum(row.storage_bytes for row in GRAPH.saved_by_node())
    assert heat_of(GRAPH, None) is None
    with pytest.raises(MeasureError, match="shading by time"):
        heat_of(small_graph(), "time")


def test_time_is_that_of_both_passes_where_both_were_measured() -> None:
    def timed(forward: int | None, backward: int | None) -> NodeColumn:
        nodes = [node._replace(forward_ns=forward, backward_ns=backward) for node in GRAPH.nodes]
        column = heat_of(GradGraph(nodes, GRAPH.edges, GRAPH.saved, GRAPH.inputs, GRAPH.outputs, GRAPH.meta), "time")
        assert column is not None
        return column

    assert timed(30, 12).title == "time of both passes"
    assert set(timed(30, 12).values.values()) == {42}
    assert set(timed(None, 12).values.values()) == {12}
    assert timed(30, None).title == "forward time, measured once"
    assert set(timed(30, None).values.values()) == {30}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({-1: 1.0}, "error is given for node -1, and the graph has none of that number"),
        ({5: 1.0}, "error is given for node 5, and the graph has none"),
        ({2: math.nan}, "error of node 2 is nan; leave out what was not measured"),
        ({3: math.inf}, "error of node 3 is inf"),
    ],
)
def test_numbers_that_cannot_be_those_of_the_nodes_are_refused(values: dict[int, float], message: str) -> None:
    with pytest.raises(DrawError, match=message):
        graphlens.render(small_graph(), heat=NodeColumn("error", "", values))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1, "nodes", "1 node"), (2_800_000, "bytes", "2.80 MB"), (12e6, "ns", "12.0 ms"), (3.21e-9, "m", "3.21e-09 m")],
)
def test_amounts_have_their_units(value: float, unit: str, text: str) -> None:
    assert amount_text(value, NodeColumn("something", unit, {})) == text


def test_signs_are_kept_where_they_matter() -> None:
    signed = NodeColumn("contributions", "", VALUES, total=2.0)
    scene = scene_of(GRAPH, signed)

    for box in scene.boxes:
        if box.heat is None:
            continue
        assert share_text(box, scene, 99.0) == (
            "< 0.1 % net" if abs(50 * box.net) < 0.05 else f"{50 * box.net:.1f} % net"
        )
        assert warmth(box, scene.heat) == abs(box.net) <= box.heat
    total = sum(value for node, value in VALUES.items())
    assert sum(box.net for box in scene.boxes) == pytest.approx(total)
    for frame in scene.frames:
        inside = [box.net for box in scene.boxes if box.key.frames[: len(frame.frames)] == frame.frames]
        assert frame.net == pytest.approx(sum(inside))
    assert heat_legend(signed, 99.0, False)[0] == "In percent: contributions, with their signs; 100 % are 2.00"
    assert heat_legend(signed, 99.0, True)[-1].endswith("were not measured")

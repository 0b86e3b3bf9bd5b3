"""What `graphlens memory` prints and plots, for hand-made numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from graphlens.analyses.memory import Alive, Growth, Memory, memory_of
from graphlens.views.cost_document import memory_document
from graphlens.views.memory_plot import plot_memory, thinned
from graphlens.views.memory_report import memory_report, objects_bytes
from tests.analyses.test_memory import KEYS, graph_of

MEMORY = Memory(
    views=6_800_000,
    storages=2_800_440,
    storage_count=30_007,
    anyway=440,
    kept=2_800_000,
    unknown=0,
    forward=(1_000_000, 2_800_000),
    backward=(2_800_000, 1_000_000, 0, 0),
    gradients=(0, 0, 0, 3_000_000),
    peak=3_000_000,
    peak_step=3,
    by="op",
    rows=(Alive("LinalgInvExBackward0", 10_001, 2_000_000), Alive("MvBackward0", 20_001, 800_000)),
)
GROWTH = Growth(45_600_000.4, 45_500_000.0, 45_700_000.0, 5, 2)

REPORT = """\
lesson

saved for backward, as views                       6.80 MB
as 30,007 distinct storages                        2.80 MB
  in memory anyway (parameters, inputs, buffers)     440 B
  kept for backward alone (activations)            2.80 MB
the process grew by                                45.6 MB
  nodes, tensor objects, the allocator's rounding  42.8 MB
    for each node                                  7.13 MB

The growth of a fresh process for each forward pass, its graph kept: median of 5
times 2 passes, 45.5 MB to 45.7 MB.
What is kept for backward alone is at its peak of 2.80 MB when the forward pass
ends; backward frees a storage once the last node that saves it has run. The
table says which nodes save it first.
With the gradients that have reached their leaves it is at most 3.00 MB, when
the backward pass ends. Gradients on their way are not counted.

op                    storages     kept    share
LinalgInvExBackward0    10,001  2.00 MB   71.4 %
MvBackward0             20,001   800 kB   28.6 %
total                   30,002  2.80 MB  100.0 %

Next: graphlens memory lesson --by source
      graphlens memory lesson -o memory.svg
"""


STEPS = ["graphlens memory lesson --by source", "graphlens memory lesson -o memory.svg"]


def test_the_report() -> None:
    assert memory_report("lesson", graph_of(), MEMORY, GROWTH, steps=STEPS) == REPORT


def flat(memory: Memory, growth: Growth, **options: str) -> str:
    return " ".join(memory_report("lesson", graph_of(), memory, growth, **options).split())


def test_what_was_not_measured_says_why() -> None:
    text = flat(MEMORY, Growth(reason="this system has no /proc"), notes=("predicted without data",))

    assert "lesson predicted without data" in text
    assert "the process grew by not measured" in text
    assert "What the process grows by was not measured: this system has no /proc." in text
    assert "nodes, tensor objects" not in text


def test_lower_bounds_are_marked() -> None:
    text = flat(replace(MEMORY, unknown=3), GROWTH)

    assert "as 30,007 distinct storages ≥ 2.80 MB" in text
    assert "The sizes are lower bounds: what 3 of the nodes and tensors keep has no size that can be seen." in text
    assert "total 30,002 ≥ 2.80 MB" in text
    assert "nodes, tensor objects" not in text


def test_growth_that_does_not_tell_objects_apart() -> None:
    assert objects_bytes(MEMORY, replace(GROWTH, makes_leaves=True)) is None
    assert "It holds the parameters and inputs too" in flat(MEMORY, replace(GROWTH, makes_leaves=True))
    small = replace(GROWTH, pass_bytes=1000.0)
    assert objects_bytes(MEMORY, small) is None
    assert "That is less than the storages together; why was not measured." in flat(MEMORY, small)


def test_when_the_peak_is() -> None:
    assert "at most 3.00 MB, after 2 of 6 nodes of the backward pass." in flat(replace(MEMORY, peak_step=2), GROWTH)
    assert "at most 3.00 MB, before any has." in flat(replace(MEMORY, peak_step=0), GROWTH)
    assert "gradients" not in flat(replace(MEMORY, gradients=None), GROWTH)


def test_long_tables_end() -> None:
    rows = tuple(Alive(f"op {k}", 1, 10) for k in range(25))

    assert "… and 5 more rows (--json lists them all)" in flat(replace(MEMORY, rows=rows), GROWTH)


def test_the_document() -> None:
    document = memory_document("lesson", MEMORY, GROWTH)

    assert document["saved"]["kept"] == 2_800_000
    assert document["growth"]["objects"] == 42_800_000
    assert document["growth"]["reason"] is None
    assert document["peak_with_gradients"] == {"bytes": 3_000_000, "backward_nodes_run": 3}
    assert document["rows"][1] == {"key": "MvBackward0", "storages": 20_001, "bytes": 800_000}
    assert document["curve"]["backward"] == [2_800_000, 1_000_000, 0, 0]
    assert memory_document("lesson", MEMORY, Growth(reason="why"))["growth"]["bytes"] is None


def test_the_plot_is_described_and_deterministic() -> None:
    memory = memory_of(graph_of(), KEYS, persistent={5})
    svg = plot_memory(memory, "svg", title="Kept by $a_b$ <c>")
    root = ElementTree.fromstring(svg)

    assert svg == plot_memory(memory, "svg", title="Kept by $a_b$ <c>")
    assert plot_memory(memory, "png", title="x") == plot_memory(memory, "png", title="x")
    assert root.get("role") == "img"
    assert root[0].text == "Kept by $a_b$ <c>"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "1.11 kB" in texts
    assert "kept for backward" in texts
    assert plot_memory(replace(memory, kept=0, peak=0, forward=(), backward=(0,), gradients=None, rows=()), "svg",
                       title="empty")  # fmt: skip


def test_long_curves_keep_their_peak() -> None:
    curve = [*range(50_000), *range(50_000, 0, -1)]
    places, values = thinned(curve)

    assert len(places) == len(values) <= 1002
    assert max(values) == max(curve)
    assert (places[0], places[-1], values[-1]) == (0, len(curve) - 1, curve[-1])
    assert thinned([3, 1, 2]) == ([0, 1, 2], [3, 1, 2])


def test_the_last_step_of_each_curve_is_seen() -> None:
    memory = memory_of(graph_of(), KEYS, persistent={5})
    root = ElementTree.fromstring(plot_memory(memory, "svg", title="x"))
    paths = [
        [tuple(map(float, corner)) for corner in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path.get("d", ""))]
        for path in root.iter("{http://www.w3.org/2000/svg}path")
        if re.search("stroke: #(?i:0072b2|d55e00)", path.get("style", "")) and path.get("clip-path")
    ]
    assert len(paths) == 2
    for corners in paths:
        (before, height), (last, same) = [*dict.fromkeys(corners)][-2:]
        assert height == same
        assert last > before + 1

"""What the reports say, held against text for hand-built records."""

from __future__ import annotations

import re

import numpy
import pytest

from graphlens.analyses.comparison import compare_records
from graphlens.analyses.counts import stats
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.records import Gradient, RunRecord, TensorValue, Timing
from graphlens.views.comparison_report import comparison_report
from graphlens.views.run_report import run_report
from graphlens.views.stats_report import stats_csv, stats_report
from graphlens.views.table import break_key
from tests.builders import recorded_graph, small_graph


def tensor(*values: float) -> TensorValue:
    return TensorValue((len(values),), "float64", numpy.array(values), 2.0**-52)


def run(name: str = "lesson", graph: GradGraph | None = None) -> RunRecord:
    graph = graph or small_graph()
    graph.meta.update({"target": name, "options": {"n": 3, "T": 3.14}})
    return RunRecord(
        name,
        graph,
        {"g": tensor(-0.5, 6.893)},
        14.0688268145843,
        "phi",
        {"x": Gradient(tensor(1.0, 2.0)), "A": Gradient(None, "no path of the backward graph leads to it")},
        Timing(0.2656, 0.25, 0.3, 5),
        None,
        2,
        ("g is no scalar and was reduced by .sum()",),
    )


RUN = """\
lesson                                                        float64, 2 threads
n=3 T=3.14
g is no scalar and was reduced by .sum()

g  [2]
  [-0.5    6.893]

phi = 14.0688268146

Gradient of phi with respect to
x  [2]
  [1. 2.]
A  None: no path of the backward graph leads to it

time            median             range
forward         266 ms  250 ms to 300 ms  5 runs after a warm-up
backward  not measured

Next: graphlens stats lesson
      graphlens render lesson -o graph.svg
"""


def test_run() -> None:
    assert run_report(run(), steps=["graphlens stats lesson", "graphlens render lesson -o graph.svg"]) == RUN


STATS = """\
lesson                                                                   float64

grad_fn nodes                              5
edges                                      5
depth (edges on the longest path)          3
saved tensors (references)               ≥ 4
saved for backward (views)            ≥ 96 B
saved for backward (storages)      ≥ 4.14 kB
distinct storages                        ≥ 2

op              nodes  saved   views   storages  share
MvBackward0         1      2    72 B    4.14 kB
AccumulateGrad      2      0     0 B        0 B
CopySlices          1      ?       ?          ?
OwnBackward         1      2  ≥ 24 B          ?
total               5    ≥ 4  ≥ 96 B  ≥ 4.14 kB

Sizes are lower bounds (≥): 2 nodes or tensors show no size, because a hook
packed them or autograd hides them.

leaf  role       shape   uses
w     parameter  [2, 3]     2
x     input      [3]        1

Next: graphlens render lesson -o graph.svg
      graphlens save lesson -o graph.json
"""


def test_stats() -> None:
    graph = small_graph()

    steps = ["graphlens render lesson -o graph.svg", "graphlens save lesson -o graph.json"]
    assert stats_report("lesson", graph, stats(graph), steps=steps) == STATS


BY_SOURCE = """\
source                      nodes  saved  storages    share   forward
lib/scale.py:7 (forward)        2      4     148 B   75.5 %    4.0 µs
net.py:3 (Net.forward)          1      1      24 B   12.2 %    3.0 µs
other/scale.py:9 (forward)      1      2      24 B   12.2 %         ?
(leaves)                        3      0       0 B    0.0 %
(no line recorded)              1      0       0 B    0.0 %         ?
total                           8      7     196 B  100.0 %  ≥ 7.0 µs

forward: wall-clock time of the forward ops that made the nodes, measured once,
while they were recorded; a call that made several nodes gives each an equal
part (stats --cost measures the parts).

Saved results of ops
tensor        storages  tensors  source
float32[2,3]     100 B       ×1  lib/scale.py:7 (forward)
float32[2,3]      24 B       ×1  net.py:3 (Net.forward)
float32[2,3]       0 B       ×1  other/scale.py:9 (forward)
total            124 B       ×3

Saved constants (no gradient goes through them)
tensor        storages  tensors  source
float32[2,3]      24 B       ×1  other/scale.py:9 (forward)
total             24 B       ×1

Saved parameters (in memory anyway)
tensor        storages  tensors  source
float32[2,3]      24 B       ×2  lib/scale.py:7 (forward)
total             24 B       ×2

Saved inputs (in memory anyway)
tensor        storages  tensors  source
float32[2,3]      24 B       ×1  lib/scale.py:7 (forward)
total             24 B       ×1

Tensors are counted as references. Their storages count once, at the first
tensor in forward order that they are seen through; 0 B says that an earlier one
holds them.

"""


def test_stats_by_source() -> None:
    graph = recorded_graph()

    assert BY_SOURCE in stats_report("lesson", graph, stats(graph, "source", tensors=True))


BY_MODULE = """\
module             calls  nodes  saved  storages    share   forward
a.0                    2      3      4     148 B   75.5 %    4.0 µs
(Net)                  1      2      1      24 B   12.2 %    3.0 µs
a.1                    1      1      2      24 B   12.2 %         ?
(inputs)                      1      0       0 B    0.0 %
(outside modules)             1      0       0 B    0.0 %         ?
total                         8      7     196 B  100.0 %  ≥ 7.0 µs
"""


def test_stats_by_module() -> None:
    graph = recorded_graph()

    assert BY_MODULE in stats_report("lesson", graph, stats(graph, "module"))


@pytest.mark.parametrize(
    ("key", "room", "lines"),
    [
        ("model.py:1 (f)", 20, ["model.py:1 (f)"]),
        ("model.py:12345 (forward)", 20, ["model.py:12345", "(forward)"]),
        ("a.b.c.d", 4, ["a.b.", "c.d"]),
        ("unbreakable", 4, ["unbreakable"]),
        ("deep/er/model.py:3 (f)", 10, ["deep/er/", "model.py:3", "(f)"]),
    ],
)
def test_long_paths_and_lines_are_broken_where_one_would(key: str, room: int, lines: list[str]) -> None:
    assert break_key(key, room).split("\n") == lines


def test_stats_by_module_and_source_as_csv() -> None:
    assert stats_csv(stats(recorded_graph(), "module", "key")).splitlines()[:4] == [
        "module,nodes,saved_tensors,saved_bytes,storage_bytes,not_available,calls,forward_ns",
        "(Net),2,1,24,24,0,1,3000",
        "(inputs),1,0,0,0,0,,",
        "(outside modules),1,0,0,0,0,,",
    ]
    assert stats_csv(stats(recorded_graph(), "source", tensors=True)).splitlines()[:2] == [
        "dtype,shape,role,tensors,saved_bytes,storage_bytes,not_available,source",
        'float32,"[2, 3]",intermediate,1,24,100,0,lib/scale.py:7 (forward)',
    ]


def test_stats_as_csv() -> None:
    assert stats_csv(stats(small_graph(), sort="key")) == (
        "op,nodes,saved_tensors,saved_bytes,storage_bytes,not_available\n"
        "AccumulateGrad,2,0,0,0,0\n"
        "CopySlices,1,0,0,0,1\n"
        "MvBackward0,1,2,72,4144,0\n"
        "OwnBackward,1,2,24,0,1\n"
    )


def test_a_freed_graph_has_no_sizes() -> None:
    nodes = [Node("AccumulateGrad", "leaf"), Node("ExpBackward0", seq=0, ledger="freed")]
    graph = GradGraph(nodes, [Edge(1, 0, (0,), (0,))], outputs=[Output("y", 1, 0, (), "float64")]).check()
    text = stats_report("y", graph, stats(graph))

    assert re.search(r"saved for backward \(storages\) +not available\n", text)
    assert "a backward pass has freed the saved tensors" in text
    assert re.search(r"ExpBackward0 +1 +\? +\? +\? +\?", text)
    assert "ExpBackward0,1,,,,1\n" in stats_csv(stats(graph))


COMPARISON = """\
slow against fast                                             float64, 2 threads
n=3 T=3.14

                                          slow              fast  ratio
grad_fn nodes                                5                 5  1.0 ×
edges                                        5                 5  1.0 ×
depth                                        3                 3  1.0 ×
saved tensors (references)                 ≥ 4               ≥ 4
saved for backward (views)              ≥ 96 B            ≥ 96 B
saved for backward (storage)         ≥ 4.14 kB         ≥ 4.14 kB
forward                                 266 ms            266 ms  1.0 ×
  range                       250 ms to 300 ms  250 ms to 300 ms
backward                          not measured      not measured

output  slow   fast      largest difference
g       value  value  equal to the last bit

loss  slow   fast      largest difference
phi   value  value  equal to the last bit

gradient  slow   fast             largest difference
x         value  value  0.50  (0.20 relative, 8 ulp)
A         None   value      the value is at most 3.0
slow: g is no scalar and was reduced by .sum().

Why
  · Both graphs have 5 nodes and 5 edges.
  · The forward pass: no difference can be claimed, the measured ranges overlap.
  · The gradient of x differs by at most 0.50, 8 ulp.
  · The gradient of A is None for slow, which stands for 0: no path; fast gives
    values up to 3.0.

Next: graphlens stats slow
      graphlens render slow -o graph.svg
"""


def other(a: RunRecord, **changes: object) -> RunRecord:
    return RunRecord(**{**{name: getattr(a, name) for name in a.__dataclass_fields__}, **changes})


def test_comparison() -> None:
    coarse = TensorValue((2,), "float64", numpy.array([1.0, 2.5]), 2.0**-5)
    slow = other(run("slow"), gradients={"x": Gradient(tensor(1.0, 2.0)), "A": Gradient(None, "no path")})
    fast = other(run("fast"), gradients={"x": Gradient(coarse), "A": Gradient(tensor(3.0))}, notes=())

    steps = ["graphlens stats slow", "graphlens render slow -o graph.svg"]
    assert comparison_report(compare_records(slow, fast), steps=steps) == COMPARISON


# Whatever the names are, the text stays inside the page

LONG = "a_rather_long_folder/with_a_rather_long_name/and_a_file_in_it.py:build_the_whole_thing"


def long_names() -> GradGraph:
    nodes = [
        Node("AccumulateGrad", "leaf", None, f"transformer.h.{k}.attn.c_attn.a_very_long_name.weight", (768, 2304))
        for k in range(15)
    ]
    nodes.append(Node("ScaledDotProductFlashAttentionForCpuBackward0", seq=0))
    edges = [Edge(15, k, (k,), (0,)) for k in range(15)]
    meta = {"options": {f"option_{k}": "value" * k for k in range(9)}, "dtype": "float64"}
    return GradGraph(nodes, edges, outputs=[Output("y", 15, 0, (), "float64")], meta=meta).check()


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("target", ["lesson", LONG])
def test_no_line_is_wider_than_the_page(width: int, target: str) -> None:
    graph = long_names()
    record = other(
        run(target, graph),
        outputs={LONG: TensorValue((99, 99), "float64", numpy.random.default_rng(0).normal(size=(99, 99)) * 1e-7)},
        gradients={node.name: Gradient(tensor(*[1e300] * 9)) for node in graph.nodes[:-1]}
        | {"none.of.the.transformer.blocks.reaches.this.rather.long.parameter.name": Gradient(None, "why " * 30)},
    )
    for text in (
        stats_report(target, graph, stats(graph), width=width),
        run_report(record, width=width),
        comparison_report(compare_records(record, run("b")), width=width),
    ):
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text


def test_numbers_and_ops_survive_long_names() -> None:
    text = stats_report(LONG, long_names(), stats(long_names()))

    assert "ScaledDotProductFlashAttentionForCpu" in text
    assert "[768, 2304]" in text
    assert "… and 3 more leaves (--json lists them all)" in text


def test_control_characters_of_the_facts_do_not_reach_the_terminal() -> None:
    graph = small_graph()
    graph.meta.update({"dtype": "\x1b[31mred", "options": {"\x1b]0;title\x07": "a\x9b1m\u202eb"}})
    for text in (
        stats_report("t", graph, stats(graph)),
        run_report(RunRecord("t", graph)),
        comparison_report(compare_records(RunRecord("a", graph), RunRecord("b", graph))),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)

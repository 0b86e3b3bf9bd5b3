"""What `graphlens stats --cost` prints, held against text for hand-made costs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from graphlens.analyses.cost import CostTable, cost_table
from graphlens.analyses.findings import Finding, Place
from graphlens.analyses.overhead import Overhead
from graphlens.analyses.overhead_fit import OverheadFit
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.records import CostRun, Machine, Timing
from graphlens.views.cost_document import cost_document
from graphlens.views.cost_report import cost_csv, cost_report, flops_text

MACHINE = Machine(62.4e9, 12.5e9, 1.1e-6, 2)
RUN = CostRun(
    repeats=5,
    plain=Timing(0.2664, 0.25, 0.3, 5),
    hooked=Timing(0.3, 0.28, 0.31, 5),
    coverage=0.9123,
    hook_ns=873.5,
    uncounted={"_linalg_svd": 3, "sort": 1},
    other_ops=1200,
    other_flops=34_000,
    other_moved=5_600,
    before_ns=8_000_000,
    after_ns=10_000_000,
)


def node(op: str, *costs: int | None) -> Node:
    names = ("forward_ns", "backward_ns", "forward_flops", "backward_flops", "forward_moved", "backward_moved")
    return Node(op, **dict(zip(names, costs, strict=True)))  # type: ignore[arg-type]


def graph() -> GradGraph:
    nodes = [
        node("AccumulateGrad", None, 900, None, 0, None, 0)._replace(kind="leaf", name="x"),
        node("MmBackward0", 1_000_000, 2_000_000, 60_000_000, 120_000_000, 8_000, 16_000)._replace(seq=0),
        node("LinalgSvdBackward0", 30_000, 40_000, None, 500, 800, 1_600)._replace(seq=1),
        node("OwnBackward", 1_000, 2_000, None, None, None, 64)._replace(seq=2, kind="custom"),
    ]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(3)]
    meta = {"dtype": "float32", "threads": 2}
    return GradGraph(nodes, edges, outputs=[Output("y", 3, 0, (), "float32")], meta=meta).check()


def costs(machine: Machine | None = MACHINE) -> CostTable:
    return cost_table(graph(), [item.op for item in graph().nodes], machine=machine)


def test_the_report() -> None:
    found = [Finding("GL207", "info", "Much.", Place())]
    steps = ["graphlens render target --heat time -o graph.svg"]
    text = cost_report("target", graph(), costs(), RUN, findings=found, width=100, steps=steps)
    flat = " ".join(text.split())

    assert text.splitlines()[0].endswith("float32, 2 threads")
    assert "MmBackward0 1 1.0 ms 2.0 ms 97.6 % 180 M 24.0 kB compute" in flat
    assert "LinalgSvdBackward0 1 30.0 µs 40.0 µs 2.3 % ≥ 500 2.40 kB overhead" in flat
    assert "OwnBackward 1 1.0 µs 2.0 µs 0.1 % not counted ≥ 64 B" in flat
    assert "AccumulateGrad 1 900 ns < 0.1 % 0 0 B overhead" in flat
    assert "The backward pass takes 266 ms (250 ms to 300 ms) by itself; its nodes' times add up to 91.2 %" in flat
    assert "what the engine does before the first and after the last node to 6.8 %" in flat
    assert "The hook that times a node takes 873 ns, which is subtracted." in flat
    assert "Not counted, for want of a formula: _linalg_svd (3 ×), sort (1 ×)." in flat
    assert "Besides the nodes, 1,200 ops ran without a gradient or inside custom Functions: 34.0 k FLOPs" in flat
    assert "This machine reached 62.4 GFLOP/s on a large product and 12.5 GB/s on a large copy" in flat
    assert "GL207 Much." in flat
    assert text.rstrip().endswith("Next: graphlens render target --heat time -o graph.svg")
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, cost_report("target", graph(), costs(), RUN).splitlines())) <= 80


def test_overhead_is_told_where_it_is_no_finding() -> None:
    fit = OverheadFit(4_200.0, 60.0, 1.2, 0.05, 4_080.0, 4_320.0, 880, 800, 20, 0.031, 0.28, 800.0)
    known = Overhead(1000, 21_000_000, fit)

    def told(overhead: Overhead) -> str:
        return " ".join(cost_report("target", graph(), costs(), RUN, overhead=overhead).split())

    assert (
        "About 20.0 % of the nodes' time in both passes is there whatever they do: 4.2 µs (4.08 to 4.32) a node, "
        "1,000 nodes, 21.0 ms in all. The fit is over 880 nodes: a call differs from it by 28.0 % as a rule; calls "
        "with 3.1 % of the time, off by more than a factor of 4, are left out. Their work takes 1.2 (± 0.1) times what "
        "it needs at this machine's peak." in told(known)
    )
    assert "is not known: the fit of time over nodes and their work does not hold (only 9 calls fit" in told(
        Overhead(1000, 21_000_000, replace(fit, calls=9))
    )
    document = cost_document("target", costs(), RUN, overhead=known)["overhead"]
    assert (document["ns_a_node"], document["share"], document["fault"]) == (4_200.0, 0.2, None)
    assert cost_document("target", costs(), RUN)["overhead"] is None


def test_what_was_not_measured_is_not_said() -> None:
    run = CostRun(5, RUN.plain, RUN.hooked, 1.0, 0.0, {}, 0, 0, 0)
    text = cost_report("target", graph(), costs(None), run)

    for word in ("Not counted", "Besides", "This machine", "overhead", "compute", "engine"):
        assert word not in text


def test_long_tables_end() -> None:
    keys = [f"op {k}" for k in range(40)]
    nodes = [Node("AccumulateGrad", "leaf", name="x")]
    nodes += [node("Mm", 1, 1, 1, 1, 1, 1)._replace(seq=k) for k in range(39)]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(39)]
    many = GradGraph(nodes, edges, outputs=[Output("y", 39, 0, (), "float32")])
    table = cost_table(many, keys, machine=MACHINE)

    assert "… and 10 more rows (--json and --csv list them all)" in cost_report("target", many, table, RUN)
    assert len(cost_csv(table).splitlines()) == 1 + 40 + 1


def test_csv_is_unrounded_and_empty_where_not_known() -> None:
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(cost_csv(costs())))}

    assert rows["MmBackward0"] == {
        "key": "MmBackward0", "nodes": "1", "forward_ns": "1000000", "backward_ns": "2000000", "flops": "180000000",
        "moved": "24000", "uncounted": "0", "unsized": "0", "bound": "compute",
    }  # fmt: skip
    assert rows["OwnBackward"]["flops"] == ""
    assert (rows["OwnBackward"]["moved"], rows["OwnBackward"]["unsized"]) == ("64", "1")
    assert rows["AccumulateGrad"]["forward_ns"] == ""
    assert rows["total"]["backward_ns"] == str(2_000_000 + 40_000 + 2_000 + 900)


def test_the_document() -> None:
    document = cost_document("target", costs(), RUN)
    rows = {row["key"]: row for row in document["rows"]}

    assert rows["OwnBackward"]["flops"] is None
    assert rows["OwnBackward"]["bound"] is None
    assert (rows["OwnBackward"]["nodes_not_counted"], rows["OwnBackward"]["nodes_not_sized"]) == (1, 1)
    assert rows["MmBackward0"]["intensity"] == 180e6 / 24e3
    assert document["backward"]["coverage"] == 0.9123
    assert document["around_ns"] == {"before": 8_000_000, "after": 10_000_000}
    assert document["not_counted"] == {"_linalg_svd": 3, "sort": 1}
    assert document["machine"]["flops"] == 62.4e9


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0"), (640, "640"), (999, "999"), (1_000, "1.00 k"), (999_499, "999 k"), (62_400_000, "62.4 M"),
     (1.2e9, "1.20 G"), (3.4e12, "3.40 T")],
)  # fmt: skip
def test_flops_text(flops: float, text: str) -> None:
    assert flops_text(flops) == text

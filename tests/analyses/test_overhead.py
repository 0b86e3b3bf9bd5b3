"""GL207: overhead by hand."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import pytest

from graphlens.analyses.cost import bound_of, cost_table
from graphlens.analyses.findings import Finding
from graphlens.analyses.overhead import overhead_findings, overhead_of, overhead_text
from graphlens.analyses.overhead_fit import Call, calls_of, fit_overhead
from graphlens.graph import Edge, GradGraph, Node, Output, Source
from graphlens.records import Machine

MACHINE = Machine(flops=1e9, bandwidth=1e9, call=1e-6, threads=1)  # a FLOP or a byte a nanosecond


def chain(costs: list[tuple[int | None, int | None, int | None, int | None]]) -> GradGraph:
    """Nodes with (forward_ns, backward_ns, FLOPs of each pass, bytes of each pass)."""
    nodes = [
        Node("ExpBackward0", seq=k, forward_ns=forward, backward_ns=backward, forward_flops=flops, backward_flops=flops,
             forward_moved=moved, backward_moved=moved)
        for k, (forward, backward, flops, moved) in enumerate(costs)
    ]  # fmt: skip
    return as_graph(nodes)


def as_graph(nodes: list[Node], sources: Sequence[Source] = ()) -> GradGraph:
    whole = [Node("AccumulateGrad", "leaf", name="x"), *nodes]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(len(nodes))]
    return GradGraph(whole, edges, outputs=[Output("y", len(nodes), 0, (), "float32")], sources=sources).check()


def planted(calls: int, *, a_node: float, factor: float, scatter: float, outliers: float = 0.0, seed: int = 0,
            works: tuple[float, float] = (10, 100_000)) -> GradGraph:  # fmt: skip
    """Nodes that take `a_node` ns and `factor` × their work, times a lognormal scatter; some take 12 times that."""
    pick = random.Random(seed)
    costs: list[tuple[int | None, int | None, int | None, int | None]] = []
    for _ in range(calls):
        work = round(works[0] * (works[1] / works[0]) ** pick.random())
        spent = (a_node + factor * 2 * work) * pick.lognormvariate(-(scatter**2) / 2, scatter)
        spent *= 12 if pick.random() < outliers else 1
        costs.append((round(0.4 * spent), round(0.6 * spent), work, work // 3))
    return chain(costs)


def test_by_hand() -> None:
    # 150 nodes of 10 µs whose work needs 160 ns, and one that computes all of its 500 µs:
    # a + 160 b = 10,000 and a + 500,000 b = 500,000.
    found = overhead_of(chain([(4_000, 6_000, 10, 80)] * 150 + [(300_000, 200_000, 250_000, 100)]), MACHINE)

    assert found is not None
    assert (found.nodes, found.total, found.fit.nodes, found.fit.calls, found.fit.others) == (
        151,
        2_000_000,
        151,
        151,
        0,
    )
    assert found.fit.factor == pytest.approx(490_000 / 499_840)
    assert found.fit.a_node == pytest.approx(10_000 - 160 * 490_000 / 499_840)
    assert found.share == pytest.approx(151 * found.fit.a_node / 2_000_000)
    assert (found.fit.deviation, found.fit.left_out) == (pytest.approx(0, abs=1e-9), 0)


@pytest.mark.parametrize("a_node", [900, 6_000, 40_000])
@pytest.mark.parametrize("factor", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_a_planted_overhead_is_found(a_node: float, factor: float, outliers: float) -> None:
    found = overhead_of(planted(3_000, a_node=a_node, factor=factor, scatter=0.3, outliers=outliers), MACHINE)

    assert found is not None
    assert found.fit.fault is None
    assert found.fit.factor_error is not None
    assert found.fit.a_node == pytest.approx(a_node, abs=4 * found.fit.a_node_error)
    assert found.fit.a_node == pytest.approx(a_node, rel=0.06)
    assert found.fit.factor == pytest.approx(factor, rel=0.05)
    assert found.fit.deviation == pytest.approx(0.3, abs=0.03)
    assert (found.fit.others > 0) is (outliers > 0)


def test_standard_errors_are_those_of_the_estimates() -> None:
    fits = [overhead_of(planted(300, a_node=6_000, factor=1, scatter=0.4, seed=seed), MACHINE) for seed in range(60)]
    slopes = [found.fit.a_node for found in fits if found is not None]
    errors = [found.fit.a_node_error for found in fits if found is not None]

    assert statistics.stdev(slopes) == pytest.approx(statistics.median(errors), rel=0.3)


def test_nodes_that_one_call_made_are_one_point() -> None:
    # Half of linear()'s time is written to the view that it makes, which itself works nothing.
    nodes: list[Node] = []
    for k in range(100):
        each = 1_000 * (k + 1)
        for flops in (0, 2 * each):
            nodes.append(Node("ExpBackward0", seq=len(nodes), source=0, forward_ns=2_500 + each, backward_ns=2_500,
                              forward_flops=flops, backward_flops=0, forward_moved=0, backward_moved=0))  # fmt: skip
    calls = calls_of(as_graph(nodes, sources=[Source("a.py", 1, "f")]), MACHINE)
    fit = fit_overhead(calls, MACHINE)

    assert calls[0] == Call(2, 12_000, 2_000)
    assert len(calls) == 100
    assert fit is not None
    assert (fit.a_node, fit.factor) == (pytest.approx(5_000), pytest.approx(1))


def test_where_all_work_the_same_the_times_do_not_tell_it() -> None:
    # 1,000 FLOPs in each pass of 10 µs: their work takes 500 ns to all of it, and the rest is overhead.
    found = overhead_of(chain([(4_000, 6_000, 1_000, 0)] * 200), MACHINE)

    assert found is not None
    assert found.fit.factor_error is None
    assert (found.fit.low, found.fit.high) == (0, pytest.approx(9_500))
    assert (found.least, found.most) == (0, pytest.approx(0.95))
    assert overhead_text(found).startswith("Between 0.0 % and 95.0 % of the nodes' time in both passes is there")
    assert list(overhead_findings(found)) == []


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        (planted(29, a_node=9_000, factor=1, scatter=0), "only 29 calls fit, fewer than 30"),
        (planted(400, a_node=9_000, factor=1, scatter=0, outliers=0.5), "of 400 calls, with "),
        (planted(400, a_node=9_000, factor=1, scatter=1.2), "are off by more than a factor of 4"),
        (planted(400, a_node=250_000, factor=1, scatter=0.1), "µs a node, where a tiny op takes 1.0 µs; other"),
    ],
)
def test_a_fit_that_does_not_hold_claims_nothing(graph: GradGraph, fault: str) -> None:
    found = overhead_of(graph, MACHINE)

    assert found is not None
    assert fault in overhead_text(found)
    assert overhead_text(found).startswith("How much of the time is there whatever the nodes do is not known")
    assert list(overhead_findings(found)) == []


def test_the_finding_and_when_there_is_none() -> None:
    tiny, busy = (4_000, 6_000, 1, 8), (30_000_000, 20_000_000, 25_000_000, 100)

    def findings(costs: list[tuple[int | None, int | None, int | None, int | None]]) -> list[Finding]:
        return list(overhead_findings(overhead_of(chain(costs), MACHINE)))

    (found,) = findings([tiny] * 150)
    assert (found.code, found.level) == ("GL207", "info")
    assert found.evidence["ns_a_node"] == pytest.approx(9_984)
    assert found.claim.startswith("About 99.8 % of the nodes' time in both passes is there whatever they do: 9.98 µs")
    assert "150 nodes" in found.claim
    assert findings([tiny] * 99) == []
    assert findings([tiny] * 150 + [busy]) == []
    assert findings([(None, None, None, None)] * 150) == []
    assert findings([(5, 5, None, None)] * 150) == []


def test_bounds_by_hand() -> None:
    assert bound_of(1_000, 900, 100, MACHINE) == "compute"
    assert bound_of(1_000, 100, 900, MACHINE) == "memory"
    assert bound_of(1_000, 200, 249, MACHINE) == "overhead"
    assert bound_of(1_000, 200, 250, MACHINE) == "memory"
    assert [bound_of(None, 1, 1, MACHINE), bound_of(1, None, 1, MACHINE), bound_of(1, 1, 1, None)] == ["unknown"] * 3


def test_rows_sum_to_the_total_and_tell_what_is_not_counted() -> None:
    graph = chain([(10, 20, 5, 7), (30, None, None, 9)])
    table = cost_table(graph, ["leaf", "a", "b"], machine=MACHINE)

    assert [(row.key, row.spent_ns, row.flops, row.moved, row.uncounted) for row in table.rows] == [
        ("a", 30, 10, 14, 0),
        ("b", 30, None, 18, 1),
        ("leaf", None, None, None, 0),
    ]
    assert (table.total.spent_ns, table.total.flops, table.total.moved) == (60, 10, 32)
    assert table.rows[0].intensity == 10 / 14
    assert table.rows[0].flops_a_second == pytest.approx(10 / 30e-9)

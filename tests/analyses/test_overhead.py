"""GL207: overhead by hand."""

from __future__ import annotations

import pytest

from graphlens.analyses.cost import bound_of, cost_table
from graphlens.analyses.overhead import overhead_findings, overhead_of
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.records import Machine

MACHINE = Machine(flops=1e9, bandwidth=1e9, call=1e-6, threads=1)  # a FLOP or a byte a nanosecond


def chain(costs: list[tuple[int | None, int | None, int | None, int | None]]) -> GradGraph:
    """Nodes with (forward_ns, backward_ns, FLOPs of each pass, bytes of each pass)."""
    nodes = [Node("AccumulateGrad", "leaf", name="x")]
    for k, (forward, backward, flops, moved) in enumerate(costs):
        nodes.append(
            Node(
                "ExpBackward0",
                seq=k,
                forward_ns=forward,
                backward_ns=backward,
                forward_flops=flops,
                backward_flops=flops,
                forward_moved=moved,
                backward_moved=moved,
            )
        )
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(len(costs))]
    return GradGraph(nodes, edges, outputs=[Output("y", len(costs), 0, (), "float32")]).check()


def test_by_hand() -> None:
    # 150 tiny nodes of 4,000 + 6,000 ns, and one of 300,000 + 200,000 that computes all the time.
    found = overhead_of(chain([(4_000, 6_000, 10, 80)] * 150 + [(300_000, 200_000, 250_000, 100)]), MACHINE)

    assert found is not None
    assert (found.nodes, found.tiny, found.a_node, found.total) == (151, 150, 10_000, 2_000_000)
    assert found.share == 151 * 10_000 / 2_000_000


def test_the_finding_and_when_there_is_none() -> None:
    tiny, busy = (4_000, 6_000, 10, 80), (30_000_000, 20_000_000, 25_000_000, 100)

    (found,) = overhead_findings(chain([tiny] * 150), MACHINE)
    assert (found.code, found.level, found.evidence["ns_a_node"]) == ("GL207", "info", 10_000)
    assert found.claim.startswith("About 100.0 % of the time of both passes is there whatever the nodes do: 10.0 µs")
    assert list(overhead_findings(chain([tiny] * 99), MACHINE)) == []
    assert list(overhead_findings(chain([tiny] * 150 + [busy]), MACHINE)) == []
    assert list(overhead_findings(chain([(None, None, None, None)] * 150), MACHINE)) == []


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

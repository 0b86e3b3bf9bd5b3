"""Reasons say what the numbers say, and no more."""

from __future__ import annotations

from graphlens.analyses.counts import stats
from graphlens.analyses.differences import Difference
from graphlens.analyses.reasons import Reason, structure_reasons, time_reasons, ulps_text, value_reasons
from graphlens.graph import Edge, GradGraph, Node, Output, SavedTensor
from graphlens.records import RunRecord, Timing


def chain(length: int, op: str = "SinBackward0", *, saved: int = 0, **changes: object) -> GradGraph:
    """A leaf and `length` nodes in a row; the last one saves `saved` bytes."""
    nodes = [Node("AccumulateGrad", "leaf"), *(Node(op, seq=k) for k in range(length))]
    nodes[-1] = nodes[-1]._replace(**changes)
    ledger = [SavedTensor(length, "self", (saved,), "uint8", "cpu", saved, 0, saved)] if saved else []
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(length)]
    return GradGraph(nodes, edges, ledger, outputs=[Output("y", length, 0, (), "float64")]).check()


def structure(a: GradGraph, b: GradGraph) -> list[Reason]:
    return list(structure_reasons(RunRecord("first", a), RunRecord("second", b), stats(a), stats(b)))


def times(a: Timing | None, b: Timing | None, *, nodes: tuple[int, int] | None = None) -> list[Reason]:
    counts = (None, None) if nodes is None else tuple(stats(chain(count)) for count in nodes)
    return list(time_reasons(RunRecord("first", None, backward=a), RunRecord("second", None, backward=b), *counts))


def values(*gradients: Difference, outputs: tuple[Difference, ...] = ()) -> list[Reason]:
    return list(value_reasons(RunRecord("first", None), RunRecord("second", None), outputs, gradients))


def claims(reasons: list[Reason]) -> list[str]:
    return [reason.claim for reason in reasons]


# Structure


def test_more_nodes_whichever_side_has_them() -> None:
    expected = [
        "LARGE has 4 grad_fn nodes, SMALL 2: 2 more. More of these: 2 SinBackward0.",
        "The longest path of LARGE has 3 edges, that of SMALL 1; along a path each node waits for the one before it.",
    ]

    for large, small in (("first", "second"), ("second", "first")):
        reasons = structure(*((chain(3), chain(1)) if large == "first" else (chain(1), chain(3))))
        assert claims(reasons) == [text.replace("LARGE", large).replace("SMALL", small) for text in expected]
        assert reasons[0] == Reason(
            "more-nodes", reasons[0].claim, {"more": large, "nodes": 4, "other": 2, "by_op": {"SinBackward0": 2}}
        )
        assert reasons[1].evidence == {"deeper": large, "depth": 3, "other": 1}


def test_equal_counts() -> None:
    assert structure(chain(2), chain(2)) == [
        Reason("same-counts", "Both graphs have 3 nodes and 2 edges.", {"nodes": 3, "edges": 2})
    ]


def test_what_is_saved() -> None:
    assert claims(structure(chain(2, saved=10), chain(2, saved=3000))) == [
        "Both graphs have 3 nodes and 2 edges.",
        "For backward second keeps 3.00 kB in 1 storage, first 10 B in 1.",
    ]


def test_nothing_is_said_about_sizes_that_are_not_known() -> None:
    assert "more-saved" not in [reason.code for reason in structure(chain(2, saved=10), chain(2, ledger="hidden"))]


# Times: slow is 1.0 to 1.2 s, fast is 0.4 to 0.6 s

SLOW, FAST = Timing(1.1, 1.0, 1.2, 5), Timing(0.5, 0.4, 0.6, 5)


def test_the_time_for_each_extra_node() -> None:
    (reason,) = times(SLOW, FAST, nodes=(302, 2))

    assert reason.claim == (
        "The backward pass takes 1.1 s for first and 500 ms for second, 2.2 × as long: 2.0 ms more for each of "
        "300 extra nodes."
    )
    assert reason.evidence == {
        "slower": "first",
        "seconds": 1.1,
        "other": 0.5,
        "extra_nodes": 300,
        "seconds_per_extra_node": (1.1 - 0.5) / 300,
    }


def test_the_slower_side_may_be_the_second_one() -> None:
    (reason,) = times(FAST, SLOW, nodes=(2, 302))

    assert reason.evidence["slower"] == "second"
    assert reason.evidence["seconds_per_extra_node"] == (1.1 - 0.5) / 300


def test_no_time_for_each_node_where_the_slower_side_has_fewer() -> None:
    for nodes in ((2, 302), (2, 2), None):
        (reason,) = times(SLOW, FAST, nodes=nodes)
        assert reason.claim == "The backward pass takes 1.1 s for first and 500 ms for second, 2.2 × as long."
        assert "extra_nodes" not in reason.evidence


def test_no_difference_is_claimed_where_the_ranges_overlap() -> None:
    touching = Timing(1.0, 0.6, 2.0, 5)
    for a, b in ((touching, FAST), (FAST, touching), (SLOW, touching)):
        assert claims(times(a, b)) == ["The backward pass: no difference can be claimed, the measured ranges overlap."]


def test_nothing_is_said_about_what_was_not_measured() -> None:
    assert times(None, FAST) == times(SLOW, None) == times(None, None) == []


# Values


def test_none_against_a_value() -> None:
    row = Difference("A", "value", "none", largest=5.1e-8, note="no path of the backward graph leads to it")

    assert values(row) == [
        Reason(
            "gradient-none",
            "The gradient of A is None for second, which stands for 0: no path of the backward graph leads to it; "
            "first gives values up to 5.1e-08.",
            {"name": "A", "none": "second", "largest_of_other": 5.1e-8},
        )
    ]


def test_none_on_both_sides_or_absent_is_no_difference() -> None:
    assert values(Difference("A", "none", "none"), Difference("B", "value", "absent", largest=1.0)) == []


def test_differing_and_equal_gradients() -> None:
    reasons = values(
        Difference("x", "value", "value", 9e-9, 1e-10, 12.4),
        Difference("M", "value", "value", 0.0, 0.0, 0.0),
        Difference("N", "value", "value", 0.0, None, 0.0),
        Difference("k", "value", "value", note="shapes differ: [1] against [2]"),
    )

    assert claims(reasons) == [
        "The gradient of x differs by at most 9.0e-09, 12 ulp.",
        "The gradient of k cannot be compared: shapes differ: [1] against [2].",
        "Equal to the last bit: the gradient of M, N.",
    ]
    assert reasons[0].evidence == {"name": "x", "max_abs_diff": 9e-9, "relative": 1e-10, "ulps": 12.4}


def test_outputs() -> None:
    outputs = (Difference("g", "value", "value", 0.5, 0.1, None), Difference("h", "value", "value", 0.0))

    assert claims(values(outputs=outputs)) == ["The output g differs by at most 0.50."]


def test_ulps() -> None:
    assert [ulps_text(ulps) for ulps in (0.5, 1.0, 9999.0, 123456.0, 2.4e6)] == [
        "0.5 ulp", "1 ulp", "9,999 ulp", "120,000 ulp", "2.4e+06 ulp",
    ]  # fmt: skip


def test_a_few_extra_nodes_do_not_account_for_a_difference_in_time() -> None:
    # Five nodes against two: what the two do may take any time.
    slow, fast = Timing(1.0, 0.9, 1.1, 3), Timing(0.2, 0.1, 0.3, 3)
    (reason,) = times(slow, fast, nodes=(4, 1))
    assert "extra" not in reason.claim
    assert "extra_nodes" not in reason.evidence

"""Why two runs differ: sentences built from what was measured, each with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphlens.analyses.counts import Stats
from graphlens.analyses.differences import Difference
from graphlens.records import RunRecord
from graphlens.units import bytes_text, count_text, ratio_text, seconds_text, significant


@dataclass(frozen=True)
class Reason:
    """One sentence that says why two runs differ, with the numbers it was built from."""

    code: str
    claim: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


_MOST_OPS = 4


def structure_reasons(a: RunRecord, b: RunRecord, stats_a: Stats, stats_b: Stats) -> Iterator[Reason]:
    """What the counts say: nodes, depth, and what is kept for backward."""
    if stats_a.nodes < stats_b.nodes:
        a, b, stats_a, stats_b = b, a, stats_b, stats_a
    if stats_a.nodes == stats_b.nodes and stats_a.edges == stats_b.edges:
        yield Reason(
            "same-counts",
            f"Both graphs have {count_text(stats_a.nodes)} nodes and {count_text(stats_a.edges)} edges.",
            {"nodes": stats_a.nodes, "edges": stats_a.edges},
        )
    else:
        yield _nodes_reason(a, b, stats_a, stats_b)
    if stats_a.depth != stats_b.depth:
        deep, flat = (a, b) if stats_a.depth > stats_b.depth else (b, a)
        most, least = max(stats_a.depth, stats_b.depth), min(stats_a.depth, stats_b.depth)
        yield Reason(
            "deeper",
            f"The longest path of {deep.target} has {count_text(most)} edges, that of {flat.target} "
            f"{count_text(least)}; along a path each node waits for the one before it.",
            {"deeper": deep.target, "depth": most, "other": least},
        )
    yield from _saved_reason(a, b, stats_a, stats_b)


def _nodes_reason(a: RunRecord, b: RunRecord, stats_a: Stats, stats_b: Stats) -> Reason:
    in_b = {row.key: row.nodes for row in stats_b.rows}
    extra = {row.key: row.nodes - in_b.get(row.key, 0) for row in stats_a.rows}
    more = sorted(((op, count) for op, count in extra.items() if count > 0), key=lambda item: (-item[1], item[0]))
    ops = ", ".join(f"{count_text(count)} {op}" for op, count in more[:_MOST_OPS])
    others = sum(count for _, count in more[_MOST_OPS:])
    rest = f", and {count_text(others)} others" if others else ""
    difference = stats_a.nodes - stats_b.nodes
    lead = f"{a.target} has {count_text(stats_a.nodes)} grad_fn nodes, {b.target} {count_text(stats_b.nodes)}"
    claim = f"{lead}: {count_text(difference)} more" if difference else lead
    return Reason(
        "more-nodes",
        f"{claim}. More of these: {ops}{rest}." if more else f"{claim}.",
        {"more": a.target, "nodes": stats_a.nodes, "other": stats_b.nodes, "by_op": dict(more)},
    )


def _saved_reason(a: RunRecord, b: RunRecord, stats_a: Stats, stats_b: Stats) -> Iterator[Reason]:
    if stats_a.total.unknown or stats_b.total.unknown:
        return
    if stats_a.total.storage_bytes < stats_b.total.storage_bytes:
        a, b, stats_a, stats_b = b, a, stats_b, stats_a
    most, least = stats_a.total, stats_b.total
    if most.storage_bytes > least.storage_bytes:
        yield Reason(
            "more-saved",
            f"For backward {a.target} keeps {bytes_text(most.storage_bytes)} in {count_text(most.storages)} "
            f"storage{'s' if most.storages != 1 else ''}, {b.target} {bytes_text(least.storage_bytes)} in "
            f"{count_text(least.storages)}.",
            {"more": a.target, "storage_bytes": most.storage_bytes, "other": least.storage_bytes},
        )


def time_reasons(a: RunRecord, b: RunRecord, stats_a: Stats | None, stats_b: Stats | None) -> Iterator[Reason]:
    """What the clock says; a difference is claimed only where the two ranges do not overlap."""
    for label, left, right in (("forward", a.forward, b.forward), ("backward", a.backward, b.backward)):
        if left is None or right is None:
            continue
        name = f"The {label} pass"
        if left.overlaps(right):
            yield Reason(
                f"{label}-time",
                f"{name}: no difference can be claimed, the measured ranges overlap.",
                {"a": left.median, "b": right.median},
            )
            continue
        slow, fast = (a, b) if left.median > right.median else (b, a)
        most, least = max(left.median, right.median), min(left.median, right.median)
        claim = (
            f"{name} takes {seconds_text(most)} for {slow.target} and {seconds_text(least)} for {fast.target}, "
            f"{ratio_text(most, least)} as long"
        )
        evidence: dict[str, Any] = {"slower": slow.target, "seconds": most, "other": least}
        extra, slow_nodes = _extra_nodes(slow is a, stats_a, stats_b)
        if extra >= max(_FEW_EXTRA_NODES, slow_nodes // 10):
            slope = (most - least) / extra
            evidence |= {"extra_nodes": extra, "seconds_per_extra_node": slope}
            claim += f": {seconds_text(slope)} more for each of {count_text(extra)} extra nodes"
        yield Reason(f"{label}-time", f"{claim}.", evidence)


# Fewer extra nodes than this, or than a tenth of the graph, do not account for a difference in time:
# the nodes that both graphs have may do more work in one of them.
_FEW_EXTRA_NODES = 10


def _extra_nodes(a_is_slow: bool, stats_a: Stats | None, stats_b: Stats | None) -> tuple[int, int]:
    """How many nodes more the slow graph has, and how many it has in all."""
    if stats_a is None or stats_b is None:
        return 0, 0
    slow, fast = (stats_a, stats_b) if a_is_slow else (stats_b, stats_a)
    return max(slow.nodes - fast.nodes, 0), slow.nodes


def value_reasons(
    a: RunRecord, b: RunRecord, outputs: tuple[Difference, ...], gradients: tuple[Difference, ...]
) -> Iterator[Reason]:
    """What the values say: which outputs and gradients differ, and which one is `None`."""
    for row in outputs:
        yield from _value_reason("output", "The output" if row.name == "output" else f"The output {row.name}", row)
    both = [row for row in gradients if row.a == row.b == "value"]
    differing = [row for row in both if row.max_abs != 0.0]
    missing = [row for row in gradients if {row.a, row.b} == {"value", "none"}]
    if len(differing) > _MOST_SENTENCES:
        yield _many_differ(differing)
    else:
        for row in differing:
            yield from _value_reason("gradient", f"The gradient of {row.name}", row)
    for has, lacks, rows in (
        (a, b, [row for row in missing if row.a == "value"]),
        (b, a, [row for row in missing if row.b == "value"]),
    ):
        if len(rows) > _MOST_SENTENCES:
            yield _many_missing(lacks, rows)
        else:
            for row in rows:
                yield _missing_reason(has, lacks, row)
    equal = [row.name for row in both if row.max_abs == 0.0]
    if equal:
        yield Reason("gradient-equal", f"Equal to the last bit: the gradient of {_listed(equal)}.", {"names": equal})


# More sentences of one kind than this say less than one sentence about all.
_MOST_SENTENCES = 6


def _listed(names: list[str]) -> str:
    if len(names) <= _MOST_SENTENCES:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {count_text(len(names) - 3)} others"


def _many_differ(rows: list[Difference]) -> Reason:
    names = [row.name for row in rows]
    claim = f"The gradients of {_listed(names)} differ"
    known = [row for row in rows if row.max_abs is not None]
    evidence: dict[str, Any] = {"names": names}
    if known:
        worst = max(known, key=lambda row: row.max_abs or 0.0)
        ulps = "" if worst.ulps is None else f", {ulps_text(worst.ulps)}"
        claim += f", most that of {worst.name}: by at most {significant(worst.max_abs or 0.0, 2)}{ulps}"
        evidence |= {"name": worst.name, "max_abs_diff": worst.max_abs, "ulps": worst.ulps}
    return Reason("gradient-differs", f"{claim}.", evidence)


def _many_missing(lacks: RunRecord, rows: list[Difference]) -> Reason:
    names = [row.name for row in rows]
    return Reason(
        "gradient-none",
        f"The gradients of {_listed(names)} are None for {lacks.target}, which stands for 0.",
        {"names": names, "none": lacks.target},
    )


def _value_reason(kind: str, subject: str, row: Difference) -> Iterator[Reason]:
    if row.max_abs:
        ulps = "" if row.ulps is None else f", {ulps_text(row.ulps)}"
        evidence = {"name": row.name, "max_abs_diff": row.max_abs, "relative": row.relative, "ulps": row.ulps}
        yield Reason(f"{kind}-differs", f"{subject} differs by at most {significant(row.max_abs, 2)}{ulps}.", evidence)
    elif row.max_abs is None and row.note:
        yield Reason(f"{kind}-differs", f"{subject} cannot be compared: {row.note}.", {"name": row.name})


def _missing_reason(has: RunRecord, lacks: RunRecord, row: Difference) -> Reason:
    value = "" if row.largest is None else f"; {has.target} gives values up to {significant(row.largest, 2)}"
    return Reason(
        "gradient-none",
        f"The gradient of {row.name} is None for {lacks.target}, which stands for 0: {row.note}{value}.",
        {"name": row.name, "none": lacks.target, "largest_of_other": row.largest},
    )


def ulps_text(ulps: float) -> str:
    """ "12 ulp", "2.4e+06 ulp"."""
    if ulps < 0.95:
        return f"{significant(ulps, 1)} ulp"
    return f"{ulps:,.0f} ulp" if ulps < 10_000 else f"{significant(ulps, 2)} ulp"

"""The table that `graphlens stats --cost` prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.cost import CostRow, CostTable
from graphlens.analyses.findings import Finding
from graphlens.analyses.overhead import Overhead, overhead_text
from graphlens.analyses.unrest import caution
from graphlens.graph import GradGraph
from graphlens.records import CostRun, Machine
from graphlens.units import bytes_text, count_text, counted, percent_text, seconds_text, significant
from graphlens.views.opening import NOT_MEASURED, next_steps, opening
from graphlens.views.table import paragraph, table, to_text

_MOST_ROWS = 30


def cost_report(
    title: str,
    graph: GradGraph,
    costs: CostTable,
    run: CostRun,
    *,
    findings: Sequence[Finding] = (),
    overhead: Overhead | None = None,
    width: int = 80,
    colour: bool = False,
    steps: Sequence[str] = (),
) -> str:
    """Time, FLOPs and bytes moved per row, and what they were measured with; then what to type next."""
    parts = list(_parts(title, graph, costs, run, width))
    if overhead is not None and not findings:
        parts.append(paragraph(overhead_text(overhead), width=width))
    for finding in findings:
        parts.append(paragraph(finding.claim, width=width, indent="       ", first=f"{finding.code}  "))
    parts += next_steps(steps, width)
    return to_text(parts, width=width, colour=colour)


def cost_csv(costs: CostTable) -> str:
    """All rows, unrounded; empty where something was not measured."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    fields = ("key", "nodes", "forward_ns", "backward_ns", "flops", "moved", "uncounted", "unsized", "bound")
    writer.writerow(fields)
    for row in (*costs.rows, costs.total):
        writer.writerow(["" if getattr(row, name) is None else getattr(row, name) for name in fields])
    return stream.getvalue()


def _parts(title: str, graph: GradGraph, costs: CostTable, run: CostRun, width: int) -> Iterator[RenderableType]:
    yield from opening(title, graph, graph.meta.get("threads"), width)
    yield Text("")
    whole = costs.total.spent_ns or 0
    rows = [_cells(row, whole) for row in costs.rows[:_MOST_ROWS]]
    header = (costs.by, "nodes", "forward", "backward", "share", "FLOPs", "moved", "bound by")
    yield table(header, rows, total=_cells(costs.total, whole), texts=(7,))
    if len(costs.rows) > _MOST_ROWS:
        yield Text(f"… and {len(costs.rows) - _MOST_ROWS:,} more rows (--json and --csv list them all)")
    yield Text("")
    for sentence in _sentences(costs, run):
        yield paragraph(sentence, width=width)


def _cells(row: CostRow, whole: int) -> tuple[str, ...]:
    least = "≥ " if row.uncounted and row.flops is not None else ""
    return (
        row.key,
        count_text(row.nodes),
        _time(row.forward_ns),
        _time(row.backward_ns),
        "" if row.spent_ns is None else percent_text(row.spent_ns, whole),
        "not counted" if row.flops is None else least + flops_text(row.flops),
        NOT_MEASURED if row.moved is None else ("≥ " if row.unsized else "") + bytes_text(row.moved),
        "" if row.bound == "unknown" else row.bound,
    )


def flops_text(flops: float) -> str:
    """ "640", "62.4 M", "1.20 G"."""
    for power, name in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if flops >= 0.9995 * 10**power:
            return f"{significant(flops / 10**power, 3)} {name}"
    return f"{flops:.0f}"


def _time(ns: int | None) -> str:
    return "" if ns is None else seconds_text(ns / 1e9)


def _sentences(costs: CostTable, run: CostRun) -> Iterator[str]:
    if text := caution({"the backward pass": run.plain}):
        yield text
    yield (
        f"{_medians(run.repeats)} The backward pass takes {seconds_text(run.plain.median)} "
        f"({seconds_text(run.plain.min)} to {seconds_text(run.plain.max)}) by itself; its nodes' times add up to "
        f"{percent_text(run.coverage, 1)} of that{_engine(run)}. The hook that times a node takes "
        f"{seconds_text(run.hook_ns / 1e9)}, which is subtracted."
    )
    yield "A multiply-add counts as 2 FLOPs, an elementwise function as 1 an entry. Moved: bytes read and written."
    if run.shared:
        yield (
            f"The forward times of {counted(run.shared, 'node')} are shares: their calls made several nodes, and were "
            "timed as a whole; it is shared out by the times of the nodes' ops below autograd."
        )
    if run.uncounted:
        names = ", ".join(f"{name} ({count:,} ×)" for name, count in list(run.uncounted.items())[:8])
        yield f"Not counted, for want of a formula: {names}."
    if run.other_ops:
        yield (
            f"Besides the nodes, {counted(run.other_ops, 'op')} ran without a gradient or inside custom Functions: "
            f"{flops_text(run.other_flops)} FLOPs, {bytes_text(run.other_moved)} moved."
        )
    if costs.machine is not None:
        yield _machine(costs.machine)


def _medians(repeats: int) -> str:
    return f"Times are medians of {repeats} runs." if repeats > 1 else "Times are of one run."


def _engine(run: CostRun) -> str:
    spent = (run.before_ns + run.after_ns) / 1e9
    if not spent:
        return ""
    share = percent_text(spent, run.plain.median)
    return f", and what the engine does before the first and after the last node to {share}"


def _machine(machine: Machine) -> str:
    return (
        f"This machine reached {flops_text(machine.flops)}FLOP/s on a large product and "
        f"{bytes_text(round(machine.bandwidth))}/s on a large copy; a tiny op takes {seconds_text(machine.call)}. "
        "Overhead: a node takes more than 4 times what its arithmetic and its bytes need at that."
    )

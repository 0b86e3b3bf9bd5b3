"""What `graphlens stats --cost` prints: the same rows, with times, FLOPs and bytes moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphlens.cli.common import build_program, page, progressing
from graphlens.cli.steps import Steps
from graphlens.errors import MeasureError, NoGraphError
from graphlens.targets import parse_target

if TYPE_CHECKING:
    from graphlens.capture.backward import NodeTimes
    from graphlens.graph import GradGraph
    from graphlens.records import CostRun


def print_costs(
    target: str,
    settings: tuple[str, ...],
    by: str,
    depth: int | None,
    *,
    repeats: int,
    as_json: bool,
    as_csv: bool,
    quiet: bool,
) -> None:
    """Measure a target's nodes, and print one row per op, module or line of code."""
    from graphlens.analyses.cost import cost_table
    from graphlens.analyses.counts import row_keys
    from graphlens.analyses.overhead import overhead_findings, overhead_of
    from graphlens.views.cost_document import cost_document
    from graphlens.views.cost_report import cost_csv, cost_report
    from graphlens.views.documents import to_json

    graph, run, _ = measured(target, settings, repeats=repeats, quiet=quiet, lines=by != "op")
    with progressing(quiet) as progress:
        progress("measuring this machine")
        import torch

        from graphlens.capture.machine import calibrate

        machine = calibrate(str(graph.meta.get("dtype", "float32")), torch.get_num_threads())
    table = cost_table(graph, row_keys(graph, by, depth), by, machine)
    overhead = overhead_of(graph, machine)
    findings = tuple(overhead_findings(overhead))
    if as_json:
        click.echo(to_json(cost_document(target, table, run, findings, overhead)))
    elif as_csv:
        click.echo(cost_csv(table), nl=False)
    else:
        steps = [Steps(target, settings)("render", "--heat", "time", output="graph.svg")]
        text = cost_report(
            target, graph, table, run, findings=findings, overhead=overhead, steps=steps, **page()
        )  # fmt: skip
        click.echo(text, nl=False)


def measured(
    text: str, settings: tuple[str, ...], *, repeats: int, quiet: bool, lines: bool = False
) -> tuple[GradGraph, CostRun, NodeTimes]:
    """Run a target and measure its nodes; `lines` as in `run_target`.

    Raises:
        MeasureError: it is a saved graph, or its nodes cannot be measured.
    """
    target = parse_target(text)
    if target.kind == "saved":
        raise MeasureError(f"{text} is a saved graph, which cannot be run; name the target it was captured from")
    with progressing(quiet) as progress:
        progress(f"{text}: loading torch")
        program = build_program(target, settings)
        if lines:
            program.anew()
        from graphlens.capture.costing import measure_costs
        from graphlens.capture.resolve import user_code
        from graphlens.capture.trace import observe

        with user_code(target, "the backward pass"):
            graph = observe(program, progress=progress).graph
            if graph is None:
                why = Steps(text, settings)("check")
                raise NoGraphError(f"{text}: no output has a backward graph; `{why}` says why")
            return measure_costs(program, graph, repeats, progress=progress)

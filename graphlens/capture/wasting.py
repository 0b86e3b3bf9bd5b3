"""Measure a program's nodes, and look for work that it could do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from graphlens.analyses.cost import CostTable, cost_table
from graphlens.analyses.counts import row_keys
from graphlens.analyses.findings import Finding, most_serious_first
from graphlens.analyses.overhead import overhead_findings, overhead_of
from graphlens.analyses.redundancy import redundancy
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.capture.costing import measure_costs, measure_times
from graphlens.capture.listing import listing_of
from graphlens.capture.machine import calibrate
from graphlens.capture.program import Program
from graphlens.capture.tape import Tape
from graphlens.capture.timing import Progress
from graphlens.capture.verifying import verifier
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.records import CostRun

_FEW_REPEATS = 3


@dataclass(frozen=True)
class Waste:
    """What was measured and found.

    Attributes:
        findings: GL2xx, the most serious first.
        names: whether there is one among them of something that can be left out, GL201 to GL206.
        same: per value of the tape an earlier one that it is equal to.
        otherwise: what can be done another way.
        costs, run: None where the nodes could not be measured; `notes` then say why.
    """

    findings: tuple[Finding, ...] = ()
    names: bool = False
    same: Mapping[int, int] = field(default_factory=dict)
    otherwise: Otherwise = field(default_factory=Otherwise)
    costs: CostTable | None = None
    run: CostRun | None = None
    notes: Sequence[str] = ()


def look_for_waste(
    program: Program, graph: GradGraph, tape: Tape | None, repeats: int = 5, *, progress: Progress = lambda _: None
) -> Waste:
    """Measure all that there is to measure; without a tape nothing is said about single values."""
    notes: list[str] = []
    findings: list[Finding] = []
    costs, run = None, None
    try:
        graph, run, _ = measure_costs(program, graph, repeats, progress=progress)
        progress("measuring this machine")
        machine = calibrate(str(graph.meta.get("dtype", "float32")), torch.get_num_threads())
        costs = cost_table(graph, row_keys(graph, "op", None), "op", machine)
        findings += overhead_findings(overhead_of(graph, machine))
    except MeasureError as error:
        notes.append(str(error))
    if tape is None:
        return Waste(tuple(findings), costs=costs, run=run, notes=notes)
    progress(f"{program.name}: looking for what is done twice")
    found = redundancy(listing_of(tape), graph, verifier(tape))
    every = most_serious_first([*findings, *found.findings])
    return Waste(every, bool(found.findings), found.same, found.otherwise, costs, run, notes)


def waste_findings(
    program: Program, graph: GradGraph, tape: Tape, *, progress: Progress = lambda _: None
) -> tuple[Finding, ...]:
    """The findings about single values alone, GL201 to GL206, with the times of their nodes where they can be had."""
    with suppress(MeasureError):
        graph = measure_times(program, graph, _FEW_REPEATS, progress=progress)[0]
    progress(f"{program.name}: looking for what is done twice")
    return redundancy(listing_of(tape), graph, verifier(tape)).findings

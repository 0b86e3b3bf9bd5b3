"""What `graphlens compare` looks into on each side, beyond one run of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from graphlens.accuracy import Accuracy
from graphlens.analyses.findings import Finding
from graphlens.cli.common import Progress
from graphlens.errors import MeasureError
from graphlens.limits import Truths
from graphlens.records import RunRecord
from graphlens.targets import Target

if TYPE_CHECKING:
    from graphlens.capture.program import Program

_MOST_KEPT = 10**9  # bytes kept for backward; beyond it no run is written down without being asked for


class Side(NamedTuple):
    """A target as it was run, how exact it is, and what it could do without."""

    record: RunRecord
    exact: Accuracy | None = None
    waste: tuple[Finding, ...] = ()


def look_into(
    target: Target, program: Program, record: RunRecord, truths: Truths, waste: bool | None, progress: Progress
) -> Side:
    """Write down the ops of a run, and look for its true values and for work that it could do without.

    Args:
        truths: where true values come from; "none" leaves them out, "auto" where they take too much.
        waste: None leaves it out where it takes too much.
    """
    if record.graph is None:
        return Side(record)
    kept = sum(row.storage_bytes for row in record.graph.saved_by_node())
    if kept > _MOST_KEPT and (truths.method == "auto" or waste is None):
        left_out = {
            "which side is nearer to the truth": (truths.method == "auto", "--reference float64"),
            "what could be done without": (waste is None, "--waste"),
        }
        notes = [
            f"{what} was not measured, as that keeps every value of a run in memory; ask for it with {option}"
            for what, (is_left_out, option) in left_out.items()
            if is_left_out
        ]
        record = replace(record, notes=(*record.notes, *notes))
        truths, waste = Truths("none") if truths.method == "auto" else truths, bool(waste)
    if truths.method == "none" and waste is False:
        return Side(record)
    try:
        return _written_down(target, program, record, truths, waste is not False, progress)
    except MeasureError as error:
        return Side(replace(record, notes=(*record.notes, str(error))))


def _written_down(
    target: Target, program: Program, record: RunRecord, truths: Truths, waste: bool, progress: Progress
) -> Side:
    from graphlens.capture.resolve import user_code
    from graphlens.capture.taping import record_tape
    from graphlens.capture.wasting import waste_findings
    from graphlens.numerics.rounding import measure_accuracy

    graph = record.graph
    assert graph is not None
    with user_code(target, "a repeated run"):
        progress(f"{program.name}: writing down its ops")
        tape = record_tape(program, graph)
        findings = waste_findings(program, graph, tape, progress=progress) if waste else ()
        exact = None
        if truths.method != "none":
            exact = measure_accuracy(
                program, graph, tape=tape, method=truths.method, seconds=truths.seconds, parts=(),
                progress=progress,
            )  # fmt: skip
    return Side(record, exact, findings)

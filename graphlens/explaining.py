"""Look into a program from every side: its gradients, what it wastes, and how exact it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from graphlens.analyses.cost import cost_table
from graphlens.analyses.counts import row_keys
from graphlens.analyses.explanation import TOPICS, Explanation
from graphlens.analyses.findings import Finding, most_serious_first
from graphlens.analyses.overhead import overhead_findings
from graphlens.analyses.redundancy import redundancy
from graphlens.analyses.rounding import rounding_findings
from graphlens.capture.costing import measure_costs
from graphlens.capture.listing import listing_of
from graphlens.capture.machine import calibrate
from graphlens.capture.program import Program, subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.timing import Progress
from graphlens.capture.trace import Trace, observe
from graphlens.capture.verifying import verifier
from graphlens.errors import MeasureError, TargetError
from graphlens.graph import GradGraph
from graphlens.numerics.rounding import measure_accuracy
from graphlens.proof import prove as proving
from graphlens.subject import Subject


def explain(
    subject: Subject | Callable[..., Any],
    *args: Any,
    loss: Callable[[Any], torch.Tensor] | None = None,
    topics: Sequence[str] = TOPICS,
    prove: bool = False,
    repeats: int = 5,
    reference: str = "auto",
    **kwargs: Any,
) -> Explanation:
    """Say why the gradients of a module (or a `Subject`) are slow, heavy, inexact or missing.

    Args:
        subject, args, kwargs, loss: see `trace`.
        topics: some of "gradients", "waste" and "rounding".
        prove: whether a shorter program is to be written and measured; see `Explanation.proof`.
        repeats: timed runs of each kind.
        reference: where true values come from: "exact" arithmetic, a run in "float64", runs that are
            rounded at random ("sample"), or the first of them that fits ("auto").

    Raises:
        TargetError: there is no such topic.
    """
    for topic in topics:
        if topic not in TOPICS:
            raise TargetError(f"there is no topic {topic!r}; there are {', '.join(TOPICS)}")
    if not isinstance(subject, Subject):
        name = type(subject).__name__ if isinstance(subject, torch.nn.Module) else getattr(subject, "__name__", "call")
        subject = Subject(subject, args, kwargs, loss, name=name)
    return explain_program(subject_program(subject), topics=topics, proves=prove, repeats=repeats, reference=reference)


def explain_program(
    program: Program,
    *,
    topics: Sequence[str] = TOPICS,
    proves: bool = False,
    repeats: int = 5,
    reference: str = "auto",
    progress: Progress = lambda _: None,
) -> Explanation:
    """Run a program again and again, and say what was found.

    Args:
        topics: some of `TOPICS`.
        proves: whether a shorter program is to be written and measured.
        repeats: timed runs.
        reference: where true values come from, see `measure_accuracy`.
    """
    with _one_beginning():
        trace = observe(program, times=True, diagnose="gradients" in topics, progress=progress)
    found = Explanation(program.name, trace.graph, trace.threads, tuple(topics), notes=tuple(trace.notes))
    if "gradients" in topics:
        connectivity = trace.connectivity
        found = replace(found, verdicts=connectivity.verdicts, gradients=connectivity.findings)
    if trace.graph is None:
        return found
    tape = None
    if "waste" in topics or "rounding" in topics:
        try:
            progress(f"{program.name}: writing down its ops")
            with _one_beginning():
                tape = record_tape(program, trace.graph)
        except MeasureError as error:
            found = replace(found, notes=(*found.notes, str(error)))
    if "waste" in topics:
        found = _waste(found, program, trace, trace.graph, tape, proves=proves, repeats=repeats, progress=progress)
    if "rounding" in topics and tape is not None:
        with _one_beginning():
            accuracy = measure_accuracy(program, trace.graph, tape=tape, method=reference, progress=progress)
        found = replace(found, accuracy=accuracy, rounding=rounding_findings(accuracy))
    return found


def _waste(
    found: Explanation, program: Program, trace: Trace, graph: GradGraph, tape: Tape | None, *, proves: bool,
    repeats: int, progress: Progress,
) -> Explanation:  # fmt: skip
    costed = graph
    findings: list[Finding] = []
    notes = list(found.notes)
    try:
        costed, run, _ = measure_costs(program, graph, repeats, progress=progress)
        progress("measuring this machine")
        table = cost_table(costed, row_keys(costed, "op", None), "op", calibrate(_dtype(graph), trace.threads))
        found = replace(found, costs=table, run=run)
        if table.machine is not None:
            findings += overhead_findings(costed, table.machine)
    except MeasureError as error:
        notes.append(str(error))
    if tape is None:
        return replace(found, waste=tuple(findings), notes=tuple(notes))
    progress(f"{program.name}: looking for what is done twice")
    redundant = redundancy(listing_of(tape), costed, verifier(tape))
    findings += redundant.findings
    proof = None
    if proves:
        proof = proving.prove(program, trace, tape, redundant.same, repeats=repeats, progress=progress)
    return replace(found, waste=most_serious_first(findings), proof=proof, notes=tuple(notes))


def _dtype(graph: GradGraph) -> str:
    return str(graph.meta.get("dtype", "float32"))


@contextmanager
def _one_beginning() -> Iterator[None]:
    """The same random numbers in each run; afterwards the generator is where it was."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)

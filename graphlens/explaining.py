"""Look into a program from every side: its gradients, what it wastes, and how exact it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from graphlens.analyses.explanation import TOPICS, Explanation
from graphlens.analyses.proof import Proof
from graphlens.analyses.rounding import rounding_findings
from graphlens.capture.program import Program, as_subject, noting_lone_sequence, subject_program
from graphlens.capture.start import Start
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.timing import Progress
from graphlens.capture.trace import Trace, observe
from graphlens.capture.wasting import look_for_waste
from graphlens.errors import MeasureError, TargetError
from graphlens.graph import GradGraph
from graphlens.limits import DEFAULT_SECONDS
from graphlens.numerics.gone import with_truths
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
    time_limit: float = DEFAULT_SECONDS,
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
        time_limit: how many seconds the true values may take, and then the rounding of single ops.

    Raises:
        TargetError: there is no such topic, or `subject` cannot be called.
    """
    for topic in topics:
        if topic not in TOPICS:
            raise TargetError(f"there is no topic {topic!r}; there are {', '.join(TOPICS)}")
    subject = as_subject(subject, args, kwargs, loss)
    program = subject_program(subject)
    with noting_lone_sequence(subject, "explain"):
        return explain_program(program, topics=topics, proves=prove, repeats=repeats, reference=reference,
            time_limit=time_limit)


def explain_program(
    program: Program,
    *,
    topics: Sequence[str] = TOPICS,
    proves: bool = False,
    repeats: int = 5,
    reference: str = "auto",
    time_limit: float = DEFAULT_SECONDS,
    progress: Progress = lambda _: None,
) -> Explanation:
    """Run a program again and again, and say what was found.

    Args:
        topics: some of `TOPICS`.
        proves: whether a shorter program is to be written and measured.
        repeats: timed runs.
        reference, time_limit: where true values come from, and how many seconds they may take; see
            `measure_accuracy`.
    """
    program.anew()  # every topic names lines
    with _one_beginning():
        trace = observe(program, times=True, diagnose="gradients" in topics, progress=progress)
    found = Explanation(program.name, trace.graph, trace.threads, tuple(topics), notes=tuple(trace.notes))
    if "gradients" in topics:
        connectivity = trace.connectivity
        found = replace(found, verdicts=connectivity.verdicts, gradients=connectivity.findings)
    if trace.graph is None:
        return replace(found, proof=Proof("no output has a backward graph")) if proves and "waste" in topics else found
    tape = None
    if "waste" in topics or "rounding" in topics:
        try:
            progress(f"{program.name}: writing down its ops")
            with _one_beginning():
                start = Start.of(program)
                with start.again():
                    tape = record_tape(program, trace.graph)
        except MeasureError as error:
            found = replace(found, notes=(*found.notes, str(error)))
    if "waste" in topics:
        found = _waste(found, program, trace, trace.graph, tape, proves=proves, repeats=repeats, progress=progress)
    if "rounding" in topics and tape is not None:
        with _one_beginning():
            accuracy = measure_accuracy(
                program, trace.graph, tape=tape, start=start, method=reference, seconds=time_limit,
                progress=progress
            )  # fmt: skip
        found = replace(found, accuracy=accuracy, rounding=rounding_findings(accuracy))
    if found.proof is not None and tape is not None:
        proof = with_truths(found.proof, tape, trace.graph, found.accuracy, progress=progress)
        found = replace(found, proof=proof)
    return found


def _waste(
    found: Explanation, program: Program, trace: Trace, graph: GradGraph, tape: Tape | None, *, proves: bool,
    repeats: int, progress: Progress,
) -> Explanation:  # fmt: skip
    waste = look_for_waste(program, graph, tape, repeats, progress=progress)
    proof = None
    if proves and tape is None:
        proof = Proof(found.notes[-1])  # why its ops could not be written down
    elif proves and tape is not None:
        proof = proving.prove(program, trace, tape, waste.same, waste.otherwise, repeats=repeats, progress=progress)
        left_out = {finding.code for finding in waste.findings} - {"GL207", *proof.by_hand}
        proof = replace(proof, names=bool(left_out))
    notes = tuple(dict.fromkeys((*found.notes, *waste.notes)))
    return replace(found, waste=waste.findings, costs=waste.costs, run=waste.run, proof=proof, notes=notes)


@contextmanager
def _one_beginning() -> Iterator[None]:
    """The same random numbers in each run; afterwards the generator is where it was."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)

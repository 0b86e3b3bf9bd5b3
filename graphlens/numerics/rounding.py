"""How exact a run is, and which op made its error: one tape, one reference, and what they tell."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from graphlens.accuracy import Accuracy, Branch, Quantity
from graphlens.capture.program import Program
from graphlens.capture.tape import Call, Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.timing import Progress
from graphlens.graph import GradGraph
from graphlens.numerics.arguments import op_name
from graphlens.numerics.attribution import attribute
from graphlens.numerics.exact import replay
from graphlens.numerics.judging import judge
from graphlens.numerics.quantities import quantity, unit_roundoff
from graphlens.numerics.reference import ExactReference, Reference, ShadowReference
from graphlens.numerics.shadow import in_float64, is_float
from graphlens.numerics.study import Study, Target, targets_of
from graphlens.numerics.suspects import candidates

_MOST_ATTRIBUTED = 8  # results; each costs a backward pass through the whole tape


def measure_accuracy(
    program: Program,
    graph: GradGraph,
    *,
    tape: Tape | None = None,
    method: str = "auto",
    seconds: float = 60.0,
    attributes: bool = True,
    progress: Progress = lambda _: None,
) -> Accuracy:
    """Hold one run against its true values, and attribute what it is off by to the ops that made it.

    Args:
        graph: the program's graph, which the ops are to know.
        tape: what the program did, if it was written down already.
        method: where the truth is to come from: "exact", "float64" or "sample"; "auto" takes the
            first of them that fits.
        seconds: what the reference may take, and then what the rounding of single ops may take.
        attributes: whether the ops that made the errors are wanted, and not the errors alone.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    began = time.perf_counter()
    if tape is None:
        progress(f"{program.name}: writing down its ops")
        tape = record_tape(program, graph)
    targets = targets_of(tape)
    suspected = candidates(tape, graph) if attributes else []
    wanted = {target.value for target in targets}.union(*(candidate.values for candidate in suspected))
    progress(f"{program.name}: computing the true values of {len(tape.calls):,} ops")
    reference, exactly, notes = _reference(tape, targets, wanted, method, seconds)
    study = Study(tape, graph, targets, reference, exactly, deadline=time.perf_counter() + seconds)
    quantities = [quantity(study, target) for target in targets]
    if attributes:
        progress(f"{program.name}: measuring the rounding of {len(tape.calls):,} ops")
        for place in _worst(quantities):
            quantities[place] = replace(quantities[place], attribution=attribute(study, targets[place]))
            progress(f"{program.name}: who made the error of {quantities[place].name}")
        if any(local is None for local in study.local):
            notes.append("The rounding of some ops was not measured: see which under each result.")
    return Accuracy(
        graph,
        method if reference is None else reference.method,
        None if reference is None else reference.precision,
        max((unit_roundoff(tape.tensors[target.value].dtype) for target in targets), default=math.nan),
        study.ops,
        quantities,
        suspects=judge(study, suspected),
        branches=_branches(reference),
        escaped=sum(_is_read(call, tape) for call in tape.calls),
        notes=notes,
        seconds=time.perf_counter() - began,
    )


def _is_read(call: Call, tape: Tape) -> bool:
    """Whether a call hands a floating-point number to Python."""
    return op_name(call) == "_local_scalar_dense" and any(is_float(tape.tensors[value]) for value in call.inputs)


def _worst(quantities: Sequence[Quantity]) -> list[int]:
    """Outputs and the loss, and then the gradients that are relatively most off: whose error is to be attributed."""
    rows = [(item.kind == "gradient", -_relative(item), place) for place, item in enumerate(quantities)]
    return sorted(place for _, _, place in sorted(rows)[:_MOST_ATTRIBUTED])


def _relative(item: Quantity) -> float:
    if not item.error:
        return 0.0
    return item.error / item.truth if item.truth else math.inf


def _branches(reference: Reference | None) -> list[Branch]:
    if not isinstance(reference, ExactReference):
        return []
    return [Branch(found.call, found.otherwise, found.undecided) for found in reference.exact.departures]


def _reference(
    tape: Tape, targets: Sequence[Target], wanted: set[int], method: str, seconds: float
) -> tuple[Reference | None, bool, list[str]]:
    formats = {tensor.dtype for tensor in tape.tensors if is_float(tensor)}
    if method == "exact" or (method == "auto" and torch.float64 in formats):
        exact = replay(tape, wanted=wanted, seconds=seconds)
        return ExactReference(tape, exact), True, []
    return ShadowReference(tape, in_float64(tape)), False, []

"""How exact a run is, and which op made its error: one tape, one reference, and what they tell."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from graphlens.accuracy import Accuracy, Branch, Quantity
from graphlens.analyses.fold import fold
from graphlens.capture.program import Program
from graphlens.capture.start import Start
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.timing import Progress
from graphlens.graph import GradGraph
from graphlens.limits import DEFAULT_SECONDS
from graphlens.numerics.attribution import attribute
from graphlens.numerics.choosing import best_reference
from graphlens.numerics.conditions import conditions_of
from graphlens.numerics.growth import loop_errors
from graphlens.numerics.judging import judge
from graphlens.numerics.loops import carried_values
from graphlens.numerics.quantities import quantity, unit_roundoff
from graphlens.numerics.reference import ExactReference, Reference
from graphlens.numerics.repeating import repeat_of
from graphlens.numerics.sampling import sample
from graphlens.numerics.shadow import too_large
from graphlens.numerics.significance import Significance
from graphlens.numerics.study import Study, targets_of
from graphlens.numerics.sums import term_sums
from graphlens.numerics.suspects import Candidate, candidates

CAUSES, LOOPS = PARTS = ("causes", "loops")
_MOST_ATTRIBUTED = 8  # results; each costs a backward pass through the whole tape


def measure_accuracy(
    program: Program,
    graph: GradGraph,
    *,
    tape: Tape | None = None,
    start: Start | None = None,
    method: str = "auto",
    seconds: float = DEFAULT_SECONDS,
    parts: Collection[str] = PARTS,
    progress: Progress = lambda _: None,
) -> Accuracy:
    """Hold one run against its true values, and attribute what it is off by to the ops that made it.

    Args:
        graph: the program's graph, which the ops are to know.
        tape: what the program did, if it was written down already.
        start: the state that this run began with, to run it again from.
        method: where the truth is to come from: "exact", "float64" or "sample"; "auto" takes the
            first of them that fits.
        seconds: what the reference may take, and then what the rounding of single ops may take.
        parts: what is wanted besides the errors of results: of `PARTS` "causes", the ops that made
            them, and "loops", how errors grow along loops.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    began = time.perf_counter()

    def tell(what: str) -> None:
        progress(f"{program.name}: {what}")

    if tape is None:
        tell("writing down its ops")
        start = Start.of(program)
        with start.again():
            tape = record_tape(program, graph)
    targets = targets_of(tape)
    suspected = candidates(tape, graph) if CAUSES in parts else []
    loops = carried_values(tape, fold(graph)) if LOOPS in parts else []
    wanted = set[int]().union(*(item.values for item in suspected), *(loop.wanted for loop in loops))
    reference, exactly, notes = best_reference(tape, targets, wanted, method, seconds, tell)
    made = {value for item in suspected for place in item.calls for value in tape.calls[place].outputs}
    study = Study(
        tape, graph, targets, reference, exactly, deadline=time.perf_counter() + seconds,
        suspected={value for value in made if value is not None},
    )  # fmt: skip
    found = _held(study, notes, seconds, tell)
    if CAUSES in parts:
        found = _with_causes(found, study, suspected, tell)
    if LOOPS in parts:
        tell("how the error grows along its loops")
        grown, told = loop_errors(study, loops)
        found = replace(found, loops=grown, notes=(*found.notes, *told))
    if CAUSES in parts and start is not None:
        tell("running it once more")
        found = replace(found, repeats=repeat_of(program, graph, tape, start))
    return replace(found, seconds=time.perf_counter() - began)


def _held(study: Study, notes: Sequence[str], seconds: float, tell: Progress) -> Accuracy:
    """The results against their true values, or in runs that are rounded at random; without causes."""
    quantities = [quantity(study, target) for target in study.targets]
    reference = study.reference
    if reference is None:
        tell("running it again and again, rounded at random")
        digits = sample(study.tape, study.targets, deadline=time.perf_counter() + seconds)
        quantities = [
            _with_digits(item, digits.get(target.value)) for item, target in zip(quantities, study.targets, strict=True)
        ]
        study.deadline = time.perf_counter() + seconds
    formats = [study.tape.tensors[target.value].dtype for target in study.targets]
    return Accuracy(
        study.graph,
        "sample" if reference is None else reference.method,
        None if reference is None else reference.precision,
        max(map(unit_roundoff, formats), default=math.nan),
        study.ops,
        quantities,
        branches=_branches(reference),
        escaped=study.tape.reads,
        conditions=conditions_of(study.tape, study.graph),
        notes=notes,
    )


def _with_causes(found: Accuracy, study: Study, suspected: Sequence[Candidate], tell: Progress) -> Accuracy:
    """With the ops that made the errors, and what is known about them."""
    lacks = too_large(study.tape)
    if lacks:
        note = f"Who made the errors is not told: the derivatives by all values would take {lacks}."
        return replace(found, notes=(*found.notes, note))
    quantities = list(found.quantities)
    tell(f"measuring the rounding of {len(study.ops):,} ops")
    for place in _worst(quantities, study):
        quantities[place] = replace(quantities[place], attribution=attribute(study, study.targets[place]))
        tell(f"who made the error of {quantities[place].label}")
    suspects = judge(study, suspected)
    study.forget_derivatives()
    return replace(found, quantities=quantities, suspects=suspects, sums=term_sums(study.tape, study.graph))


def _with_digits(item: Quantity, found: Significance | None) -> Quantity:
    """With the digits of the result as a whole that do not depend on rounding."""
    overall = None if found is None else found.overall
    return item if overall is None else replace(item, significant=(overall.digits, overall.low, overall.high))


def _worst(quantities: Sequence[Quantity], study: Study) -> list[int]:
    """Outputs and the loss, and then the gradients that are relatively most off: whose error is to be attributed.

    What is infinite or NaN has no error that adds up.
    """
    finite = [bool(study.tape.tensors[target.value].isfinite().all()) for target in study.targets]
    rows = [
        (item.kind == "gradient", -_relative(item), place) for place, item in enumerate(quantities) if finite[place]
    ]
    return sorted(place for _, _, place in sorted(rows)[:_MOST_ATTRIBUTED])


def _relative(item: Quantity) -> float:
    if not item.error:
        return 0.0
    return item.error / item.truth if item.truth else math.inf


def _branches(reference: Reference | None) -> list[Branch]:
    if not isinstance(reference, ExactReference):
        return []
    return [Branch(found.call, found.otherwise, found.undecided) for found in reference.exact.departures]

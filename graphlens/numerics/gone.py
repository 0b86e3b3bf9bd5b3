"""What gradients that a shorter program does not have are in exact arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphlens.accuracy import Accuracy, Quantity
from graphlens.analyses.proof import Gathered, Proof
from graphlens.capture.tape import Tape
from graphlens.capture.timing import Progress
from graphlens.graph import GradGraph
from graphlens.numerics.choosing import exact_reference
from graphlens.numerics.quantities import quantity
from graphlens.numerics.study import Study, Target

SECONDS = 30.0


def with_truths(
    proof: Proof,
    tape: Tape,
    graph: GradGraph,
    accuracy: Accuracy | None = None,
    *,
    seconds: float = SECONDS,
    progress: Progress = lambda _: None,
) -> Proof:
    """The proof, knowing the true values of the gradients that are gone, or why they are not known.

    Args:
        accuracy: of the same run; what it knows in exact arithmetic is not computed again.
        seconds: what computing them may take.
    """
    if not proof.gathered:
        return proof
    # Leaves that receive the very same value have one target between them.
    first = {value: name for name, value in reversed(tape.gradients.items())}
    targets = {name: Target(name, "gradient", value) for value, name in first.items()}
    known: Mapping[str, Quantity] = {}
    precision, why = None, ""
    if accuracy is not None and accuracy.method == "exact":
        known = {item.name: item for item in accuracy.quantities if item.kind == "gradient"}
        precision, why = accuracy.precision, " ".join(accuracy.notes)
    else:
        progress("replaying the run in exact arithmetic")
        chosen = [targets[name] for name in dict.fromkeys(first[tape.gradients[item.name]] for item in proof.gathered)]
        reference, reasons = exact_reference(tape, chosen, seconds=seconds)
        why = "; ".join(reasons)
        if reference is not None:
            study = Study(tape, graph, chosen, reference, exactly=True)
            known, precision = {target.name: quantity(study, target) for target in chosen}, reference.precision
    return replace(
        proof,
        gathered=[
            _with_truth(item, known.get(first[tape.gradients[item.name]]), precision, why) for item in proof.gathered
        ],
    )


def _with_truth(item: Gathered, found: Quantity | None, precision: int | None, why: str) -> Gathered:
    if found is None or found.truth is None:
        return replace(item, unknown=why or "it is not known well enough")
    return replace(item, truth=found.truth, is_zero=found.is_zero, precision=precision)

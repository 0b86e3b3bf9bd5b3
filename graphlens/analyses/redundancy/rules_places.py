"""Rules for entries that are taken out and put back where they were."""

from __future__ import annotations

from graphlens.analyses.listing import Step
from graphlens.analyses.redundancy.known import Known, Look, Undone

TAKING = ("index", "index_select", "gather")


def reordered(step: Step, known: Known) -> Undone | None:
    """x[p][q], which is x where q undoes p: whether it does is left to the check on the run's numbers."""
    inner = known.maker(step.inputs[0], step.op)
    if inner is None or inner.attributes != step.attributes or len(step.inputs) < 2:
        return None
    return Undone(inner.inputs[0], (inner, step))


def put_back(taken_by: str) -> Look:
    """x with some of its own entries written over themselves."""

    def rule(step: Step, known: Known) -> Undone | None:
        source = 1 if step.op in _SOURCE_SECOND else len(step.inputs) - 1
        inner = known.maker(step.inputs[source], taken_by)
        if inner is None or inner.inputs[0] != step.inputs[0] or _numbers(inner) != _numbers(step):
            return None
        places = step.inputs[1:source]
        return Undone(inner.inputs[0], (inner, step)) if inner.inputs[1:] == places else None

    return rule


_SOURCE_SECOND = ("slice_scatter", "select_scatter")


def _numbers(step: Step) -> list[object]:
    """Its plain arguments in their order, wherever they stand: `accumulate=True` is one more."""
    return [value for value in step.numbers.values() if value is not False and not isinstance(value, (list, tuple))]

"""Which ops made the error of a result: the rounding of each, times what the result makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from graphlens.accuracy import Attribution
from graphlens.numerics.study import Doubles, Study, Target


def attribute(study: Study, target: Target, weights: Doubles | None = None) -> Attribution:
    """The contributions of all ops to the error of one result, along the direction of that error.

    The sum is the first order of the error; what is missing in it are products of two roundings, and
    the ops named in `unmeasured`.

    Args:
        weights: of the result's entries, for another functional than the error's own direction.
    """
    own_direction = weights is None
    if weights is None:
        if target.value in study.attributed:
            return study.attributed[target.value]
        words, _, total = study.along_error(target)
        adjoint = study.adjoint(target)
    else:
        error = study.error(target.value)
        words, total = "given weights", None if error is None else float((weights * error).sum())
        adjoint = study.sensitivities.of(target.value, weights)
    contributions = np.zeros(len(study.ops))
    unmeasured: Counter[str] = Counter()
    for place, (call, local) in enumerate(zip(study.tape.calls, study.local, strict=True)):
        for position, value in enumerate(call.outputs):
            weights = adjoint.get(value) if value is not None else None
            if weights is None or not weights.any():
                continue
            error = None if local is None else local[position]
            term = float("nan") if error is None else _term(weights, error)
            if not np.isfinite(term):
                unmeasured[study.ops[place].name] += 1
                term = float("nan")
            contributions[place] += term
    for name, count in study.sensitivities.uncovered.items():
        unmeasured[name] += count
    found = Attribution(words, total, contributions, dict(unmeasured))
    if own_direction:
        study.attributed[target.value] = found
    return found


def _term(weights: Doubles, error: Doubles) -> float:
    """⟨weights, error⟩, NaN if it is not known: what the result does not depend on counts for nothing, be it infinite.

    An infinite weight and no error make NaN, which is no number either.
    """
    matters = weights != 0
    if not matters.all():
        weights, error = weights[matters], error[matters]
    with np.errstate(invalid="ignore"):
        return float((weights * error).sum())

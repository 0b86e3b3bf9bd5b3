"""What is told about a suspect: numbers that were measured at its worst entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.ledger import dtype_name
from graphlens.capture.tape import Call
from graphlens.numerics.arguments import op_name
from graphlens.numerics.conditions import gram_condition
from graphlens.numerics.quantities import unit_roundoff
from graphlens.numerics.shadow import is_float, wide
from graphlens.numerics.study import Study
from graphlens.numerics.suspects import Candidate
from graphlens.numerics.terms import factors, operands
from graphlens.numerics.truths import exponent

Doubles = npt.NDArray[np.float64]
Told = dict[str, object]


class Spot(NamedTuple):
    """One entry of one value, and the call that made it."""

    call: int
    value: int
    place: tuple[int, ...]


def evidence(study: Study, candidate: Candidate, spot: Spot) -> Told:
    """What was measured about a candidate at its worst entry."""
    call = study.tape.calls[spot.call]
    tensor = study.tape.tensors[spot.value]
    op = study.ops[spot.call]
    told: Told = {
        "op": op.name,
        "during": "sums of gradients" if op.accumulates else "backward" if op.backward else "forward",
        "calls": len(candidate.calls),
        "worst_op": spot.call,
        "format": dtype_name(tensor.dtype),
        "format_digits": -math.log10(unit_roundoff(tensor.dtype)),
    }
    told.update(_TELLERS[candidate.kind](study, candidate, call, spot))
    return told


def _cancellation(study: Study, _: Candidate, call: Call, spot: Spot) -> Told:
    found = factors(call, study.tape)
    assert found is not None
    ratios, terms = found
    factor = ratios.expand(study.tape.tensors[spot.value].shape)[spot.place].item()
    unit = unit_roundoff(study.tape.tensors[spot.value].dtype)
    after = _relative(study, spot.value, spot.place)
    before = _before(study, call, spot)
    return {"factor": _finite(factor), "terms": terms, **_losses(before, after, unit)}


def _running(study: Study, candidate: Candidate, call: Call, spot: Spot) -> Told:
    running = candidate.scan.running[spot.value]
    shape, unit = study.tape.tensors[spot.value].shape, unit_roundoff(study.tape.tensors[spot.value].dtype)
    factor = running.factors(study.tape).expand(shape)[spot.place].item()
    before = _largest_error(study, candidate.reads(call), shape, spot.place)
    after = _relative(study, spot.value, spot.place)
    return {
        "kind": "cancellation", "factor": _finite(factor), "terms": len(running.terms),
        "additions": len(running.calls), **_losses(before, after, unit),
    }  # fmt: skip


def _ill_conditioned(study: Study, candidate: Candidate, call: Call, spot: Spot) -> Told:
    found = candidate.scan.condition(call)
    assert found is not None
    tensor = study.tape.tensors[spot.value]
    unit = unit_roundoff(tensor.dtype)
    before = max((_whole(study, value) for value in call.inputs if is_float(study.tape.tensors[value])), default=0.0)
    local = study.local[spot.call]
    own = None if local is None else local[call.outputs.index(spot.value)]
    size = float(np.linalg.norm(wide(tensor).numpy().ravel()))
    root = gram_condition(call, study.tape)
    return {
        "kappa": found.kappa,
        "kappa_of_root": None if root is None else root.kappa,
        "at_least": found.at_least,
        "rows": found.rows,
        "columns": found.columns,
        "expected_digits_lost": math.log10(found.kappa),
        "expected": found.kappa * unit,
        "expected_from_input": found.kappa * before,
        "own": None if own is None or not size else float(np.linalg.norm(own.ravel())) / size,
        **_losses(before, _whole(study, spot.value), unit),
    }


def _absorption(study: Study, candidate: Candidate, call: Call, spot: Spot) -> Told:
    pair, local = operands(call, study.tape), study.local[spot.call]
    assert pair is not None
    shape = study.tape.tensors[spot.value].shape
    a, b = (abs(term.expand(shape)[spot.place].item()) for term in pair)
    small, large = min(a, b), max(a, b)
    own = None if local is None else local[0]
    lost = math.nan if own is None else abs(float(own[spot.place])) / small
    digits = -math.log10(unit_roundoff(study.tape.tensors[spot.value].dtype))
    return {
        "ratio": large / small,
        "lost_of_addend": lost,
        "digits_lost": min(max(digits + math.log10(lost), 0.0), digits) if lost > 0 else 0.0,
        "entries": sum(int(mask.sum()) for place in candidate.calls for mask in candidate.marks(place).values()),
    }


def _out_of_range(study: Study, candidate: Candidate, call: Call, spot: Spot) -> Told:
    tensor = study.tape.tensors[spot.value]
    entry = tensor[spot.place].item()
    facts = torch.finfo(tensor.dtype)
    kind = candidate.kind
    if kind == "underflow" and entry != 0:
        kind = "subnormal"
    assert study.reference is not None
    read = [wide(study.tape.tensors[value]) for value in call.inputs if is_float(study.tape.tensors[value])]
    by_entry = op_name(call) in _BY_ENTRY
    if by_entry:  # an entry is made of the entries in its place, and the others have no part in it
        read = [given.expand(tensor.shape)[spot.place] for given in read]
    finite = [given[given.isfinite()].abs().max().item() for given in read if bool(given.isfinite().any())]
    return {
        "kind": kind,
        "makes": f"{entry:g}",
        "true_log10": _finite(exponent(study.reference, spot.value, spot.place)),
        "input": read[0].item() if by_entry and len(read) == 1 and finite else None,
        "largest_input": max(finite, default=None),
        "largest_number": float(facts.max),
        "least_normal_number": float(facts.tiny),
        "entries": sum(int(mask.sum()) for place in candidate.calls for mask in candidate.marks(place).values()),
    }


_BY_ENTRY = frozenset(
    ("exp", "exp2", "expm1", "sinh", "cosh", "sigmoid", "tanh", "erf", "erfc", "square", "pow", "reciprocal", "rsqrt",
     "softplus", "_to_copy", "neg", "mul", "div", "add", "sub", "rsub")
)  # fmt: skip


def _cast(study: Study, _: Candidate, call: Call, spot: Spot) -> Told:
    given = study.tape.tensors[call.inputs[0]]
    return {
        "from": dtype_name(given.dtype),
        "from_digits": -math.log10(unit_roundoff(given.dtype)),
        "unit": unit_roundoff(study.tape.tensors[spot.value].dtype),
    }


_TELLERS: dict[str, Callable[[Study, Candidate, Call, Spot], Told]] = {
    "ill-conditioned": _ill_conditioned,
    "cancellation": _cancellation,
    "running cancellation": _running,
    "absorption": _absorption,
    "overflow": _out_of_range,
    "underflow": _out_of_range,
    "saturation": _out_of_range,
    "cast": _cast,
}


def _losses(before: float, after: float, unit: float) -> Told:
    """Relative errors of what goes in and of what comes out, and the decimal digits between them."""
    most = -math.log10(unit)
    if math.isinf(before):  # something stood for a true 0 already
        return {"before": None, "after": _finite(after), "digits_lost": 0.0}
    lost = math.log10(after / max(before, unit)) if 0 < after < math.inf else most if after else 0.0
    return {"before": before, "after": _finite(after), "digits_lost": min(max(lost, 0.0), most)}


def _before(study: Study, call: Call, spot: Spot) -> float:
    """The largest relative error of the two terms of one entry; of more terms that of all of them together."""
    tensors = study.tape.tensors
    values = [value for value in call.inputs if is_float(tensors[value])]
    if operands(call, study.tape) is None:
        return max((_whole(study, value) for value in values), default=0.0)
    return _largest_error(study, values, tensors[spot.value].shape, spot.place)


def _largest_error(study: Study, values: Sequence[int], shape: torch.Size, place: tuple[int, ...]) -> float:
    """The largest relative error of the entries that go into one entry of a result of this shape."""
    tensors = study.tape.tensors
    found = 0.0
    for value in values:
        if not is_float(tensors[value]):
            continue
        given = tensors[value].shape
        numbers = np.broadcast_to(np.arange(tensors[value].numel()).reshape(given), shape)
        at = np.unravel_index(int(numbers[place]), given)
        found = max(found, _relative(study, value, tuple(int(part) for part in at)))
    return found


def _relative(study: Study, value: int, place: tuple[int, ...]) -> float:
    """The relative error of one entry; infinite where something stands for a true 0."""
    error = study.error(value)
    if error is None:
        return math.nan
    size = abs(float(study.tape.tensors[value][place].item()) - float(error[place]))
    return abs(float(error[place])) / size if size else math.inf if error[place] else 0.0


def _whole(study: Study, value: int) -> float:
    """The relative error of all entries together, by Euclidean norms."""
    error = study.error(value)
    if error is None:
        return math.nan
    size = float(np.linalg.norm((wide(study.tape.tensors[value]).numpy() - error).ravel()))
    off = float(np.linalg.norm(error.ravel()))
    return off / size if size else math.inf if off else 0.0


def _finite(number: float) -> float | None:
    """JSON has no infinities."""
    return number if math.isfinite(number) else None

"""Where a call may have lost digits, seen from its float numbers alone: the entries of its results to be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from graphlens.accuracy import Condition
from graphlens.capture.tape import Call, Tape
from graphlens.numerics.arguments import argument, op_name
from graphlens.numerics.conditions import SOLVERS, condition_of, matrix_value
from graphlens.numerics.running import ADDING, RunningSum, running_sums
from graphlens.numerics.shadow import is_float
from graphlens.numerics.terms import SUMS, factors, operands

Tensor = torch.Tensor
Marks = dict[int, Tensor]  # per value: which entries

LOST_FACTOR = 100.0  # two digits; what cancels less is seen in every sound program
# Of n random terms Σ |t| ÷ |Σ t| is some √n: only what is far above is cancellation.
RANDOM_FACTOR = 30.0
ILL_CONDITIONED = 100.0

# Results that are 0 only if one of these arguments is, as long as all are finite.
_PRODUCTS = {"mul": (0, 1), "div": (0,), "square": (0,), "pow": (0,), "prod": (0,), "_to_copy": (0,)}
# Results that are never 0 for finite arguments.
_POSITIVE = ("exp", "exp2", "_softmax", "sigmoid", "reciprocal", "erfc", "rsqrt", "softplus")
# Results that are never 1 or −1 for finite arguments.
_SATURATING = ("_softmax", "sigmoid", "tanh", "erf")


@dataclass
class Scan:
    """A tape, and what has been found out about its values."""

    tape: Tape
    _conditions: dict[tuple[str, int], Condition | None] = field(default_factory=dict)

    @cached_property
    def sources(self) -> frozenset[int]:
        return frozenset(self.tape.sources)

    @cached_property
    def reads(self) -> list[tuple[int, ...]]:
        """Per call the values that it reads."""
        return [tuple(call.inputs) for call in self.tape.calls]

    @cached_property
    def running(self) -> dict[int, RunningSum]:
        """The sums that are added up one term after the other, by the value that is the sum."""
        return running_sums(self.tape)

    def condition(self, call: Call) -> Condition | None:
        """κ₂ of the matrix of a call; of the same matrix it is computed once."""
        value = matrix_value(call)
        if value is None:
            return None
        key = op_name(call), value
        if key not in self._conditions:
            self._conditions[key] = condition_of(call, self.tape)
        return self._conditions[key]

    def result(self, call: Call) -> tuple[int, Tensor] | None:
        """The first result of a call, if it holds floating-point numbers."""
        value = call.outputs[0] if call.outputs else None
        return None if value is None or not is_float(self.tape.tensors[value]) else (value, self.tape.tensors[value])

    def given(self, call: Call, which: int | str) -> object:
        """One of its arguments, as the run had it."""
        return argument(call, which, self.tape.tensors.__getitem__)


def cancellation(call: Call, scan: Scan) -> Marks:
    """Entries of a sum that are small beside its terms; of two terms one at least must have been computed."""
    if operands(call, scan.tape) is not None and scan.sources.issuperset(call.inputs):
        return {}
    found, made = factors(call, scan.tape), scan.result(call)
    if found is None or made is None:
        return {}
    ratios, terms = found
    return _marked(made[0], ratios >= _least_factor(terms))


def running_cancellation(call: Call, scan: Scan) -> Marks:
    """Entries of a sum added up term by term that are small beside its terms, though no single addition shows it."""
    made = scan.result(call)
    running = None if made is None else scan.running.get(made[0])
    if made is None or running is None:
        return {}
    return _marked(made[0], running.factors(scan.tape) >= _least_factor(len(running.terms)))


def absorption(call: Call, scan: Scan) -> Marks:
    """Entries of an addition in which one term loses at least half of its bits beside the other."""
    pair, made = operands(call, scan.tape), scan.result(call)
    if pair is None or made is None:
        return {}
    a, b = pair[0].abs(), pair[1].abs()
    least = math.sqrt(torch.finfo(made[1].dtype).eps / 2)
    small, large = torch.minimum(a, b), torch.maximum(a, b)
    return _marked(made[0], (small > 0) & (small < least * large) & large.isfinite())


def overflow(call: Call, scan: Scan) -> Marks:
    """Entries that are infinite or NaN though all that was read is finite."""
    found: Marks = {}
    tensors = scan.tape.tensors
    for output in call.outputs:
        if output is None or not is_float(tensors[output]):
            continue
        if math.isfinite(float(tensors[output].sum())):
            continue  # the sum of infinities or NaN is not finite
        bad = ~tensors[output].isfinite()
        if bool(bad.any()):
            for value in call.inputs:
                if is_float(tensors[value]):
                    broken = ~tensors[value].isfinite()
                    bad = bad & ~broken if broken.shape == bad.shape else bad & ~broken.any()
            found.update(_marked(output, bad))
    return found


def underflow(call: Call, scan: Scan) -> Marks:
    """Entries that are subnormal, or 0 where the exact result on the same numbers is not."""
    made = scan.result(call)
    if made is None:
        return {}
    value, result = made
    size = result.abs()
    small = size < torch.finfo(result.dtype).tiny
    if not bool(small.any()):
        return {}
    return _marked(value, small & ((size > 0) | _cannot_be_zero(call, scan, result)))


def saturation(call: Call, scan: Scan) -> Marks:
    """Entries that are 1 or −1 only because what is missing was rounded away."""
    made = scan.result(call)
    if made is None:
        return {}
    value, result = made
    if op_name(call) == "_softmax" and result.shape and result.shape[int(call.args[1])] == 1:
        return {}
    return _marked(value, (result.abs() == 1) & scan.tape.tensors[call.inputs[0]].isfinite())


def narrowing(call: Call, scan: Scan) -> Marks:
    """All entries of a cast to a format with fewer bits."""
    made, given = scan.result(call), scan.tape.tensors[call.inputs[0]]
    if made is None or not is_float(given) or torch.finfo(made[1].dtype).eps <= torch.finfo(given.dtype).eps:
        return {}
    return _marked(made[0], torch.ones_like(made[1], dtype=torch.bool))


def ill_conditioned(call: Call, scan: Scan) -> Marks:
    """All results of solving with a matrix that is not well-conditioned."""
    found = scan.condition(call)
    if found is None or found.kappa < ILL_CONDITIONED:
        return {}
    tensors = scan.tape.tensors
    return {
        value: torch.ones_like(tensors[value], dtype=torch.bool)
        for value in call.outputs
        if value is not None and is_float(tensors[value])
    }


Marker = Callable[[Call, Scan], Marks]
MARKERS: dict[str, Marker] = {
    "ill-conditioned": ill_conditioned,
    "cancellation": cancellation,
    "running cancellation": running_cancellation,
    "absorption": absorption,
    "overflow": overflow,
    "underflow": underflow,
    "saturation": saturation,
    "cast": narrowing,
}
_ONLY: dict[str, frozenset[str]] = {
    "ill-conditioned": SOLVERS,
    "cancellation": SUMS,
    "running cancellation": ADDING,
    "absorption": ADDING,
    "underflow": frozenset((*_PRODUCTS, *_POSITIVE)),
    "saturation": frozenset(_SATURATING),
    "cast": frozenset(("_to_copy",)),
}


def kinds_for(name: str) -> list[str]:
    """What may be wrong with an op of this name."""
    return [kind for kind in MARKERS if kind not in _ONLY or name in _ONLY[kind]]


def _least_factor(terms: int) -> float:
    """Σ |terms| ÷ |Σ terms| from which on it is cancellation."""
    return max(LOST_FACTOR, RANDOM_FACTOR * math.sqrt(terms))


def _marked(value: int, mask: Tensor) -> Marks:
    return {value: mask} if bool(mask.any()) else {}


def _cannot_be_zero(call: Call, scan: Scan, result: Tensor) -> Tensor:
    """Entries whose exact value is not 0, as the arguments are what they are."""
    name = op_name(call)
    surely = torch.ones_like(result, dtype=torch.bool)
    if name == "div":
        if "rounding_mode" in call.kwargs:
            return ~surely
        surely = surely & _finite(scan.given(call, 1))
    for place in _PRODUCTS.get(name, (0,)):
        given = scan.given(call, place)
        fine = _finite(given)
        if name not in _POSITIVE:
            fine = fine & torch.as_tensor(given != 0)
        # Of a product along a dimension all factors are asked for.
        surely = surely & (fine.all() if name == "prod" else fine)
    return surely


def _finite(given: object) -> Tensor:
    # A number of Python would become float32, in which 1e300 is infinite.
    return (given if isinstance(given, Tensor) else torch.as_tensor(given, dtype=torch.float64)).isfinite()

"""Sums that a program adds up one term after the other: their terms, and what is left of them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import NamedTuple

import torch

from graphlens.capture.tape import Call, Ref, Tape
from graphlens.numerics.arguments import argument, op_name
from graphlens.numerics.shadow import is_float, wide

Tensor = torch.Tensor

ADDING = frozenset(("add", "sub", "rsub"))
FEWEST_TERMS = 3  # of two terms the single op tells
_MOST_KNOWN = 64  # terms whose true values are asked for


class Term(NamedTuple):
    """A factor times a value of the tape; of a plain number, the number itself with `value` None."""

    value: int | None
    factor: float

    def size(self, tape: Tape) -> Tensor:
        """|term| of every entry, in float64."""
        if self.value is None:
            return torch.as_tensor(abs(self.factor), dtype=torch.float64)
        return abs(self.factor) * tape.tensors[self.value].double().abs()


class RunningSum(NamedTuple):
    """A sum whose partial sums are read by nothing but the next addition.

    Attributes:
        calls: places of the additions; the first one makes the whole sum.
        terms: in no particular order.
    """

    calls: tuple[int, ...]
    terms: tuple[Term, ...]

    def magnitude(self, tape: Tape) -> Tensor:
        """Σ |terms| of every entry, in float64."""
        found = torch.zeros((), dtype=torch.float64)
        for term in self.terms:
            found = found + term.size(tape)
        return found

    def factors(self, tape: Tape) -> Tensor:
        """Σ |terms| ÷ |Σ terms| of every entry as the run has it; infinite where 0 is left."""
        made = tape.calls[self.calls[0]].outputs[0]
        assert made is not None
        left = wide(tape.tensors[made]).abs()
        return (self.magnitude(tape).expand(left.shape) / left).nan_to_num_(1.0, math.inf)

    def largest(self, tape: Tape) -> list[int]:
        """The values that are the largest terms; of many some."""
        found = [term for term in self.terms if term.value is not None]
        if len(found) > _MOST_KNOWN:
            found = heapq.nlargest(_MOST_KNOWN, found, key=lambda term: float(term.size(tape).max()))
        return [term.value for term in found if term.value is not None]


def running_sums(tape: Tape) -> dict[int, RunningSum]:
    """The sums of at least three terms, by the value that is the whole sum."""
    adding = {
        value: place
        for place, call in enumerate(tape.calls)
        if op_name(call) in ADDING and (value := call.outputs[0]) is not None and is_float(tape.tensors[value])
        and tape.tensors[value].numel()
    }
    reads = Counter(value for call in tape.calls for value in call.inputs)
    inner = {
        value
        for place in adding.values()
        for value in tape.calls[place].inputs
        if value in adding and reads[value] == 1 and _are_of_one_pass(tape.calls[adding[value]], tape.calls[place])
    }
    found = {}
    for value, place in adding.items():
        if value not in inner:
            running = _walked(tape, place, adding, inner)
            if len(running.terms) >= FEWEST_TERMS:
                found[value] = running
    return found


def _walked(tape: Tape, place: int, adding: dict[int, int], inner: set[int]) -> RunningSum:
    """From a sum back through the additions that made it, with a stack: it may have a million terms."""
    calls: list[int] = []
    terms: list[Term] = []
    stack = [(place, 1.0)]
    while stack:
        place, factor = stack.pop()
        calls.append(place)
        call = tape.calls[place]
        for what, own in _operands(call):
            if not isinstance(what, Ref):
                if what:
                    terms.append(Term(None, factor * own * what))
            elif what.value in inner:
                stack.append((adding[what.value], factor * own))
            else:
                terms.append(Term(what.value, factor * own))
    return RunningSum(tuple(calls), tuple(terms))


def _operands(call: Call) -> list[tuple[Ref | float, float]]:
    """The two terms of an addition or subtraction with their factors."""
    first, second = (argument(call, which, Ref) for which in (0, 1))
    alpha = float(call.kwargs.get("alpha", call.args[2] if len(call.args) > 2 else 1))
    if op_name(call) == "rsub":
        return [(first, -alpha), (second, 1.0)]
    return [(first, 1.0), (second, alpha if op_name(call) == "add" else -alpha)]


def _are_of_one_pass(one: Call, other: Call) -> bool:
    return (one.backward, one.accumulates) == (other.backward, other.accumulates)


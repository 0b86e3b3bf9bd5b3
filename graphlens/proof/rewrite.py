"""Products in another order: calls that give the same for less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.capture.tape import Call, Ref, Tape, filled

aten = torch.ops.aten
_DENSE = frozenset((aten.mm.default, aten.bmm.default))
_PRODUCTS = _DENSE | {aten.mv.default}


def with_room(tape: Tape) -> Tape:
    """The same tape, which values of its own can be added to."""
    return replace(tape, tensors=list(tape.tensors), requiring=set(tape.requiring))


def rewritten(calls: Iterable[Call], tape: Tape, otherwise: Otherwise) -> tuple[list[Call], set[int]]:
    """The calls, with those that another way replaces, and the results of these.

    What nothing reads any more is still among the calls.

    Args:
        calls: each reads the first of equal values.
        tape: takes the values of calls that are new.
    """
    made: dict[int, Call] = {}
    found: list[Call] = []
    changed: set[int] = set()
    for call in calls:
        new = _reordered(call, made, tape, otherwise)
        if new:
            changed.update(value for value in call.outputs if value is not None)
        for one in new or [call]:
            made.update((value, one) for value in one.outputs if value is not None)
            found.append(one)
    return found, changed


def _reordered(call: Call, made: Mapping[int, Call], tape: Tape, otherwise: Otherwise) -> list[Call]:
    """A (B C) for (A B) C, or the other way round; the nodes of both products are then those of the new ones."""
    factor = otherwise.orders.get(call.outputs[0] or -1) if call.function in _PRODUCTS else None
    inner = None if factor is None else made.get(factor)
    if factor is None or inner is None or inner.function not in _DENSE or call.inputs.count(factor) != 1:
        return []
    a, b = inner.inputs
    first, second = call.inputs
    if first == factor:
        part = _new(call, (b, second), inner.node, tape)
        return [part, call._replace(args=(Ref(a), Ref(part.outputs[0] or 0)))]
    part = _new(inner, (first, a), inner.node, tape)
    return [part, call._replace(args=(Ref(part.outputs[0] or 0), Ref(b)))]


def _new(like: Call, inputs: tuple[int, int], node: int | None, tape: Tape) -> Call:
    """A call of the same function on other values, with a value of its own."""
    args = tuple(map(Ref, inputs))
    number = len(tape.tensors)
    with torch.no_grad():
        tape.tensors.append(like.function(*filled(args, tape.tensors.__getitem__)))
    if like.tracked and not tape.requiring.isdisjoint(inputs):
        tape.requiring.add(number)
    return like._replace(args=args, outputs=(number,), node=node)


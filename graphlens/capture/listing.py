"""A tape's forward pass as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload

from graphlens.analyses.listing import Listing, Step, Value
from graphlens.capture.ledger import dtype_name
from graphlens.capture.tape import Call, Ref, Tape
from graphlens.collector import paused_collector

_MOST_CONTENT = 1 << 16  # entries of a constant that are compared


def listing_of(tape: Tape) -> Listing:
    """The forward pass of a tape, without its tensors."""
    with paused_collector(lasting=True):
        return _listing(tape)


def _listing(tape: Tape) -> Listing:
    # Not every source: two buffers that are equal today are two buffers.
    constants = {call.inputs[0] for call in tape.calls if call.function is torch.ops.aten.lift_fresh.default}
    constants &= set(tape.sources)
    leaves = {value: name for name, value in reversed(tape.leaves.items())}
    ends = dict.fromkeys((*tape.outputs.values(), *tape.roots.values()))
    steps = [_step(call, tape) for call in tape.calls if not call.backward]
    values = [_OF_THE_BACKWARD_PASS] * len(tape.tensors)
    alike: dict[tuple[object, torch.dtype], Value] = {}  # one record for all that look the same
    constants -= leaves.keys()
    for number in {*leaves, *ends, *_values_of(steps)}:
        tensor = tape.tensors[number]
        if number in constants:
            values[number] = _constant(tensor)
            continue
        look = tensor.shape, tensor.dtype
        value = alike.get(look)
        if value is None:
            value = alike[look] = _value(tensor)
        values[number] = value
    return Listing(
        steps,
        values,
        leaves,
        list(ends),
        frozenset(tape.requiring),
        list(dict.fromkeys(tape.roots.values())),
        tape.saved,
    )


_OF_THE_BACKWARD_PASS = Value((), "", 0)  # no step knows it


def _values_of(steps: Sequence[Step]) -> set[int]:
    found: set[int | None] = set()
    for step in steps:
        found.update(step.inputs)
        found.update(step.outputs)
    return {value for value in found if value is not None}


def _step(call: Call, tape: Tape) -> Step:
    args, kwargs = call.args, call.kwargs
    if not kwargs and all(type(value) is Ref for value in args):  # most of a long pass
        numbers: dict[int | str, Any] = {}
        attributes: Hashable = len(args)
        inputs = tuple([value.value for value in args])
    else:
        inputs = tuple(call.inputs)
        if inputs and (named := _dimensions(call.function)):
            args, kwargs = _counted_from_the_first(args, kwargs, named, tape.tensors[inputs[0]].ndim)
        every: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        numbers = {key: value for key, value in every if value is not None and not isinstance(value, Ref)}
        attributes = _plain(args), tuple((key, _plain(value)) for key, value in sorted(kwargs.items()))
    name, overload = _name(call.function)
    return Step(
        name, overload, attributes, numbers, inputs, call.outputs, call.node, call.random, call.tracked
    )  # fmt: skip


# Arguments that name dimensions, and ops that make one: they may name one more than their input has.
_NAMING = frozenset(("dim", "dims", "dim0", "dim1", "dim2", "dimension"))
_MAKING = frozenset(("stack", "unsqueeze"))


@cache
def _dimensions(function: OpOverload) -> dict[int | str, int]:
    """Where an op's arguments name dimensions, by position and by name, each with how many more there may be."""
    more = int(function._schema.name.rpartition("::")[2] in _MAKING)
    found: dict[int | str, int] = {}
    for position, argument in enumerate(function._schema.arguments):
        if argument.name in _NAMING:
            found[position] = found[argument.name] = more
    return found


def _counted_from_the_first(
    args: tuple[Any, ...], kwargs: dict[str, Any], named: dict[int | str, int], rank: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with dimensions counted from the first: −1 and 1 are the same one of a matrix."""

    def counted(key: int | str, value: Any) -> Any:
        if key not in named:
            return value
        if isinstance(value, (list, tuple)):
            return type(value)(counted(key, item) for item in value)
        is_from_the_last = type(value) is int and value < 0
        return value + max(rank, 1) + named[key] if is_from_the_last else value

    return (
        tuple([counted(place, value) for place, value in enumerate(args)]),
        {key: counted(key, value) for key, value in kwargs.items()},
    )


@cache
def _name(function: OpOverload) -> tuple[str, str]:
    name = function._schema.name
    return name.rpartition("::")[2] if function.namespace == "aten" else name, function._overloadname


def _plain(value: Any) -> Hashable:
    if isinstance(value, Ref):
        return "·"
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    # 0.0 and -0.0 are equal, and so are 1, 1.0 and True.
    return value if isinstance(value, str) else f"{type(value).__name__} {value!r}"


_dtype = cache(dtype_name)


def _value(tensor: torch.Tensor, content: Hashable = None) -> Value:
    return Value(tuple(tensor.shape), _dtype(tensor.dtype), tensor.numel() * tensor.element_size(), content)


def _constant(tensor: torch.Tensor) -> Value:
    if tensor.layout is not torch.strided or tensor.numel() > _MOST_CONTENT:
        return _value(tensor)
    # A copy, because a tensor with one entry along its last dimension may keep any stride there.
    dense = tensor.resolve_conj().resolve_neg().cpu().clone(memory_format=torch.contiguous_format)
    entries = dense.view(torch.uint8).numpy().tobytes() if (dense.numel() and dense.ndim) else repr(dense.tolist())
    return _value(tensor, (tuple(tensor.shape), dtype_name(tensor.dtype), entries))

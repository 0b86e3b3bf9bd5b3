"""The tape's ops run again in float64: as a shadow of a run in a narrower format, and to differentiate it.

A run in float64 comes out as it was. Of a narrower one every op is taken in float64 on what the ops
before it made in float64, so that the shadow is the run with next to no rounding. It goes the run's
way: whole numbers, truth values and random numbers are those of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from graphlens.capture.tape import Call, Tape, filled, flat_outputs
from graphlens.numerics.arguments import is_drawn, op_name
from graphlens.numerics.standins import STAND_INS

WIDE = torch.float64
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_NUDGE = 2.0**-20


@dataclass
class Shadow:
    """The values of a tape in float64; those that are no floating-point numbers as the run had them.

    Attributes:
        values: by number.
        uncovered: ops that could not be run in float64, or differentiated, with the number of calls;
            what they made is what the run had.
    """

    values: list[torch.Tensor]
    uncovered: Counter[str] = field(default_factory=Counter)


def in_float64(tape: Tape, *, tracked: bool = False) -> Shadow:
    """Run all calls again in float64.

    Args:
        tracked: whether autograd follows every op, so that one value can be differentiated by the others.
            What the program itself detached is followed too: its rounding goes on.
    """
    shadow = Shadow(list(tape.tensors))
    values = shadow.values
    for source in tape.sources:
        values[source] = _source(tape.tensors[source], tracked)
    with torch.set_grad_enabled(tracked):
        for call in tape.calls:
            made = wide_call(call, [values[number] for number in call.inputs], tracked=tracked)
            if made is None:
                shadow.uncovered[op_name(call)] += 1
            for place, number in enumerate(call.outputs):
                if number is None or not is_float(tape.tensors[number]):
                    continue
                result = made[place] if made is not None else None
                if result is None or result.shape != tape.tensors[number].shape:
                    result = _source(tape.tensors[number], tracked)
                values[number] = result
    return shadow


def is_float(tensor: torch.Tensor) -> bool:
    """Whether it holds floating-point numbers that float64 holds too."""
    return tensor.dtype is WIDE or tensor.dtype in _NARROW


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """A floating-point tensor in float64, anything else as it is."""
    return tensor.to(WIDE) if tensor.dtype in _NARROW else tensor


def wide_call(call: Call, inputs: Sequence[torch.Tensor], *, tracked: bool = False) -> list[Any] | None:
    """One call's function on float64 inputs, in the order of `call.inputs`; None where that fails.

    With `tracked` also where its result cannot be differentiated, though an input can. Random numbers
    that stand for themselves count as failing nowhere: an empty list says that the run's are to be taken.
    """
    if call.random and is_drawn(call, any(map(is_float, inputs))):
        return [None] * len(call.outputs)
    if call.random:
        return None
    function = STAND_INS.get(op_name(call), call.function)
    numbers = iter(inputs)
    try:
        args, kwargs = _widened(call, numbers)
        made = flat_outputs(function(*args, **kwargs))
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    if len(made) != len(call.outputs):
        return None
    if tracked and any(map(_is_tracked, inputs)) and "empty" not in op_name(call):
        fixed = [place for place, result in enumerate(made) if _is_cut(result)]
        if fixed and not _are_constant(call, function, inputs, made, fixed):
            return None
    return made


def _are_constant(
    call: Call, function: Callable[..., Any], inputs: Sequence[torch.Tensor], made: list[Any], places: list[int]
) -> bool:
    """Whether results that autograd does not follow stay as they are when the numbers change a little."""
    with torch.no_grad():
        moved = [value * (1 + _NUDGE) + _NUDGE if is_float(value) else value for value in inputs]
        args, kwargs = _widened(call, iter(moved))
        again = flat_outputs(function(*args, **kwargs))
        return all(torch.equal(made[place], again[place]) for place in places)


def _widened(call: Call, numbers: Any) -> tuple[Any, Any]:
    args = tuple(_wide_argument(item) for item in filled(call.args, lambda _: next(numbers)))
    kwargs = {key: _wide_argument(filled(item, lambda _: next(numbers))) for key, item in call.kwargs.items()}
    if op_name(call) in ("_softmax", "_log_softmax"):
        args = (*args[:2], False)  # half_to_float wants a half-precision input
    return args, kwargs


def _wide_argument(item: Any) -> Any:
    return WIDE if isinstance(item, torch.dtype) and item in _NARROW else item


def _source(tensor: torch.Tensor, tracked: bool) -> torch.Tensor:
    if not is_float(tensor):
        return tensor
    copy = wide(tensor.detach())
    if not tracked:
        return copy
    # A tensor of its own: the run's may be used elsewhere.
    return (copy.clone() if copy is tensor or copy.data_ptr() == tensor.data_ptr() else copy).requires_grad_()


def _is_tracked(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad


def _is_cut(result: Any) -> bool:
    """Whether autograd does not follow a floating-point result."""
    if not isinstance(result, torch.Tensor) or result.dtype is not WIDE:
        return False
    if not result.requires_grad:
        return True
    return result.grad_fn is not None and result.grad_fn.name() == "NotImplemented"

"""How small changes go through the ops of a tape: forward-mode derivatives at the values of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from graphlens.capture.tape import Call, Tape
from graphlens.numerics.arguments import op_name
from graphlens.numerics.shadow import WIDE, is_float, wide, wide_call

Change = torch.Tensor | None  # None stands for 0


# With all inputs but one held fast, what these make of a change of that one is what they make of a value.
_LINEAR = frozenset(
    ("mv", "mm", "bmm", "dot", "mul", "neg", "t", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand",
     "select", "slice", "unsqueeze", "squeeze", "clone", "alias", "detach", "sum", "mean")
)  # fmt: skip


class NoDerivative(Exception):
    """An op has no forward-mode derivative, or does not run in float64."""


def pushed(tape: Tape, call: Call, changes: Sequence[Change]) -> list[Change]:
    """What changes of its inputs, in the order of `call.inputs`, make of the results, to first order.

    Must run inside `torch.autograd.forward_ad.dual_level()`.

    Raises:
        NoDerivative: naming the op.
    """
    if all(change is None for change in changes):
        return [None] * len(call.outputs)
    changed = [place for place, change in enumerate(changes) if change is not None]
    is_linear = len(changed) == 1 and op_name(call) in _LINEAR
    dual: Any = forward_ad.make_dual
    inputs = []
    for value, change in zip(call.inputs, changes, strict=True):
        tensor = wide(tape.tensors[value])
        if change is not None:
            # An expanded tensor, whose entries share their place, cannot carry a derivative.
            tensor = change if is_linear else dual(tensor.contiguous() if 0 in tensor.stride() else tensor, change)
        inputs.append(tensor)
    with torch.no_grad():
        made = wide_call(call, inputs)
    if made is None:
        raise NoDerivative(op_name(call))
    return made if is_linear else [_change(result) for result in made]


def _change(result: object) -> Change:
    if not isinstance(result, torch.Tensor) or result.dtype is not WIDE or not is_float(result):
        return None
    unpacked: Any = forward_ad.unpack_dual(result)  # type: ignore[no-untyped-call]
    tangent: Change = unpacked.tangent
    return tangent

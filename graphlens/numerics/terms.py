"""The terms of sums: how large they are together, beside what is left of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from graphlens.capture.tape import Call, Tape
from graphlens.numerics.arguments import argument, op_name
from graphlens.numerics.shadow import is_float, wide, wide_call

Tensor = torch.Tensor

_TWO = ("add", "sub", "rsub")
# Linear in the absolute values of their inputs, so that the op itself adds up the magnitudes.
_ADDING = (
    "sum", "mean", "cumsum", "trace", "dot", "vdot", "mv", "mm", "bmm", "addmm", "addmv", "addbmm", "baddbmm", "addr",
    "linear", "convolution", "index_add", "scatter_add", "embedding_dense_backward",
)  # fmt: skip
# Of these a loop may run a million, and they are called as they are: no other argument, nothing to look up.
_PLAIN: dict[str, Callable[..., Tensor]] = {"mv": torch.mv, "mm": torch.mm, "bmm": torch.bmm, "dot": torch.dot}
SUMS = frozenset((*_TWO, *_ADDING, "mse_loss"))


def operands(call: Call, tape: Tape) -> tuple[Tensor, Tensor] | None:
    """The two terms of an addition or subtraction, with their factors and signs, in float64; None for another op."""
    name = op_name(call)
    if name not in _TWO:
        return None
    first, second = (_number(argument(call, place, tape.tensors.__getitem__)) for place in (0, 1))
    factor = float(call.kwargs.get("alpha", call.args[2] if len(call.args) > 2 else 1))
    if name == "rsub":
        return -factor * first, second
    return first, (factor if name == "add" else -factor) * second


def magnitudes(call: Call, tape: Tape) -> tuple[Tensor, int] | None:
    """Σ |terms| of every entry of a sum in float64, and how many terms an entry has; None for what is no sum."""
    name = op_name(call)
    tensors = [tape.tensors[value] for value in call.inputs]
    if any(tensor.is_complex() or not (is_float(tensor) or _is_whole(tensor)) for tensor in tensors):
        return None
    pair = operands(call, tape)
    if pair is not None:
        return pair[0].abs() + pair[1].abs(), 2
    if name not in _ADDING:
        return None
    plain = _PLAIN.get(name)
    if plain is not None and all(map(is_float, tensors)):
        product = plain(*(wide(tensor).abs() for tensor in tensors))
        return product, _count(name, tensors, product)
    positive = call
    if call.kwargs:
        weights = {key: abs(v) for key, v in call.kwargs.items() if key in ("alpha", "beta")}
        positive = call._replace(kwargs={**call.kwargs, **weights})
    with torch.no_grad():
        made = wide_call(positive, [wide(tensor).abs() if is_float(tensor) else tensor for tensor in tensors])
    if not made or not isinstance(made[0], Tensor):
        return None
    return made[0], _count(name, tensors, made[0])


def factors(call: Call, tape: Tape) -> tuple[Tensor, int] | None:
    """Σ |terms| ÷ |Σ terms| of every entry of a sum's result as the run has it; infinite where 0 is left."""
    output = call.outputs[0] if call.outputs else None
    if output is None or not is_float(tape.tensors[output]):
        return None
    if op_name(call) == "mse_loss":
        return _of_differences(call, tape), 2
    found = magnitudes(call, tape)
    if found is None:
        return None
    left = wide(tape.tensors[output]).abs()
    return (found[0].expand(left.shape) / left).nan_to_num_(1.0, math.inf), found[1]


def _of_differences(call: Call, tape: Tape) -> Tensor:
    """Of the mean or sum of (a − b)²: ‖ |a| + |b| ‖ ÷ ‖ a − b ‖; entry by entry where nothing is summed."""
    a, b = (wide(tape.tensors[value]) for value in list(call.inputs)[:2])
    if argument(call, "reduction", tape.tensors.__getitem__) == 0:
        return (a.abs() + b.abs()) / (a - b).abs()
    whole: Tensor = torch.linalg.vector_norm(a.abs() + b.abs()) / torch.linalg.vector_norm(a - b)
    return whole


def _is_whole(tensor: Tensor) -> bool:
    return not tensor.dtype.is_floating_point


def _number(value: object) -> Tensor:
    return wide(value) if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)


def _count(name: str, tensors: list[Tensor], made: Tensor) -> int:
    if name in ("dot", "vdot", "mv", "mm", "bmm", "linear"):
        return int(tensors[0].shape[-1])
    if name in ("addmv", "addmm", "baddbmm", "addbmm"):
        return int(tensors[1].shape[-1]) * (int(tensors[1].shape[0]) if name == "addbmm" else 1) + 1
    if name == "convolution":
        return int(tensors[1].numel() // max(tensors[1].shape[0], 1))
    return math.ceil(tensors[0].numel() / max(made.numel(), 1))

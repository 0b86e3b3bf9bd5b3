"""Rounding at random: where a call rounds, and by how much its results are moved.

Monte Carlo arithmetic (Stott Parker, "Monte Carlo arithmetic: exploiting randomness in floating-point
arithmetic", UCLA CSD-970002, 1997): the result y of every op becomes y (1 + u ξ), with ξ uniform in
[−1, 1] and u the unit roundoff of the format that the run has the result in. An op that is made of
many roundings and can lose digits within (a sum, a product of matrices, a solution) has its operands
moved too, for itself alone, by the unit roundoff that it adds up in: its result is then that of data
which are off by one rounding, as it is with a backward stable algorithm. What only moves, chooses or
negates entries rounds nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from graphlens.capture.tape import Call, Tape
from graphlens.numerics.arguments import op_name
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.shadow import is_number, wide_call

_FINEST = 2.0**-53
# They hand on entries of their operands, or take them away.
_CHOOSING = frozenset(
    ("abs", "amax", "amin", "clamp", "clamp_max", "clamp_min", "fmax", "fmin", "hardtanh", "hardtanh_backward",
     "masked_fill", "max", "maximum", "median", "min", "minimum", "relu", "sort", "threshold", "threshold_backward",
     "topk", "where", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "cummax", "cummin",
     "kthvalue", "mode", "nan_to_num", "sign", "sgn", "ceil", "floor", "round", "trunc", "real", "imag", "view_as_real",
     "view_as_complex", "_conj", "hardshrink", "hardshrink_backward", "softshrink_backward", "reflection_pad1d",
     "reflection_pad2d", "replication_pad1d", "replication_pad2d", "upsample_nearest1d", "upsample_nearest2d")
)  # fmt: skip
# They add up what has one sign, after a subtraction that rounds once or not at all: nothing cancels within.
_STEADY = frozenset(
    ("_softmax", "_log_softmax", "_safe_softmax", "logsumexp", "logcumsumexp", "logaddexp", "var", "std", "var_mean",
     "std_mean", "mse_loss", "mse_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward", "huber_loss",
     "huber_loss_backward", "_cdist_forward", "dist", "linalg_vector_norm", "norm", "prod", "cumprod", "embedding",
     "binary_cross_entropy", "_prelu_kernel")
)  # fmt: skip
# Several roundings in one op that works entry by entry.
_COMPOSED = frozenset(("addcmul", "addcdiv", "lerp"))


class Rounding(NamedTuple):
    """How a call is rounded: units of its results, in order, and of its operands; 0 for not at all.

    `exact` marks, per result, the entries that the run has as they are in float64, of constants.
    """

    results: tuple[float, ...]
    operands: float
    exact: tuple[torch.Tensor | None, ...]


def rounding_of(call: Call, tape: Tape) -> Rounding:
    """Where a call of a run rounds."""
    results = [None if value is None else tape.tensors[value] for value in call.outputs]
    inputs = [tape.tensors[value] for value in call.inputs]
    numbers = [tensor for tensor in inputs if is_number(tensor)]
    units = tuple(_unit(tensor) for tensor in results)
    nothing = Rounding((0.0,) * len(units), 0.0, (None,) * len(units))
    name = op_name(call)
    coarsest = max(units, default=0.0)
    if not coarsest or "empty" in name:
        return nothing
    if not numbers:
        return _constant(call, inputs, results, units)
    kernel = KERNELS.get(name)
    if name in _CHOOSING or (kernel is not None and kernel.moves) or name == "_to_copy":
        # In a format that is as fine as the old one all numbers arrive as they were.
        return nothing if min(map(_unit, numbers)) >= coarsest else Rounding(units, 0.0, nothing.exact)
    pointwise = torch.Tag.pointwise in call.function.tags
    single = pointwise and not name.endswith("_backward") and name not in _COMPOSED
    return Rounding(units, 0.0 if single or name in _STEADY else _adding_unit(results), nothing.exact)


def _constant(
    call: Call, inputs: list[torch.Tensor], results: list[torch.Tensor | None], units: tuple[float, ...]
) -> Rounding:
    """A number of the program's text, which the format may hold or not."""
    made = wide_call(call, inputs)
    exact = [
        None if tensor is None or not unit or made is None or made[place] is None else made[place] == tensor
        for place, (tensor, unit) in enumerate(zip(results, units, strict=True))
    ]
    known = tuple(unit if mask is not None else 0.0 for unit, mask in zip(units, exact, strict=True))
    return Rounding(known, 0.0, tuple(exact))


def _unit(tensor: torch.Tensor | None) -> float:
    """Unit roundoff of a tensor's format, 0 for whole numbers."""
    return float(torch.finfo(tensor.dtype).eps) / 2 if tensor is not None and is_number(tensor) else 0.0


def _adding_unit(results: list[torch.Tensor | None]) -> float:
    """The unit roundoff that sums are taken in: torch adds up half precision in float32."""
    units = [_unit(tensor) for tensor in results if _unit(tensor)]
    return min(max(units), float(torch.finfo(torch.float32).eps) / 2)


def at_random(values: torch.Tensor, unit: float, generator: np.random.Generator) -> torch.Tensor:
    """Values in float64, each moved by up to `unit` of itself.

    In float64's own unit the moved value would be rounded to where it was, more often than not. It
    goes to one of its neighbours instead, or stays, with the probabilities that give it the same
    variance, u²y²/3. As the op itself rounds too, deviations in float64 come out up to √2 too large.
    """
    if values.dtype.is_complex:
        return torch.view_as_complex(at_random(torch.view_as_real(values.resolve_conj()), unit, generator))
    given = values.numpy(force=True)  # NumPy has the smaller overhead, and most tensors of many calls are small
    drawn = generator.random(given.shape)
    if unit > _FINEST:
        return torch.from_numpy(np.asarray(given * (1 + unit * (2 * drawn - 1))))
    mantissa, exponent = np.frexp(given)  # y = m · 2^e with 1/2 ≤ |m| < 1, its neighbours 2^(e − 53) away
    share = mantissa * mantissa / 6  # of a step up, and of one down; an infinity makes both
    step = (drawn < share).astype(np.float64) - (drawn > 1 - share)
    return torch.from_numpy(np.asarray(given + np.ldexp(step, exponent - 53)))

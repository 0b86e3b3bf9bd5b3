"""The rounding of sums and products by error-free transformations, in float64 throughout.

a + b = s + e and a · b = p + e hold exactly with e a float64 (Knuth's TwoSum; Dekker's TwoProduct: Ogita,
Rump and Oishi, "Accurate sum and dot product", 2005, algorithms 3.1 to 3.3), and `math.fsum` rounds the
sum of any number of float64 once. So the error of an op that adds and multiplies comes out rounded once,
many times faster than in ball arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.tape import Call, Ref
from graphlens.numerics.arguments import op_name
from graphlens.numerics.balls import doubles, is_real

Doubles = npt.NDArray[np.float64]

_SPLIT = 2.0**27 + 1
_LARGEST, _SMALLEST = 2.0**480, 2.0**-480  # of a factor: its products then neither overflow nor lose their last bits

_MOST_PRODUCTS = 2048  # of a matrix product: beyond it the product of two matrices of balls is faster


def compensated_error(
    call: Call, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor | None]
) -> Doubles | None:
    """The result of a call minus the exact one, for an op that has one result; None where this does not apply."""
    compute = _OPS.get(op_name(call))
    if compute is None or call.kwargs or len(outputs) != 1:
        return None
    result = outputs[0]
    if result is None or not is_real(result) or len(inputs) != sum(isinstance(item, Ref) for item in call.args):
        return None
    if not all(map(is_real, inputs)):
        return None
    arrays = map(doubles, inputs)
    operands: list[Any] = [next(arrays) if isinstance(item, Ref) else item for item in call.args]
    made = doubles(result)
    if not np.isfinite(made).all() or not all(map(_is_safe, operands)):
        return None
    found = compute(made, *operands)
    return None if found is None or found.shape != made.shape or not np.isfinite(found).all() else found


def _is_safe(operand: Any) -> bool:
    """Whether the numbers of an array stay clear of over- and underflow."""
    if not isinstance(operand, np.ndarray):
        return True
    sizes = np.abs(operand)
    return bool(((sizes < _LARGEST) & ((sizes > _SMALLEST) | (sizes == 0))).all())


def _number(operand: Any) -> Any:
    """An array as it is, a number of Python if float64 holds it; None otherwise."""
    if isinstance(operand, np.ndarray):
        return operand
    if isinstance(operand, bool) or not isinstance(operand, (int, float)):
        return None
    exact = isinstance(operand, float) or abs(operand) <= 2**53
    return np.float64(operand) if exact and _is_safe(np.asarray(float(operand))) else None


def _two_products(a: Any, b: Any) -> tuple[Any, Any]:
    """The rounded products, and what rounding them left out."""
    product = a * b
    big, more = a * _SPLIT, b * _SPLIT
    a_high, b_high = big - (big - a), more - (more - b)
    a_low, b_low = a - a_high, b - b_high
    rest = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, rest


def _mul(made: Doubles, a: Any, b: Any) -> Doubles | None:
    a, b = _number(a), _number(b)
    if a is None or b is None:
        return None
    product, rest = _two_products(a, b)
    return np.asarray((made - product) - rest, dtype=np.float64)


def _add(made: Doubles, a: Any, b: Any) -> Doubles | None:
    a, b = _number(a), _number(b)
    if a is None or b is None:
        return None
    total = a + b
    part = total - a
    rest = (a - (total - part)) + (b - part)
    return np.asarray((made - total) - rest, dtype=np.float64)


def _sub(made: Doubles, a: Any, b: Any) -> Doubles | None:
    b = _number(b)
    return None if b is None else _add(made, a, -b)


def _mm(made: Doubles, a: Doubles, b: Doubles) -> Doubles | None:
    """(…, m, k) @ (…, k, n): per entry one exactly rounded sum of 2k + 1 terms."""
    if made.size * a.shape[-1] > _MOST_PRODUCTS:
        return None
    products, rests = _two_products(a[..., :, :, None], b[..., None, :, :])
    terms = np.concatenate((products, rests, -made[..., :, None, :]), axis=-2)
    return _minus_sums(terms.swapaxes(-1, -2))


def _mv(made: Doubles, a: Doubles, b: Doubles) -> Doubles | None:
    found = _mm(made[:, None], a, b[:, None])
    return None if found is None else found.reshape(made.shape)


def _dot(made: Doubles, a: Doubles, b: Doubles) -> Doubles | None:
    found = _mm(made[None, None], a[None, :], b[:, None])
    return None if found is None else found.reshape(made.shape)


def _sum(made: Doubles, a: Doubles, dims: Sequence[int] | None = None, keepdim: bool = False) -> Doubles:
    summed = [dim % a.ndim for dim in dims or range(a.ndim)] if a.ndim else []
    kept = [dim for dim in range(a.ndim) if dim not in summed]
    rows = a.transpose(kept + summed).reshape(made.size, -1)
    return _minus_sums(np.concatenate((rows, -made.reshape(-1, 1)), axis=1)).reshape(made.shape)


def _minus_sums(terms: Doubles) -> Doubles:
    """−Σ over the last dimension, each sum rounded once."""
    rows = terms.reshape(-1, terms.shape[-1])
    # Adding 0.0 takes the sign from a zero.
    return np.array([0.0 - math.fsum(row) for row in rows.tolist()]).reshape(terms.shape[:-1])


_OPS: dict[str, Callable[..., Doubles | None]] = {
    "mul": _mul, "add": _add, "sub": _sub, "mm": _mm, "bmm": _mm, "mv": _mv, "dot": _dot, "sum": _sum,
}  # fmt: skip

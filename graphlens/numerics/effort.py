"""How long a call takes in exact arithmetic, estimated before it is begun: a kernel cannot be broken off.

The work is counted from the shapes, in multiply-adds of flint's matrix routines and in operations on
single entries; what one of either takes at a number of bits is timed once.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from flint import arb, ctx, fmpq

from graphlens.capture.tape import Call, Ref
from graphlens.numerics.affine import Affine
from graphlens.numerics.arguments import arguments, op_name
from graphlens.numerics.balls import shaped
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.kernels_product import product

DOUBLE_BITS = 53
_TIMED = 32  # rows of the matrices that are timed
_PER_ENTRY = 6.0  # operations that an elementwise op stands for, between a product and an exponential function
_PER_WEIGHT = 12.0  # the same for a weight of attention: exponential function, sums and quotient
_SAMPLED = 16  # entries of an operand whose length is looked at


class Work(NamedTuple):
    """What a call comes to.

    Attributes:
        products: multiply-adds of its operands.
        solved: multiply-adds of numbers that are as long as the precision, whatever the operands are.
        entries: operations on single entries.
    """

    products: float = 0.0
    solved: float = 0.0
    entries: float = 0.0

    def __add__(self, other: Any) -> Work:
        return Work(*(mine + its for mine, its in zip(self, other, strict=True)))

    def times(self, factor: float) -> Work:
        return Work(*(factor * part for part in self))

    def seconds(self, bits: int, precision: int) -> float:
        """How long it takes on operands of so many bits."""
        of_operands, _ = _timed(_power_of_two(bits))
        of_results, of_entries = _timed(_power_of_two(precision))
        return self.products * of_operands + self.solved * of_results + self.entries * of_entries


def work_of(call: Call, tensor_of: Callable[[int], torch.Tensor]) -> Work:
    """What a call comes to, from the shapes of its arguments and results."""
    name = op_name(call)
    kernel = KERNELS.get(name)
    if kernel is None or kernel.moves:
        return Work()
    values = {value for value in (*call.inputs, *call.outputs) if value is not None}
    work = Work(entries=_PER_ENTRY * sum(tensor_of(value).numel() for value in values))
    counted = _SPECIAL.get(name)
    if counted is None:
        return work
    args, _ = arguments(call, lambda item: tensor_of(item.value) if isinstance(item, Ref) else item)
    return work + counted(*args)


def bits_of(operands: Sequence[Any]) -> int:
    """The length of the longest of some entries of the operands."""
    longest = DOUBLE_BITS
    for operand in operands:
        array = operand.mid if isinstance(operand, Affine) else operand
        if isinstance(array, np.ndarray) and array.dtype == object and array.size:
            longest = max(longest, *map(_bits, array.ravel()[:: math.ceil(array.size / _SAMPLED)]))
    return longest


def symbols_of(operands: Sequence[Any]) -> int:
    """How many symbols the noisiest operand carries: a linear op is computed once more for each."""
    return max((len(operand.noise) for operand in operands if isinstance(operand, Affine)), default=0)


def _bits(entry: Any) -> int:
    if isinstance(entry, fmpq):
        return int(entry.height_bits())
    return int(entry.mid().man_exp()[0].bit_length()) if isinstance(entry, arb) and entry.is_finite() else 0


def _power_of_two(bits: int) -> int:
    return 1 << (max(bits, DOUBLE_BITS) - 1).bit_length()


@functools.cache
def _timed(bits: int) -> tuple[float, float]:
    """Seconds of one multiply-add in a product of matrices, and of one operation on an entry."""
    with ctx.workprec(max(bits, 128)):
        third = arb(1) / 3
        with ctx.workprec(bits):
            numbers = [(third + k).mid() for k in range(_TIMED**2)]
        array = shaped(numbers, (_TIMED, _TIMED))
        began = time.perf_counter()
        product(array, array)
        between = time.perf_counter()
        array * array + array
        ended = time.perf_counter()
    return (between - began) / _TIMED**3, (ended - between) / (2 * _TIMED**2)


def _multiply_adds(rows: float, inner: float, columns: float) -> float:
    """Of a product of matrices, as many as it takes the time of: flint has a faster method for large ones."""
    least = min(max(min(rows, inner, columns), _TIMED), 512)
    return rows * inner * columns / math.pow(least / _TIMED, 0.7)


def _multiplied(rows: float, inner: float, columns: float, batch: float = 1.0) -> Work:
    return Work(batch * _multiply_adds(rows, inner, columns))


def _mm(a: torch.Tensor, b: torch.Tensor, *_: Any) -> Work:
    """Matrices, batches of them, and vectors."""
    if b.dim() < 2:
        return _multiplied(a.numel() / max(b.numel(), 1), b.numel(), 1)
    batch = math.prod(b.shape[:-2])
    return _multiplied(a.numel() / max(batch * b.shape[-2], 1), b.shape[-2], b.shape[-1], batch)


def _linear(a: torch.Tensor, weight: torch.Tensor, *_: Any) -> Work:
    return _mm(a, weight.T)


def _trilinear(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, *dims: Any) -> Work:
    parts = [list(part.shape) for part in (a, b, c)]
    for shape, added in zip(parts, dims, strict=False):
        for dim in added:
            shape.insert(dim, 1)
    return Work(entries=3.0 * math.prod(map(max, zip(*parts, strict=True))))


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, products: int) -> Work:
    weights = q.numel() / max(q.shape[-1], 1) * k.shape[-2]
    one = _multiplied(q.shape[-2], q.shape[-1], k.shape[-2], math.prod(q.shape[:-2]))
    return one.times(products) + Work(entries=weights * _PER_WEIGHT)


def _solved(a: torch.Tensor, right: torch.Tensor | None = None, *, factors: bool = False) -> Work:
    """A linear system or an inverse; factors are computed entry by entry."""
    size, batch = a.shape[-1], math.prod(a.shape[:-2])
    columns = size if right is None else right.numel() / max(batch * size, 1)
    multiplied = _multiply_adds(a.shape[-2], size, size) + _multiply_adds(size, size, columns)
    return Work(solved=batch * multiplied, entries=a.numel() * size / 3 if factors else 0.0)


_SPECIAL: dict[str, Callable[..., Work]] = {
    **dict.fromkeys(("mm", "mv", "dot", "vdot", "bmm"), _mm),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm"), lambda start, a, b, *_: _mm(a, b)),
    "linear": _linear,
    "_trilinear": _trilinear,
    "_scaled_dot_product_flash_attention_for_cpu": lambda q, k, v, *_: _attention(q, k, v, 2),
    "_scaled_dot_product_flash_attention_for_cpu_backward": lambda grad, q, k, v, *_: _attention(q, k, v, 5),
    **dict.fromkeys(("linalg_inv_ex", "cholesky_inverse"), lambda a, *_: _solved(a)),
    "linalg_solve_triangular": lambda a, b, *_: _solved(a, b),
    **dict.fromkeys(("triangular_solve", "cholesky_solve"), lambda b, a, *_: _solved(a, b)),
    "linalg_lu_solve": lambda a, pivots, b, *_: _solved(a, b),
    "_linalg_solve_ex": lambda a, b, *_: _solved(a, b, factors=True),
    **dict.fromkeys(
        ("linalg_lu_factor_ex", "linalg_lu", "linalg_cholesky_ex", "_linalg_det", "_linalg_slogdet", "linalg_qr"),
        lambda a, *_: _solved(a, factors=True),
    ),
}  # fmt: skip

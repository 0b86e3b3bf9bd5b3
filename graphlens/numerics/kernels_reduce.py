"""Sums, means, norms, extremes, softmax, and the normalisations built from them."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, fmpq

from graphlens.numerics.balls import Array, fraction, numbers, shaped
from graphlens.numerics.kernels_elementwise import power_of, quotient, root_of_squares
from graphlens.numerics.registry import Site, Unsupported, each, each_ball, kernel, pick

_ZERO = fmpq(0)


def axes(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions that are reduced; None and an empty list mean all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(ndim))
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return tuple(d % max(ndim, 1) for d in dims) if ndim else ()


def total(values: Any, over: tuple[int, ...], keepdim: bool = False) -> Array:
    made = np.asarray(values, dtype=object)
    if not over:
        return made
    if not made.size:
        reduced = [(1 if k in over else size) for k, size in enumerate(made.shape)]
        kept = reduced if keepdim else [size for k, size in enumerate(made.shape) if k not in over]
        return np.full(kept, _ZERO, dtype=object)
    return np.asarray(made.sum(axis=over, keepdims=keepdim), dtype=object)


def count(values: Array, over: tuple[int, ...]) -> int:
    return math.prod(values.shape[k] for k in over)


@kernel("sum", linear=[(0,)])
def sum_(site: Site, self: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Array:
    values = numbers(self)
    return total(values, axes(dim, values.ndim), keepdim)


@kernel("trace", linear=[(0,)])
def trace(site: Site, self: Array) -> Any:
    return total(np.diagonal(self), (0,))


@kernel("nansum")
def nansum(site: Site, self: Array, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Array:
    values = pick(np.isnan(site.floats(0)), _ZERO, self)
    return total(values, axes(dim, values.ndim), keepdim)


def mean_of(values: Array, over: tuple[int, ...], keepdim: bool = False) -> Array:
    return np.asarray(total(values, over, keepdim) / fmpq(max(count(values, over), 1)), dtype=object)


@kernel("mean", linear=[(0,)])
def mean(site: Site, self: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Array:
    values = numbers(self)
    return mean_of(values, axes(dim, values.ndim), keepdim)


@kernel("prod")
def prod(site: Site, self: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    values = numbers(self)
    return values.prod(axis=axes(dim, values.ndim) or None, keepdims=keepdim)


@kernel("cumsum", linear=[(0,)])
def cumsum(site: Site, self: Any, dim: int, **kwargs: Any) -> Any:
    values = numbers(self)
    return np.add.accumulate(values, axis=dim) if values.ndim else values


@kernel("cumprod")
def cumprod(site: Site, self: Any, dim: int, **kwargs: Any) -> Any:
    values = numbers(self)
    return np.multiply.accumulate(values, axis=dim) if values.ndim else values


def variance(values: Array, dim: Any, correction: Any, keepdim: bool) -> tuple[Array, Array]:
    over = axes(dim, values.ndim)
    centre = mean_of(values, over, keepdim=True)
    squares = total((values - centre) ** 2, over, keepdim)
    freedom = fmpq(count(values, over)) - fraction(1 if correction is None else correction)
    middle = centre if keepdim else centre.reshape(squares.shape)
    return np.asarray(each(quotient, squares, freedom if freedom > 0 else _ZERO), dtype=object), middle


@kernel("var")
def var(site: Site, self: Array, dim: Any = None, correction: Any = None, keepdim: bool = False) -> Array:
    return variance(self, dim, correction, keepdim)[0]


@kernel("std")
def std(site: Site, self: Array, dim: Any = None, correction: Any = None, keepdim: bool = False) -> Array:
    return each_ball(root_of_squares, variance(self, dim, correction, keepdim)[0])


@kernel("var_mean")
def var_mean(site: Site, self: Array, dim: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    return variance(self, dim, correction, keepdim)


@kernel("std_mean")
def std_mean(site: Site, self: Array, dim: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    spread, middle = variance(self, dim, correction, keepdim)
    return each_ball(root_of_squares, spread), middle


@kernel("linalg_vector_norm")
def linalg_vector_norm(
    site: Site, self: Array, ord: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Array:
    over = axes(dim, self.ndim)
    if ord == 2:
        return each_ball(root_of_squares, total(self * self, over, keepdim))
    if ord == 1:
        return total(abs(self), over, keepdim)
    if ord == math.inf or ord == -math.inf:
        given = np.abs(site.floats(0))
        return extreme(site, np.asarray(abs(self), dtype=object), given, over, keepdim, largest=ord > 0)
    if ord == 0:
        return shaped([fraction(entry) for entry in site.made().ravel().tolist()], site.made().shape)
    power = fraction(ord)
    powers = each(lambda entry: power_of(abs(entry), power), self)
    return each(lambda entry: power_of(entry, 1 / power), total(powers, over, keepdim))


@kernel("dist")
def dist(site: Site, self: Array, other: Array, p: Any = 2) -> Array:
    if p != 2:
        raise Unsupported("dist other than of order 2")
    return each_ball(root_of_squares, total((self - other) ** 2, tuple(range(self.ndim))))


# Extremes: the entry that the run chose


def extreme(
    site: Site, values: Array, given: npt.NDArray[Any], over: tuple[int, ...], keepdim: bool, *, largest: bool
) -> Array:
    """Per group the entry that is largest (smallest) in the run."""
    kept = tuple(k for k in range(values.ndim) if k not in over)
    shape = [values.shape[k] for k in kept]
    rows = values.transpose(*kept, *over).reshape(-1, count(values, over))
    numbers_of_run = given.transpose(*kept, *over).reshape(rows.shape)
    chosen = numbers_of_run.argmax(axis=1) if largest else numbers_of_run.argmin(axis=1)
    made = rows[np.arange(len(rows)), chosen]
    check_chosen(site, rows, made, largest)
    if keepdim:
        shape = [1 if k in over else size for k, size in enumerate(values.shape)]
    return np.asarray(made.reshape(shape), dtype=object)


def check_chosen(site: Site, rows: Array, chosen: Array, largest: bool) -> None:
    """Count the groups in which another entry is certainly larger (smaller), or may be."""
    holds, fails = (operator.ge, operator.lt) if largest else (operator.le, operator.gt)
    for row, best in zip(rows, chosen, strict=True):
        if any(fails(best, entry) for entry in row):
            site.otherwise += 1
        elif not all(best is entry or holds(best, entry) for entry in row):
            site.undecided += 1


@kernel("amax")
def amax(site: Site, self: Array, dim: Any = (), keepdim: bool = False) -> Array:
    return extreme(site, self, site.floats(0), axes(dim, self.ndim), keepdim, largest=True)


@kernel("amin")
def amin(site: Site, self: Array, dim: Any = (), keepdim: bool = False) -> Array:
    return extreme(site, self, site.floats(0), axes(dim, self.ndim), keepdim, largest=False)


def _by_index(site: Site, values: Array, dim: int, largest: bool) -> Array:
    """The entries at the indices that the run found."""
    index = site.made(1)
    if not values.ndim:
        return values
    keeps = index.ndim == values.ndim
    at = index if keeps else np.expand_dims(index, dim)
    made = np.take_along_axis(values, at, axis=dim)
    rows = np.moveaxis(values, dim, -1).reshape(-1, values.shape[dim])
    check_chosen(site, rows, np.moveaxis(made, dim, -1).ravel(), largest)
    return made if keeps else made.reshape(index.shape)


@kernel("max")
def max_(site: Site, self: Array, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        return extreme(site, self, site.floats(0), axes(None, self.ndim), False, largest=True)
    return _by_index(site, self, dim, largest=True), None


@kernel("min")
def min_(site: Site, self: Array, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        return extreme(site, self, site.floats(0), axes(None, self.ndim), False, largest=False)
    return _by_index(site, self, dim, largest=False), None


def _sorted(site: Site, values: Array, dim: int) -> tuple[Array, None]:
    """The entries in the order that the run found; out of order by exact arithmetic is a departure."""
    if not values.ndim:
        return values, None
    made = np.take_along_axis(values, site.made(1), axis=dim)
    run = np.moveaxis(site.made(0), dim, -1)
    rows = np.moveaxis(made, dim, -1)
    if rows.shape[-1] > 1:
        rising = run[..., :1] <= run[..., -1:]
        low = pick(np.broadcast_to(rising, rows[..., 1:].shape), rows[..., :-1], rows[..., 1:])
        high = pick(np.broadcast_to(rising, rows[..., 1:].shape), rows[..., 1:], rows[..., :-1])
        site.branch(np.ones(low.shape, bool), operator.le, operator.gt, low, high)
    return made, None


@kernel("sort")
def sort(site: Site, self: Array, dim: int = -1, descending: bool = False, **kwargs: Any) -> Any:
    # sort.stable has its arguments by name, or `stable` before the dimension.
    return _sorted(site, self, kwargs.get("dim", dim))


@kernel("topk")
def topk(site: Site, self: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return np.take_along_axis(self, site.made(1), axis=dim) if self.ndim else self, None


@kernel("median")
def median(site: Site, self: Array, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is not None:
        made = site.made(1)
        at = made if keepdim else np.expand_dims(made, dim)
        return np.take_along_axis(self, at, axis=dim).reshape(made.shape), None
    order = np.argsort(site.floats(0).ravel(), kind="stable")
    return self.ravel()[order[(self.size - 1) // 2]]


# Exponentials


def exponentials(values: Array, dim: int) -> tuple[Array, Array]:
    """eˣ and its sums along a dimension. The true sums need no shift by the maximum."""
    powers = each_ball(arb.exp, values)
    return powers, total(powers, axes(dim, values.ndim), keepdim=True)


@kernel("_softmax")
def softmax(site: Site, self: Array, dim: int, half_to_float: bool = False) -> Array:
    powers, sums = exponentials(self, dim)
    return np.asarray(powers / sums, dtype=object)


@kernel("_log_softmax")
def log_softmax(site: Site, self: Array, dim: int, half_to_float: bool = False) -> Array:
    _, sums = exponentials(self, dim)
    return np.asarray(self - each_ball(arb.log, sums), dtype=object)


@kernel("_softmax_backward_data", linear=[(0,)])
def softmax_backward(site: Site, grad: Array, output: Array, dim: int, input_dtype: Any) -> Any:
    return output * (grad - total(grad * output, axes(dim, output.ndim), keepdim=True))


@kernel("_log_softmax_backward_data", linear=[(0,)])
def log_softmax_backward(site: Site, grad: Array, output: Array, dim: int, input_dtype: Any) -> Any:
    return grad - each_ball(arb.exp, output) * total(grad, axes(dim, output.ndim), keepdim=True)


@kernel("logsumexp")
def logsumexp(site: Site, self: Array, dim: Any, keepdim: bool = False) -> Array:
    return each_ball(arb.log, total(each_ball(arb.exp, self), axes(dim, self.ndim), keepdim))


@kernel("logcumsumexp")
def logcumsumexp(site: Site, self: Array, dim: int) -> Array:
    if not self.ndim:
        return self
    return each_ball(arb.log, np.asarray(np.add.accumulate(each_ball(arb.exp, self), axis=dim), dtype=object))

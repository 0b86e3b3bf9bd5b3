"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb_mat, fmpq, fmpq_mat

from graphlens.numerics.balls import Array, fraction, numbers, shaped
from graphlens.numerics.registry import Site, kernel


def product(a: Array, b: Array) -> Array:
    """(n, k) @ (k, m)."""
    (rows, inner), columns = a.shape, b.shape[1]
    left, right = a.ravel().tolist(), b.ravel().tolist()
    if not inner or not rows or not columns:
        return shaped([fmpq(0)] * (rows * columns), (rows, columns))
    try:
        made: Any = fmpq_mat(rows, inner, left) * fmpq_mat(inner, columns, right)
    except TypeError:  # there are balls among the entries
        made = arb_mat(rows, inner, left) * arb_mat(inner, columns, right)
    return shaped(made.entries(), (rows, columns))


def batched(a: Array, b: Array) -> Array:
    """(batch, n, k) @ (batch, k, m)."""
    made = np.empty((a.shape[0], a.shape[1], b.shape[2]), dtype=object)
    for k in range(len(a)):
        made[k] = product(a[k], b[k])
    return made


def inner_product(a: Array, b: Array) -> Any:
    return product(a.reshape(1, -1), b.reshape(-1, 1))[0, 0]


def blend(start: Any, beta: Any, made: Any, alpha: Any) -> Any:
    """β · start + α · made, where β = 0 ignores what is in `start`."""
    scaled = made if alpha == 1 else made * fraction(alpha)
    if beta == 0:
        return scaled
    return (start if beta == 1 else numbers(start) * fraction(beta)) + scaled


@kernel("mm", linear=[(0,), (1,)])
def mm(site: Site, self: Array, mat2: Array) -> Array:
    return product(self, mat2)


@kernel("mv", linear=[(0,), (1,)])
def mv(site: Site, self: Array, vec: Array) -> Array:
    return product(self, vec.reshape(-1, 1)).reshape(-1)


@kernel("dot", "vdot", linear=[(0,), (1,)])
def dot(site: Site, self: Array, tensor: Array) -> Any:
    return inner_product(self, tensor)


@kernel("bmm", linear=[(0,), (1,)])
def bmm(site: Site, self: Array, mat2: Array) -> Array:
    return batched(self, mat2)


@kernel("addmm", linear=[(0, 1), (0, 2)])
def addmm(site: Site, self: Array, mat1: Array, mat2: Array, beta: Any = 1, alpha: Any = 1) -> Any:
    return blend(self, beta, product(mat1, mat2), alpha)


@kernel("addmv", linear=[(0, 1), (0, 2)])
def addmv(site: Site, self: Array, mat: Array, vec: Array, beta: Any = 1, alpha: Any = 1) -> Any:
    return blend(self, beta, product(mat, vec.reshape(-1, 1)).reshape(-1), alpha)


@kernel("addr", linear=[(0, 1), (0, 2)])
def addr(site: Site, self: Array, vec1: Array, vec2: Array, beta: Any = 1, alpha: Any = 1) -> Any:
    return blend(self, beta, vec1.reshape(-1, 1) * vec2, alpha)


@kernel("baddbmm", linear=[(0, 1), (0, 2)])
def baddbmm(site: Site, self: Array, batch1: Array, batch2: Array, beta: Any = 1, alpha: Any = 1) -> Any:
    return blend(self, beta, batched(batch1, batch2), alpha)


@kernel("addbmm", linear=[(0, 1), (0, 2)])
def addbmm(site: Site, self: Array, batch1: Array, batch2: Array, beta: Any = 1, alpha: Any = 1) -> Any:
    return blend(self, beta, batched(batch1, batch2).sum(axis=0), alpha)


@kernel("linear", linear=[(0, 2), (1, 2)])
def linear(site: Site, input: Array, weight: Array, bias: Any = None) -> Any:
    made = product(input.reshape(-1, input.shape[-1]), weight.T).reshape(*input.shape[:-1], weight.shape[0])
    return made if bias is None else made + bias


@kernel("_trilinear")
def trilinear(
    site: Site, i1: Array, i2: Array, i3: Array, expand1: Any, expand2: Any, expand3: Any, sumdim: Any,
    unroll_dim: int = 1,
) -> Any:  # fmt: skip
    """The product of three arrays with dimensions added, summed over some."""
    for dims, which in ((expand1, 0), (expand2, 1), (expand3, 2)):
        for dim in dims:
            if which == 0:
                i1 = np.expand_dims(i1, dim)
            elif which == 1:
                i2 = np.expand_dims(i2, dim)
            else:
                i3 = np.expand_dims(i3, dim)
    return (i1 * i2 * i3).sum(axis=tuple(sumdim))


@kernel("linalg_cross", linear=[(0,), (1,)])
def linalg_cross(site: Site, self: Array, other: Array, *, dim: int = -1) -> Any:
    a, b = np.broadcast_arrays(self, other)
    forward, back = [1, 2, 0], [2, 0, 1]
    return np.take(a, forward, dim) * np.take(b, back, dim) - np.take(a, back, dim) * np.take(b, forward, dim)

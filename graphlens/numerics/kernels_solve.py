"""Inverses, linear systems, factorisations and determinants.

Where balls do not show that a matrix is regular, `TooWide` asks for more bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb_mat, fmpq, fmpq_mat

from graphlens.numerics.balls import Array, ball, shaped, wrapped
from graphlens.numerics.kernels_product import product
from graphlens.numerics.registry import Site, TooWide, Unsupported, kernel

Matrix = Any  # fmpq_mat or arb_mat


def matrix(a: Array) -> Matrix:
    """A two-dimensional array as a matrix of flint: of rationals if all entries are."""
    (rows, columns), entries = a.shape, a.ravel().tolist()
    try:
        return fmpq_mat(rows, columns, entries)
    except TypeError:
        return arb_mat(rows, columns, entries)


def array(m: Matrix) -> Array:
    return shaped(m.entries(), (m.nrows(), m.ncols()))


def inverse(a: Array) -> Array:
    if not a.size:
        return a
    try:
        return array(matrix(a).inv())
    except ZeroDivisionError:
        raise _no_inverse(a) from None


def solve(a: Array, b: Array) -> Array:
    """X with A X = B."""
    if not b.size:
        return b
    left, right = matrix(a), matrix(b)
    try:
        if isinstance(left, fmpq_mat) and isinstance(right, fmpq_mat):
            return array(left.solve(right))
        return array(arb_mat(left).solve(arb_mat(right)))
    except ZeroDivisionError:
        raise _no_inverse(a) from None


def _no_inverse(a: Array) -> Exception:
    if all(isinstance(entry, fmpq) for entry in a.ravel()):
        return Unsupported("a matrix that is exactly singular")
    return TooWide("a matrix that may be singular")


def over_batch(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """A function of matrices, for each matrix of a batch; batches of one matrix are repeated."""
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in arrays))
    full = [np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in arrays]
    results = [function(*(a[place] for a in full)) for place in np.ndindex(batch)]
    columns = [list(column) for column in zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True)]
    made = []
    for column in columns:
        parts = [wrapped(part) for part in column]
        entries = [entry for part in parts for entry in part.ravel().tolist()]
        made.append(shaped(entries, (*batch, *parts[0].shape)))
    return made


@kernel("linalg_inv_ex", shared=True)
def linalg_inv_ex(site: Site, A: Array, check_errors: bool = False) -> tuple[Array, None]:
    return over_batch(inverse, A)[0], None


@kernel("linalg_solve_triangular", shared=True)
def linalg_solve_triangular(
    site: Site, self: Array, B: Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Array:
    def one(a: Array, b: Array) -> Array:
        t = triangle(a, upper, unitriangular)
        return solve(t, b) if left else solve(t.T, b.T).T

    return over_batch(one, self, B)[0]


@kernel("triangular_solve", shared=True)
def triangular_solve(
    site: Site, self: Array, A: Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    def one(a: Array, b: Array) -> Array:
        t = triangle(a, upper, unitriangular)
        return solve(t.T if transpose else t, b)

    return over_batch(one, A, self)[0], A


def triangle(a: Array, upper: bool, unit: bool = False) -> Array:
    """The upper or lower triangle, with ones on the diagonal if wanted."""
    made = np.full(a.shape, fmpq(0), dtype=object)
    places = (np.triu_indices if upper else np.tril_indices)(a.shape[0], 0, a.shape[1])
    made[places] = a[places]
    if unit:
        np.fill_diagonal(made, fmpq(1))
    return made


def eliminate(a: Array) -> Array:
    """LU without exchanging rows: U, and below the diagonal L, in one matrix."""
    work = a.copy()
    for k in range(min(work.shape)):
        pivot = work[k, k]
        if not (pivot > 0 or pivot < 0):
            if k + 1 < work.shape[0]:
                raise TooWide("a pivot that may be zero")
            break
        below = work[k + 1 :, k] / pivot
        work[k + 1 :, k] = below
        work[k + 1 :, k + 1 :] = work[k + 1 :, k + 1 :] - below[:, None] * work[k, k + 1 :]
    made: Array = work
    return made


def row_order(pivots: npt.NDArray[Any], rows: int) -> npt.NDArray[np.int64]:
    """The row of A that each row of P⁻¹A is, from LAPACK's exchanges (counted from 1)."""
    order = np.arange(rows)
    for k, pivot in enumerate(pivots.tolist()):
        order[[k, pivot - 1]] = order[[pivot - 1, k]]
    return order


def factors(site: Site, A: Array, first: int) -> Array:
    """The exact LU of a batch, with the run's exchanges of rows.

    torch factorises Aᵀ instead of A where that saves a copy; the run's own factors tell which.

    Args:
        first: position of LU among the results; the pivots come next.
    """
    made, pivots = site.made(first), site.made(first + 1)
    given = site.floats(0)
    result = np.empty(made.shape, dtype=object)
    for place in np.ndindex(made.shape[:-2]):
        order = row_order(pivots[place], made.shape[-2])
        a = A[place] if not _is_transposed(made[place], given[place], order) else A[place].T
        result[place] = eliminate(a[order])
    return result


def _is_transposed(made: Any, given: Any, order: Any) -> bool:
    """Whether the float factors are those of the transposed matrix."""
    if given.shape[0] != given.shape[1]:
        return False
    size = given.shape[0]
    again = (np.tril(made, -1) + np.eye(size)) @ np.triu(made)
    return bool(np.abs(again - given.T[order]).sum() < np.abs(again - given[order]).sum())


def solved_by_factors(LU: Array, pivots: Any, B: Array, adjoint: bool) -> Array:
    """X with A X = B or Aᵀ X = B, where P⁻¹A = L U."""
    order = row_order(pivots, LU.shape[0])
    low, up = triangle(LU, upper=False, unit=True), triangle(LU, upper=True)
    if not adjoint:
        return solve(up, solve(low, B[order]))
    made = np.empty_like(B)
    made[order] = solve(low.T, solve(up.T, B))
    return made


@kernel("linalg_lu_factor_ex", shared=True)
def linalg_lu_factor_ex(site: Site, A: Array, pivot: bool = True, check_errors: bool = False) -> Any:
    return factors(site, A, 0), None, None


@kernel("linalg_lu", shared=True)
def linalg_lu(site: Site, A: Array, pivot: bool = True) -> Any:
    """P, L and U; P is the run's."""
    permutation = site.made(0)
    rows, columns = A.shape[-2:]
    least = min(rows, columns)
    low = np.empty((*A.shape[:-2], rows, least), dtype=object)
    up = np.empty((*A.shape[:-2], least, columns), dtype=object)
    for place in np.ndindex(A.shape[:-2]):
        order = permutation[place].argmax(axis=0) if permutation.size else np.arange(rows)
        both = eliminate(A[place][order])
        low[place] = triangle(both[:, :least], upper=False, unit=True)
        up[place] = triangle(both[:least], upper=True)
    return shaped([fmpq(int(entry)) for entry in permutation.ravel()], permutation.shape), low, up


@kernel("lu_unpack")
def lu_unpack(site: Site, LU_data: Array, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    permutation = site.made(0)
    least = min(LU_data.shape[-2:])
    low = up = None
    if unpack_data:
        low, up = over_batch(
            lambda both: (triangle(both[:, :least], upper=False, unit=True), triangle(both[:least], upper=True)),
            LU_data,
        )
    return shaped([fmpq(int(entry)) for entry in permutation.ravel()], permutation.shape), low, up


@kernel("linalg_lu_solve", linear=[(2,)])
def linalg_lu_solve(site: Site, LU: Array, pivots: Any, B: Array, *, left: bool = True, adjoint: bool = False) -> Array:
    batch = np.broadcast_shapes(LU.shape[:-2], B.shape[:-2])
    full = np.broadcast_to(LU, (*batch, *LU.shape[-2:]))
    right = np.broadcast_to(B, (*batch, *B.shape[-2:]))
    exchanges = np.broadcast_to(pivots, (*batch, pivots.shape[-1]))
    made = np.empty(right.shape, dtype=object)
    for place in np.ndindex(batch):
        if left:
            made[place] = solved_by_factors(full[place], exchanges[place], right[place], adjoint)
        else:  # X A = B means Aᵀ Xᵀ = Bᵀ
            made[place] = solved_by_factors(full[place], exchanges[place], right[place].T, not adjoint).T
    return made


@kernel("_linalg_solve_ex", shared=True)
def linalg_solve_ex(site: Site, A: Array, B: Array, *, left: bool = True, check_errors: bool = False) -> Any:
    is_vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])

    def one(a: Array, b: Array) -> Array:
        return solve(a, b) if left else solve(a.T, b.T).T

    right = B[..., None] if is_vector else B
    made = over_batch(one, A, right)[0]
    return (made[..., 0] if is_vector else made), factors(site, A, 1), None, None


def determinant(a: Array) -> Any:
    return matrix(a).det() if a.size else fmpq(1)


@kernel("_linalg_det", shared=True)
def linalg_det(site: Site, A: Array) -> Any:
    return over_batch(determinant, A)[0], factors(site, A, 1), None


@kernel("_linalg_slogdet", shared=True)
def linalg_slogdet(site: Site, A: Array) -> Any:
    """The sign of the determinant as in the run, and the logarithm of its magnitude."""
    det = over_batch(determinant, A)[0]
    sign = site.made(0)
    site.above(sign > 0, det, fmpq(0))
    log = shaped([ball(abs(entry)).log() for entry in det.ravel()], det.shape)
    return shaped([fmpq(int(entry)) for entry in sign.ravel()], sign.shape), log, factors(site, A, 2), None


def cholesky(a: Array) -> Array:
    """L with A = L Lᵀ; only the lower triangle of A is read."""
    size = len(a)
    made = np.full((size, size), fmpq(0), dtype=object)
    for k in range(size):
        rest = a[k:, k] - made[k:, :k] @ made[k, :k] if k else a[k:, k]
        pivot = ball(rest[0])
        if not pivot > 0:
            raise TooWide("a matrix that may not be positive definite")
        root = pivot.sqrt()
        made[k, k] = root
        made[k + 1 :, k] = rest[1:] / root
    return made


@kernel("linalg_cholesky_ex", shared=True)
def linalg_cholesky_ex(site: Site, self: Array, *, upper: bool = False, check_errors: bool = False) -> Any:
    def one(a: Array) -> Array:
        return cholesky(a.T).T if upper else cholesky(a)

    return over_batch(one, self)[0], None


@kernel("cholesky_solve", shared=True)
def cholesky_solve(site: Site, self: Array, input2: Array, upper: bool = False) -> Array:
    def one(b: Array, factor: Array) -> Array:
        low = triangle(factor, upper).T if upper else triangle(factor, upper)
        return solve(low.T, solve(low, b))

    return over_batch(one, self, input2)[0]


@kernel("cholesky_inverse", shared=True)
def cholesky_inverse(site: Site, self: Array, upper: bool = False) -> Array:
    def one(factor: Array) -> Array:
        low = triangle(factor, upper).T if upper else triangle(factor, upper)
        root = inverse(low)
        return product(root.T, root)

    return over_batch(one, self)[0]


@kernel("linalg_qr", shared=True)
def linalg_qr(site: Site, A: Array, mode: str = "reduced") -> Any:
    """R from the Cholesky factor of AᵀA, with the run's signs, then Q = A R⁻¹."""
    if mode != "reduced" or A.shape[-2] < A.shape[-1]:
        raise Unsupported("QR other than reduced, of at least as many rows as columns")
    signs = np.sign(np.diagonal(site.made(1), axis1=-2, axis2=-1))
    signs = shaped([fmpq(int(entry) or 1) for entry in signs.ravel()], signs.shape)

    def one(a: Array, sign: Array) -> tuple[Array, Array]:
        up = sign * cholesky(product(a.T, a)).T
        return solve(up.T, a.T).T, up

    return tuple(over_batch(one, A, signs[..., None]))

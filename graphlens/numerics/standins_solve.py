"""Factorisations that ops hand on to their backward, as autograd can differentiate them."""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


def det(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The determinant, and the factors of the matrix."""
    return torch.linalg.det(matrix), *_factors_by_rows(matrix)


def slogdet(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sign and log |determinant|, and the factors of the matrix."""
    sign, logarithm = torch.linalg.slogdet(matrix)
    return sign, logarithm, *_factors_by_rows(matrix)


def solve_ex(
    matrix: Tensor, right: Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """The solution, the factors of the matrix, and a 0 for success."""
    _, _, _, info = torch.ops.aten._linalg_solve_ex.default(matrix.detach(), right.detach(), left=left)
    made = torch.linalg.solve(matrix, right, left=left)
    factors, pivots = torch.linalg.lu_factor(matrix)
    return made, factors, pivots, info


def _factors_by_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """L and U in one, and the pivots: of the transpose where the matrix lies row after row, as these ops do it."""
    factors, pivots = torch.linalg.lu_factor(matrix.mT if matrix.is_contiguous() else matrix)
    return factors, pivots


def cholesky_ex(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Any]:
    """The factor, and a 0 for success."""
    made, info = torch.linalg.cholesky_ex(_symmetric(matrix, upper), upper=upper, check_errors=check_errors)
    return made, info


def eigh(matrix: Tensor, uplo: str = "L", compute_v: bool = True) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; without these, 0 columns of them."""
    whole = _symmetric(matrix, uplo == "U")
    if not compute_v:
        return torch.linalg.eigvalsh(whole), matrix.new_empty(0)
    values, vectors = torch.linalg.eigh(whole)
    return values, vectors


def _symmetric(matrix: Tensor, upper: bool) -> Tensor:
    """The matrix that ops take one triangle for: the derivative is by that triangle, as the other is not read."""
    part, strict = (matrix.triu(), matrix.triu(1)) if upper else (matrix.tril(), matrix.tril(-1))
    return part + strict.mH

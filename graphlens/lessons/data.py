"""The exercise's data, from seeds."""

from __future__ import annotations

import numpy
import torch

_X = (0.1, 5.0, -2.3, -1.0, -2.0)


def symmetric_matrix(d: int, seed: int) -> torch.Tensor:
    """The exercise's symmetric, invertible (d, d) matrix in float64: 1e-6·I + F Fᵀ.

    F is standard normal, from numpy's legacy generator seeded with d + seed.
    """
    F = numpy.random.RandomState(d + seed).randn(d, d)
    return torch.from_numpy(1e-6 * numpy.eye(d) + F @ F.T)


def conditioned_matrix(d: int, seed: int, cond: float) -> torch.Tensor:
    """A symmetric, positive definite (d, d) matrix in float64 with κ₂ = `cond`, up to rounding.

    Q diag(λ) Qᵀ with eigenvalues from 1 down to 1 ÷ cond in equal ratios; Q is that of the QR
    factorisation of the F of `symmetric_matrix`.
    """
    F = numpy.random.RandomState(d + seed).randn(d, d)
    Q, _ = numpy.linalg.qr(F)
    A = (Q * numpy.geomspace(1.0, 1.0 / cond, d)) @ Q.T
    return torch.from_numpy((A + A.T) / 2)


def vector(d: int) -> torch.Tensor:
    """The exercise's x in float64 where d = 5; for another d, standard normal values seeded with d."""
    if d == len(_X):
        return torch.tensor(_X, dtype=torch.float64)
    return torch.from_numpy(numpy.random.RandomState(d).randn(d))

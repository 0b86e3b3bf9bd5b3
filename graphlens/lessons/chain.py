"""g_T(x, A; M) = M⁻¹ f_T((A⁻¹A)ⁿ M x), computed in four ways, one of them wrong."""

from __future__ import annotations

import warnings

import torch

from graphlens.lessons.soft_threshold import SoftThreshold


class Chain(torch.nn.Module):
    """What the modules share: the parameter M, the threshold, and the two ends of the formula.

    Args:
        M0: initial value of the parameter M, a symmetric (d, d) matrix.
        T: threshold of the soft-thresholding, > 0.
        n: number of rounds of the chain (A⁻¹A)ⁿ, ≥ 0.
        form: how f_T is computed, see `SoftThreshold`.
    """

    def __init__(self, M0: torch.Tensor, T: float = 3.14, n: int = 10_000, form: str = "branching") -> None:
        super().__init__()
        if M0.ndim != 2 or M0.shape[0] != M0.shape[1]:
            raise ValueError(f"M must be a square matrix, got shape {list(M0.shape)}")
        if not torch.isfinite(M0).all():
            raise ValueError("M must be finite, got NaN or infinity")
        if not torch.allclose(M0, M0.T, rtol=8 * torch.finfo(M0.dtype).eps, atol=0.0):
            raise ValueError(f"M must be symmetric, but M and its transpose differ by {(M0 - M0.T).abs().max():.3g}")
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"n must be a whole number ≥ 0, got {n!r}")
        self.M = torch.nn.Parameter(M0.clone())
        self.n = n
        self.soft_threshold = SoftThreshold(T, form)

    def forward(self, x: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        """g_T(x, A; M) for x of shape (d,) and an invertible A of shape (d, d)."""
        d = self.M.shape[0]
        if x.shape != (d,):
            raise ValueError(f"x must have shape [{d}] to match M, got {list(x.shape)}")
        if A.shape != (d, d):
            raise ValueError(f"A must have shape [{d}, {d}] to match M, got {list(A.shape)}")
        y = self.chain(self.M @ x, A)
        return inverse(self.M, "M") @ self.threshold(y)

    def chain(self, y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        """(A⁻¹A)ⁿ y: each module computes it in its own way."""
        raise NotImplementedError

    def threshold(self, y: torch.Tensor) -> torch.Tensor:
        """f_T of each component."""
        thresholded: torch.Tensor = self.soft_threshold(y)
        return thresholded


class Wasteful(Chain):
    """Multiplies by A and by A⁻¹ n times, and inverts A anew in every round."""

    def chain(self, y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        for _ in range(self.n):
            y = A @ y
            y = inverse(A, "A") @ y
        return y


class Hoisted(Chain):
    """Inverts A once, but keeps the 2n products: separates the two wastes."""

    def chain(self, y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        A_inverse = inverse(A, "A")
        for _ in range(self.n):
            y = A @ y
            y = A_inverse @ y
        return y


class Efficient(Chain):
    """Uses A⁻¹A = I: no chain, and no use of A."""

    def chain(self, y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        return y


class Severed(Wasteful):
    """`Wasteful` with the mistakes of a well-known solution: its gradients are wrong.

    `torch.tensor` copies values out of the graph, so that nothing before it receives a gradient;
    and in the flat part `zeros_like(..., requires_grad=True)` makes a leaf that nobody owns.
    """

    def threshold(self, y: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():  # torch warns of just this mistake, which is made here on purpose
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True to a scalar")
            return torch.tensor([self.soft(component) for component in y], dtype=y.dtype)

    def soft(self, y: torch.Tensor) -> torch.Tensor:
        T = self.soft_threshold.T
        if y > T:
            return y - T
        if y < -T:
            return y + T
        return torch.zeros_like(y, requires_grad=True)


def inverse(matrix: torch.Tensor, name: str) -> torch.Tensor:
    """The inverse of a square matrix; a `ValueError` that names it if it is singular."""
    try:
        result: torch.Tensor = torch.linalg.inv(matrix)
        return result
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ValueError(f"{name} is singular, it has no inverse") from error

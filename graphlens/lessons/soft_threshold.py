"""Soft-thresholding: the scalar function with branches, and its component-wise forms."""

from __future__ import annotations

import math

import torch


def soft_threshold_scalar(y: torch.Tensor, T: float) -> torch.Tensor:
    """f_T(y) of a scalar: 0 if −T ≤ y ≤ T, y − T if y > T, y + T if y < −T.

    The closed interval counts as flat: at the kinks y = ±T the derivative is 0. Where f_T is flat
    the result does not depend on y, so it has no `grad_fn`, and autograd's derivative is `None`.
    """
    if y > T:
        return y - T
    if y < -T:
        return y + T
    return torch.zeros_like(y)


def soft_threshold(y: torch.Tensor, T: float) -> torch.Tensor:
    """f_T of each component, as one vectorised op; its derivative at y = ±T is 0."""
    return torch.nn.functional.softshrink(y, T)


def soft_threshold_by_component(y: torch.Tensor, T: float) -> torch.Tensor:
    """f_T of each component of a vector through the scalar form, joined without leaving the graph."""
    return torch.stack([soft_threshold_scalar(component, T) for component in y])


class SoftThreshold(torch.nn.Module):
    """The soft-thresholding of a scalar, or of each component of a vector.

    Args:
        T: the threshold, > 0.
        form: "branching" decides for each component in Python; "vectorised" is one op.
    """

    def __init__(self, T: float, form: str = "branching") -> None:
        super().__init__()
        if isinstance(T, bool) or not isinstance(T, (int, float)) or not math.isfinite(T) or T <= 0:
            raise ValueError(f"T must be a finite number > 0, got {T!r}")
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(map(repr, FORMS))}, got {form!r}")
        self.T = float(T)
        self.form = form

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if self.form == "vectorised":
            return soft_threshold(y, self.T)
        if y.ndim == 0:
            return soft_threshold_scalar(y, self.T)
        return soft_threshold_by_component(y, self.T)


FORMS = ("branching", "vectorised")

"""A product of three tensors, and the derivative of distances, in formulas that autograd can differentiate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Tensor = torch.Tensor


def trilinear(
    first: Tensor, second: Tensor, third: Tensor, expand1: Sequence[int], expand2: Sequence[int],
    expand3: Sequence[int], sumdim: Sequence[int], unroll_dim: int = 1,
) -> Tensor:  # fmt: skip
    """Σ of the products of three tensors, each given the dimensions that it lacks."""
    size = first.dim() + len(expand1)
    operands: list[Tensor | list[int]] = []
    for tensor, missing in ((first, expand1), (second, expand2), (third, expand3)):
        operands += [tensor, [dim for dim in range(size) if dim not in missing]]
    made: Tensor = torch.einsum(*operands, [dim for dim in range(size) if dim not in sumdim])
    return made


def cdist_backward(grad: Tensor, x1: Tensor, x2: Tensor, p: float, cdist: Tensor) -> Tensor:
    """The gradient of the first points by their distances ‖a − b‖ₚ from the second ones."""
    if p <= 0 or math.isinf(p):
        raise NotImplementedError("distances without a smooth norm")
    apart = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    if p == 1:
        return (grad.unsqueeze(-1) * apart.sign()).sum(-2)
    meet = cdist == 0
    slope = (grad / cdist.masked_fill(meet, 1.0) ** (p - 1)).masked_fill(meet, 0.0)
    size = apart if p == 2 else apart.sign() * apart.abs() ** (p - 1)
    return (slope.unsqueeze(-1) * size).sum(-2)

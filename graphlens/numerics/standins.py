"""Functions that stand for ops which autograd cannot differentiate, or stops at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

Tensor = torch.Tensor


def _scores(query: Tensor, key: Tensor, is_causal: bool, mask: Tensor | None, scale: float | None) -> Tensor:
    """scale · Q Kᵀ + mask; the scale is 1/√(width) unless given."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-1, -2) * factor
    if mask is not None:
        scores = scores + mask
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *,
    attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """softmax(scale · Q Kᵀ + mask) V, and log Σ exp of the scores."""
    if dropout_p:
        raise NotImplementedError("dropout inside attention")
    scores = _scores(query, key, is_causal, attn_mask, scale)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def flash_attention_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor,
    dropout_p: float, is_causal: bool, *, attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of Q, K and V (Dao et al., "FlashAttention", 2022, algorithm 4)."""
    if dropout_p:
        raise NotImplementedError("dropout inside attention")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = (_scores(query, key, is_causal, attn_mask, scale) - logsumexp.unsqueeze(-1)).exp()
    sent = grad_out @ value.transpose(-1, -2)
    along = (grad_out * out).sum(-1, keepdim=True)
    slopes = weights * (sent - along) * factor
    return slopes @ key, slopes.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ grad_out


def layer_norm(
    input: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x − mean) ÷ √(variance + ε) · weight + bias, the mean, and 1 ÷ √(variance + ε); all can be differentiated."""
    dims = tuple(range(input.dim() - len(shape), input.dim()))
    mean = input.mean(dims, keepdim=True)
    rstd = (input.var(dims, unbiased=False, keepdim=True) + eps).rsqrt()
    made = (input - mean) * rstd
    if weight is not None:
        made = made * weight
    return (made if bias is None else made + bias), mean, rstd


def layer_norm_backward(
    grad_out: Tensor, input: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """The gradients of x, weight and bias, with mean and 1/√(variance + ε) as they were saved."""
    outer = tuple(range(input.dim() - len(shape)))
    inner = tuple(range(len(outer), input.dim()))
    unit = (input - mean) * rstd
    sent = grad_out if weight is None else grad_out * weight
    along = sent - sent.mean(inner, keepdim=True) - unit * (sent * unit).mean(inner, keepdim=True)
    return (
        along * rstd if mask[0] else None,
        (grad_out * unit).sum(outer) if mask[1] else None,
        grad_out.sum(outer) if mask[2] else None,
    )


STAND_INS: dict[str, Callable[..., Any]] = {
    # What a program detaches keeps its rounding.
    "detach": torch.ops.aten.alias.default,
    "lift_fresh": torch.ops.aten.alias.default,
    "_scaled_dot_product_flash_attention_for_cpu": flash_attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": flash_attention_backward,
    # Autograd takes the mean and the deviation that they hand on for constants.
    "native_layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
}

"""Attention in formulas that autograd can differentiate, forward and backward."""

from __future__ import annotations

import math

import torch

Tensor = torch.Tensor


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *,
    attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """softmax(scale · Q Kᵀ + mask) V, and log Σ exp of the scores; both 0 where everything is masked."""
    _refuse_dropout(dropout_p)
    groups = query.shape[-3] // key.shape[-3]
    scores = _scores(query, _repeated(key, groups), is_causal, attn_mask, scale)
    masked = (scores == -math.inf).all(-1, keepdim=True)
    scores = scores.masked_fill(masked, 0.0)
    made = scores.softmax(-1).masked_fill(masked, 0.0) @ _repeated(value, groups)
    return made, scores.logsumexp(-1).masked_fill(masked.squeeze(-1), 0.0)


def flash_attention_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor,
    dropout_p: float, is_causal: bool, *, attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of Q, K and V (Dao et al., "FlashAttention", 2022, algorithm 4)."""
    _refuse_dropout(dropout_p)
    groups = query.shape[-3] // key.shape[-3]
    keys, values = _repeated(key, groups), _repeated(value, groups)
    scores = _scores(query, keys, is_causal, attn_mask, scale)
    weights = (scores - logsumexp.unsqueeze(-1)).exp()
    sent = grad_out @ values.transpose(-1, -2)
    along = (grad_out * out).sum(-1, keepdim=True)
    slopes = weights * (sent - along) * _factor(query, scale)
    to_keys = slopes.transpose(-1, -2) @ query
    to_values = weights.transpose(-1, -2) @ grad_out
    return slopes @ keys, _gathered(to_keys, groups), _gathered(to_values, groups)


def _refuse_dropout(probability: float) -> None:
    if probability:
        raise NotImplementedError("dropout inside attention")


def _factor(query: Tensor, scale: float | None) -> float:
    """1/√(width) unless given."""
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _scores(query: Tensor, key: Tensor, is_causal: bool, mask: Tensor | None, scale: float | None) -> Tensor:
    """scale · Q Kᵀ + mask."""
    scores = query @ key.transpose(-1, -2) * _factor(query, scale)
    if mask is not None:
        scores = scores + mask
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores


def _repeated(heads: Tensor, groups: int) -> Tensor:
    """Each head of K or V as often as there are heads of Q that share it."""
    return heads if groups == 1 else heads.repeat_interleave(groups, dim=-3)


def _gathered(heads: Tensor, groups: int) -> Tensor:
    """The sum over the heads of Q that share one of K or V."""
    return heads if groups == 1 else heads.reshape(*heads.shape[:-3], -1, groups, *heads.shape[-2:]).sum(-3)

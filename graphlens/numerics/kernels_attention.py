"""Fused attention and dropout, by the formulas that they stand for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb, fmpq

from graphlens.numerics.balls import Array, ball, fraction, numbers, shaped
from graphlens.numerics.kernels_product import batched
from graphlens.numerics.kernels_reduce import total
from graphlens.numerics.registry import Site, Unsupported, each_ball, kernel, pick


def _scores(query: Array, key: Array, is_causal: bool, mask: Any, scale: Any) -> tuple[Array, Any]:
    """scale · Q Kᵀ + mask as (batch, queries, keys), and the scale, 1/√(width) unless given."""
    factor = arb(1) / arb(query.shape[-1]).sqrt() if scale is None else fraction(scale)
    q, k = _flat(query), _flat(_shared_out(key, query))
    scores = np.asarray(batched(q, k.swapaxes(-1, -2)) * factor, dtype=object)
    if mask is not None:
        added = np.broadcast_to(numbers(mask), (*query.shape[:-1], key.shape[-2])).reshape(scores.shape)
        scores = np.asarray(scores + added, dtype=object)
    if is_causal:
        allowed = np.tril(np.ones(scores.shape[-2:], dtype=bool))
        scores = pick(np.broadcast_to(allowed, scores.shape), scores, ball(-math.inf))
    return scores, factor


def _shared_out(value: Array, query: Array) -> Array:
    """Keys or values once for each head of the queries: a head of them may serve several (grouped queries)."""
    return value if value.ndim < 3 else np.repeat(value, query.shape[-3] // value.shape[-3], axis=-3)


def _collected(grad: Array, value: Array) -> Array:
    """What heads that shared keys or values send back, added up."""
    if value.ndim < 3:
        return grad.reshape(value.shape)
    groups = grad.reshape(*value.shape[:-2], -1, *value.shape[-2:])
    return np.asarray(total(groups, (value.ndim - 2,)), dtype=object)


def _flat(value: Array) -> Array:
    return value.reshape(-1, *value.shape[-2:])


@kernel("_scaled_dot_product_flash_attention_for_cpu")
def flash_attention(
    site: Site, query: Array, key: Array, value: Array, dropout_p: float = 0.0, is_causal: bool = False, *,
    attn_mask: Any = None, scale: Any = None,
) -> Any:  # fmt: skip
    """softmax(scale · Q Kᵀ + mask) V, and log Σ exp of the scores."""
    if dropout_p:
        raise Unsupported("dropout inside attention")
    scores, _ = _scores(query, key, is_causal, attn_mask, scale)
    powers = each_ball(arb.exp, scores)
    sums = total(powers, (2,), keepdim=True)
    made = batched(np.asarray(powers / sums, dtype=object), _flat(_shared_out(value, query)))
    logs = each_ball(arb.log, sums)
    return made.reshape(*query.shape[:-1], value.shape[-1]), logs.reshape(query.shape[:-1])


@kernel("_scaled_dot_product_flash_attention_for_cpu_backward")
def flash_attention_backward(
    site: Site, grad_out: Array, query: Array, key: Array, value: Array, out: Array, logsumexp: Array,
    dropout_p: float, is_causal: bool, *, attn_mask: Any = None, scale: Any = None,
) -> Any:  # fmt: skip
    if dropout_p:
        raise Unsupported("dropout inside attention")
    scores, factor = _scores(query, key, is_causal, attn_mask, scale)
    weights = each_ball(arb.exp, np.asarray(scores - logsumexp.reshape(*scores.shape[:2], 1), dtype=object))
    grad, q, k, v = map(_flat, (grad_out, query, _shared_out(key, query), _shared_out(value, query)))
    sent = batched(grad, v.swapaxes(-1, -2))
    along = total(grad * _flat(out), (2,), keepdim=True)
    slopes = np.asarray(weights * (sent - along) * factor, dtype=object)
    return (
        batched(slopes, k).reshape(query.shape),
        _collected(batched(slopes.swapaxes(-1, -2), q), key),
        _collected(batched(weights.swapaxes(-1, -2), grad), value),
    )


@kernel("native_dropout")
def native_dropout(site: Site, input: Array, p: float, train: Any) -> Any:
    """x · mask ÷ (1 − p) with the run's mask."""
    if not train:
        return input, None
    mask = site.made(1)
    kept = shaped([fmpq(int(entry)) for entry in mask.ravel().tolist()], mask.shape)
    return input * kept * (fmpq(0) if p == 1 else 1 / (1 - fraction(p))), None


@kernel("native_dropout_backward", linear=[(0,)])
def native_dropout_backward(site: Site, grad_output: Array, mask: Any, scale: Any) -> Any:
    return grad_output * numbers(mask) * fraction(scale)

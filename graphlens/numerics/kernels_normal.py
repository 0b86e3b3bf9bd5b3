"""Layer, group and batch normalisation: (x − mean) ÷ √(variance + ε), and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphlens.numerics.balls import Array, ball, fraction
from graphlens.numerics.kernels_reduce import mean_of, total, variance
from graphlens.numerics.registry import Site, each, kernel


def _scale(spread: Array, eps: Any) -> Array:
    return each(lambda entry: ball(entry + fraction(eps)).rsqrt(), spread)


@kernel("native_layer_norm")
def native_layer_norm(
    site: Site, input: Array, normalized_shape: Any, weight: Any, bias: Any, eps: Any
) -> tuple[Any, Any, Any]:
    over = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    spread, middle = variance(input, over, 0, True)
    scale = _scale(spread, eps)
    made = (input - middle) * scale
    made = made if weight is None else made * weight
    return made if bias is None else made + bias, middle, scale


@kernel("native_layer_norm_backward", linear=[(0,)])
def native_layer_norm_backward(
    site: Site, grad_out: Array, input: Array, normalized_shape: Any, mean: Array, rstd: Array, weight: Any,
    bias: Any, output_mask: Any,
) -> Any:  # fmt: skip
    over = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    batch = tuple(range(input.ndim - len(normalized_shape)))
    normal = (input - mean) * rstd
    sent = grad_out if weight is None else grad_out * weight
    grads: list[Any] = [None, None, None]
    if output_mask[0]:
        grads[0] = rstd * (sent - mean_of(sent, over, True) - normal * mean_of(sent * normal, over, True))
    if output_mask[1]:
        grads[1] = total(grad_out * normal, batch)
    if output_mask[2]:
        grads[2] = total(grad_out, batch)
    return grads


def _channels(value: Any, ndim: int) -> Any:
    return value.reshape((1, -1) + (1,) * (ndim - 2))


@kernel("native_batch_norm")
def native_batch_norm(
    site: Site, input: Array, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
    momentum: Any, eps: Any,
) -> Any:  # fmt: skip
    over = (0, *range(2, input.ndim))
    if training:
        spread, middle = variance(input, over, 0, False)
    else:
        spread, middle = running_var, running_mean
    scale = _scale(spread, eps)
    made = (input - _channels(middle, input.ndim)) * _channels(scale, input.ndim)
    made = made if weight is None else made * _channels(weight, input.ndim)
    made = made if bias is None else made + _channels(bias, input.ndim)
    return (made, middle, scale) if training else (made, np.empty(0, object), np.empty(0, object))


@kernel("native_batch_norm_backward", linear=[(0,)])
def native_batch_norm_backward(
    site: Site, grad_out: Array, input: Array, weight: Any, running_mean: Any, running_var: Any, save_mean: Any,
    save_invstd: Any, train: bool, eps: Any, output_mask: Any,
) -> Any:  # fmt: skip
    over, ndim = (0, *range(2, input.ndim)), input.ndim
    middle, scale = (save_mean, save_invstd) if train else (running_mean, _scale(running_var, eps))
    middle, scale = _channels(middle, ndim), _channels(scale, ndim)
    normal = (input - middle) * scale
    factor = scale if weight is None else scale * _channels(weight, ndim)
    grads: list[Any] = [None, None, None]
    if output_mask[0]:
        centred = grad_out
        if train:
            centred = grad_out - mean_of(grad_out, over, True) - normal * mean_of(grad_out * normal, over, True)
        grads[0] = factor * centred
    if output_mask[1]:
        grads[1] = total(grad_out * normal, over)
    if output_mask[2]:
        grads[2] = total(grad_out, over)
    return grads


@kernel("native_group_norm")
def native_group_norm(
    site: Site, input: Array, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int, eps: Any
) -> Any:
    rows = input.reshape(N, group, -1)
    spread, middle = variance(rows, (2,), 0, True)
    scale = _scale(spread, eps)
    made = np.asarray((rows - middle) * scale, dtype=object).reshape(input.shape)
    made = made if weight is None else made * _channels(weight, input.ndim)
    made = made if bias is None else made + _channels(bias, input.ndim)
    return made, middle.reshape(N, group), scale.reshape(N, group)


@kernel("native_group_norm_backward", linear=[(0,)])
def native_group_norm_backward(
    site: Site, grad_out: Array, input: Array, mean: Array, rstd: Array, weight: Any, N: int, C: int, HxW: int,
    group: int, output_mask: Any,
) -> Any:  # fmt: skip
    rows = input.reshape(N, group, -1)
    normal = (rows - mean.reshape(N, group, 1)) * rstd.reshape(N, group, 1)
    sent = np.asarray(grad_out if weight is None else grad_out * _channels(weight, input.ndim), dtype=object)
    sent = sent.reshape(rows.shape)
    over = (0, *range(2, input.ndim))
    grads: list[Any] = [None, None, None]
    if output_mask[0]:
        centred = sent - mean_of(sent, (2,), True) - normal * mean_of(sent * normal, (2,), True)
        grads[0] = np.asarray(rstd.reshape(N, group, 1) * centred, dtype=object).reshape(input.shape)
    if output_mask[1]:
        grads[1] = total(grad_out * normal.reshape(input.shape), over)
    if output_mask[2]:
        grads[2] = total(grad_out, over)
    return grads

"""The backward ops of functions of single entries, and of losses: the slope times the gradient that comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb, fmpq

from graphlens.numerics.balls import Array, fraction, numbers
from graphlens.numerics.kernels_elementwise import (
    gelu_slope,
    gelu_tanh_slope,
    quotient,
    sigmoid_of,
    softplus_of,
)
from graphlens.numerics.registry import Bools, Site, each, each_ball, kernel, pick

_ZERO = fmpq(0)
_MEAN, _SUM = 1, 2


@kernel("tanh_backward", linear=[(0,)])
def tanh_backward(site: Site, grad: Array, output: Array) -> Any:
    return grad * (1 - output * output)


@kernel("sigmoid_backward", linear=[(0,)])
def sigmoid_backward(site: Site, grad: Array, output: Array) -> Any:
    return grad * (output * (1 - output))


@kernel("logit_backward", linear=[(0,)])
def logit_backward(site: Site, grad: Array, self: Array, eps: Any = None) -> Any:
    return each(quotient, grad, self * (1 - self))


@kernel("gelu_backward", linear=[(0,)])
def gelu_backward(site: Site, grad: Array, self: Array, approximate: str = "none") -> Any:
    return grad * each_ball(gelu_tanh_slope if approximate == "tanh" else gelu_slope, self)


def silu_slope(x: arb) -> arb:
    s = sigmoid_of(x)
    return s * (1 + x * (1 - s))


@kernel("silu_backward", linear=[(0,)])
def silu_backward(site: Site, grad: Array, self: Array) -> Any:
    return grad * each_ball(silu_slope, self)


def mish_slope(x: arb) -> arb:
    t = softplus_of(x).tanh()
    return t + x * sigmoid_of(x) * (1 - t * t)


@kernel("mish_backward", linear=[(0,)])
def mish_backward(site: Site, grad: Array, self: Array) -> Any:
    return grad * each_ball(mish_slope, self)


@kernel("softplus_backward", linear=[(0,)])
def softplus_backward(site: Site, grad: Array, self: Array, beta: Any, threshold: Any) -> Any:
    b = fraction(beta)
    taken = site.above(site.floats(1) * beta > threshold, np.asarray(self * b, dtype=object), fraction(threshold))
    return pick(taken, grad, grad * each_ball(lambda x: sigmoid_of(x * b), self))


@kernel("log_sigmoid_backward", linear=[(0,)])
def log_sigmoid_backward(site: Site, grad: Array, self: Array, buffer: Any) -> Any:
    return grad * each_ball(lambda x: sigmoid_of(-x), self)


@kernel("elu_backward", linear=[(0,)])
def elu_backward(
    site: Site, grad: Array, alpha: Any, scale: Any, input_scale: Any, is_result: bool, self: Array
) -> Any:
    taken = site.above(site.floats(5) > 0, self, _ZERO)
    a, s, i = fraction(alpha), fraction(scale), fraction(input_scale)
    if is_result:
        curved = i * (self + a * s)
    else:
        curved = a * s * i * each_ball(arb.exp, np.asarray(self * i, dtype=object))
    return pick(taken, grad * s, grad * curved)


@kernel("glu")
def glu(site: Site, self: Array, dim: int = -1) -> Any:
    first, second = np.split(self, 2, axis=dim)
    return first * each_ball(sigmoid_of, second)


@kernel("glu_backward", linear=[(0,)])
def glu_backward(site: Site, grad: Array, self: Array, dim: int) -> Any:
    first, second = np.split(self, 2, axis=dim)
    s = each_ball(sigmoid_of, second)
    return np.concatenate([grad * s, grad * first * s * (1 - s)], axis=dim)


# Losses


def reduced(losses: Any, reduction: int) -> Any:
    """Of each entry, the mean, or the sum."""
    losses = np.asarray(losses, dtype=object)
    if reduction == _MEAN:
        return losses.sum() / fmpq(losses.size)
    return losses.sum() if reduction == _SUM else losses


def spread(grad: Array, slopes: Any, reduction: int) -> Any:
    """The gradient of a reduced loss, sent to each entry."""
    slopes = np.asarray(slopes, dtype=object)
    return grad * slopes / fmpq(slopes.size) if reduction == _MEAN else grad * slopes


@kernel("mse_loss")
def mse_loss(site: Site, self: Array, target: Any, reduction: int = _MEAN) -> Any:
    return reduced((self - numbers(target)) ** 2, reduction)


@kernel("mse_loss_backward", linear=[(0,)])
def mse_loss_backward(site: Site, grad: Array, self: Array, target: Any, reduction: int) -> Any:
    return spread(grad, 2 * (self - numbers(target)), reduction)


def _huber(site: Site, self: Array, target: Any, width: Any) -> tuple[Array, Bools, Bools]:
    """Differences, and where they are above the width or below −width, as the run found."""
    given = site.floats(0) - site.floats(1) if site.function._schema.arguments[0].name == "self" else (
        site.floats(1) - site.floats(2)
    )  # fmt: skip
    difference = np.asarray(self - numbers(target), dtype=object)
    bound = fraction(width)
    above = site.above(given > width, difference, bound)
    below = site.below(given < -width, difference, -bound)
    return difference, above, below


@kernel("huber_loss")
def huber_loss(site: Site, self: Array, target: Any, reduction: int = _MEAN, delta: Any = 1.0) -> Any:
    """d²/2 within δ, else δ (|d| − δ/2)."""
    d, above, below = _huber(site, self, target, delta)
    width = fraction(delta)
    far = width * (pick(above, d, -d) - width / 2)
    return reduced(pick(above | below, far, d * d / 2), reduction)


@kernel("huber_loss_backward", linear=[(0,)])
def huber_loss_backward(site: Site, grad: Array, self: Array, target: Any, reduction: int, delta: Any) -> Any:
    d, above, below = _huber(site, self, target, delta)
    width = fraction(delta)
    return spread(grad, pick(above, width, pick(below, -width, d)), reduction)


@kernel("smooth_l1_loss")
def smooth_l1_loss(site: Site, self: Array, target: Any, reduction: int = _MEAN, beta: Any = 1.0) -> Any:
    """d²/(2β) within β, else |d| − β/2."""
    d, above, below = _huber(site, self, target, beta)
    width = fraction(beta)
    near = d * d / (2 * width) if width else d
    return reduced(pick(above | below, pick(above, d, -d) - width / 2, near), reduction)


@kernel("smooth_l1_loss_backward", linear=[(0,)])
def smooth_l1_loss_backward(site: Site, grad: Array, self: Array, target: Any, reduction: int, beta: Any) -> Any:
    d, above, below = _huber(site, self, target, beta)
    width = fraction(beta)
    near = d / width if width else d
    return spread(grad, pick(above, fmpq(1), pick(below, fmpq(-1), near)), reduction)


@kernel("binary_cross_entropy")
def binary_cross_entropy(site: Site, self: Array, target: Any, weight: Any = None, reduction: int = _MEAN) -> Any:
    """−t log x − (1 − t) log(1 − x); torch cuts the logarithms off at −100."""
    t = numbers(target)
    losses = -(t * _cut_log(self) + (1 - t) * _cut_log(1 - self))
    return reduced(losses if weight is None else losses * numbers(weight), reduction)


def _cut_log(value: Any) -> Array:
    def entry(x: arb) -> arb:
        return arb(-100) if x.is_zero() else x.log().max(arb(-100))

    return each_ball(entry, np.asarray(value, dtype=object))


@kernel("binary_cross_entropy_backward", linear=[(0,)])
def binary_cross_entropy_backward(
    site: Site, grad: Array, self: Array, target: Any, weight: Any = None, reduction: int = _MEAN
) -> Any:
    # torch keeps the denominator above 1e-12.
    def slope(x: Any, t: Any) -> Any:
        down = (1 - x) * x
        return (x - t) / (down if down > fraction(1e-12) else fraction(1e-12))

    slopes = each(slope, self, numbers(target))
    return spread(grad, slopes if weight is None else slopes * numbers(weight), reduction)


@kernel("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    site: Site, self: Array, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = _MEAN
) -> Any:
    """(1 − t) x + (1 + (w − 1) t) log(1 + e⁻ˣ)."""
    t = numbers(target)
    log_weight = 1 if pos_weight is None else 1 + (numbers(pos_weight) - 1) * t
    losses = (1 - t) * self + log_weight * each_ball(lambda x: softplus_of(-x), self)
    return reduced(losses if weight is None else losses * numbers(weight), reduction)


@kernel("nll_loss_forward")
def nll_loss_forward(
    site: Site, self: Array, target: Any, weight: Any, reduction: int, ignore_index: int
) -> tuple[Any, Any]:
    scores, factors, _ = _likelihoods(self, target, weight, ignore_index)
    total = factors.sum()
    losses = -scores * factors
    if reduction == _MEAN:
        return quotient(losses.sum(), total), total
    # The weight of all is only worked out for a reduction.
    return (losses.sum(), total) if reduction == _SUM else (losses.reshape(target.shape), _ZERO)


@kernel("nll_loss_backward", linear=[(0,)])
def nll_loss_backward(
    site: Site, grad: Array, self: Array, target: Any, weight: Any, reduction: int, ignore_index: int, total: Any
) -> Array:
    _, factors, chosen = _likelihoods(self, target, weight, ignore_index)
    made = np.full(self.shape, _ZERO, dtype=object)
    slopes = -factors * np.broadcast_to(grad, target.shape).ravel()
    if reduction == _MEAN:
        slopes = each(quotient, slopes, numbers(total))
    rows = made.reshape(-1, self.shape[-1])
    rows[np.arange(len(rows)), chosen] = slopes
    return rows.reshape(self.shape)


def _likelihoods(self: Array, target: Any, weight: Any, ignore_index: int) -> tuple[Array, Array, Any]:
    """Per example the score of its class, its weight (0 if ignored), and the class."""
    rows, classes = self.reshape(-1, self.shape[-1]), np.ravel(target)
    kept = classes != ignore_index
    chosen = np.where(kept, classes, 0)
    weights = np.full(self.shape[-1], fmpq(1), dtype=object) if weight is None else numbers(weight)
    return rows[np.arange(len(rows)), chosen], pick(kept, weights[chosen], _ZERO), chosen

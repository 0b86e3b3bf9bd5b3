"""Ops that choose between entries: comparisons, where, clamp, relu and the like.

Each follows the choice that the run made, and tells the site where exact arithmetic chooses otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import fmpq

from graphlens.numerics.balls import Array, fraction, numbers
from graphlens.numerics.registry import Site, each, kernel, pick

_ZERO = fmpq(0)

# Whether a comparison certainly holds, whether it certainly does not. Balls are equal only if both are exact.
_COMPARISONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "gt": (operator.gt, operator.le), "ge": (operator.ge, operator.lt),
    "lt": (operator.lt, operator.ge), "le": (operator.le, operator.gt),
    "eq": (lambda a, b: a >= b and a <= b, lambda a, b: a < b or a > b),
    "ne": (lambda a, b: a < b or a > b, lambda a, b: a >= b and a <= b),
}  # fmt: skip


def _comparison(name: str) -> None:
    yes, no = _COMPARISONS[name]

    def compare(site: Site, self: Any, other: Any) -> None:
        site.branch(site.made(), yes, no, numbers(self), numbers(other))

    compare.__name__ = name
    kernel(name)(compare)


for _name in _COMPARISONS:
    _comparison(_name)


@kernel("where", linear=[(1, 2)], offsets=(1, 2))
def where(site: Site, condition: Any, self: Any, other: Any) -> Array:
    return pick(condition.astype(bool), numbers(self), numbers(other))


@kernel("masked_fill", linear=[(0, 2)], offsets=(2,))
def masked_fill(site: Site, self: Any, mask: Any, value: Any) -> Array:
    return pick(mask.astype(bool), numbers(value), numbers(self))


@kernel("relu")
def relu(site: Site, self: Array) -> Array:
    return pick(site.above(site.floats(0) > 0, self, _ZERO), self, _ZERO)


@kernel("leaky_relu")
def leaky_relu(site: Site, self: Array, negative_slope: Any = 0.01) -> Array:
    taken = site.above(site.floats(0) > 0, self, _ZERO)
    return pick(taken, self, self * fraction(negative_slope))


@kernel("_prelu_kernel")
def prelu(site: Site, self: Array, weight: Array) -> Array:
    return pick(site.above(site.floats(0) > 0, self, _ZERO), self, self * weight)


def _bounded(site: Site, self: Array, low: Any, high: Any) -> Array:
    given = site.floats(0)
    if low is not None:
        bound = _float_bound(site, 1, "min", low)
        taken = site.below(given < bound, self, numbers(low))
        self, given = pick(taken, numbers(low), self), np.where(taken, bound, given)
    if high is not None:
        bound = _float_bound(site, 2, "max", high)
        self = pick(site.above(given > bound, self, numbers(high)), numbers(high), self)
    return self


def _float_bound(site: Site, position: int, name: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    given = site.floats(position)
    return site.floats(name) if given is None else given


@kernel("clamp")
def clamp(site: Site, self: Array, min: Any = None, max: Any = None) -> Array:
    return _bounded(site, self, min, max)


@kernel("clamp_min")
def clamp_min(site: Site, self: Array, min: Any) -> Array:
    return _bounded(site, self, min, None)


@kernel("clamp_max")
def clamp_max(site: Site, self: Array, max: Any) -> Array:
    bound = site.floats(1)
    return pick(site.above(site.floats(0) > bound, self, numbers(max)), numbers(max), self)


@kernel("hardtanh")
def hardtanh(site: Site, self: Array, min_val: Any = -1, max_val: Any = 1) -> Array:
    return _bounded(site, self, min_val, max_val)


@kernel("hardsigmoid")
def hardsigmoid(site: Site, self: Array) -> Any:
    """min(max(x + 3, 0), 6) ÷ 6."""
    return _six(site, self) / fmpq(6)


@kernel("hardswish")
def hardswish(site: Site, self: Array) -> Any:
    """x · min(max(x + 3, 0), 6) ÷ 6."""
    return self * _six(site, self) / fmpq(6)


def _six(site: Site, self: Array) -> Array:
    low = site.below(site.floats(0) < -3, self, fmpq(-3))
    high = site.above(site.floats(0) > 3, self, fmpq(3))
    return pick(low, _ZERO, pick(high, fmpq(6), self + fmpq(3)))


@kernel("softshrink")
def softshrink(site: Site, self: Array, lambd: Any = 0.5) -> Array:
    bound = fraction(lambd)
    above = site.above(site.floats(0) > lambd, self, bound)
    below = site.below(site.floats(0) < -lambd, self, -bound)
    return pick(above, self - bound, pick(below, self + bound, _ZERO))


@kernel("hardshrink")
def hardshrink(site: Site, self: Array, lambd: Any = 0.5) -> Array:
    bound = fraction(lambd)
    above = site.above(site.floats(0) > lambd, self, bound)
    below = site.below(site.floats(0) < -lambd, self, -bound)
    return pick(above | below, self, _ZERO)


@kernel("threshold")
def threshold(site: Site, self: Array, threshold: Any, value: Any) -> Array:
    return pick(site.above(site.floats(0) > threshold, self, fraction(threshold)), self, fraction(value))


@kernel("threshold_backward", linear=[(0,)])
def threshold_backward(site: Site, grad: Array, self: Array, threshold: Any) -> Array:
    return pick(site.above(site.floats(1) > threshold, self, fraction(threshold)), grad, _ZERO)


@kernel("softshrink_backward", "hardshrink_backward", linear=[(0,)])
def shrink_backward(site: Site, grad: Array, self: Array, lambd: Any) -> Array:
    bound = fraction(lambd)
    above = site.above(site.floats(1) > lambd, self, bound)
    below = site.below(site.floats(1) < -lambd, self, -bound)
    return pick(above | below, grad, _ZERO)


@kernel("hardtanh_backward", linear=[(0,)])
def hardtanh_backward(site: Site, grad: Array, self: Array, min_val: Any, max_val: Any) -> Array:
    inside = site.above(site.floats(1) > min_val, self, fraction(min_val))
    return pick(inside & site.below(site.floats(1) < max_val, self, fraction(max_val)), grad, _ZERO)


@kernel("hardsigmoid_backward", linear=[(0,)])
def hardsigmoid_backward(site: Site, grad: Array, self: Array) -> Array:
    inside = site.above(site.floats(1) > -3, self, fmpq(-3)) & site.below(site.floats(1) < 3, self, fmpq(3))
    return pick(inside, grad / fmpq(6), _ZERO)


@kernel("hardswish_backward", linear=[(0,)])
def hardswish_backward(site: Site, grad: Array, self: Array) -> Array:
    low = site.below(site.floats(1) < -3, self, fmpq(-3))
    high = site.above(site.floats(1) > 3, self, fmpq(3))
    return pick(low, _ZERO, pick(high, grad, grad * (self / fmpq(3) + fmpq(1, 2))))


@kernel("leaky_relu_backward", linear=[(0,)])
def leaky_relu_backward(site: Site, grad: Array, self: Array, negative_slope: Any, self_is_result: bool) -> Array:
    taken = site.above(site.floats(1) > 0, self, _ZERO)
    return pick(taken, grad, grad * fraction(negative_slope))


@kernel("_prelu_kernel_backward")
def prelu_backward(site: Site, grad: Array, self: Array, weight: Array) -> tuple[Array, Array]:
    taken = site.above(site.floats(1) > 0, self, _ZERO)
    return pick(taken, grad, grad * weight), pick(taken, _ZERO, grad * self)


@kernel("maximum", "fmax")
def maximum(site: Site, self: Any, other: Any) -> Array:
    first = site.floats(0) >= site.floats(1)
    return pick(site.branch(first, operator.ge, operator.lt, numbers(self), numbers(other)), numbers(self),
                numbers(other))  # fmt: skip


@kernel("minimum", "fmin")
def minimum(site: Site, self: Any, other: Any) -> Array:
    first = site.floats(0) <= site.floats(1)
    return pick(site.branch(first, operator.le, operator.gt, numbers(self), numbers(other)), numbers(self),
                numbers(other))  # fmt: skip


@kernel("sign", "sgn")
def sign(site: Site, self: Array) -> Array:
    given = site.floats(0)
    above, below = site.above(given > 0, self, _ZERO), site.below(given < 0, self, _ZERO)
    return pick(above, fmpq(1), pick(below, fmpq(-1), _ZERO))


def _rounding(name: str, size: Callable[[Any], Any]) -> None:
    """The run's whole number; exact arithmetic agrees where the entry lies within reach of it."""

    def compute(site: Site, self: Array) -> Array:
        made = each(lambda entry: fraction(entry), site.made())
        distance = self - made
        site.branch(np.ones(self.shape, bool), size, lambda entry: not size(entry), distance)
        return made

    compute.__name__ = name
    kernel(name)(compute)


_rounding("floor", lambda off: off >= 0 and off < 1)
_rounding("ceil", lambda off: off > -1 and off <= 0)
_rounding("trunc", lambda off: off > -1 and off < 1)
_rounding("round", lambda off: off >= fmpq(-1, 2) and off <= fmpq(1, 2))


@kernel("fmod")
def fmod(site: Site, self: Array, other: Any) -> Any:
    """x − y·trunc(x/y), with the run's whole number."""
    return _rest(site, self, other)


@kernel("remainder")
def remainder(site: Site, self: Array, other: Any) -> Any:
    """x − y·floor(x/y), with the run's whole number."""
    return _rest(site, self, other)


@kernel("frac")
def frac(site: Site, self: Array) -> Any:
    return _rest(site, self, 1)


def _rest(site: Site, self: Array, other: Any) -> Any:
    divisor = site.floats(1) if isinstance(other, np.ndarray) else other
    # Float division may land on the next whole number; the run's own rest tells.
    times = np.rint((site.floats(0) - site.made()) / divisor)
    rest = np.asarray(self - numbers(other) * each(fraction, times), dtype=object)
    size = np.asarray(abs(numbers(other)), dtype=object)
    site.branch(np.ones(rest.shape, bool), lambda r, s: abs(r) < s, lambda r, s: abs(r) >= s, rest, size)
    return rest


@kernel("isnan", "isinf", "isfinite", "logical_and", "logical_or", "logical_not", "logical_xor", "any", "all",
        "bitwise_and", "bitwise_or", "bitwise_not", "is_nonzero", "argmax", "argmin", "argsort")  # fmt: skip
def truth(site: Site, *args: Any, **kwargs: Any) -> None:
    """What the run found is followed."""
    return


@kernel("nan_to_num")
def nan_to_num(site: Site, self: Array, *args: Any, **kwargs: Any) -> Array:
    given, made = site.floats(0), site.made()
    return pick(np.isfinite(given), self, each(fraction, made))

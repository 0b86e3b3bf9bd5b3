"""Arithmetic and functions of single entries, as they run below autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, fmpq

from graphlens.numerics.balls import Array, ball, fraction, numbers
from graphlens.numerics.registry import Site, Unsupported, each, each_ball, kernel, pick

BOTH = (0, 1)
_HALF = fmpq(1, 2)


def quotient(a: Any, b: Any) -> Any:
    """a ÷ b of two entries; NaN for a division by exactly zero."""
    if isinstance(b, fmpq) and not b:
        return arb.nan()
    return a / b


@kernel("add", linear=[BOTH], offsets=BOTH)
def add(site: Site, self: Any, other: Any, alpha: Any = 1) -> Any:
    return numbers(self) + _times(numbers(other), alpha)


@kernel("sub", linear=[BOTH], offsets=BOTH)
def sub(site: Site, self: Any, other: Any, alpha: Any = 1) -> Any:
    return numbers(self) - _times(numbers(other), alpha)


@kernel("rsub", linear=[BOTH], offsets=BOTH)
def rsub(site: Site, self: Any, other: Any, alpha: Any = 1) -> Any:
    return numbers(other) - _times(numbers(self), alpha)


@kernel("mul", linear=[(0,), (1,)])
def mul(site: Site, self: Any, other: Any) -> Any:
    return numbers(self) * numbers(other)


@kernel("div", linear=[(0,)])
def div(site: Site, self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise Unsupported(f"rounding_mode={rounding_mode!r}")
    return each(quotient, numbers(self), numbers(other))


@kernel("neg", "negative", linear=[(0,)], moves=True)
def neg(site: Site, self: Array) -> Any:
    return -self


@kernel("reciprocal")
def reciprocal(site: Site, self: Any) -> Any:
    return each(lambda entry: quotient(fmpq(1), entry), numbers(self))


@kernel("square")
def square(site: Site, self: Array) -> Any:
    return self * self


@kernel("abs")
def absolute(site: Site, self: Array) -> Any:
    return abs(self)


@kernel("addcmul", linear=[(0, 1), (0, 2)])
def addcmul(site: Site, self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    return numbers(self) + _times(numbers(tensor1) * numbers(tensor2), value)


@kernel("addcdiv", linear=[(0, 1)])
def addcdiv(site: Site, self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    return numbers(self) + _times(each(quotient, numbers(tensor1), numbers(tensor2)), value)


@kernel("lerp", linear=[BOTH])
def lerp(site: Site, self: Array, end: Array, weight: Any) -> Any:
    return self + numbers(weight) * (end - self)


@kernel("pow")
def power(site: Site, self: Any, exponent: Any) -> Any:
    return each(power_of, numbers(self), numbers(exponent))


def power_of(base: Any, exponent: Any) -> Any:
    """One entry to the power of another; whole and half exponents without logarithms."""
    if isinstance(exponent, fmpq):
        twice = exponent + exponent
        if exponent.q == 1 and abs(int(exponent.p)) <= 4096:
            whole = int(exponent.p)
            if whole < 0:
                return quotient(fmpq(1), base**-whole)
            return base**whole
        if twice.q == 1 and abs(int(twice.p)) <= 4096:
            root = ball(base).sqrt()
            return root ** int(twice.p) if twice > 0 else arb(1) / root ** -int(twice.p)
    if isinstance(base, fmpq) and not base:
        return fmpq(0) if exponent > 0 else arb.nan()
    return ball(base) ** ball(exponent)


@kernel("hypot")
def hypot(site: Site, self: Array, other: Array) -> Any:
    return each_ball(root_of_squares, np.asarray(self * self + other * other, dtype=object))


def root_of_squares(entry: Any) -> arb:
    """√ of what is known not to be negative, though its ball may reach below zero."""
    value = ball(entry)
    if value > 0 or value.is_exact():
        return value.sqrt()
    upper = value.upper()
    return arb(0).union(upper.sqrt()) if upper >= 0 else arb.nan()


def _function(name: str, function: Callable[[arb], arb]) -> None:
    def compute(site: Site, self: Any) -> Array:
        return each_ball(function, numbers(self))

    compute.__name__ = name
    kernel(name)(compute)


def sigmoid_of(x: arb) -> arb:
    return 1 / (1 + (-x).exp()) if not x < 0 else x.exp() / (1 + x.exp())


def softplus_of(x: arb) -> arb:
    """log(1 + eˣ)."""
    return x + (-x).exp().log1p() if x > 0 else x.exp().log1p()


def _erf_scale() -> arb:
    """√½."""
    return arb(_HALF).sqrt()


def gelu_of(x: arb) -> arb:
    """x Φ(x), Φ the normal distribution function."""
    return x * (1 + (x * _erf_scale()).erf()) / 2


def gelu_tanh_of(x: arb) -> arb:
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    return x * (1 + _gelu_inner(x).tanh()) / 2


def _gelu_inner(x: arb) -> arb:
    return (2 / arb.pi()).sqrt() * (x + ball(fraction(0.044715)) * x**3)


def gelu_slope(x: arb) -> arb:
    """Φ(x) + x φ(x)."""
    return (1 + (x * _erf_scale()).erf()) / 2 + x * (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


def gelu_tanh_slope(x: arb) -> arb:
    t = _gelu_inner(x).tanh()
    inner = (2 / arb.pi()).sqrt() * (1 + 3 * ball(fraction(0.044715)) * x * x)
    return (1 + t) / 2 + x * (1 - t * t) * inner / 2


_FUNCTIONS: dict[str, Callable[[arb], arb]] = {
    "sqrt": arb.sqrt, "rsqrt": arb.rsqrt, "exp": arb.exp, "expm1": arb.expm1, "log": arb.log, "log1p": arb.log1p,
    "exp2": lambda x: arb(2) ** x, "log2": lambda x: x.log() / arb(2).log(), "log10": lambda x: x.log() / arb(10).log(),
    "sin": arb.sin, "cos": arb.cos, "tan": arb.tan, "asin": arb.asin, "acos": arb.acos, "atan": arb.atan,
    "sinh": arb.sinh, "cosh": arb.cosh, "tanh": arb.tanh, "asinh": arb.asinh, "acosh": arb.acosh, "atanh": arb.atanh,
    "erf": arb.erf, "erfc": arb.erfc, "sigmoid": sigmoid_of, "lgamma": arb.lgamma, "digamma": arb.digamma,
    "silu": lambda x: x * sigmoid_of(x), "mish": lambda x: x * softplus_of(x).tanh(),
    "special_erfcx": lambda x: (x * x).exp() * x.erfc(), "sinc": arb.sinc_pi,
    "deg2rad": lambda x: x * arb.pi() / 180, "rad2deg": lambda x: x * 180 / arb.pi(),
}  # fmt: skip
for _name, _definition in _FUNCTIONS.items():
    _function(_name, _definition)


@kernel("logit")
def logit(site: Site, self: Array, eps: Any = None) -> Any:
    if eps is not None:
        raise Unsupported("logit with eps")
    return each_ball(lambda x: (x / (1 - x)).log(), self)


@kernel("gelu")
def gelu(site: Site, self: Array, approximate: str = "none") -> Any:
    return each_ball(gelu_tanh_of if approximate == "tanh" else gelu_of, self)


@kernel("log_sigmoid_forward")
def log_sigmoid_forward(site: Site, self: Array) -> Any:
    # The second result is workspace of the float algorithm, exp(−|x|).
    return each_ball(lambda x: -softplus_of(-x), self), each_ball(lambda x: (-abs(x)).exp(), self)


@kernel("atan2")
def atan2(site: Site, self: Any, other: Any) -> Any:
    return each(lambda a, b: arb.atan2(ball(a), ball(b)), numbers(self), numbers(other))


@kernel("logaddexp")
def logaddexp(site: Site, self: Array, other: Array) -> Any:
    return each(lambda a, b: ball(b) + softplus_of(ball(a) - ball(b)), self, other)


@kernel("xlogy")
def xlogy(site: Site, self: Any, other: Any) -> Any:
    def entry(a: Any, b: Any) -> Any:
        return fmpq(0) if isinstance(a, fmpq) and not a else a * ball(b).log()

    return each(entry, numbers(self), numbers(other))


# torch's own float constants: the function that the op stands for has them.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def elu_branches(x: Any, alpha: Any, scale: Any, input_scale: Any) -> tuple[Any, Any]:
    """Both branches of elu: scale·x, and scale·α·(e^(input scale·x) − 1)."""
    curved = each_ball(arb.expm1, x * numbers(input_scale))
    return x * numbers(scale), curved * numbers(alpha) * numbers(scale)


@kernel("elu", "celu", "selu")
def elu(site: Site, self: Array, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    name = site.function._schema.name.rpartition("::")[2]
    if name == "celu":
        scale, input_scale = 1, 1 / fraction(alpha)
    elif name == "selu":
        alpha, scale = _SELU_ALPHA, _SELU_SCALE
    straight, curved = elu_branches(self, alpha, scale, input_scale)
    taken = site.above(site.floats(0) > 0, self, fmpq(0))
    return pick(taken, straight, curved)


@kernel("softplus")
def softplus(site: Site, self: Array, beta: Any = 1, threshold: Any = 20) -> Any:
    # Above the threshold the op is defined as the identity.
    b = fraction(beta)
    taken = site.above(site.floats(0) * beta > threshold, np.asarray(self * b, dtype=object), fraction(threshold))
    return pick(taken, self, each_ball(lambda x: softplus_of(x * b) / b, self))


def _times(value: Any, factor: Any) -> Any:
    if isinstance(factor, (int, float)) and factor == 1:
        return value
    return value * numbers(factor)

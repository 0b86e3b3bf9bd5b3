"""Values whose uncertainty is carried through linear ops without growing: affine arithmetic.

A value is mid + Σ noise[k] · εₖ, each unknown εₖ in [−1, 1] the same wherever it appears (de Figueiredo
and Stolfi, "Affine arithmetic: concepts and applications", 2004). Balls alone forget that two entries
share an error: A⁻¹(A y) then widens with each round by the factor ‖|A⁻¹| |A|‖, and 10,000 rounds need
tens of thousands of bits. With rational coefficients A⁻¹A cancels in each coefficient, as it does in y.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from graphlens.numerics.balls import Array, ball, wrapped
from graphlens.numerics.registry import KERNELS, Kernel, Site

MAX_SYMBOLS = 12  # per value; each costs a linear op as much again as the midpoint
LIFTED_ENTRIES = 8  # up to this size each ball of a result becomes a symbol of its own
RATIONAL_BITS = 8192  # a longer rational is rounded, or one longer than 4 × the precision
_ZERO = fmpq(0)


@dataclass(frozen=True, slots=True)
class Affine:
    """mid + Σ noise[k] εₖ; all arrays have one shape."""

    mid: Array
    noise: dict[int, Array]


Value = Any  # Array of numbers, numpy array of whole numbers, or Affine


def evaluate(kernel: Kernel, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], fresh: Iterator[int]) -> Any:
    """Compute a kernel on values with noise; what comes back is a list of values."""
    noisy = [place for place, value in enumerate(args) if _has_noise(value)]
    named = any(map(_has_noise, kwargs.values()))
    if not noisy and not named:
        return kernel(site, *args, **kwargs)
    if not named:
        simpler = _simpler(kernel, args, fresh) if noisy and not kwargs else None
        if simpler is not None:
            return [simpler[0]] if len(simpler) == 1 else evaluate(KERNELS["mul"], site, simpler, {}, fresh)
        group = next((group for group in kernel.linear if group.issuperset(noisy)), None)
        if group is not None:
            return _linear(kernel, site, args, kwargs, group)
        if len(noisy) == 2 and _symbols(args[noisy[0]]) * _symbols(args[noisy[1]]) <= MAX_SYMBOLS:
            groups = [next((group for group in kernel.linear if place in group), None) for place in noisy]
            if groups[0] and groups[1] and noisy[1] not in groups[0]:
                return _bilinear(kernel, site, args, kwargs, (noisy[0], noisy[1]), fresh)
    flat = tuple(map(flattened, args))
    return kernel(site, *flat, **{key: flattened(value) for key, value in kwargs.items()})


def _simpler(kernel: Kernel, args: tuple[Any, ...], fresh: Iterator[int]) -> tuple[Value, ...] | None:
    """One value, or the two factors of a product, that the op comes down to."""
    if kernel.name == "reciprocal":
        return (_reciprocal(args[0], fresh),)
    if kernel.name == "div" and isinstance(args[1], Affine):
        return args[0], _reciprocal(args[1], fresh)
    if kernel.name == "square" or (kernel.name == "pow" and isinstance(args[1], (int, float)) and args[1] == 2):
        return args[0], args[0]
    if kernel.name == "pow" and isinstance(args[1], (int, float)) and args[1] == 1:
        return (args[0],)
    return None


def _linear(
    kernel: Kernel, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], group: frozenset[int]
) -> list[Value]:
    """The op on the midpoints, and on each symbol's coefficients with zero for all else in the group."""
    middles = kernel(site, *map(_middle, args), **kwargs)
    symbols = sorted({symbol for place in group if place < len(args) for symbol in _symbol_set(args[place])})
    noise: list[dict[int, Array]] = [{} for _ in middles]
    counted = site.otherwise, site.undecided
    for symbol in symbols:
        parts = [
            _coefficients(value, symbol, place in kernel.offsets) if place in group else _middle(value)
            for place, value in enumerate(args)
        ]
        for result, part in enumerate(kernel(site, *parts, **kwargs)):
            if part is not None:
                noise[result][symbol] = part
    site.otherwise, site.undecided = counted  # a branch was counted on the midpoints already
    return [_joined(middle, found) for middle, found in zip(middles, noise, strict=True)]


def _bilinear(
    kernel: Kernel, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], places: tuple[int, int],
    fresh: Iterator[int],
) -> list[Value]:  # fmt: skip
    """(a + Σ aₖ εₖ)(b + Σ bₗ εₗ): what is linear in the symbols, and a new symbol for each product of two."""
    first, second = places
    left, right = args[first], args[second]

    def compute(a: Array, b: Array) -> Array:
        parts = list(map(_middle, args))
        parts[first], parts[second] = a, b
        return wrapped(kernel(site, *parts, **kwargs)[0])

    noise: dict[int, Array] = {}
    for symbol, coefficients in left.noise.items():
        noise[symbol] = compute(coefficients, right.mid)
    for symbol, coefficients in right.noise.items():
        part = compute(left.mid, coefficients)
        noise[symbol] = noise[symbol] + part if symbol in noise else part
    for a, b in itertools.product(left.noise.values(), right.noise.values()):
        noise[next(fresh)] = compute(a, b)
    return [_condensed(wrapped(compute(left.mid, right.mid)), noise, fresh)]


def _condensed(middle: Array, noise: dict[int, Array], fresh: Iterator[int]) -> Value:
    """Symbols whose coefficients are multiples of the midpoint, as one: then it is known but for a factor.

    So it is with what a noisy scalar was multiplied by, every gradient behind a norm for example.
    """
    factors, others = [], {}
    for symbol, part in noise.items():
        factor = _factor(wrapped(part), middle)
        if factor is None:
            others[symbol] = part
        else:
            factors.append(abs(factor))
    together = sum(factors, _ZERO)
    if together:
        others[next(fresh)] = middle * _rounded_up(together)
    return _joined(middle, others)


def _factor(part: Array, middle: Array) -> fmpq | None:
    """The number that all of `middle` is multiplied with to give `part`; None if there is none."""
    factor = None
    for coefficient, entry in zip(part.flat, middle.flat, strict=True):
        if not (isinstance(coefficient, fmpq) and isinstance(entry, fmpq)) or (coefficient and not entry):
            return None
        if entry:
            factor = coefficient / entry if factor is None else factor
            if factor * entry != coefficient:
                return None
    return factor or _ZERO


def _reciprocal(value: Affine, fresh: Iterator[int]) -> Value:
    """1 ÷ (m + δ) = 1/m − δ/m² + δ²/(m² (m + δ)); the last term gets a new symbol per entry."""
    reach = _reach(value).ravel()
    mids = value.mid.ravel()
    good = all(isinstance(m, fmpq) and abs(m) > r for m, r in zip(mids, reach, strict=True))
    if not good or mids.size > LIFTED_ENTRIES:
        made = [_inverse_ball(ball(m) + arb(0, ball(r).upper())) for m, r in zip(mids, reach, strict=True)]
        return _like(made, value.mid)
    slopes = _like([-1 / (m * m) for m in mids], value.mid)
    noise = {symbol: slopes * part for symbol, part in value.noise.items()}
    for place, (m, r) in enumerate(zip(mids, reach, strict=True)):
        rest = _like([_ZERO] * mids.size, value.mid)
        rest.ravel()[place] = _rounded_up(r * r / (m * m * (abs(m) - r)))
        noise[next(fresh)] = rest
    return _joined(_like([1 / m for m in mids], value.mid), noise)


def _inverse_ball(value: arb) -> arb:
    return 1 / value


def flattened(value: Any) -> Any:
    """A value without symbols: each entry a ball that contains all it may be."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(flattened, value))
    if not isinstance(value, Affine):
        return value
    pairs = zip(value.mid.ravel(), _reach(value).ravel(), strict=True)
    return _like([m if isinstance(r, fmpq) and not r else ball(m) + _within(r) for m, r in pairs], value.mid)


def settled(value: Any, fresh: Iterator[int]) -> Value:
    """A new value in the form that serves best: long rationals rounded, balls of small arrays as symbols."""
    if isinstance(value, Affine):
        if len(value.noise) <= MAX_SYMBOLS and not any(map(_is_long, (value.mid, *value.noise.values()))):
            return value if value.noise else value.mid
        value = flattened(value)
    array = wrapped(value)
    if array.dtype != object:
        return array
    if _is_long(array):
        limit = _longest()
        array = _like([ball(e) if isinstance(e, fmpq) and e.height_bits() > limit else e for e in array.ravel()], array)
    return _lifted(array, fresh) if array.size <= LIFTED_ENTRIES else array


def _lifted(array: Array, fresh: Iterator[int]) -> Value:
    """Each ball as a rational midpoint and a symbol; what is not finite stays a ball."""
    if all(isinstance(entry, fmpq) for entry in array.flat):
        return array
    mids, noise = list(array.ravel()), {}
    for place, entry in enumerate(mids):
        if isinstance(entry, fmpq) or not _is_short(entry):
            continue
        mids[place] = entry.mid().fmpq()
        if not entry.is_exact():
            part = _like([_ZERO] * len(mids), array)
            part.ravel()[place] = entry.rad().fmpq()
            noise[next(fresh)] = part
    return _joined(_like(mids, array), noise)


def _is_short(entry: arb) -> bool:
    """Whether a ball has rational numbers of a sensible length for its midpoint and radius."""
    if not entry.is_finite():
        return False
    limit = _longest()
    return all(abs(part.man_exp()[1]) < limit for part in (entry.mid(), entry.rad()))


def _joined(middle: Any, noise: dict[int, Any]) -> Value:
    if middle is None:
        return None
    middle = wrapped(middle)
    kept = {symbol: wrapped(part) for symbol, part in noise.items() if _is_nonzero(part)}
    return Affine(middle, kept) if kept else middle


def _longest() -> int:
    return max(RATIONAL_BITS, 4 * ctx.prec)


def _is_nonzero(part: Any) -> bool:
    return any(wrapped(part).ravel().tolist())


def _is_long(array: Array) -> bool:
    limit = _longest()
    return any(map(limit.__lt__, [e.height_bits() for e in array.ravel().tolist() if type(e) is fmpq]))


def _reach(value: Affine) -> Array:
    """Per entry Σ |coefficients|."""
    parts = iter(value.noise.values())
    reach = wrapped(abs(next(parts)))
    for part in parts:
        reach = wrapped(reach + abs(part))
    return reach


def _within(bound: Any) -> arb:
    """The ball of all numbers of at most this magnitude."""
    upper = ball(bound).upper()
    return arb(0, upper) if upper.is_finite() else arb.nan()


def _rounded_up(bound: fmpq) -> fmpq:
    return arb(0, ball(bound).upper()).rad().fmpq()


def _like(entries: Iterable[Any], array: Array) -> Array:
    made = np.empty(array.size, dtype=object)
    made[:] = list(entries)
    return made.reshape(array.shape)


def _has_noise(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_noise, value))
    return isinstance(value, Affine)


def _symbol_set(value: Any) -> set[int]:
    if isinstance(value, (list, tuple)):
        return set().union(*map(_symbol_set, value))
    return set(value.noise) if isinstance(value, Affine) else set()


def _symbols(value: Any) -> int:
    # A list of values is not an operand of a product.
    return len(value.noise) if isinstance(value, Affine) else MAX_SYMBOLS + 1


def _middle(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_middle, value))
    return value.mid if isinstance(value, Affine) else value


def _coefficients(value: Any, symbol: int, is_operand: bool) -> Any:
    """A symbol's part of an argument; zero in the place of a number that does not depend on it."""
    if isinstance(value, (list, tuple)):
        return type(value)(_coefficients(item, symbol, is_operand) for item in value)
    if isinstance(value, Affine):
        return value.noise[symbol] if symbol in value.noise else _like([_ZERO] * value.mid.size, value.mid)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return _like([_ZERO] * value.size, value)
    if is_operand and isinstance(value, np.ndarray):
        return np.zeros_like(value)
    return 0 if is_operand and isinstance(value, (bool, int, float)) else value

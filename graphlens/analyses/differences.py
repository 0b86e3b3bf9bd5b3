"""By how much two tensors of one name differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphlens.records import Gradient, TensorValue

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

# Smallest normal numbers (IEEE 754, and bfloat16 with float32's exponents): below them the
# spacing of floating-point numbers shrinks no further.
_SMALLEST_NORMAL = {"float64": 2.0**-1022, "complex128": 2.0**-1022, "float16": 2.0**-14}
_SMALLEST_NORMAL_FLOAT32 = 2.0**-126


@dataclass(frozen=True)
class Difference:
    """Two tensors of one name.

    Attributes:
        a, b: "value", or "none" where autograd gives `None`, or "absent" where a run lacks it.
        max_abs: largest |a − b| over the entries; None where it cannot be formed.
        relative: max_abs ÷ the largest |b|; None where b is 0 everywhere, or next to nothing.
        ulps: largest |a − b| ÷ spacing of the floating-point numbers at max(|a|, |b|), by entry.
        largest: the largest magnitude on the side that alone has a value.
        note: what the numbers do not tell.
    """

    name: str
    a: str
    b: str
    max_abs: float | None = None
    relative: float | None = None
    ulps: float | None = None
    largest: float | None = None
    note: str = ""


def output_differences(a: Mapping[str, TensorValue], b: Mapping[str, TensorValue]) -> tuple[Difference, ...]:
    """Differences of the outputs, paired by name, or by place where each run has one output."""
    if len(a) == len(b) == 1 and a.keys() != b.keys():
        return (_values(" / ".join([*a, *b]), *a.values(), *b.values()),)
    rows = []
    for name in dict.fromkeys((*a, *b)):
        if name in a and name in b:
            rows.append(_values(name, a[name], b[name]))
        else:
            rows.append(Difference(name, "value" if name in a else "absent", "value" if name in b else "absent"))
    return tuple(rows)


def number_difference(name: str, a: float, b: float) -> Difference:
    """The difference of two Python numbers, whose format is not known any more."""
    import numpy

    return _values(name, *(TensorValue((), "float64", numpy.array(value), 0.0) for value in (a, b)))


def gradient_differences(a: Mapping[str, Gradient], b: Mapping[str, Gradient]) -> tuple[Difference, ...]:
    """Differences of the gradients, paired by name; `None` is told apart from a value of zero."""
    rows = []
    for name in dict.fromkeys((*a, *b)):
        left, right = a.get(name), b.get(name)
        if left is not None and right is not None and left.value is not None and right.value is not None:
            rows.append(_values(name, left.value, right.value))
            continue
        alone = next((side.value for side in (left, right) if side is not None and side.value is not None), None)
        note = "; ".join(side.reason for side in (left, right) if side is not None and side.reason)
        rows.append(Difference(name, _status(left), _status(right), largest=largest(alone), note=note))
    return tuple(rows)


def largest(tensor: TensorValue | None) -> float | None:
    """The largest magnitude of a tensor's entries; None where there is no value."""
    if tensor is None or tensor.value is None or tensor.value.size == 0:
        return None
    return float(abs(tensor.value).max())


def _status(side: Gradient | None) -> str:
    if side is None:
        return "absent"
    return "none" if side.value is None else "value"


def _values(name: str, a: TensorValue, b: TensorValue) -> Difference:
    if a.shape != b.shape:
        return Difference(name, "value", "value", note=f"shapes differ: {list(a.shape)} against {list(b.shape)}")
    if a.value is None or b.value is None:
        return Difference(name, "value", "value", note="values not available")
    import numpy

    left, right = _real(a.value), _real(b.value)
    if left.size == 0:
        return Difference(name, "value", "value", 0.0, None, 0.0, note="no entries")
    same = (left == right) | (numpy.isnan(left) & numpy.isnan(right))
    with numpy.errstate(invalid="ignore", over="ignore"):
        gap = numpy.where(same, 0.0, numpy.abs(left - right))
    note = "" if a.dtype == b.dtype else f"{a.dtype} against {b.dtype}"
    if not numpy.isfinite(gap).all():
        count = int((~numpy.isfinite(gap)).sum())
        entries = "1 entry has" if count == 1 else f"{count:,} entries have"
        return Difference(name, "value", "value", note=f"{entries} no finite difference")
    max_abs = float(gap.max())
    scale = float(numpy.abs(right[numpy.isfinite(right)]).max(initial=0.0))
    ratio = max_abs / scale if scale else math.inf
    relative = ratio if math.isfinite(ratio) else None
    return Difference(name, "value", "value", max_abs, relative, _ulps(gap, left, right, a, b), note=note)


def _ulps(gap: Array, left: Array, right: Array, a: TensorValue, b: TensorValue) -> float | None:
    """Largest gap in units in the last place of the coarser dtype."""
    import numpy

    coarse = max((a, b), key=lambda side: side.ulp)
    if coarse.ulp == 0.0:  # integers have no such unit
        return None
    size = numpy.maximum(numpy.abs(left), numpy.abs(right))
    size = numpy.maximum(size, _SMALLEST_NORMAL.get(coarse.dtype, _SMALLEST_NORMAL_FLOAT32))
    _, exponent = numpy.frexp(size)  # size = m · 2^exponent with 1/2 ≤ m < 1
    spacing = numpy.ldexp(coarse.ulp, exponent - 1)
    return float(numpy.where(gap == 0.0, 0.0, gap / spacing).max())


def _real(array: Array) -> Array:
    import numpy

    if array.dtype.kind == "c":
        array = numpy.stack([array.real, array.imag])
    return array.astype(numpy.float64)

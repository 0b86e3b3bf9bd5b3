"""Tensors become numbers without rounding, and balls say how far the truth may be."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st

from graphlens.numerics.balls import Balls, ball, from_tensor, nearest, numbers, radius, shaped

FORMATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def as_fraction(entry: fmpq | arb) -> Fraction:
    number = entry if isinstance(entry, fmpq) else entry.fmpq()
    return Fraction(int(number.p), int(number.q))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.booleans())
def test_every_float_is_kept_to_the_last_bit(entries: list[float], rational: bool) -> None:
    made = from_tensor(torch.tensor(entries, dtype=torch.float64), rational=rational)

    assert [as_fraction(entry) for entry in made] == [Fraction(entry) for entry in entries]
    assert all(isinstance(entry, fmpq if rational else arb) for entry in made)
    assert Balls(made).midpoint().tolist() == entries
    assert Balls(made).max_radius() == 0.0


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_format_is_exact(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.1, -3e4, 6e-5, 0.0], dtype=dtype)

    assert [as_fraction(entry) for entry in from_tensor(tensor)] == [Fraction(number) for number in tensor.tolist()]


@pytest.mark.parametrize("size", [3, 1000])
def test_shapes_are_kept_and_large_arrays_are_balls(size: int) -> None:
    made = from_tensor(torch.ones(size, 2, dtype=torch.float64))

    assert made.shape == (size, 2)
    assert isinstance(made[0, 0], fmpq if size == 3 else arb)
    assert from_tensor(torch.tensor(2.5).double()).shape == ()


def test_whole_numbers_stay_whole() -> None:
    whole = from_tensor(torch.tensor([2**62 + 1, -1]))

    assert whole.tolist() == [2**62 + 1, -1]
    assert [as_fraction(entry) for entry in numbers(whole)] == [2**62 + 1, -1]
    assert from_tensor(torch.tensor([True, False])).tolist() == [True, False]


def test_numbers_that_are_not_finite() -> None:
    made = from_tensor(torch.tensor([math.inf, -math.inf, math.nan]).double())

    assert made[0] > 10**400
    assert made[1] < -(10**400)
    assert made[2].is_nan()
    assert radius(made[2]) == math.inf


def test_midpoints_are_rounded_once() -> None:
    third = shaped([fmpq(1, 3), arb(1) / 3, fmpq(10**400), fmpq(-(10**400))], (2, 2))

    assert Balls(third).midpoint().tolist() == [[1 / 3, 1 / 3], [math.inf, -math.inf]]


def test_a_radius_is_an_upper_bound() -> None:
    third = arb(1) / 3
    bound = radius(third)

    assert 0 < bound < 1e-15
    assert abs(third.mid().fmpq() - fmpq(1, 3)) <= fmpq(*bound.as_integer_ratio())
    assert radius(arb(5, 0.25)) >= 0.25


def test_containment() -> None:
    outer, inner = arb(1, 0.5), arb(1.25, 0.125)

    assert Balls(shaped([outer, fmpq(3)], (2,))).contains(Balls(shaped([inner, fmpq(3)], (2,))))
    assert not Balls(shaped([inner], (1,))).contains(Balls(shaped([outer], (1,))))
    assert not Balls(shaped([arb(1, 0.5)], (1,))).contains(shaped([fmpq(2)], (1,)))


def test_the_error_of_a_result_is_rounded_once() -> None:
    tensor = torch.tensor([0.1, 0.5], dtype=torch.float64)
    truth = Balls(shaped([fmpq(1, 10), fmpq(1, 2)], (2,)))

    # 0.1 in float64 is 1/10 + 5.55…e-18: its own denominator is 2⁵⁵.
    assert truth.error_of(tensor).tolist() == [float(Fraction(0.1) - Fraction(1, 10)), 0.0]


@given(st.fractions(max_denominator=10**30))
def test_the_nearest_float_is_python_s(number: Fraction) -> None:
    assert nearest(fmpq(number.numerator, number.denominator)) == float(number)


def test_more_bits_make_narrower_balls() -> None:
    before = ctx.prec
    try:
        widths = []
        for ctx.prec in (64, 128, 256):
            widths.append(radius(ball(2).sqrt()))
    finally:
        ctx.prec = before

    assert widths[0] > widths[1] * 2**60 > widths[2] * 2**180 > 0
    assert np.all(np.diff(widths) < 0)


def test_a_difference_that_may_be_0_is_0() -> None:
    with ctx.workprec(128):
        nothing = (arb(1) / 3) * 3 - 1  # a ball around 0 of some 1e-38
        about_one = nothing + 1

    assert not nothing.is_exact()
    assert nothing.contains(0)
    one, zero = Balls(shaped([about_one], (1,))), Balls(shaped([nothing], (1,)))
    assert one.error_of(torch.tensor([1.0], dtype=torch.float64)) == 0
    assert zero.midpoint() == 0
    assert one.error_of(torch.tensor([1.0 + 2**-52], dtype=torch.float64)) == pytest.approx(2**-52)

"""Differences against hand calculation, in units that the dtype has."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphlens.analyses.differences import Difference, gradient_differences, largest, output_differences
from graphlens.capture.trace import value_of
from graphlens.records import Gradient, TensorValue


def difference(a: torch.Tensor, b: torch.Tensor) -> Difference:
    (row,) = output_differences({"y": value_of(a)}, {"y": value_of(b)})
    return row


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("start", [1.0, 1.5, 3.14, 1e-300, 1e300, -7.0, 2.0**-1030])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ulps_of_neighbours(start: float, steps: int) -> None:
    other = start
    for _ in range(steps):
        other = math.nextafter(other, math.copysign(math.inf, start))

    row = difference(doubles(start), doubles(other))

    assert row.ulps == steps
    assert row.max_abs == abs(other - start)


@given(st.floats(1e-300, 1e300))
def test_one_step_up_is_one_ulp_or_a_half_at_a_power_of_two(start: float) -> None:
    ulps = difference(doubles(start), doubles(math.nextafter(start, math.inf))).ulps

    assert ulps in (1.0, 0.5)
    assert ulps == 1.0 or math.frexp(math.nextafter(start, math.inf))[0] == 0.5


@pytest.mark.parametrize(
    ("dtype", "epsilon"),
    [
        (torch.float64, 2.0**-52),
        (torch.float32, 2.0**-23),
        (torch.float16, 2.0**-10),
        (torch.bfloat16, 2.0**-7),
    ],
)
@pytest.mark.parametrize("start", [1.0, 4.0])
def test_ulps_are_those_of_the_dtype(dtype: torch.dtype, epsilon: float, start: float) -> None:
    row = difference(torch.tensor([start], dtype=dtype), torch.tensor([start * (1 + 3 * epsilon)], dtype=dtype))

    assert row.ulps == 3.0
    assert row.max_abs == 3 * epsilon * start


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ulps_below_the_smallest_normal_number(dtype: torch.dtype) -> None:
    spacing = torch.finfo(dtype).tiny * torch.finfo(dtype).eps

    row = difference(torch.tensor([2 * spacing], dtype=dtype), torch.tensor([5 * spacing], dtype=dtype))

    assert row.ulps == 3.0


def test_two_dtypes_are_measured_in_the_coarser_one() -> None:
    row = difference(doubles(1.0 + 2.0**-23), torch.tensor([1.0], dtype=torch.float32))

    assert row.ulps == 1.0
    assert row.note == "float64 against float32"


def test_the_largest_of_several_entries() -> None:
    row = difference(doubles(1.0, 10.0, -3.0), doubles(1.5, 10.0, -4.0))

    assert row.max_abs == 1.0
    assert row.relative == 1.0 / 10.0  # the largest |b|
    assert row.ulps == 0.5 / 2.0**-52  # of 1.0 against 1.5; the others are 0 and 1 / 2^(2 − 52)


def test_equal_values() -> None:
    assert difference(doubles(1.0, -0.0), doubles(1.0, 0.0)) == Difference("y", "value", "value", 0.0, 0.0, 0.0)


def test_zero_against_a_value_has_no_relative_difference() -> None:
    row = difference(doubles(1e-9, 0.0), doubles(0.0, 0.0))

    assert (row.max_abs, row.relative) == (1e-9, None)
    assert row.ulps == pytest.approx(2.0**52, rel=1.0)


def test_complex_parts_are_compared_each() -> None:
    row = difference(torch.tensor([1 + 2j]), torch.tensor([1 + 2.5j]))

    assert (row.max_abs, row.relative) == (0.5, 0.2)
    assert row.ulps == 0.5 / 2.0**-22


def test_integers_have_no_ulps() -> None:
    row = difference(torch.tensor([3, 5]), torch.tensor([3, 9]))

    assert (row.max_abs, row.ulps) == (4.0, None)
    assert difference(torch.tensor([True]), torch.tensor([False])).max_abs == 1.0


def test_nan_and_infinity_on_both_sides_are_equal() -> None:
    row = difference(doubles(math.nan, math.inf, 1.0), doubles(math.nan, math.inf, 1.5))

    assert (row.max_abs, row.relative) == (0.5, 0.5 / 1.5)


@pytest.mark.parametrize(
    ("a", "b"),
    [((math.nan, 1.0), (1.0, 1.0)), ((1.0, math.inf), (1.0, 1.0)), ((math.inf, 0.0), (-math.inf, 0.0))],
)
def test_what_is_finite_on_one_side_only_is_counted(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    row = difference(doubles(*a), doubles(*b))

    assert row.max_abs is row.ulps is None
    assert row.note == "1 entry has no finite difference"


def test_a_difference_beyond_the_largest_number() -> None:
    row = difference(doubles(1.7e308), doubles(-1.7e308))

    assert row.max_abs is None
    assert row.note == "1 entry has no finite difference"


def test_a_relative_difference_beyond_the_largest_number() -> None:
    assert difference(doubles(1e300), doubles(1e-300)).relative is None


def test_shapes() -> None:
    assert difference(doubles(1.0), doubles(1.0, 2.0)).note == "shapes differ: [1] against [2]"
    assert difference(doubles(), doubles()).note == "no entries"


def test_values_that_are_not_available() -> None:
    assert difference(torch.ones(2, device="meta"), torch.ones(2)).note == "values not available"


def test_outputs_are_paired_by_name_or_where_there_is_one_each() -> None:
    one, two = value_of(doubles(1.0)), value_of(doubles(2.0))

    assert [row.name for row in output_differences({"g": one}, {"y": two})] == ["g / y"]
    rows = output_differences({"a": one, "b": one}, {"b": two, "c": two})
    assert [(row.name, row.a, row.b, row.max_abs) for row in rows] == [
        ("a", "value", "absent", None),
        ("b", "value", "value", 1.0),
        ("c", "absent", "value", None),
    ]


def test_gradients() -> None:
    zero, big = Gradient(value_of(doubles(0.0))), Gradient(value_of(doubles(-3.0, 2.0)))
    none = Gradient(None, "no path")

    rows = gradient_differences({"x": big, "A": big, "b": none, "c": zero}, {"x": big, "A": none, "b": none})

    assert rows == (
        Difference("x", "value", "value", 0.0, 0.0, 0.0),
        Difference("A", "value", "none", largest=3.0, note="no path"),
        Difference("b", "none", "none", note="no path; no path"),
        Difference("c", "value", "absent", largest=0.0),
    )


def test_largest() -> None:
    assert largest(value_of(torch.tensor([3 + 4j]))) == 5.0
    assert largest(value_of(doubles())) is None
    assert largest(TensorValue((2,), "float32", None)) is None
    assert largest(None) is None

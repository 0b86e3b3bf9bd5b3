"""Numbers as people read them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphlens.units import bytes_text, count_text, counted, percent_text, ratio_text, seconds_text, significant


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1024, "1.02 kB"),
        (2_800_000, "2.80 MB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (999_999, "1.00 MB"),
        (10**9, "1.00 GB"),
        (2**63 - 1, "9,220 PB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.2656, "266 ms"),
        (8.94e-6, "8.9 µs"),
        (0.99951, "1.0 s"),
        (0.9994, "999 ms"),
        (75.0, "75.0 s"),
        (1234.0, "1,230 s"),
        (3e-10, "0.30 ns"),
        (-8.94e-6, "-8.9 µs"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [(3.0, 2.0, "1.5 ×"), (1.0, 0.0, ""), (0.0, 5.0, "0 ×"), (30_015, 12, "2,500 ×"), (1.0, 3.0, "0.33 ×")],
)
def test_ratio(a: float, b: float, text: str) -> None:
    assert ratio_text(a, b) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(2, 3, "66.7 %"), (0, 3, "0.0 %"), (1, 10**6, "< 0.1 %"), (0, 0, ""), (3, 3, "100.0 %")],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent_text(part, whole) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (999.6, 3, "1,000"),
        (1.7976931348623157e308, 2, "1.8e+308"),
        (-1.5e-9, 2, "-1.5e-09"),
        (123_456, 3, "123,000"),
        (1_234_567, 3, "1.23e+06"),
        (0.0001234, 2, "0.00012"),
        (math.inf, 2, "inf"),
        (math.nan, 2, "nan"),
    ],
)
def test_significant(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def test_counts_have_thousands_separators() -> None:
    assert count_text(30_015) == "30,015"


def read(text: str, units: dict[str, float]) -> float:
    number, unit = text.split(" ")
    return float(number.replace(",", "")) * units[unit]


BYTES = {"B": 1e0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@given(st.integers(0, 2**59))
def test_bytes_are_right_to_three_digits_and_below_1000_of_a_unit(size: int) -> None:
    text = bytes_text(size)

    assert read(text, BYTES) == pytest.approx(size, rel=5.01e-3)
    assert re.fullmatch(r"\d{1,3}( B|(\.\d+)? [kMGTP]B)", text)


@given(st.floats(1e-9, 999.0))
def test_seconds_are_right_to_two_digits_and_below_1000_of_a_unit(seconds: float) -> None:
    text = seconds_text(seconds)

    assert read(text, SECONDS) == pytest.approx(seconds, rel=5.01e-2)
    assert re.fullmatch(r"\d{1,3}(\.\d+)? \S+", text)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 6))
def test_significant_rounds_to_the_nearest(value: float, digits: int) -> None:
    text = significant(value, digits).replace(",", "")

    # As a fraction, because the rounded text of the largest numbers is above the largest float.
    assert abs(Fraction(text) - Fraction(value)) <= abs(Fraction(value)) * Fraction(501, 1000) / 10 ** (digits - 1)


def test_one_and_many() -> None:
    assert [counted(k, "run") for k in (0, 1, 5)] == ["0 runs", "1 run", "5 runs"]
    assert [counted(k, "entry", "entries") for k in (1, 1200)] == ["1 entry", "1,200 entries"]

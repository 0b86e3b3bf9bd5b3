"""Which of two runs is nearer to the truth: on records made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from graphlens.accuracy import Accuracy, Quantity
from graphlens.analyses.nearness import nearness, nearness_reasons
from graphlens.records import RunRecord
from tests.builders import small_graph

A, B = RunRecord("one", None), RunRecord("two", None)


def item(
    name: str, error: float | None, truth: float | None = 4.0, kind: str = "output", true: Sequence[float] = (4.0, 1.0)
) -> Quantity:
    known = None if error is None else np.array(true)
    return Quantity(name, kind, (2,), "float64", 4.0, error=error, truth=truth, is_zero=truth == 0, true=known)


def accuracy(*items: Quantity, escaped: int = 0) -> Accuracy:
    return Accuracy(small_graph(), "exact", 128, 2.0**-53, (), items, escaped=escaped)


def sentences(a: Accuracy, b: Accuracy, none: Sequence[str] = ()) -> list[str]:
    return [reason.claim for reason in nearness_reasons(A, B, nearness(a, b, none))]


def test_the_nearer_side_and_by_how_many_digits() -> None:
    a, b = accuracy(item("g", 1e-10)), accuracy(item("g", 1e-13))
    (row,) = nearness(a, b)

    assert (row.agree, row.nearer) == (True, "b")
    assert row.digits == pytest.approx(3)
    assert sentences(a, b) == ["The output g is off by 1.0e-10 in one and off by 1.0e-13 in two: two is nearer to the "
                               "truth, by 3.0 digits."]  # fmt: skip
    assert nearness(b, a)[0].nearer == "a"


def test_a_factor_below_two_is_no_difference() -> None:
    a, b = accuracy(item("g", 1e-10)), accuracy(item("g", 1.9e-10))

    assert nearness(a, b)[0].nearer == ""
    assert sentences(a, b)[0].endswith("neither is nearer to the truth by a factor of two.")
    assert nearness(a, accuracy(item("g", 2.1e-10)))[0].nearer == "a"


def test_an_exact_side_is_nearer_by_all_digits() -> None:
    (row,) = nearness(accuracy(item("g", 0.0)), accuracy(item("g", 1e-10)))

    assert (row.nearer, row.digits) == ("a", math.inf)
    assert sentences(accuracy(item("g", 0.0)), accuracy(item("g", 0.0))) == []


def test_a_gradient_that_is_none_is_right_where_the_truth_is_zero() -> None:
    a = accuracy(item("A", 7e-9, 0.0, "gradient", (0.0, 0.0)))

    assert sentences(a, accuracy(), ["A"]) == [
        "The gradient of A is 0 in exact arithmetic: None is right (two), and one is off by 7.0e-09."
    ]
    assert sentences(accuracy(), a, ["A"]) == [
        "The gradient of A is 0 in exact arithmetic: None is right (one), and two is off by 7.0e-09."
    ]
    assert sentences(a, accuracy()) == [], "the other run has no leaf of that name"


def test_programs_that_differ_in_exact_arithmetic_are_told_apart() -> None:
    a, b = accuracy(item("g", 1e-10)), accuracy(item("g", 1e-10, true=(4.0, 1.1)))

    assert nearness(a, b)[0].agree is False
    assert sentences(a, b) == ["In exact arithmetic the output g differs too: the two do not compute the same."]
    escaped = accuracy(item("g", 1e-10, true=(4.0, 1.1)), escaped=1)
    assert nearness(a, escaped)[0].agree is None, "what Python made of a number is not followed"
    assert sentences(a, escaped) == []
    none = nearness(accuracy(item("x", 1e-9, kind="gradient")), accuracy(), ["x"])
    assert none[0].agree is False


def test_the_last_bit_of_the_truth_does_not_count() -> None:
    a, b = accuracy(item("g", 1e-10)), accuracy(item("g", 1e-12, true=(np.nextafter(4.0, 5.0), 1.0)))

    assert nearness(a, b)[0].agree is True


def test_what_was_not_measured_is_not_judged() -> None:
    a, b = accuracy(item("g", None, None)), accuracy(item("g", 1e-12))

    assert nearness(a, b)[0].agree is None
    assert sentences(a, b) == []
    assert nearness(None, b) == nearness(a, None) == ()


def test_many_gradients_take_one_sentence() -> None:
    names = [f"w{k}" for k in range(9)]
    a = accuracy(*(item(name, 1e-10, kind="gradient") for name in names))
    b = accuracy(*(item(name, 10.0 ** (-12 + 2 * (k == 0)), kind="gradient") for k, name in enumerate(names)))

    assert sentences(a, b) == [
        "Of 9 gradients, nearer to the truth is one in 0, two in 8 (most in that of w1, by 2.0 digits), "
        "and neither in 1."
    ]

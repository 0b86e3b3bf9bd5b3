"""The rounding of single calls, against fractions worked out by hand in Python."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphlens.capture.tape import Call, Ref
from graphlens.numerics.exact import local_error

aten = torch.ops.aten
finite = st.floats(-1e6, 1e6, allow_subnormal=False)


def error(function: Any, *args: Any, outputs: Any = None, **kwargs: Any) -> Any:
    """The local errors of one op on these arguments; of other results than its own, if given."""
    inputs = [item for item in args if isinstance(item, torch.Tensor)]
    numbers = iter(range(len(inputs)))
    referred = tuple(Ref(next(numbers)) if isinstance(item, torch.Tensor) else item for item in args)
    made = function(*args, **kwargs) if outputs is None else outputs
    results = list(made) if isinstance(made, (list, tuple)) else [made]
    call = Call(function, referred, kwargs, tuple(range(len(inputs), len(inputs) + len(results))))
    return local_error(call, inputs, results)


def double(*entries: Any) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64)


@given(finite, finite)
def test_a_sum_is_off_by_what_fractions_say(a: float, b: float) -> None:
    (found,) = error(aten.add.Tensor, double(a), double(b))

    assert found[0] == pytest.approx(float(Fraction(a + b) - Fraction(a) - Fraction(b)), rel=1e-11, abs=0)


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=6))
def test_a_dot_product_is_off_by_what_fractions_say(pairs: list[tuple[float, float]]) -> None:
    a, b = double(*(p for p, _ in pairs)), double(*(q for _, q in pairs))
    (found,) = error(aten.dot.default, a, b)
    truth = sum((Fraction(p) * Fraction(q) for p, q in pairs), Fraction(0))

    assert found == pytest.approx(float(Fraction(a.dot(b).item()) - truth), rel=1e-11, abs=0)


@given(st.floats(1e-3, 1e3))
def test_a_function_is_off_by_what_mpmath_says(x: float) -> None:
    (found,) = error(aten.exp.default, double(x / 100))
    with mpmath.workprec(400):
        truth = float(mpmath.mpf(aten.exp(double(x / 100)).item()) - mpmath.exp(mpmath.mpf(x / 100)))

    assert found[0] == pytest.approx(truth, rel=1e-10, abs=0)


def test_an_inverse_is_off_by_its_distance_from_the_rational_one() -> None:
    m = double([4.0, 1.0], [2.0, 3.0])
    (found, info) = error(aten.linalg_inv_ex.default, m)
    truth = [[Fraction(3, 10), Fraction(-1, 10)], [Fraction(-1, 5), Fraction(2, 5)]]
    given = torch.linalg.inv(m).tolist()

    assert info is None
    assert found.tolist() == [
        [float(Fraction(g) - t) for g, t in zip(*rows, strict=True)] for rows in zip(given, truth, strict=True)
    ]


def test_a_planted_error_is_measured() -> None:
    x = double(0.3, 0.7)
    wrong = x.sin() * (1 + 1e-12)
    (found,) = error(aten.sin.default, x, outputs=wrong)

    np.testing.assert_allclose(found, (x.sin() * 1e-12).numpy(), rtol=1e-3)


def test_catastrophic_cancellation_is_found_to_the_last_digit() -> None:
    # 1e300 + 1 − 1e300 in one sum: float64 says 0, the truth is 1.
    (found,) = error(aten.sum.default, double(1e300, 1.0, -1e300))
    assert found == -1.0
    # Products cancel to 2⁻¹²⁰: (1 + 2⁻⁶⁰…) cannot be seen in float64 at all.
    a, b = double(2.0**-60, 1.0, -1.0), double(2.0**-60, 2.0**40, 2.0**40)
    (found,) = error(aten.dot.default, a, b)
    assert found == float(Fraction(a.dot(b).item()) - Fraction(1, 2**120))


def test_a_cast_is_charged_with_its_rounding() -> None:
    x = double(0.1, 0.5)
    (found,) = error(aten._to_copy.default, x, dtype=torch.float32)

    assert found.tolist() == [float(np.float32(0.1)) - 0.1, 0.0]
    assert error(aten._to_copy.default, x.float(), dtype=torch.float64)[0].tolist() == [0.0, 0.0]


def test_a_number_that_a_narrow_format_cannot_hold_is_an_error() -> None:
    (found,) = error(aten.constant_pad_nd.default, torch.zeros(1), [0, 1], 0.1)

    assert found.tolist() == [0.0, float(np.float32(0.1)) - 0.1]
    assert error(aten.full_like.default, torch.zeros(1), 0.1)[0].tolist() == [float(np.float32(0.1)) - 0.1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_narrow_formats(dtype: torch.dtype) -> None:
    a, b = torch.tensor([0.1], dtype=dtype), torch.tensor([0.7], dtype=dtype)
    (found,) = error(aten.mul.Tensor, a, b)

    assert found[0] == float(Fraction((a * b).item()) - Fraction(a.item()) * Fraction(b.item())) != 0


def test_what_only_moves_is_exact() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)

    for made in (error(aten.t.default, x), error(aten.select.int, x, 0, 1), error(aten.neg.default, x)):
        assert not made[0].any()
    assert [part.tolist() for part in error(aten.unbind.int, double(1.0, 2.0))] == [0.0, 0.0]


def test_results_that_are_no_numbers_have_no_error() -> None:
    assert error(aten.gt.Scalar, double(1.0), 0.5) == [None]
    values, places = error(aten.max.dim, double([1.0, 2.0]), 1)
    assert (values.tolist(), places) == ([0.0], None)


def test_an_op_without_a_kernel_is_not_measured() -> None:
    assert error(aten.i0.default, double(1.0)) is None
    assert error(aten.add.Tensor, torch.tensor([1j]), torch.tensor([1j])) is None


def test_an_irrational_result_that_is_met_exactly_has_no_error() -> None:
    # log(exp(0.3)) of the first entry is 0.3 itself, which balls can only surround.
    (found,) = error(aten.logcumsumexp.default, double(0.3), 0)

    assert found.tolist() == [0.0]


def test_random_numbers_are_as_drawn() -> None:
    made = torch.rand(3, dtype=torch.float64)
    call = Call(aten.rand.default, ([3],), {"dtype": torch.float64}, (0,), random=True)

    assert local_error(call, [], [made])[0].tolist() == [0.0, 0.0, 0.0]

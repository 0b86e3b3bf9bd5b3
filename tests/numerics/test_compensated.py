"""Errors by error-free transformations, against fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphlens.capture.tape import Call, Ref
from graphlens.numerics.compensated import compensated_error

aten = torch.ops.aten
numbers = st.one_of(
    st.floats(-1e12, 1e12, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-100),
    st.sampled_from([0.0, 1.0, -1.0, 1e16, -1e16, 0.1, 1 + 2.0**-52]),
)


def error(function: Any, *args: Any, made: torch.Tensor | None = None, **kwargs: Any) -> Any:
    inputs = [item for item in args if isinstance(item, torch.Tensor)]
    count = iter(range(len(inputs)))
    referred = tuple(Ref(next(count)) if isinstance(item, torch.Tensor) else item for item in args)
    result = function(*args, **kwargs) if made is None else made
    return compensated_error(Call(function, referred, kwargs, (len(inputs),)), inputs, [result])


def exact(entries: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(entries, dtype=np.float64))


def rounded(errors: Any) -> Any:
    return np.vectorize(float, otypes=[np.float64])(errors)


def matrix(rows: int, columns: int) -> st.SearchStrategy[torch.Tensor]:
    row = st.lists(numbers, min_size=columns, max_size=columns)
    return st.lists(row, min_size=rows, max_size=rows).map(lambda x: torch.tensor(x, dtype=torch.float64))


@given(matrix(2, 3), matrix(2, 3))
@pytest.mark.parametrize(
    ("function", "true"),
    [
        (aten.mul.Tensor, lambda a, b: a * b),
        (aten.add.Tensor, lambda a, b: a + b),
        (aten.sub.Tensor, lambda a, b: a - b),
    ],
)
def test_elementwise(function: Any, true: Callable[..., Any], a: torch.Tensor, b: torch.Tensor) -> None:
    truth = exact(function(a, b)) - true(exact(a), exact(b))

    np.testing.assert_array_equal(error(function, a, b), rounded(truth))


@settings(max_examples=50)
@given(matrix(2, 4), matrix(4, 3))
def test_products(a: torch.Tensor, b: torch.Tensor) -> None:
    def truth(function: Any, *args: torch.Tensor) -> Any:
        return rounded(exact(function(*args)) - (exact(args[0]) @ exact(args[1])))

    for function, args in (
        (aten.mm.default, (a, b)),
        (aten.mv.default, (a, b[:, 0])),
        (aten.dot.default, (a[0], b[:, 0])),
    ):
        np.testing.assert_allclose(error(function, *args), truth(function, *args), rtol=1e-15, atol=0)
    pair = torch.stack((a, a + 1)), torch.stack((b, b * 3))
    np.testing.assert_allclose(error(aten.bmm.default, *pair), truth(aten.bmm.default, *pair), rtol=1e-15, atol=0)
    np.testing.assert_allclose(
        error(aten.sum.default, a), float(Fraction(a.sum().item()) - sum(exact(a).ravel())), rtol=1e-15, atol=0
    )


@pytest.mark.parametrize(
    ("dims", "keepdim"), [([1], False), ([0, 2], True), ([-1], False), ([], False), ([2, 0], False)], ids=str
)
def test_sums_along_dimensions(dims: list[int], keepdim: bool) -> None:
    a = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = aten.sum.dim_IntList(a, dims, keepdim)
    truth = exact(a).sum(axis=tuple(dims) if dims else None, keepdims=keepdim)

    np.testing.assert_array_equal(error(aten.sum.dim_IntList, a, dims, keepdim), rounded(exact(made) - truth))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_narrow_formats(dtype: torch.dtype) -> None:
    a, b = torch.tensor([0.1, 0.7], dtype=dtype), torch.tensor([0.3, 3.1], dtype=dtype)
    found = error(aten.mul.Tensor, a, b)

    assert found.tolist() == rounded(exact((a * b).double()) - exact(a.double()) * exact(b.double())).tolist()


def test_a_number_of_python_is_taken_as_it_is() -> None:
    x = torch.tensor([0.1], dtype=torch.float64)

    assert error(aten.mul.Tensor, x, 0.3).tolist() == [float(Fraction(0.1 * 0.3) - Fraction(0.1) * Fraction(0.3))]
    assert error(aten.add.Tensor, x, 7).tolist() == [float(Fraction(0.1 + 7) - Fraction(0.1) - 7)]
    assert error(aten.mul.Tensor, x, 2**60 + 1) is None, "float64 does not hold it"


def test_broadcasting() -> None:
    a, b = torch.rand(3, 1, dtype=torch.float64), torch.rand(4, dtype=torch.float64)

    assert error(aten.mul.Tensor, a, b).tolist() == rounded(exact(a * b) - exact(a) * exact(b)).tolist()


def test_a_planted_error_is_measured() -> None:
    a, b = torch.rand(3, 3, dtype=torch.float64), torch.rand(3, 3, dtype=torch.float64)
    wrong = (a @ b) * (1 + 1e-9)

    np.testing.assert_allclose(error(aten.mm.default, a, b, made=wrong), (a @ b) * 1e-9, rtol=1e-5)


@pytest.mark.parametrize("number", [1e-200, 1e200, float("inf"), float("nan"), 5e-324])
def test_what_might_over_or_underflow_is_left_to_others(number: float) -> None:
    x = torch.tensor([number], dtype=torch.float64)

    assert error(aten.mul.Tensor, x, x) is None


def test_other_arguments_are_left_to_others() -> None:
    x = torch.rand(3, dtype=torch.float64)

    assert error(aten.add.Tensor, x, x, alpha=2) is None
    assert error(aten.exp.default, x) is None
    assert error(aten.mul.Tensor, torch.tensor([1, 2]), torch.tensor([1, 2])) is None

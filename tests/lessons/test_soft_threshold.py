from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from graphlens.lessons import FACTORIES, FORMS, SoftThreshold

T = 3.14


def value_and_derivative(y: float, form: str) -> tuple[float, float | None]:
    subject = FACTORIES["soft-threshold"](y=y, T=T, form=form)
    value = subject.module(*subject.args)
    if not value.requires_grad:
        return float(value), None
    (derivative,) = torch.autograd.grad(value, subject.args, allow_unused=True)
    return float(value), None if derivative is None else float(derivative)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("y", "expected"), [(5.0, 5.0 - T), (-5.0, -5.0 + T), (10.0, 10.0 - T)])
def test_outside_the_threshold(form: str, y: float, expected: float) -> None:
    assert value_and_derivative(y, form) == (expected, 1.0)


@pytest.mark.parametrize("y", [0.0, 1.5, -3.0, T, -T])
def test_flat_part_includes_the_kinks(y: float) -> None:
    assert value_and_derivative(y, "branching") == (0.0, None)
    assert value_and_derivative(y, "vectorised") == (0.0, 0.0)


@pytest.mark.parametrize("y", [math.nextafter(T, math.inf), -math.nextafter(T, math.inf)])
@pytest.mark.parametrize("form", FORMS)
def test_just_beyond_the_kinks(form: str, y: float) -> None:
    value, derivative = value_and_derivative(y, form)
    assert 0 < abs(value) < 1e-15
    assert derivative == 1.0


def test_forms_agree_on_vectors() -> None:
    y = torch.tensor([-10.0, -T, -1.0, 0.0, 2.0, T, 10.0], dtype=torch.float64, requires_grad=True)
    results = []
    for form in FORMS:
        value = SoftThreshold(T, form)(y)
        results.append((value, *torch.autograd.grad(value.sum(), y)))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": 0}, "T must be a finite number > 0, got 0"),
        ({"T": math.nan}, "T must be a finite number > 0, got nan"),
        ({"form": ""}, "form must be one of"),
        ({"dtype": "half"}, "dtype must be one of 'float64', 'float32', got 'half'"),
        ({"y": "5"}, "y must be a number, got '5'"),
        ({"y": True}, "y must be a number, got True"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FACTORIES["soft-threshold"](**options)

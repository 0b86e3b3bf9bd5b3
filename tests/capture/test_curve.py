"""Sampling a function of one number, and its derivative as autograd returns it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from graphlens.capture.curve import sample_curve
from graphlens.errors import MeasureError
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject


def one_number(value: float = 0.0, **options: Any) -> torch.Tensor:
    return torch.tensor(value, **{"dtype": torch.float64, **options})


def test_a_function_and_its_derivative() -> None:
    curve = sample_curve(Subject(torch.exp, (one_number(),), output_names=("e",)), -1.0, 1.0, 5)

    assert curve.points == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert curve.values == pytest.approx([math.exp(point) for point in curve.points])
    assert curve.derivatives == pytest.approx(curve.values)
    assert curve.name == "e"


@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_soft_thresholding(form: str) -> None:
    curve = sample_curve(FACTORIES["soft-threshold"](T=2.0, form=form), -4.0, 4.0, 9)
    flat: float | None = None if form == "branching" else 0.0

    assert curve.values == [-2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]
    assert curve.derivatives == [1.0, 1.0, flat, flat, flat, flat, flat, 1.0, 1.0]
    assert (curve.name, curve.argument) == ("f_T", "y")


def test_the_input_may_have_one_entry_and_any_dtype() -> None:
    curve = sample_curve(Subject(lambda x: x * x, (torch.zeros(1, 1, dtype=torch.float32),)), 0.0, 2.0, 3)

    assert (curve.values, curve.derivatives) == ([0.0, 1.0, 4.0], [0.0, 2.0, 4.0])
    assert (curve.name, curve.argument) == ("output", "x")


@pytest.mark.parametrize(
    ("subject", "fact"),
    [
        (Subject(torch.exp, (), name="f"), "f does not take one tensor"),
        (Subject(torch.mul, (one_number(), one_number()), name="f"), "f does not take one tensor"),
        (Subject(torch.exp, (3.0,), name="f"), "f does not take one tensor"),
        (Subject(torch.exp, (), {"input": one_number()}, name="f"), "f does not take one tensor"),
        (Subject(torch.exp, (torch.zeros(2),), name="f"), "f takes a tensor of float32 and shape [2]"),
        (Subject(torch.exp, (torch.tensor(3),), name="f"), "f takes a tensor of int64 and shape []"),
        (Subject(lambda x: (x, x), (one_number(),), name="f"), "f does not return one number"),
        (Subject(lambda x: x.expand(2), (one_number(),), name="f"), "f does not return one number"),
    ],
)
def test_what_has_no_curve(subject: Subject, fact: str) -> None:
    with pytest.raises(MeasureError) as caught:
        sample_curve(subject, 0.0, 1.0, 3)

    assert str(caught.value).startswith(f"{fact}, so that its curve cannot be drawn; ")

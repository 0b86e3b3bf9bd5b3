"""Errors of results, against fractions and against what numpy says of the spacing of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import Quantity
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.taping import record_tape
from graphlens.numerics.exact import replay
from graphlens.numerics.quantities import quantity, right_digits, ulps, unit_roundoff
from graphlens.numerics.reference import ExactReference, ShadowReference
from graphlens.numerics.rounding import measure_accuracy
from graphlens.numerics.shadow import in_float64
from graphlens.numerics.study import Study, euclidean, targets_of


def studied(make: Callable[[], torch.Tensor], *, exactly: bool = True) -> Study:
    tape = record_tape(tensors_program("made", lambda: (make(),)))
    targets = targets_of(tape)
    reference: Any
    if exactly:
        reference = ExactReference(tape, replay(tape, wanted={target.value for target in targets}))
    else:
        reference = ShadowReference(tape, in_float64(tape))
    return Study(tape, None, targets, reference, exactly)  # type: ignore[arg-type]


def results(make: Callable[[], torch.Tensor], *, exactly: bool = True) -> dict[tuple[str, str], Quantity]:
    study = studied(make, exactly=exactly)
    return {(found.kind, found.name): found for found in (quantity(study, target) for target in study.targets)}


def double(*entries: float) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64, requires_grad=True)


def test_an_error_is_the_distance_from_the_fraction() -> None:
    x = double(0.1, 0.7, 3.0)
    found = results(lambda: x / 3)["output", "output"]
    errors = [Fraction(r) - Fraction(v) / 3 for r, v in zip((x / 3).tolist(), x.tolist(), strict=True)]

    assert found.error == float(max(map(abs, errors)))
    assert found.norm == pytest.approx(math.sqrt(sum(float(error) ** 2 for error in errors)), rel=1e-12)
    assert found.truth == 1.0
    assert found.ulps == max(abs(float(e)) / np.spacing(r) for e, r in zip(errors, (x / 3).tolist(), strict=True))
    assert found.ulps <= 0.5, "one division is rounded correctly"
    assert not found.is_zero


def test_a_result_without_rounding_has_all_digits() -> None:
    found = results(lambda: double(1.5, -2.0) * 2)["output", "output"]

    assert (found.error, found.ulps, found.norm) == (0.0, 0.0, 0.0)
    assert found.digits == pytest.approx(15.95, abs=0.01)


def test_digits_are_those_that_agree() -> None:
    # sin 1e-8 − 1e-8: 8 of 16 digits go, and then 8 more.
    found = results(lambda: (double(1.0) + 1e-10) - 1.0)["output", "output"]
    value = (1.0 + 1e-10) - 1.0

    assert found.truth == pytest.approx(1e-10, rel=1e-9)
    assert found.digits == pytest.approx(-math.log10(abs(float(Fraction(value) - Fraction(1e-10))) / 1e-10), rel=1e-9)
    assert 6 < found.digits < 9


def test_a_gradient_that_should_be_zero_is_said_to_be() -> None:
    x = double(0.1)
    found = results(lambda: x * 0.3 - x * 0.1 - x * 0.2 + (x * 0.1 - x * 0.1))

    # 0.3 − 0.1 − 0.2 in float64 literals is not 0, but 2.8e-17: no zero.
    assert not found["gradient", "leaf[0]"].is_zero
    y = double(1 / 3)
    cancelled = results(lambda: ((y + 1e8) - 1e8) - y)["output", "output"]
    assert (cancelled.is_zero, cancelled.truth, cancelled.digits) == (True, 0.0, None)
    assert cancelled.error == abs(((1 / 3 + 1e8) - 1e8) - 1 / 3) > 0


def test_what_is_not_covered_is_not_measured() -> None:
    found = results(lambda: torch.i0(double(1.0)))["output", "output"]

    assert (found.error, found.norm, found.truth, found.ulps, found.digits) == (None,) * 5
    assert found.size == pytest.approx(1.2660658)


def test_a_float32_result_is_held_against_float64() -> None:
    x = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    found = results(lambda: (x / 3).sum(), exactly=False)["output", "output"]
    truth = (x.detach().double() / 3).sum().item()

    assert found.error == abs((x / 3).sum().item() - truth) > 0
    assert found.ulps == pytest.approx(found.error / float(np.spacing(np.float32(truth))), rel=1e-6)
    assert found.dtype == "float32"


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [(torch.float64, 2.0**-53), (torch.float32, 2.0**-24), (torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)],
)
def test_unit_roundoffs(dtype: torch.dtype, unit: float) -> None:
    assert unit_roundoff(dtype) == unit
    # Half the distance from 1 to the next number.
    assert torch.nextafter(torch.ones((), dtype=dtype), torch.full((), 2, dtype=dtype)).item() - 1 == 2 * unit


@pytest.mark.parametrize("value", [1.0, 1.999, 2.0, 3e-5, 7e200, 5e-324])
def test_an_ulp_is_what_numpy_says(value: float) -> None:
    spacing = np.spacing(np.float64(value))
    one = np.array([value])

    assert ulps(3 * np.array([spacing]), one, one, torch.float64) == 3


def test_digits_stay_within_the_format() -> None:
    assert right_digits(0.0, 1.0, torch.float32) == pytest.approx(7.22, abs=0.01)
    assert right_digits(1e-30, 1.0, torch.float32) == right_digits(0.0, 1.0, torch.float32)
    assert right_digits(5.0, 1.0, torch.float64) == 0.0
    assert right_digits(1e-4, 1.0, torch.float64) == pytest.approx(4.0)


def logistic(x: torch.Tensor) -> torch.Tensor:
    for _ in range(60):
        x = 3.9 * x * (1 - x)
    return x


@pytest.mark.parametrize(("bits", "is_known"), [(64, False), (512, True)])
def test_a_wide_ball_around_a_gradient_is_no_error(bits: int, *, is_known: bool) -> None:
    x = double(0.3)
    tape = record_tape(tensors_program("made", lambda: (logistic(x),)))
    targets = targets_of(tape)
    exact = replay(tape, precision=bits, highest=bits, wanted={target.value for target in targets})
    study = Study(tape, None, targets, ExactReference(tape, exact), True)  # type: ignore[arg-type]
    found = next(item for item in (quantity(study, target) for target in targets) if item.kind == "gradient")
    true, slope = Fraction(0.3), Fraction(1)
    for _ in range(60):  # to 600 bits, of which the map loses fewer than 200
        slope *= Fraction(3.9) * (1 - 2 * true)
        true = Fraction(round(Fraction(3.9) * true * (1 - true) * 2**600), 2**600)
    (run,) = torch.autograd.grad(logistic(x).sum(), x)

    if is_known:
        assert found.error == pytest.approx(abs(float(Fraction(run.item()) - slope)), rel=1e-9)
    else:
        assert (found.error, found.truth, found.digits) == (None, None, None)


def test_a_0_that_is_known_up_to_the_enclosure_alone_has_no_error() -> None:
    """The sum of a softmax is 1 whatever x is: its gradient is 0, in float64 and in truth."""
    found = results(lambda: torch.softmax(double(1.0, 2.0, 0.5).requires_grad_(), 0).sum())
    (gradient,) = (item for (kind, _), item in found.items() if kind == "gradient")
    (output,) = (item for (kind, _), item in found.items() if kind == "output")

    assert gradient.truth == 0
    assert gradient.error == gradient.size
    assert output.truth == 1
    assert output.error == abs(output.size - 1)


def test_a_norm_neither_overflows_nor_vanishes() -> None:
    assert euclidean(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert euclidean(np.array([3e-200, 4e-200])) == pytest.approx(5e-200)
    assert euclidean(np.array([0.0])) == 0.0
    assert euclidean(np.zeros(0)) == 0.0
    assert math.isnan(euclidean(np.array([1.0, math.nan])))
    assert euclidean(np.array([1.0, math.inf])) == math.inf


def test_an_infinite_true_value_has_no_distance() -> None:
    """sqrt has an infinite slope at 0, in float64 as in float32."""
    subject = graphlens.Subject(lambda w: w.sqrt().sum(), (torch.zeros(2, requires_grad=True),))
    trace = graphlens.trace(subject)
    assert trace.graph is not None
    accuracy = measure_accuracy(subject_program(subject), trace.graph)
    output, gradient = (next(q for q in accuracy.quantities if q.kind == kind) for kind in ("output", "gradient"))

    assert accuracy.method == "float64"
    assert (output.error, output.truth) == (0.0, 0.0)
    assert (gradient.not_finite, gradient.error, gradient.true, gradient.digits) == (2, None, None, None)

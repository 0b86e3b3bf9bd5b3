"""The error along a loop, taken apart: held against exact arithmetic that does not come from the package."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from flint import fmpq, fmpq_mat

import graphlens
from graphlens.capture.tape import Tape, run_call
from graphlens.numerics.growth import loop_errors
from graphlens.numerics.splitting import LoopSweep, OutOfTime
from tests.numerics.loop_programs import Looked, forward, look, number, of, wasteful


def exactly(tensor: torch.Tensor) -> fmpq_mat:
    rows = tensor.detach().reshape(len(tensor), -1).tolist()
    return fmpq_mat([[fmpq(*entry.as_integer_ratio()) for entry in row] for row in rows])


def norm(matrix: fmpq_mat) -> float:
    return float(np.linalg.norm([rounded(entry) for entry in matrix.entries()]))


def rounded(number: fmpq) -> float:
    return float(Fraction(int(number.p), int(number.q)))


def residual_times(n: int) -> tuple[fmpq_mat, float]:
    """R = XA − I in exact arithmetic, and ‖R y‖ for the y that the chain begins with."""
    subject = graphlens.lesson("wasteful", n=n)
    x, A = (tensor.detach() for tensor in subject.args)
    y = subject.module.M.detach() @ x
    X = torch.linalg.inv(A)
    identity = exactly(torch.eye(5, dtype=torch.float64))
    R = exactly(X) * exactly(A) - identity
    return R, norm(R * exactly(y))


@pytest.mark.parametrize("name", ["wasteful", "hoisted"])
def test_the_systematic_part_is_n_times_the_residual(name: str) -> None:
    found = forward(wasteful(300, name))
    assert found.split is not None
    _, predicted = residual_times(300)
    for k in (1, 10, 100, 300):
        assert found.split.systematic[k] == pytest.approx(k * predicted, rel=1e-6)
    assert found.split.turn < 1e-10
    # Of what differs from round to round, products may make more in one round: it does not add up.
    (worst,) = (origin for origin in found.split.origins if origin.is_repeated)
    looked = wasteful(300, name)
    assert looked.study.ops[worst.op].name == "linalg_inv_ex"
    assert worst.injects == pytest.approx(predicted, rel=1e-6)


def test_the_parts_sum_to_the_true_error_in_both_passes() -> None:
    for found in wasteful(300).errors:
        assert found.split is not None
        assert found.error is not None
        assert found.split.rest is not None
        assert found.error[-1] > 1e-12
        # What first order leaves out are products of two errors of 1e-12 and less, relative to the values.
        assert (found.split.rest <= 1e-9 * found.error + 1e-25).all()


def test_the_error_is_that_of_exact_arithmetic() -> None:
    looked = wasteful(300)
    found = forward(looked)
    assert found.error is not None
    assert found.truth is not None
    subject = graphlens.lesson("wasteful", n=300)
    x, A = (tensor.detach() for tensor in subject.args)
    M = subject.module.M.detach()
    true = exactly(M) * exactly(x)  # the chain gives back what went in
    y = M @ x
    for k in range(301):
        assert found.error[k] == pytest.approx(norm(exactly(y) - true), rel=1e-9)
        y = torch.linalg.inv(A) @ (A @ y)
    assert found.truth == pytest.approx(norm(true), rel=1e-12)


def running_sum(terms: int) -> Looked:
    def work(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for _ in range(terms):
            total = total + x
        return total

    return look(of(work, number(0.1)))


def test_a_running_sum_rounds_at_every_step_and_has_nothing_systematic() -> None:
    looked = running_sum(200)
    found = forward(looked)
    assert found.split is not None
    assert found.error is not None
    tenth = fmpq(*(0.1).as_integer_ratio())
    total, error, roundings = 0.1, [], []
    for k in range(2, 201):
        before, total = fmpq(*total.as_integer_ratio()), total + 0.1
        after = fmpq(*total.as_integer_ratio())
        roundings.append(rounded(abs(after - before - tenth)))
        error.append(rounded(abs(after - k * tenth)))
    known = len(error)
    assert found.error[-known:] == pytest.approx(error, rel=1e-9, abs=1e-30)
    assert found.split.injected[-known:] == pytest.approx(roundings, rel=1e-9, abs=1e-30)
    assert not found.split.systematic.any()
    assert found.split.turn == pytest.approx(0, abs=1e-15)


def test_the_gain_is_that_of_the_jacobian() -> None:
    def work(x: torch.Tensor) -> torch.Tensor:
        for _ in range(60):
            x = 3.9 * x * (1 - x)
        return x

    found = forward(look(of(work, number(0.3))))
    assert found.split is not None
    x, gain = 0.3, [0.0]
    for _ in range(60):
        gain.append(gain[-1] + np.log(abs(3.9 * (1 - 2 * x))))
        x = 3.9 * x * (1 - x)
    # The body may begin in the middle of a round: the factor over all rounds but one is the same everywhere.
    steps = np.diff(found.split.gain)
    wanted = np.diff(gain)
    assert steps.sum() == pytest.approx(wanted.sum(), rel=0.1)


def test_a_planted_systematic_error_is_found() -> None:
    """An exponential that is too large by 1e-9 in every round."""

    def work(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(50):
            y = y / a.exp() * math.exp(0.5)
        return y.sum()

    def alters(tape: Tape) -> None:
        for call in tape.calls:
            made = run_call(call, tape.tensors.__getitem__)
            factor = 1 + 1e-9 if str(call.function) == "aten.exp.default" else 1.0
            for value, tensor in zip(call.outputs, made, strict=True):
                if value is not None:
                    tape.tensors[value] = tensor * factor

    x = torch.linspace(1, 2, 4, dtype=torch.float64, requires_grad=True)
    clean, looked = (look(of(work, x, number(0.5)), alters=change) for change in (lambda _: None, alters))
    before, found = forward(clean).split, forward(looked).split
    assert before is not None
    assert found is not None
    assert before.systematic[-1] < 1e-13
    # Each division by a number that is too large by 1e-9 makes the result too small by as much.
    size = float(torch.linalg.vector_norm(x.detach()))
    assert found.systematic[1] == pytest.approx(1e-9 * size, rel=1e-6)
    assert found.systematic[-1] == pytest.approx((len(found.gain) - 1) * 1e-9 * size, rel=1e-6)
    assert looked.study.ops[found.origins[0].op].name == "exp"
    assert found.origins[0].is_repeated


def test_bitwise_cycles() -> None:
    def newton(x: torch.Tensor) -> torch.Tensor:
        y = torch.ones((), dtype=torch.float64)
        for _ in range(30):
            y = 0.5 * (y + x / y)
        return y

    found = forward(look(of(newton, number(2.0))))
    assert found.cycle is not None
    start, period = found.cycle
    assert period in (1, 2)
    assert start <= 6  # the iteration doubles its digits at every step

    def moves(x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(30):
            y = y + x
        return y

    assert forward(look(of(moves, number(2.0)))).cycle is None
    assert [each.cycle for each in look(of(lambda x: alternating(x), number(0.25))).errors if not each.backward] == [
        (0, 2)
    ]


def alternating(x: torch.Tensor) -> torch.Tensor:
    for _ in range(20):
        x = 1.5 - x
    return x


def test_float32_against_a_float64_run() -> None:
    def work(x: torch.Tensor) -> torch.Tensor:
        for _ in range(100):
            x = torch.tanh(x * 1.5 + 0.1)
        return x.sum()

    looked = look(of(work, torch.linspace(-1, 1, 8, requires_grad=True)), exactly=False)
    found = forward(looked)
    assert found.unit == 2.0**-24
    assert found.split is not None
    assert found.split.rest is not None
    assert found.split.gain[-1] < -10  # tanh presses every change together
    assert found.split.rest[-1] <= 1e-3 * (found.error[-1] if found.error is not None else 0) + 1e-12


def test_time_runs_out() -> None:
    looked = wasteful(300)
    with pytest.raises(OutOfTime):
        LoopSweep(looked.study, looked.loops[0], stop_at=0.0).split()
    errors, notes = loop_errors(looked.study, looked.loops, seconds=-1.0)
    assert all(each.split is None for each in errors)
    assert len(notes) == len(errors)
    assert errors[0].error is not None

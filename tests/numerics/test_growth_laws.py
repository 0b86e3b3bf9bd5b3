"""By which law the error of loops of other kinds grows, against what is known of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import LoopErrors, Split
from graphlens.analyses.rounding.laws import Law, law_of, prediction, random_walk
from graphlens.subject import Subject
from tests.numerics.loop_programs import forward, look, number, of, wasteful

Tensor = torch.Tensor


def law(subject: Subject) -> tuple[LoopErrors, Law]:
    found = forward(look(subject))
    return found, law_of(found)


def test_a_contraction_is_damped() -> None:
    def work(x: Tensor) -> Tensor:
        for _ in range(1000):
            x = 0.999 * x + 0.3
        return x

    found, told = law(of(work, number(0.1)))
    assert told.verdict == "damped"
    assert found.split is not None
    assert found.split.gain[-1] == pytest.approx(1000 * math.log(0.999), rel=1e-9)
    x, true = 0.1, Fraction(0.1)
    for _ in range(1000):
        x, true = 0.999 * x + 0.3, Fraction(0.999) * true + Fraction(0.3)
    assert told.final == pytest.approx(abs(float(Fraction(x) - true)), rel=1e-9)


def test_the_logistic_map_is_amplified_by_its_lyapunov_factor() -> None:
    def work(x: Tensor) -> Tensor:
        for _ in range(200):
            x = 3.9 * x * (1 - x)
        return x

    _, told = law(of(work, number(0.3)))
    assert told.verdict == "amplified"
    # Errors that were let in later would take as long: the logistic map forgets where it began after 70 rounds or so.
    assert told.saturated is not None
    assert 50 <= told.saturated <= 100
    assert told.factor is not None
    assert told.measured_factor == pytest.approx(told.factor, rel=0.05)
    x, logarithms = 0.3, []
    for _ in range(told.saturated):
        logarithms.append(math.log(abs(3.9 * (1 - 2 * x))))
        x = 3.9 * x * (1 - x)
    assert math.log(told.factor) == pytest.approx(float(np.mean(logarithms)), abs=0.1)


def test_mullers_recurrence_is_amplified_by_about_twenty() -> None:
    def work(a: Tensor, b: Tensor) -> Tensor:
        for _ in range(30):
            a, b = b, 108 - (815 - 1500 / a) / b
        return b

    found, told = law(of(work, number(4.0), number(4.25)))
    assert told.verdict == "amplified"
    # Near its true limit 5 the recurrence has the factors 100/5 and 3/5; the floats end at 100.
    assert told.factor == pytest.approx(20, rel=0.1)
    assert told.measured_factor == pytest.approx(20, rel=0.1)
    assert told.final == pytest.approx(95, rel=0.01)
    assert found.truth is not None
    assert found.truth[-1] == pytest.approx(5, rel=0.01)


def test_a_naive_running_sum_drifts_and_a_compensated_one_does_not() -> None:
    def naive(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for _ in range(400):
            total = total + x
        return total

    def compensated(x: Tensor) -> Tensor:
        total, lost = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for _ in range(400):
            term = x - lost
            after = total + term
            lost = (after - total) - term
            total = after
        return total

    _, told = law(of(naive, number(0.1)))
    assert told.verdict == "drift"
    total = 0.0
    for _ in range(400):
        total += 0.1
    error = abs(float(Fraction(total) - 400 * Fraction(0.1)))
    assert told.final == pytest.approx(error, rel=1e-9)
    assert told.final is not None
    assert told.expected < told.final / 3 < told.final < told.worst
    looked = look(of(compensated, number(0.1)))
    (output,) = [target for target in looked.study.targets if target.kind == "output"]
    mended = looked.study.error(output.value)
    assert mended is not None
    assert float(abs(mended)) < told.final / 100


def test_a_rotation_rounds_at_random() -> None:
    generator = torch.Generator().manual_seed(3)
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator))[0]

    def work(x: Tensor) -> Tensor:
        for _ in range(1000):
            x = Q @ x
        return x

    _, told = law(of(work, torch.linspace(1, 2, 5, dtype=torch.float64, requires_grad=True)))
    assert told.verdict == "random"
    assert told.final is not None
    # Of five independent sums of random signs the norm is within a factor of two of its mean in 99 of 100 cases.
    assert told.expected / 2 < told.final < 2 * told.expected
    assert told.predicted is None


def test_a_recurrent_network_is_damped() -> None:
    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = torch.nn.RNNCell(4, 6).double()

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(6, dtype=torch.float64)
            for row in x:
                state = self.cell(row, state)
            return state

    x = torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, told = law(Subject(Steps(), (x,)))
    assert found.rounds >= 190
    assert told.verdict == "damped"


def test_growth_that_the_values_share_is_no_amplification() -> None:
    def work(x: Tensor) -> Tensor:
        for _ in range(100):
            x = x * 1.7
        return x

    _, told = law(of(work, number(0.3)))
    assert told.verdict == "random"


def test_a_shear_is_no_amplification() -> None:
    """A Jordan block: a small change grows in proportion to the rounds, a thousandfold in the first of them."""
    shear = torch.tensor([[1.0, 1000.0], [0.0, 1.0]], dtype=torch.float64)

    def work(x: Tensor) -> Tensor:
        for _ in range(100):
            x = shear @ x
        return x

    _, told = law(of(work, torch.tensor([0.1, 1e-9], dtype=torch.float64, requires_grad=True)))
    assert told.verdict != "amplified"


def test_whole_numbers_are_exact() -> None:
    def work(x: Tensor) -> Tensor:
        for _ in range(50):
            x = x + 1.0
        return x

    _, told = law(of(work, number(2.0)))
    assert told.verdict == "exact"
    assert told.final == 0


def test_solving_in_place_of_inverting_makes_a_smaller_error() -> None:
    """The remedy that the finding names, on the data of the exercise."""
    subject = graphlens.lesson("wasteful", n=0)
    x, A = (tensor.detach() for tensor in subject.args)
    y = (subject.module.M.detach() @ x).requires_grad_()

    def work(y: Tensor) -> Tensor:
        for _ in range(300):
            y = torch.linalg.solve(A, A @ y)
        return y

    _, told = law(of(work, y))
    before = law_of(forward(wasteful(300))).final
    assert told.final is not None
    assert before is not None
    # By how much depends on how the machine rounds: 9 to 14 times where it was measured.
    assert told.final < before / 4


def made(rounds: int, **changes: object) -> LoopErrors:
    """A loop by hand: nothing is repeated, each round injects 1, and hands on what it is given."""
    zero = np.zeros(rounds + 1)
    split = Split(zero, zero, np.sqrt(np.arange(rounds + 1.0)), None, np.r_[0.0, np.ones(rounds)], zero, 0.0, ())
    parts = {name: value for name, value in changes.items() if name in Split.__dataclass_fields__}
    for name, value in parts.items():
        object.__setattr__(split, name, value)
    size = np.full(rounds + 1, 100.0)
    error = changes.get("error", split.systematic + split.rounding)
    assert isinstance(error, np.ndarray)
    cycle = changes.get("cycle")
    assert cycle is None or isinstance(cycle, tuple)
    return LoopErrors(0, False, (), 2.0**-53, size, error, size, split, cycle)


def test_verdicts_by_hand() -> None:
    k = np.arange(101.0)
    assert law_of(made(100)).verdict == "random"
    assert law_of(made(100, rounding=k)).verdict == "drift"
    assert law_of(made(100, rounding=9 * k)).verdict == "unclear"  # nine times what they can come to at most
    assert law_of(made(100, rounding=np.ones(101))).verdict == "bounded"
    assert law_of(made(100, systematic=k)).verdict == "systematic"
    assert law_of(made(100, systematic=k / 10)).verdict == "unclear"  # as much as the rounding
    assert law_of(made(100, systematic=k, error=np.ones(101), cycle=(5, 1))).verdict == "frozen"
    assert law_of(made(100, systematic=k, error=np.minimum(k, 5), cycle=(5, 1))).verdict == "frozen"
    assert law_of(made(100, error=1 + k % 2, cycle=(5, 2))).verdict == "frozen"  # a cycle of two, one further off
    assert law_of(made(100, error=k, cycle=(5, 1))).verdict == "stalled"  # the truth moves on
    assert law_of(made(100, gain=-k)).verdict == "damped"
    assert law_of(made(100, gain=k)).verdict == "amplified"
    assert law_of(made(100, gain=np.log1p(1000 * k))).verdict != "amplified"
    assert law_of(made(100, rest=100 * np.ones(101), error=k)).verdict == "unclear"  # beyond first order


def test_laws_by_hand() -> None:
    k = np.arange(101.0)
    loop = made(100, systematic=3 * k)
    assert loop.split is not None
    assert prediction(loop.split) == pytest.approx(3 * k)
    turning = made(100, systematic=np.sqrt(k), turn=1.0)  # propagated, where rounds do not hand on what they are given
    assert turning.split is not None
    assert prediction(turning.split) == pytest.approx(np.sqrt(k))
    assert random_walk(loop.split) == pytest.approx(np.sqrt(k))
    told = law_of(made(100, gain=math.log(2) * k, error=2.0**k * 1e-20))
    assert told.factor == pytest.approx(2)
    assert told.measured_factor == pytest.approx(2)
    assert told.saturated == 70  # 2^70 · 1e-20 = 11.8 is the first above a tenth of 100
    power = law_of(made(100, rounding=k**1.5)).power
    assert power is not None
    assert power.exponent == pytest.approx(1.5)

"""The verdict on how an error grows, against exact residuals and exactly measured errors of 40 random matrices."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch
from flint import fmpq, fmpq_mat

import graphlens
from graphlens.analyses.rounding.laws import law_of
from tests.numerics.loop_programs import forward, look, of

ROUNDS = 120


def chain(y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    for _ in range(ROUNDS):
        y = A @ y
        y = torch.linalg.inv(A) @ y
    return y


def random_case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric matrix of 3 to 20 rows with κ from 10 to 1e10, and a vector.

    Every other one is small and has κ up to 200: there the floats repeat now and then.
    """
    generator = np.random.default_rng(seed)
    size = int(generator.integers(3, 21 if seed % 2 else 6))
    Q, _ = np.linalg.qr(generator.standard_normal((size, size)))
    kappa = 10.0 ** generator.uniform(1, 10 if seed % 2 else math.log10(200))
    spectrum = np.geomspace(1.0, 1 / kappa, size) * generator.choice([-1.0, 1.0], size)
    A = Q @ np.diag(spectrum) @ Q.T
    return torch.from_numpy((A + A.T) / 2), torch.from_numpy(generator.standard_normal(size))


def exactly(tensor: torch.Tensor) -> fmpq_mat:
    rows = tensor.reshape(len(tensor), -1).tolist()
    return fmpq_mat([[fmpq(*entry.as_integer_ratio()) for entry in row] for row in rows])


def floats(matrix: fmpq_mat) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([float(Fraction(int(entry.p), int(entry.q))) for entry in matrix.entries()])


def norm(matrix: fmpq_mat) -> float:
    return float(np.linalg.norm(floats(matrix)))


class Truth(NamedTuple):
    verdict: str
    measured: float
    predicted: float
    cycle: tuple[int, int] | None


def truth_of(A: torch.Tensor, y: torch.Tensor) -> Truth:
    """What the chain does: R = XA − I and all differences are computed in rational numbers.

    ŷₖ₊₁ = (I + R) ŷₖ + ρₖ defines the rounding ρₖ of a round.
    """
    X = torch.linalg.inv(A)
    states = [y]
    for _ in range(ROUNDS):
        states.append(X @ (A @ states[-1]))
    exact = [exactly(state) for state in states]
    R = exactly(X) * exactly(A) - exactly(torch.eye(len(y), dtype=torch.float64))
    error = exact[-1] - exact[0]
    systematic = (R * exact[0]) * fmpq(ROUNDS)
    seen: dict[bytes, int] = {}
    cycle = None
    for number, state in enumerate(states):
        key = state.numpy().tobytes()
        if key in seen:  # each round does the same with the same numbers, so that it goes on like this
            cycle = seen[key], number - seen[key]
            break
        seen[key] = number
    measured, predicted = norm(error), norm(systematic)
    rest = norm(error - systematic)
    if cycle is not None and ROUNDS - cycle[0] >= 2 * cycle[1]:
        return Truth("frozen", measured, predicted, cycle)
    if predicted > 1.5 * rest:
        return Truth("systematic", measured, predicted, None)
    if rest <= 1.5 * predicted:
        return Truth("unclear", measured, predicted, None)
    squares = sum(norm(after - before - R * before) ** 2 for before, after in itertools.pairwise(exact))
    return Truth("drift" if rest > 3 * math.sqrt(squares) else "random", measured, predicted, None)


@pytest.mark.parametrize("seed", range(40))
def test_the_verdict_on_a_random_matrix(seed: int) -> None:
    A, y = random_case(seed)
    truth = truth_of(A, y)
    found = forward(look(of(chain, y.requires_grad_(), A)))
    law = law_of(found)
    assert law.verdict == truth.verdict
    assert law.final == pytest.approx(truth.measured, rel=1e-9)
    assert law.predicted == pytest.approx(truth.predicted, rel=1e-6)
    assert found.cycle == truth.cycle


def test_the_cases_are_of_both_kinds_and_cover_the_range() -> None:
    cases = [random_case(seed) for seed in range(40)]
    verdicts = [truth_of(A, y).verdict for A, y in cases]
    assert verdicts.count("systematic") >= 20
    assert verdicts.count("frozen") >= 2  # which ones are caught in a cycle depends on how the machine rounds
    kappas = [float(np.linalg.cond(A.numpy())) for A, _ in cases]
    assert min(kappas) < 30
    assert max(kappas) > 1e9
    assert {3, 20} <= {len(A) for A, _ in cases}


def test_the_prediction_on_the_data_of_the_exercise() -> None:
    """n·‖R y‖ with R in rational numbers, against the error after 10 to 10,000 rounds."""
    subject = graphlens.lesson("wasteful", n=0)
    x, A = (tensor.detach() for tensor in subject.args)
    y = subject.module.M.detach() @ x

    def rounds(y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        for _ in range(10_000):
            y = A @ y
            y = torch.linalg.inv(A) @ y
        return y

    R = exactly(torch.linalg.inv(A)) * exactly(A) - exactly(torch.eye(5, dtype=torch.float64))
    one = norm(R * exactly(y))
    found = forward(look(of(rounds, y.clone().requires_grad_(), A)))
    law = law_of(found)
    assert law.verdict == "systematic"
    assert law.power is not None
    assert law.power.exponent == pytest.approx(1.0, abs=0.05)
    assert law.predicted == pytest.approx(10_000 * one, rel=1e-6)
    assert found.error is not None
    assert found.split is not None
    for n in (100, 1000, 10_000):
        assert 0.9 <= found.error[n] / (n * one) <= 1.1
    # After ten rounds it is the machine's affair whether the other roundings come to less than a tenth.
    others = found.split.rounding[10] + found.split.inherited[10]
    assert abs(found.error[10] - 10 * one) <= max(one, others)

"""The lesson option `cond`: a symmetric A of that condition number."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import graphlens
from graphlens.lessons import FACTORIES

WITH_A = [name for name in FACTORIES if name != "soft-threshold"]


def matrix(**options: object) -> np.ndarray:  # type: ignore[type-arg]
    made: np.ndarray = graphlens.lesson("wasteful", n=1, **options).args[1].detach().numpy()  # type: ignore[type-arg]
    return made


@pytest.mark.parametrize("seed", [0, 10, 77])
@pytest.mark.parametrize("d", [2, 5, 20])
@pytest.mark.parametrize("cond", [1, 10.0, 1e4, 1e10, 4e13])
def test_the_condition_number_is_the_one_asked_for(cond: float, d: int, seed: int) -> None:
    A = matrix(cond=cond, d=d, seed_A=seed)
    assert A.shape == (d, d)
    assert np.array_equal(A, A.T)
    assert np.linalg.cond(A) == pytest.approx(cond, rel=max(1e-9, 20 * d * np.finfo(float).eps * cond))


def test_in_float32_too() -> None:
    A = matrix(cond=1e4, dtype="float32")
    assert A.dtype == np.float32
    assert np.linalg.cond(A.astype(float)) == pytest.approx(1e4, rel=0.02)


def test_the_seed_counts_and_the_same_seed_gives_the_same_matrix() -> None:
    assert np.array_equal(matrix(cond=100.0), matrix(cond=100.0))
    assert not np.array_equal(matrix(cond=100.0), matrix(cond=100.0, seed_A=11))


def test_without_it_the_data_of_the_exercise() -> None:
    F = np.random.RandomState(15).randn(5, 5)
    assert np.array_equal(matrix(), 1e-6 * np.eye(5) + F @ F.T)


@pytest.mark.parametrize("name", WITH_A)
def test_every_lesson_with_an_A_takes_it(name: str) -> None:
    subject = graphlens.lesson(name, n=2, cond=1e3)
    assert np.linalg.cond(subject.args[1].detach().numpy()) == pytest.approx(1e3)
    assert subject.args[1].requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cond": 0.5}, "cond must be a finite number ≥ 1, got 0.5"),
        ({"cond": -3}, "cond must be a finite number ≥ 1, got -3"),
        ({"cond": math.inf}, "cond must be a finite number ≥ 1, got inf"),
        ({"cond": math.nan}, "cond must be a finite number ≥ 1, got nan"),
        ({"cond": "10"}, "cond must be a finite number ≥ 1, got '10'"),
        ({"cond": True}, "cond must be a finite number ≥ 1, got True"),
        ({"cond": 1e16}, "cond must be at most 4.5e+13 in float64"),
        ({"cond": 1e6, "dtype": "float32"}, "cond must be at most 8.4e+04 in float32"),
        ({"cond": 2.0, "d": 1}, "cond must be 1 where d = 1"),
    ],
)
def test_what_it_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, graphlens.GraphlensError), match=re.escape(message)):
        graphlens.lesson("wasteful", n=1, **options)


def test_one_by_one() -> None:
    assert torch.equal(torch.from_numpy(matrix(cond=1, d=1)), torch.ones(1, 1, dtype=torch.float64))

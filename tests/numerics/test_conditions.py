"""The condition numbers of a run's matrices by name, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import Condition
from graphlens.numerics import conditions
from graphlens.subject import Subject
from tests.numerics.loop_programs import taped


class Solves(torch.nn.Module):
    """Solves with a leaf, and on one line with two matrices of its own, the second one worse."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        x = torch.linalg.solve(a, b)
        for scale in (1.0, 1e-3):
            x = torch.linalg.solve(torch.diag(torch.tensor([1.0, scale], dtype=a.dtype)) + 0 * a, x)
        return x.sum()


def found() -> list[Condition]:
    a = torch.tensor([[2.0, 1.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    tape, graph = taped(Subject(Solves(), (a, torch.ones(2, dtype=torch.float64))))
    return conditions.conditions_of(tape, graph)


def test_a_leaf_has_its_name_other_matrices_their_line_and_of_one_name_the_worst_counts() -> None:
    line, leaf = found()
    assert leaf.matrix == "a"
    assert leaf.kappa == pytest.approx(np.linalg.cond(np.array([[2.0, 1.0], [0.0, 3.0]])), rel=1e-12)
    assert line.matrix.startswith("test_conditions.py:")
    assert line.kappa == pytest.approx(1e3, rel=1e-9)
    assert not line.at_least


def test_where_not_all_were_looked_at_the_largest_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "_MOST_WORK", 10)
    (leaf,) = found()
    assert (leaf.matrix, leaf.at_least) == ("a", True)


def test_a_run_without_a_matrix_has_none() -> None:
    subject = Subject(torch.nn.Tanh(), (torch.ones(2, dtype=torch.float64, requires_grad=True),))
    tape, graph = taped(subject)
    assert isinstance(graph, graphlens.GradGraph)
    assert conditions.conditions_of(tape, graph) == []

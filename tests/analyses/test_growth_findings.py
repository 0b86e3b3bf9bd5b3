"""GL301 and GL302: what they say, and that they hold their tongue over sound loops."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import Accuracy, Quantity, TermSum
from graphlens.analyses.findings import Finding
from graphlens.analyses.rounding.growth import growth_findings
from graphlens.analyses.rounding.noise import noise_findings
from graphlens.numerics.quantities import quantity
from graphlens.numerics.sums import term_sums
from graphlens.subject import Subject
from tests.numerics.loop_programs import look, number, of


def accuracy_of(subject: Subject) -> Accuracy:
    looked = look(subject)
    study = looked.study
    return Accuracy(
        study.graph, "exact", 128, 2.0**-53, study.ops, [quantity(study, target) for target in study.targets],
        sums=term_sums(study.tape, study.graph), loops=looked.errors,
    )  # fmt: skip


@cache
def exercise(name: str = "wasteful") -> Accuracy:
    return accuracy_of(graphlens.lesson(name, n=100))


def forward(accuracy: Accuracy) -> Finding:
    (found,) = [each for each in growth_findings(accuracy) if each.evidence["pass"] == "forward"]
    return found


@pytest.mark.parametrize("name", ["wasteful", "hoisted"])
def test_the_exercise_grows_systematically_for_its_inverse(name: str) -> None:
    found = forward(exercise(name))
    assert found.code == "GL301"
    assert found.level == "warning"
    assert found.evidence["verdict"] == "systematic"
    assert "torch.linalg.inv(matrix)" in found.where.text
    match = re.search(r"n·‖R y‖ = 100 × (\S+) = (\S+), measured (\S+),", found.claim)
    assert match is not None
    one, predicted, measured = map(float, match.groups())
    assert predicted == pytest.approx(100 * one, rel=0.05)
    assert measured == pytest.approx(found.evidence["error"], rel=0.05)
    ratio = found.evidence["measured_over_predicted"]
    assert isinstance(ratio, float)
    assert 0.9 < ratio < 1.1


def test_the_gradient_of_the_matrix_is_noise_of_equal_and_opposite_parts() -> None:
    (found,) = noise_findings(exercise())
    assert found.code == "GL302"
    assert found.evidence["is_zero"] is True
    assert found.evidence["parts"] == 200
    # Their norms agree to the last digits that are told, so that the machine's rounding decides which comes first.
    assert re.search("100 from (LinalgInvEx and 100 from Mv|Mv and 100 from LinalgInvEx)", found.claim)
    for words in ("The gradient of A is noise", "true value is 0", "equal and opposite", "cosine -1"):
        assert words in found.claim
    node = exercise().graph.nodes[found.where.nodes[0]]
    assert node.name == "A"


def test_an_amplified_recurrence_and_its_useless_gradients() -> None:
    def work(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        for _ in range(30):
            a, b = b, 108 - (815 - 1500 / a) / b
        return b

    accuracy = accuracy_of(of(work, number(4.0), number(4.25)))
    found = forward(accuracy)
    assert found.evidence["verdict"] == "amplified"
    assert found.level == "warning"
    assert re.search(r"a factor of (19|20|21)\.\d per round", found.claim)
    assert "n·‖R y‖" not in found.claim
    assert len(list(noise_findings(accuracy))) == 2  # no digit is right, though nothing cancels
    assert all("parts" not in each.claim for each in noise_findings(accuracy))


def test_a_frozen_loop_says_since_when() -> None:
    still = np.full(exercise().loops[0].rounds + 1, 1e-12)
    loops = [replace(loop, cycle=(20, 2), error=still) for loop in exercise().loops if not loop.backward]
    found = forward(replace(exercise(), loops=loops))
    assert found.evidence["verdict"] == "frozen"
    assert "from round 20 on (they come again every 2 rounds)" in found.claim


def test_sound_loops_are_not_reported() -> None:
    def contraction(x: torch.Tensor) -> torch.Tensor:
        for _ in range(200):
            x = torch.tanh(0.5 * x + 0.1)
        return x

    accuracy = accuracy_of(of(contraction, number(0.3)))
    assert accuracy.loops
    assert not list(growth_findings(accuracy))
    assert not list(noise_findings(accuracy))


def gradient(**facts: object) -> Quantity:
    return replace(Quantity("w", "gradient", (3,), "float64", 1.0), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantity", "left", "is_noise"),
    [
        (gradient(error=1e-8, truth=1.0, digits=8.0), 1e-15, False),  # cancels, and is right all the same
        (gradient(error=1.0, truth=0.0, is_zero=True), 1e-13, True),
        (gradient(error=0.9, truth=0.5, digits=0.0), 0.5, True),
        (gradient(error=0.0, truth=0.0, is_zero=True, size=0.0), 1.0, False),  # exactly 0
        (gradient(significant=(0.1, 0.0, 0.3)), 0.5, True),
        (gradient(significant=(6.0, 5.0, 7.0)), 1e-9, False),
        (gradient(), 2e-16, True),  # the truth is not known: the sum leaves what 10 additions round away
        (gradient(), 1e-9, False),
    ],
)
def test_what_counts_as_noise(quantity: Quantity, left: float, is_noise: bool) -> None:
    parts = TermSum("w", 10, 1.0 / left, left, [("Mm", 10, 1.0, 1.0 / left)])
    found = list(noise_findings(replace(exercise(), quantities=[quantity], sums=[parts])))
    assert len(found) == is_noise

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphlens.lessons import FACTORIES, FORMS, Efficient, Wasteful

CHAINS = ("wasteful", "hoisted", "efficient", "severed")
CORRECT = ("wasteful", "hoisted", "efficient")

# Exact arithmetic on the float64 data, rounded.
G = [-0.63275396618493594, 6.8930119416639228, -0.51796373375723684, 1.2437710649865224, -0.68157579585812585]
PHI = 14.068826814584303887
DPHI_DX = [20.204528364450969, -1.6788291194069425, -5.3507087371350766, 13.740343014597729, -6.5955547609308216]
DPHI_DM = [
    [-2.03303769836, 22.1472387082, -1.66421682579, 3.99623486913, -2.18990217576],
    [8.90203922613, -22.9977145644, -21.6494996637, -27.2589968212, -16.0171961171],
    [4.55077822487, -11.7565757691, -11.0673598651, -13.9349699563, -8.18809100494],
    [7.23516155552, -18.6914678821, -17.5957018031, -22.1548390018, -13.0180286370],
    [2.42598701035, -6.26734564784, -5.89992962628, -7.42863185878, -4.36501218823],
]
SEVERED_DPHI_DX = [1.4655, -3.7860, -3.5641, -4.4875, -2.6368]


def run(name: str, **options: Any) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """g, φ, and φ's gradients with respect to x, A and M."""
    subject = FACTORIES[name](**options)
    g = subject.module(*subject.args)
    phi = subject.loss(g)
    wanted = (*subject.args, subject.module.M)
    return g, phi, torch.autograd.grad(phi, wanted, allow_unused=True)


def difference(value: torch.Tensor | None, reference: Any) -> float:
    """Largest difference, relative to the largest element of the reference."""
    assert value is not None
    exact = torch.as_tensor(reference, dtype=torch.float64)
    return float((value.detach() - exact).abs().max() / exact.abs().max())


def test_efficient_meets_the_reference() -> None:
    g, phi, (dx, dA, dM) = run("efficient")
    assert difference(g, G) < 1e-12
    assert difference(phi, PHI) < 1e-12
    assert difference(dx, DPHI_DX) < 1e-12
    assert difference(dM, DPHI_DM) < 2e-12  # the reference has 12 digits
    assert dA is None


def test_wasteful_meets_the_reference_within_its_rounding() -> None:
    g, phi, (dx, dA, dM) = run("wasteful", n=10_000)
    assert difference(g, G) < 1e-6
    assert difference(phi, PHI) < 1e-6
    assert difference(dx, DPHI_DX) < 1e-6
    assert difference(dM, DPHI_DM) < 1e-6
    # 0 in exact arithmetic: what is left is rounding, against terms of order 1.
    assert dA is not None
    assert dA.abs().max() < 1e-4


def test_hoisted_agrees_with_wasteful_at_few_rounds() -> None:
    for ours, theirs in zip(run("hoisted", n=5)[2], run("wasteful", n=5)[2], strict=True):
        assert difference(ours, theirs) < 1e-9 or ours.abs().max() < 1e-9


def test_severed_loses_what_the_exercise_says_it_loses() -> None:
    g, _, (dx, dA, dM) = run("severed", n=10)
    assert difference(g, G) < 1e-9  # the value is right
    assert dx.tolist() == pytest.approx(SEVERED_DPHI_DX, abs=1e-4)
    assert dA is None
    assert dM is not None
    assert difference(dM, DPHI_DM) > 0.01


@pytest.mark.parametrize("name", CORRECT)
def test_forms_agree(name: str) -> None:
    branching, vectorised = (run(name, n=3, form=form) for form in FORMS)
    torch.testing.assert_close(branching, vectorised, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CORRECT)
def test_no_round_is_the_efficient_module(name: str) -> None:
    g, phi, (dx, dA, _) = run(name, n=0)
    reference = run("efficient")
    assert torch.equal(g, reference[0])
    assert torch.equal(phi, reference[1])
    assert torch.equal(dx, reference[2][0])
    # `hoisted` inverts A and then does not use it.
    assert dA is None


@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("name", CHAINS)
def test_other_sizes_and_dtype(name: str, d: int) -> None:
    g, phi, _ = run(name, n=2, d=d, dtype="float32", T=0.01)
    assert (g.shape, g.dtype, phi.shape) == ((d,), torch.float32, ())


def test_same_seed_same_data_other_seed_other_data() -> None:
    first, again, other = (FACTORIES["efficient"](seed_A=seed).args[1] for seed in (10, 10, 11))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.T)


EYE = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wasteful(EYE, T=0.0), "T must be a finite number > 0, got 0.0"),
        (lambda: Wasteful(EYE, T=-1), "T must be a finite number > 0, got -1"),
        (lambda: Wasteful(EYE, T=math.nan), "T must be a finite number > 0, got nan"),
        (lambda: Wasteful(EYE, T=math.inf), "T must be a finite number > 0, got inf"),
        (lambda: Wasteful(EYE, T=True), "T must be a finite number > 0, got True"),
        (lambda: Wasteful(EYE, T="3"), "T must be a finite number > 0, got '3'"),
        (lambda: Wasteful(EYE[:2]), r"M must be a square matrix, got shape \[2, 3\]"),
        (lambda: Wasteful(EYE[0]), r"M must be a square matrix, got shape \[3\]"),
        (lambda: Wasteful(EYE.roll(1, 0)), "M must be symmetric, but M and its transpose differ by 1"),
        (lambda: Wasteful(EYE * math.nan), "M must be finite"),
        (lambda: Wasteful(EYE, n=-1), "n must be a whole number ≥ 0, got -1"),
        (lambda: Wasteful(EYE, n=2.0), "n must be a whole number ≥ 0, got 2.0"),
        (lambda: Wasteful(EYE, n=True), "n must be a whole number ≥ 0, got True"),
        (lambda: Wasteful(EYE, form="fast"), "form must be one of 'branching', 'vectorised', got 'fast'"),
        (lambda: Wasteful(EYE, n=1)(EYE[0, :2], EYE), r"x must have shape \[3\] to match M, got \[2\]"),
        (lambda: Wasteful(EYE, n=1)(EYE[0], EYE[:2]), r"A must have shape \[3, 3\] to match M, got \[2, 3\]"),
        (lambda: Wasteful(EYE, n=1)(EYE[0], 0 * EYE), "A is singular, it has no inverse"),
        (lambda: Efficient(0 * EYE)(EYE[0], EYE), "M is singular, it has no inverse"),
        (lambda: FACTORIES["wasteful"](d=0), "d must be a whole number ≥ 1, got 0"),
        (lambda: FACTORIES["wasteful"](d=2.0), "d must be a whole number ≥ 1, got 2.0"),
        (lambda: FACTORIES["wasteful"](d=True), "d must be a whole number ≥ 1, got True"),
        (lambda: FACTORIES["wasteful"](seed_A=-1), "seed_A must be a whole number ≥ 0, got -1"),
        (lambda: FACTORIES["wasteful"](seed_M="0"), "seed_M must be a whole number ≥ 0, got '0'"),
        (lambda: FACTORIES["wasteful"](dtype="int64"), "dtype must be one of 'float64', 'float32', got 'int64'"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


WARNS = """
import sys, warnings
import torch
import graphlens

warnings.simplefilter("always")
graphlens.trace(graphlens.lesson("severed", n=2))
print("silent", file=sys.stderr)
warnings.warn("a warning of the user's")
"""


def test_severed_is_silent_and_other_warnings_are_not() -> None:
    done = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True, check=True)

    assert done.stderr.startswith("silent\n"), done.stderr
    assert "a warning of the user's" in done.stderr


def test_torch_warns_of_the_mistake_where_nobody_silences_it() -> None:
    code = "import torch\nx = torch.ones(2, requires_grad=True)\ntorch.tensor([x[0] * 2, x[1] * 2])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Converting a tensor with requires_grad=True to a scalar" in done.stderr

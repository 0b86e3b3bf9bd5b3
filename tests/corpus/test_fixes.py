"""What a finding advises is done, and then it is gone and the gradient is the true one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

import graphlens
from graphlens.subject import Subject

Loss = Callable[[torch.Tensor], torch.Tensor]


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return None


class Gradient(NoGradient):
    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


def under_no_grad(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x.exp()
    return y.sum()


def in_place(x: torch.Tensor) -> torch.Tensor:
    y = x.exp()
    y += 1
    return y.sum()


def with_one(x: torch.Tensor) -> torch.Tensor:
    y = x.exp()
    y = y + 1
    return y.sum()


PAIRS: list[tuple[str, str, Loss, Loss]] = [
    (
        "torch.tensor", "GL101",
        lambda x: torch.tensor([v * v for v in x]).sum(),
        lambda x: torch.stack([v * v for v in x]).sum(),
    ),
    ("detach", "GL101", lambda x: x.exp().detach().sin().sum(), lambda x: x.exp().sin().sum()),
    ("data", "GL101", lambda x: x.exp().data.sin().sum(), lambda x: x.exp().sin().sum()),
    ("item", "GL101", lambda x: torch.ones(2).double() * x.sum().item(), lambda x: torch.ones(2).double() * x.sum()),
    ("float", "GL101", lambda x: torch.ones(2).double() * float(x.sum()), lambda x: torch.ones(2).double() * x.sum()),
    (
        "numpy", "GL101",
        lambda x: torch.from_numpy(numpy.tanh(x.detach().numpy())).sum(),
        lambda x: torch.tanh(x).sum(),
    ),
    ("no_grad", "GL101", under_no_grad, lambda x: x.exp().sum()),
    ("custom Function", "GL101", lambda x: NoGradient.apply(x).sum(), lambda x: Gradient.apply(x).sum()),
    ("nn.Parameter", "GL101", lambda x: torch.nn.Parameter(x * 2).sum(), lambda x: (x * 2).sum()),
    ("in place", "GL106", in_place, with_one),
    (
        "where", "GL107",
        lambda x: torch.where(x > 9, (x - x).sqrt(), x * 2).sum(),
        lambda x: torch.where(x > 9, (x - x).clamp(min=1e-9).sqrt(), x * 2).sum(),
    ),
    ("log", "GL107", lambda x: (x - x).log().sum(), lambda x: (x - x + 1).log().sum() + x.sum()),
    ("logsumexp", "GL107", lambda x: (x * 1e4).exp().sum().log(), lambda x: (x * 1e4).logsumexp(0)),
]  # fmt: skip


def codes(forward: Loss) -> set[str]:
    x = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64, requires_grad=True)
    found = graphlens.trace(Subject(forward, (x,)), diagnose=True).findings
    return {finding.code for finding in found if finding.level != "info"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("code", "faulty", "mended"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_the_advice_mends_the_gradient(code: str, faulty: Loss, mended: Loss) -> None:
    assert code in codes(faulty)
    assert codes(mended) == set()
    x = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mended(x).sum(), (x,))


def test_rounding_passes_its_gradient_straight_through() -> None:
    assert codes(lambda x: (x * 3).round().sum()) == {"GL105"}

    def straight(x: torch.Tensor) -> torch.Tensor:
        y = x * 3
        return (y + (y.round() - y).detach()).sum()

    assert codes(straight) == set()
    x = torch.tensor([0.3, 0.5], dtype=torch.float64, requires_grad=True)
    straight(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]

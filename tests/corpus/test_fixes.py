"""What a finding advises is done, and then it is gone and the gradient is the true one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

import graphlens
from graphlens.lessons.chain import Severed
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


class Marked(Gradient):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        y = Gradient.forward(ctx, x)
        ctx.mark_non_differentiable(y)
        return y


def frozen_on_the_way(x: torch.Tensor) -> torch.Tensor:
    y = x.exp().detach().requires_grad_(False)
    return (y * x.detach()).sum()


def copied_without_gradients(x: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros(3, dtype=x.dtype)
    with torch.no_grad():
        rows.copy_(x)
    return (rows**2).sum()


def copied(x: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros(3, dtype=x.dtype)
    rows.copy_(x)
    return (rows**2).sum()


def fresh(x: torch.Tensor) -> torch.Tensor:
    return (x.exp() + torch.zeros_like(x, requires_grad=True)).sum()


def not_fresh(x: torch.Tensor) -> torch.Tensor:
    return (x.exp() + torch.zeros_like(x)).sum()


# What is advised, in a word that the finding's `fix` must hold, and the program as it is and mended.
ADVISED: list[tuple[str, str, str, Loss, Loss]] = [
    (
        "as_tensor", "GL101", "torch.stack",
        lambda x: torch.as_tensor([v.sin() for v in x]).sum(),
        lambda x: torch.stack([v.sin() for v in x]).sum(),
    ),
    (
        "new_tensor", "GL101", "use the tensor itself",
        lambda x: x.new_tensor([(x * x).sum()]).exp().sum(),
        lambda x: (x * x).sum().exp(),
    ),
    (
        "tolist", "GL101", "keep the computation in torch",
        lambda x: torch.tensor(sum(v**3 for v in x.tolist()), dtype=x.dtype),
        lambda x: sum(v**3 for v in x),
    ),
    (
        "a comparison", "GL101", "sigmoid((a - b) / temperature)",
        lambda x: (x > 0.4).double().sum(),
        lambda x: torch.sigmoid((x - 0.4) / 0.1).sum(),
    ),
    (
        "argmax", "GL101", "softmax for argmax",
        lambda x: x.argmax().double(),
        lambda x: (torch.softmax(x / 0.1, 0) * torch.arange(3)).sum(),
    ),
    (
        "a whole number", "GL101", "keep a floating-point dtype",
        lambda x: (x * 10).long().sum().double(),
        lambda x: (x * 10).sum(),
    ),
    (
        "deepcopy", "GL101", ".clone()",
        lambda x: copy.deepcopy(x).sin().sum(),
        lambda x: x.clone().sin().sum(),
    ),
    (
        "a result marked as not differentiable", "GL101", "leave out ctx.mark_non_differentiable",
        lambda x: Marked.apply(x).sum(),
        lambda x: Gradient.apply(x).sum(),
    ),
    (
        "a custom Function", "GL101", "return the gradient of this input instead of None",
        lambda x: NoGradient.apply(x).sum(),
        lambda x: Gradient.apply(x).sum(),
    ),
    ("detach", "GL101", "leave out .detach()", frozen_on_the_way, lambda x: (x.exp() * x).sum()),
    ("a copy under no_grad", "GL101", "move this line out of the block", copied_without_gradients, copied),
    ("a fresh leaf", "GL102", "leave out requires_grad=True", fresh, not_fresh),
    (
        "a saved tensor", "GL106", "write to a copy, x = x + 1 in place of x += 1", in_place, with_one,
    ),
    (
        "a length of 0", "GL107", "clamp it, add a small number",
        lambda x: ((x - x) ** 2).sum().sqrt() + x.sum(),
        lambda x: (((x - x) ** 2).sum() + 1e-6).sqrt() + x.sum(),
    ),
    (
        "softmax, then log", "GL107", "use the stable form (log_softmax",
        lambda x: (x * 5000).softmax(0).log().sum(),
        lambda x: (x * 5000).log_softmax(0).sum(),
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("code", "advice", "faulty", "mended"), [row[1:] for row in ADVISED],
                         ids=[row[0] for row in ADVISED])  # fmt: skip
def test_the_fix_says_it_and_it_mends_the_gradient(code: str, advice: str, faulty: Loss, mended: Loss) -> None:
    x = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64, requires_grad=True)
    found = graphlens.trace(Subject(faulty, (x,)), diagnose=True).findings
    assert any(advice in finding.fix for finding in found if finding.code == code)
    assert codes(mended) == set()
    assert torch.autograd.gradcheck(lambda x: mended(x).sum(), (x,))
    mended(x).backward()
    assert x.grad is not None
    differences = [slope(lambda t, k=k: mended(moved(x, k, t))) for k in range(3)]
    torch.testing.assert_close(x.grad, torch.stack(differences), rtol=1e-5, atol=1e-6)


def moved(x: torch.Tensor, entry: int, by: float) -> torch.Tensor:
    changed = x.detach().clone()
    changed[entry] += by
    return changed


def slope(function: Callable[[float], torch.Tensor], step: float = 1e-6) -> torch.Tensor:
    with torch.no_grad():
        return (function(step) - function(-step)) / (2 * step)


class Cell(torch.nn.Module):
    """Carries its state over from call to call, with or without its history."""

    def __init__(self, detaches: bool) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.state = torch.zeros(3, dtype=torch.float64)
        self.detaches = detaches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.state.detach() if self.detaches else self.state
        self.state = torch.tanh(self.w * x + before)
        return self.state.sum()


def test_state_that_is_carried_over_without_its_history() -> None:
    x = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64)
    keeping, mended = Cell(detaches=False), Cell(detaches=True)
    for cell in (keeping, mended):
        cell(x).backward()
    (found,) = graphlens.trace(keeping, x, diagnose=True).findings
    assert (found.code, "state = state.detach()" in found.fix) == ("GL106", True)

    before, weight = mended.state.detach().clone(), mended.w.detach()
    trace = graphlens.trace(mended, x, diagnose=True)
    assert trace.findings == ()
    assert trace.gradients["w"] is not None
    expected = slope(lambda t: torch.tanh((weight + t) * x + before).sum())
    torch.testing.assert_close(trace.gradients["w"], expected, rtol=1e-6, atol=0)


def test_a_parameter_that_is_used_or_frozen_is_not_unused() -> None:
    class Heads(torch.nn.Module):
        def __init__(self, uses: bool) -> None:
            super().__init__()
            self.one, self.two = (torch.nn.Linear(3, 1, dtype=torch.float64) for _ in range(2))
            self.uses = uses

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x).sum() + (self.two(x).exp().sum() if self.uses else 0)

    x = torch.tensor([[0.3, 0.5, 0.8]], dtype=torch.float64)
    (unused,) = graphlens.trace(Heads(False), x, diagnose=True).findings
    assert (unused.code, unused.evidence["leaves"]) == ("GL104", ["two.weight", "two.bias"])
    assert "use it, remove it, or freeze it with requires_grad_(False)" in unused.fix
    frozen = Heads(False)
    frozen.two.requires_grad_(False)
    assert graphlens.trace(frozen, x, diagnose=True).findings == ()
    used = Heads(True)
    trace = graphlens.trace(used, x, diagnose=True)
    assert trace.findings == ()
    bias = used.two.bias.detach()
    expected = slope(lambda t: torch.nn.functional.linear(x, used.two.weight, bias + t).exp().sum())
    assert trace.gradients["two.bias"] is not None
    torch.testing.assert_close(trace.gradients["two.bias"].sum(), expected, rtol=1e-6, atol=0)


def test_severed_with_torch_stack() -> None:
    """The lesson's own fault, mended as its finding advises: its gradients are then those of the sound lesson."""

    class Mended(Severed):
        def threshold(self, y: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.soft(component) for component in y])

        def soft(self, y: torch.Tensor) -> torch.Tensor:
            T = self.soft_threshold.T
            return y - T if y > T else y + T if y < -T else torch.zeros_like(y)

    subject = graphlens.lesson("severed", n=2)
    severed = graphlens.trace(subject, diagnose=True)
    assert [item.code for item in severed.findings if item.level != "info"] == ["GL101", "GL102"]
    module = subject.module
    mended = Mended(module.M.detach().double(), module.soft_threshold.T, 2)
    x, A = (argument.detach().double().requires_grad_() for argument in subject.args)
    trace = graphlens.trace(mended, x, A, diagnose=True)
    assert [item.code for item in trace.findings if item.level != "info"] == []
    assert {item.verdict for item in trace.connectivity.verdicts} == {"receives a gradient"}
    for k in range(len(x)):
        expected = slope(lambda t, k=k: mended(moved(x, k, t), A).sum())
        assert trace.gradients["x"] is not None
        torch.testing.assert_close(trace.gradients["x"][k], expected, rtol=1e-5, atol=1e-6)

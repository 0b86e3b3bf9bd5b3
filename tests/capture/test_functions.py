"""What the recorder knows of torch's functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from graphlens.capture.functions import FunctionFacts, facts_of


class Seen(TorchFunctionMode):
    """Takes the facts of each function as torch hands it over."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[FunctionFacts] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.facts.append(facts_of(func))
        return func(*args, **(kwargs or {}))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def assign(x: torch.Tensor) -> None:
    x.data = torch.ones(2, 2)


X = torch.ones(2, 2)
CALLS: dict[str, tuple[Any, str]] = {
    "Tensor.matmul": (lambda x: x @ x, "plain"),
    "Tensor.exp": (lambda x: x.exp(), "plain"),
    "Tensor.add": (lambda x: torch.Tensor.add(x, 1), "plain"),
    "torch.exp": (lambda x: torch.exp(x), "plain"),
    "torch.einsum": (lambda x: torch.einsum("ij->i", x), "plain"),
    "torch.linalg.inv": (lambda x: torch.linalg.inv(x + torch.eye(2)), "plain"),
    "torch.fft.fft": (lambda x: torch.fft.fft(x), "plain"),
    "torch.nn.functional.relu": (lambda x: torch.nn.functional.relu(x), "plain"),
    "torch.nn.functional.linear": (lambda x: torch.nn.functional.linear(x, x), "plain"),
    "torch.tensor": (lambda x: torch.tensor([1.0]), "plain"),
    "torch.ops.aten.sin.default": (lambda x: torch.ops.aten.sin.default(x), "plain"),
    "torch.ops.aten.add_.Tensor": (lambda x: torch.ops.aten.add_.Tensor(x.clone(), x), "memory"),
    "Tensor.T": (lambda x: x.T, "plain"),
    "Tensor.grad": (lambda x: x.grad, "plain"),
    "Tensor.data": (lambda x: x.data, "aliases"),
    "Tensor.detach": (lambda x: x.detach(), "aliases"),
    "Tensor.mul_": (lambda x: x.clone().mul_(2), "memory"),
    "Tensor.__setitem__": (lambda x: x.clone().__setitem__(0, 1.0), "memory"),
    "Tensor.add_": (lambda x: x.clone().__iadd__(1), "memory"),
    "torch.relu_": (lambda x: torch.relu_(x.clone()), "memory"),
    "Tensor.requires_grad_": (lambda x: x.clone().requires_grad_(), "labels"),
    "Tensor.data =": (lambda x: assign(x.clone()), "labels"),
    "Tensor.t_": (lambda x: x.clone().t_(), "labels"),
    "Tensor.item": (lambda x: x.sum().item(), "escapes"),
    "Tensor.tolist": (lambda x: x.tolist(), "escapes"),
    "Tensor.__float__": (lambda x: float(x.sum()), "escapes"),
    "Tensor.__bool__": (lambda x: bool(x.sum()), "escapes"),
    "Tensor.numpy": (lambda x: x.numpy(), "escapes"),
    "torch.no_grad": (lambda x: torch.no_grad().__enter__(), "switch"),
    "Tensor.unbind": (lambda x: iter(x), "plain"),
    "Tensor.backward": (lambda x: (x.clone().requires_grad_() * 2).sum().backward(), "special"),
}


@pytest.mark.parametrize("name", CALLS)
def test_names_and_habits(name: str) -> None:
    call, habit = CALLS[name]
    with torch.enable_grad(), Seen() as seen:
        call(X)
    facts = next(facts for facts in reversed(seen.facts) if facts.name == name)
    expected = {
        "plain": FunctionFacts(name),
        "aliases": FunctionFacts(name, plain=False, aliases=True),
        "memory": FunctionFacts(name, plain=False, in_place=True, memory=True),
        "labels": FunctionFacts(name, plain=False, in_place=True),
        "escapes": FunctionFacts(name, plain=False, escapes=True),
        "special": FunctionFacts(name, plain=False),
        "switch": FunctionFacts(name, ignored=True, plain=False),
    }
    assert facts == expected[habit]


@pytest.mark.parametrize("ask", ["shape", "dtype", "requires_grad", "device", "grad_fn", "is_leaf", "ndim"])
def test_questions_are_ignored(ask: str) -> None:
    with Seen() as seen:
        getattr(X, ask)
        X.size(), X.dim(), X.numel(), len(X), X.is_contiguous(), repr(1)
    assert seen.facts
    assert all(facts.ignored for facts in seen.facts)


def test_a_custom_function_is_called_by_its_class() -> None:
    assert facts_of(Doubled.apply) == FunctionFacts("Doubled.apply")

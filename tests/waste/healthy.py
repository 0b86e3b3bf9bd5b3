"""Sound programs that look like wasteful ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.waste.cases import Case
from tests.waste.planted import ORDER, SQUARE, TWO

THREE = {"A": (8, 8), "B": (8, 8), "v": (8,)}
LAYER = nn.Linear(4, 4, dtype=torch.float64)
HILBERT = torch.tensor([[1 / (i + j + 1) for j in range(12)] for i in range(12)], dtype=torch.float64)
MASKS = nn.ParameterList([nn.Parameter(torch.ones(3, 4, dtype=torch.float64), requires_grad=False) for _ in range(2)])


def dropout(x: Tensor, w: Tensor) -> Tensor:
    return (torch.dropout(x, 0.5, True) * torch.dropout(x, 0.5, True)).sum() + w.sum()


def noise(x: Tensor, w: Tensor) -> Tensor:
    return (torch.rand_like(x) * x + torch.rand_like(x) * w + torch.normal(x.detach(), 0.1) * x).sum()


def written_to_in_between(x: Tensor, w: Tensor) -> Tensor:
    y = x * 2
    first = y.exp()
    y.add_(1)
    return (first * y.exp()).sum() + w.sum()


def a_clone_that_is_written_to(x: Tensor, w: Tensor) -> Tensor:
    y = x.exp()
    z = y.clone()
    z[0] = 1.0
    return (z.sin() * w).sum() + y.sum()


def a_buffer_that_counts(x: Tensor, w: Tensor) -> Tensor:
    scale = torch.ones((), dtype=x.dtype)
    total = torch.zeros((), dtype=x.dtype)
    for _ in range(3):
        scale.mul_(0.5)
        total = total + (x + scale).exp().sum()
    return total + w.sum()


def batch_norm_in_training(x: Tensor, w: Tensor) -> Tensor:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(4, dtype=torch.float64)
    return (norm(x) * norm(w)).sum() + norm(x + w).tanh().sum()


def a_recurrent_cell(x: Tensor, w: Tensor) -> Tensor:
    state = torch.zeros(4, dtype=x.dtype)
    for row in x:
        state = LAYER(state + row).tanh()
    return (state * w).sum()


def a_matrix_that_changes(A: Tensor, y: Tensor) -> Tensor:
    for _ in range(3):
        y = torch.linalg.solve(A, y)
        A = A * 1.1
    return y.sum()


def a_teacher_without_gradient(x: Tensor, w: Tensor) -> Tensor:
    with torch.no_grad():
        weights = x.exp()
    return (weights * x.exp() * w).sum()


def a_detached_copy(x: Tensor, w: Tensor) -> Tensor:
    return (x.tanh() - x.detach().tanh() + w).exp().sum()


def recomputed_by_a_checkpoint(x: Tensor, w: Tensor) -> Tensor:
    return (checkpoint(lambda t: t.exp().sin(), x, use_reentrant=False) * w).sum()


def two_layers_of_equal_weights(x: Tensor, w: Tensor) -> Tensor:
    one, other = (torch.full((4,), 0.5, dtype=x.dtype).requires_grad_() for _ in range(2))
    return (x * one).exp().sum() + (x * other).exp().sum() + w.sum()


def softmax_by_hand(x: Tensor, w: Tensor) -> Tensor:
    shifted = x - x.amax(-1, keepdim=True)
    return ((shifted - shifted.exp().sum(-1, keepdim=True).log()).exp() * w).sum()


def a_scan(x: Tensor) -> Tensor:
    states = [x[0]]
    for value in x[1:]:
        states.append((states[-1] * 0.5 + value).tanh())
    return torch.stack(states).sum()


def heads_of_attention(x: Tensor) -> Tensor:
    return torch.cat([(part @ part.t()).softmax(-1) @ part for part in x.split(2, dim=1)], dim=1).sum()


HEALTHY: dict[str, Case] = {
    "dropout twice": Case(dropout, TWO),
    "random numbers": Case(noise, TWO),
    "written to in between": Case(written_to_in_between, TWO),
    "a clone that is written to": Case(a_clone_that_is_written_to, TWO),
    "a buffer that counts": Case(a_buffer_that_counts, TWO),
    "batch norm in training": Case(batch_norm_in_training, TWO),
    "a recurrent cell": Case(a_recurrent_cell, TWO),
    "shared weights": Case(lambda x, w: LAYER(LAYER(x)).sum() + LAYER(w).sum(), TWO),
    "two masks that are equal today": Case(lambda x, w: (x * MASKS[0]).sum() + (x * MASKS[1]).sum() + w.sum(), TWO),
    "two layers of equal weights": Case(two_layers_of_equal_weights, TWO),
    "a teacher without gradient": Case(a_teacher_without_gradient, TWO),
    "a detached copy": Case(a_detached_copy, TWO),
    "recomputed by a checkpoint": Case(recomputed_by_a_checkpoint, TWO),
    "a matrix that changes": Case(a_matrix_that_changes, SQUARE | {"y": (4, 2)}),
    "solving with another matrix": Case(lambda A, y: torch.linalg.solve(A.t(), A @ y).sum(), SQUARE | {"y": (4, 2)}),
    "softmax by hand": Case(softmax_by_hand, TWO),
    "exp of a log and more": Case(lambda x, w: (x.sigmoid().log() + w).exp().sum(), TWO),
    "an overflow": Case(lambda x, w: ((x * 1000).exp().log() * w).sum(), TWO),
    "a root of a square": Case(lambda x, w: ((x**2).sqrt() * w).sum(), TWO),
    "a rectifier twice": Case(lambda x, w: (x.relu().relu() * w).sum(), TWO),
    "almost the same is taken away": Case(lambda x, w: ((x + w) - w * 1.0000001).tanh().sum(), TWO),
    "broadcast in between": Case(lambda x, w: ((x[0] + w) - w).sum(), TWO),
    "a cast that loses digits": Case(lambda x, w: (x.float().double() * w).sum(), TWO),
    "rolled the same way": Case(lambda x, w: (x.roll(2, 1).roll(1, 1) * w).sum(), TWO),
    "shuffled twice": Case(lambda x, w: (x[ORDER][ORDER] * w).sum(), TWO),
    "added where it was": Case(lambda x, w: (x.index_put((ORDER,), x[ORDER], accumulate=True) * w).sum(), TWO),
    "softmax along either dimension": Case(lambda A: (A.softmax(0) * A.softmax(-1)).sum(), {"A": (4, 4)}),
    "a difference both ways round": Case(lambda x, w: ((x - w).exp() * (w - x).exp()).sum(), TWO),
    "two Gram matrices": Case(lambda A: ((A @ A.T) * (A.t() @ A)).sum(), {"A": (4, 4)}),
    "permuted on": Case(lambda x, w: (x[None].permute(1, 2, 0).permute(1, 2, 0).sum() * w).sum(), TWO),
    "products in the right order": Case(lambda A, B, v: (A @ (B @ v)).sum(), THREE),
    "a product that is used twice": Case(lambda A, B, v: ((C := A @ B) @ v).sum() + C.sum(), THREE),
    "each step needs the one before": Case(a_scan, {"x": (6,)}),
    "heads of attention": Case(heads_of_attention, {"x": (5, 8)}),
    "parts of different tensors": Case(
        lambda x, w: torch.stack([x[0] * 2, w[0] * 3, x[1] * 2, w[1] * 3]).sum(), {"x": (4,), "w": (4,)}
    ),
    "a matrix near to singular": Case(
        lambda A, y: (torch.linalg.solve(HILBERT, HILBERT @ y[:, None])).sum() + A.sum(), {"A": (12, 12), "y": (12,)}
    ),
}

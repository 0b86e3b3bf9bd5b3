"""Programs that compute twice, undo what they did, keep copies, loop over entries, or multiply in a dear order."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.waste.cases import Planted

SQUARE = {"A": (4, 4), "y": (4,)}
MATRIX = {"A": (4, 4), "y": (4, 3)}
TWO = {"x": (3, 4), "w": (3, 4)}
ORDER = torch.tensor([2, 0, 1])


def inverse_in_a_loop(A: Tensor, y: Tensor) -> Tensor:
    for _ in range(5):
        y = (torch.linalg.inv(A) @ y).tanh()
    return y.sum()


def inverse_before_the_loop(A: Tensor, y: Tensor) -> Tensor:
    inverse = torch.linalg.inv(A)
    for _ in range(5):
        y = (inverse @ y).tanh()
    return y.sum()


def there_and_back(A: Tensor, y: Tensor) -> Tensor:
    for _ in range(5):
        y = torch.linalg.inv(A) @ (A @ y)
    return y.tanh().sum()


def hoisted_there_and_back(A: Tensor, y: Tensor) -> Tensor:
    inverse = torch.linalg.inv(A)
    for _ in range(4):
        y = A @ (inverse @ y)
    return y.tanh().sum() + A.sum()


def softmax_in_a_loop(x: Tensor, w: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for power in range(1, 4):
        total = total + (x.softmax(-1) * w.pow(power)).sum()
    return total


def softmax_before_the_loop(x: Tensor, w: Tensor) -> Tensor:
    total, weights = torch.zeros((), dtype=x.dtype), x.softmax(-1)
    for power in range(1, 4):
        total = total + (weights * w.pow(power)).sum()
    return total


def normalised_weight_in_each_step(x: Tensor, w: Tensor) -> Tensor:
    state = torch.zeros(3, 3, dtype=x.dtype)
    for row in range(3):
        state = (state + x[row] @ (w / w.norm()).t()).tanh()
    return state.sum()


def normalised_weight_once(x: Tensor, w: Tensor) -> Tensor:
    state, weight = torch.zeros(3, 3, dtype=x.dtype), (w / w.norm()).t()
    for row in range(3):
        state = (state + x[row] @ weight).tanh()
    return state.sum()


def factorised_in_a_loop(A: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=y.dtype)
    for column in range(3):
        total = total + torch.cholesky_solve(y[:, column : column + 1], torch.linalg.cholesky(A @ A.t())).sum()
    return total


def factorised_once(A: Tensor, y: Tensor) -> Tensor:
    total, factor = torch.zeros((), dtype=y.dtype), torch.linalg.cholesky(A @ A.t())
    for column in range(3):
        total = total + torch.cholesky_solve(y[:, column : column + 1], factor).sum()
    return total


def kept_with_its_clone(x: Tensor, w: Tensor) -> Tensor:
    y = x.exp()
    return (y.clone().sin() * w).sum() + y.sum()


def a_mask_in_each_round(x: Tensor, w: Tensor) -> Tensor:
    for _ in range(3):
        x = (x * torch.ones(3, 4, dtype=x.dtype).tril()).tanh()
    return (x * w).sum()


def entry_by_entry(x: Tensor) -> Tensor:
    return torch.stack([value * 2 + 1 if value > 0 else value * 0.1 for value in x]).sum()


def row_by_row(x: Tensor) -> Tensor:
    return torch.stack([row.clamp(-1, 1).exp() for row in x]).sum()


PLANTED: dict[str, Planted] = {
    "an inverse in a loop": Planted(
        inverse_in_a_loop, SQUARE, "GL201", {"times": 5, "values": 1, "nodes": 4}, inverse_before_the_loop, {"GL203"}
    ),
    "softmax in a loop": Planted(
        softmax_in_a_loop, TWO, "GL201", {"times": 3, "values": 1, "nodes": 2}, softmax_before_the_loop
    ),
    "a weight normalised in each step": Planted(
        normalised_weight_in_each_step, TWO, "GL201", {"times": 3, "values": 1, "nodes": 6}, normalised_weight_once
    ),
    "a factorisation in a loop": Planted(
        factorised_in_a_loop, MATRIX, "GL201", {"times": 3, "values": 1, "nodes": 6}, factorised_once
    ),
    "the same op twice": Planted(
        lambda x, w: (x.exp() * w).sum() + x.exp().sum(), TWO, "GL201", {"times": 2, "nodes": 1},
        lambda x, w: ((y := x.exp()) * w).sum() + y.sum(),
    ),
    "the same product twice": Planted(
        lambda x, w: (x @ w.t()).sum() + (x @ w.t()).tanh().sum(), TWO, "GL201", {"times": 2, "nodes": 2},
        lambda x, w: (y := x @ w.t()).sum() + y.tanh().sum(),
    ),
    "there and back in a loop": Planted(
        there_and_back, SQUARE, "GL202", {"pairs": 5, "nodes": 10}, lambda A, y: y.tanh().sum(), {"GL201"}
    ),
    "back and there with one inverse": Planted(
        hoisted_there_and_back, SQUARE, "GL202", {"pairs": 4, "nodes": 8}, lambda A, y: y.tanh().sum() + A.sum()
    ),
    "solving for a product": Planted(
        lambda A, y: torch.linalg.solve(A, A @ y).tanh().sum(), MATRIX, "GL202", {"pairs": 1, "nodes": 2},
        lambda A, y: y.tanh().sum(),
    ),
    "the product of a solution": Planted(
        lambda A, y: (A @ torch.linalg.solve(A, y)).tanh().sum(), MATRIX, "GL202", {"pairs": 1, "nodes": 2},
        lambda A, y: y.tanh().sum(),
    ),
    "log of exp": Planted(
        lambda x, w: (x.exp().log() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2}, lambda x, w: (x * w).sum()
    ),
    "a square of a root": Planted(
        lambda x, w: (x.exp().sqrt() ** 2 * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.exp() * w).sum(),
    ),
    "one softmax by two names of a dimension": Planted(
        lambda x, w: (x.softmax(1) * w).sum() + x.softmax(dim=-1).exp().sum(), TWO, "GL201", {"times": 2, "nodes": 1},
        lambda x, w: ((s := x.softmax(1)) * w).sum() + s.exp().sum(),
    ),
    "one Gram matrix by two spellings": Planted(
        lambda x: (x @ x.T).sum() + torch.mm(x, x.t()).exp().sum() + (x @ x.transpose(-1, -2)).tanh().sum(),
        {"x": (3, 4)}, "GL201", {"times": 3, "nodes": 4},
        lambda x: (gram := x @ x.T).sum() + gram.exp().sum() + gram.tanh().sum(),
    ),
    "a sum both ways round": Planted(
        lambda x, w: (x + w).exp().sum() + (w + x).exp().square().sum(), TWO, "GL201", {"times": 2, "nodes": 2},
        lambda x, w: (e := (x + w).exp()).sum() + e.square().sum(),
    ),
    "minus minus": Planted(
        lambda x, w: (x.tanh().neg().neg() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.tanh() * w).sum(),
    ),
    "added and taken away": Planted(
        lambda x, w: ((x + w) - w).tanh().sum() + w.sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: x.tanh().sum() + w.sum(),
    ),
    "a cast and back": Planted(
        lambda x, w: (x.float().double().float().tanh().double() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.float().tanh().double() * w).sum(),
    ),
    "heads that are cut and joined": Planted(
        lambda x, w: (torch.cat(x.tanh().chunk(2, dim=1), dim=1) * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.tanh() * w).sum(),
    ),
    "reversed twice": Planted(
        lambda x, w: (x.flip(0).flip(0).tanh() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.tanh() * w).sum(),
    ),
    "shuffled and back": Planted(
        lambda x, w: (x[ORDER][ORDER.argsort()].tanh() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.tanh() * w).sum(),
    ),
    "taken out and put back": Planted(
        lambda x, w: (x.index_put((ORDER,), x[ORDER]).tanh() * w).sum(), TWO, "GL202", {"pairs": 1, "nodes": 2},
        lambda x, w: (x.tanh() * w).sum(),
    ),
    "channels last and back": Planted(
        lambda x, w: (x[None].permute(0, 2, 1).permute(0, 2, 1).tanh() * w).sum(), TWO, "GL202",
        {"pairs": 1, "nodes": 2}, lambda x, w: (x[None].tanh() * w).sum(),
    ),
    "an inverse for one product": Planted(
        lambda A, y: (torch.linalg.inv(A) @ y).sum(), MATRIX, "GL203",
        # 2 n³ + 2 n² k against 2/3 n³ + 2 n² k, n = 4, k = 3
        {"products": 1, "columns": 3, "flops": 224, "flops_of_solving": 42 + 96},
    ),
    "an inverse for three products": Planted(
        lambda A, y: ((inverse := torch.linalg.inv(A)) @ y + inverse @ y.exp() + inverse @ y.tanh()).sum(), SQUARE,
        "GL203", {"products": 3, "columns": 3, "flops": 128 + 96, "flops_of_solving": 42 + 96},
    ),
    "a value and its clone": Planted(
        kept_with_its_clone, TWO, "GL204", {"storages": 2, "values": 1, "saved_storage_bytes": 3 * 4 * 8, "nodes": 1}
    ),
    "a mask made in each round": Planted(
        a_mask_in_each_round, TWO, "GL204", {"storages": 3, "values": 1, "saved_storage_bytes": 2 * 3 * 4 * 8}
    ),
    "entry by entry": Planted(entry_by_entry, {"x": (6,)}, "GL205", {"parts": 6}),
    "row by row": Planted(row_by_row, {"x": (5, 3)}, "GL205", {"parts": 5, "ops": 10, "nodes": 12}),
    "two matrices, then a vector": Planted(
        lambda A, B, v: ((A @ B) @ v).sum(), {"A": (6, 5), "B": (5, 7), "v": (7,)}, "GL206",
        {"flops": 2 * (6 * 5 * 7 + 6 * 7), "flops_of_the_other_order": 2 * (5 * 7 + 6 * 5), "products": 1},
    ),
    "few rows, then two matrices": Planted(
        lambda x, A, B: (x @ (A @ B)).sum(), {"x": (2, 8), "A": (8, 8), "B": (8, 8)}, "GL206",
        {"flops": 2 * (8**3 + 2 * 8 * 8), "flops_of_the_other_order": 2 * (2 * 8 * 8 + 2 * 8 * 8), "products": 1},
    ),
}  # fmt: skip

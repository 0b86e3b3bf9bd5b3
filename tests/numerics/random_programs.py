"""Small float64 programs drawn at random: every value is used, and none saturates or overflows."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from graphlens.subject import Subject

Tensor = torch.Tensor
DOUBLE = torch.float64
WIDTH = 4

ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "tanh": lambda v: torch.tanh(v / 2),
    "exp": lambda v: torch.exp(torch.sin(v) / 2),
    "softplus": torch.nn.functional.softplus,
    "softmax": lambda v: torch.softmax(v, 0) * 3,
    "root": lambda v: torch.sqrt(v * v + 1),
    "log": lambda v: torch.log(v * v + 2),
    "logsumexp": lambda v: v - torch.logsumexp(v, 0) / 3,
    "centred": lambda v: v - v.mean() / 2,
    "sigmoid": torch.sigmoid,
    "layer norm": lambda v: torch.nn.functional.layer_norm(v, (WIDTH,)) + v / 3,
    "turned": lambda v: torch.stack([v[1], v[2], v[3], v[0]]) * 1.1,
}
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda v, w: v + w / 3,
    "mul": lambda v, w: v * torch.cos(w / 4),
    "div": lambda v, w: v / (w * w + 1.5),
    "outer": lambda v, w: torch.outer(v, w / (1 + w @ w)) @ v + v / 5,
    "hypot": lambda v, w: torch.hypot(v, w + 2),
}
WITH_MATRIX: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mv": lambda v, a: a @ v / 2,
    "solve": lambda v, a: torch.linalg.solve(a, v) * 3,
    "inverse": lambda v, a: torch.linalg.inv(a) @ v * 3,
    "quadratic": lambda v, a: v * torch.tanh(v @ a @ v / 20) + v / 4,
}


def random_program(seed: int, steps: int = 9) -> Subject:
    """A chain of ops that also read older values; the inputs are two vectors and a matrix of good condition."""
    drawn = random.Random(seed)
    plan = [(drawn.choice(sorted([*ONE, *TWO, *WITH_MATRIX])), drawn.random()) for _ in range(steps)]

    def run(x: Tensor, y: Tensor, a: Tensor) -> Tensor:
        values = [x, x + 0.1 * y]
        for name, which in plan:
            last = values[-1]
            if name in ONE:
                values.append(ONE[name](last))
            elif name in TWO:
                values.append(TWO[name](last, values[int(which * len(values))]))
            else:
                values.append(WITH_MATRIX[name](last, a))
        return values[-1] + values[len(values) // 2] / 7

    made = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(WIDTH, dtype=DOUBLE, generator=made) for _ in range(2))
    a = torch.randn(WIDTH, WIDTH, dtype=DOUBLE, generator=made) / 2 + 3 * torch.eye(WIDTH, dtype=DOUBLE)
    return Subject(run, [tensor.requires_grad_() for tensor in (x, y, a)], name=f"program {seed}")

"""Textbook programs with a rounding fault, and sound ones that look like them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import torch

from graphlens.subject import Subject

Tensor = torch.Tensor
DOUBLE = torch.float64
TEXTBOOK_FAULTS: dict[str, tuple[str, Callable[[], Subject]]] = {}
TEXTBOOK_SOUND: dict[str, Callable[[], Subject]] = {}


def leaf(*entries: float, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.tensor(entries if len(entries) > 1 else entries[0], dtype=dtype, requires_grad=True)


def fault(code: str) -> Callable[[Callable[[], Subject]], Callable[[], Subject]]:
    """Enter a program whose fault is told under this code."""

    def enter(build: Callable[[], Subject]) -> Callable[[], Subject]:
        TEXTBOOK_FAULTS[build.__name__] = code, build
        return build

    return enter


def sound(build: Callable[[], Subject]) -> Callable[[], Subject]:
    TEXTBOOK_SOUND[build.__name__] = build
    return build


@fault("GL301")
def logistic() -> Subject:
    def run(x: Tensor) -> Tensor:
        for _ in range(80):
            x = 3.9 * x * (1 - x)
        return x

    return Subject(run, [leaf(0.3)])


@fault("GL301")
def running_tenth() -> Subject:
    def run(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32)
        for _ in range(3000):
            total = total + x
        return total

    return Subject(run, [leaf(0.1, dtype=torch.float32)])


@fault("GL301")
def rotation() -> Subject:
    def run(a: Tensor, v: Tensor) -> Tensor:
        turn = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
        for _ in range(1000):
            v = turn @ v
        return v

    return Subject(run, [leaf(0.01, dtype=torch.float32), leaf(1.0, 0.5, dtype=torch.float32)])


@fault("GL306")
def saturated_logarithm() -> Subject:
    """1 − p is 0, and where the floor holds, a derivative of the logarithm of 1e300."""
    return Subject(lambda x: torch.log(1 - torch.sigmoid(x) + 1e-300), [leaf(39.0, 42.5)])


@fault("GL306")
def hypotenuse_of_tiny_numbers() -> Subject:
    """The squares are 0; the derivatives are infinite, and no number can be told of them."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        return torch.sqrt(x * x + y * y) * 1e170

    return Subject(run, [leaf(3e-170, 5e-170), leaf(4e-170, 12e-170)])


@fault("GL302")
def softmax_shift() -> Subject:
    w = torch.linspace(1, 3, 50, dtype=DOUBLE)

    def run(x: Tensor, b: Tensor) -> Tensor:
        return (torch.softmax(x + b, 0) * w).sum()

    return Subject(run, [torch.sin(torch.arange(50.0, dtype=DOUBLE)).requires_grad_(), leaf(0.7)])


@fault("GL302")
def centred_bias() -> Subject:
    w = torch.randn(40, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def run(x: Tensor, b: Tensor) -> Tensor:
        y = x @ w + b
        y = y - y.mean(1, keepdim=True)
        return (y.tanh() * torch.arange(8.0, dtype=DOUBLE)).sum()

    return Subject(
        run, [torch.randn(30, 40, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).requires_grad_(), leaf(0.3)]
    )


@fault("GL303")
def vandermonde() -> Subject:
    p = torch.linspace(0, 1, 12, dtype=DOUBLE)

    def run(y: Tensor) -> Tensor:
        return torch.linalg.solve(torch.vander(p, increasing=True) * 1.0, y)

    return Subject(run, [torch.exp(p).detach().requires_grad_()])


@fault("GL303")
def normal_equations() -> Subject:
    g = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(20, 6, generator=g, dtype=DOUBLE))[0]
    v = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=DOUBLE))[0]
    A = (u * torch.logspace(0, -6, 6, dtype=DOUBLE)) @ v.T
    b = torch.randn(20, generator=g, dtype=DOUBLE)

    def run(A: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.inv(A.T @ A) @ (A.T @ b)

    return Subject(run, [A.detach().requires_grad_(), b.requires_grad_()])


@fault("GL304")
def exp_minus_1() -> Subject:
    def run(x: Tensor) -> Tensor:
        return (torch.exp(x) - 1) / x

    return Subject(run, [leaf(1e-9)])


@fault("GL304")
def heron() -> Subject:
    def run(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        s = (a + b + c) / 2
        return torch.sqrt(s * (s - a) * (s - b) * (s - c))

    return Subject(run, [leaf(100000.0), leaf(99999.99979), leaf(0.00029)])


@fault("GL304")
def difference_quotient() -> Subject:
    def run(x: Tensor) -> Tensor:
        h = 1e-12
        return (torch.sin(x + h) - torch.sin(x)) / h

    return Subject(run, [leaf(0.8)])


@fault("GL304")
def series() -> Subject:
    def run(x: Tensor) -> Tensor:
        term = torch.ones((), dtype=DOUBLE)
        total = torch.ones((), dtype=DOUBLE)
        for k in range(1, 90):
            term = term * x / k
            total = total + term
        return total

    return Subject(run, [leaf(-20.0)])


@fault("GL305")
def log_1_plus() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.log(1 + x)

    return Subject(run, [leaf(3e-17)])


@fault("GL305")
def half_counter() -> Subject:
    def run(x: Tensor) -> Tensor:
        n = torch.zeros((), dtype=torch.float16)
        for _ in range(3000):
            n = n + x
        return n

    return Subject(run, [leaf(1.0, dtype=torch.float16)])


@fault("GL306")
def length() -> Subject:
    def run(v: Tensor) -> Tensor:
        return torch.sqrt((v * v).sum())

    return Subject(run, [leaf(3e200, 4e200)])


@fault("GL306")
def likelihood() -> Subject:
    def run(p: Tensor) -> Tensor:
        return torch.log(p.prod())

    return Subject(run, [torch.full((200,), 0.01, dtype=DOUBLE, requires_grad=True)])


@fault("GL306")
def log_one_minus_sigmoid() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.log(1 - torch.sigmoid(x))

    return Subject(run, [leaf(50.0)])


@fault("GL307")
def timestamp() -> Subject:
    def run(a: Tensor, b: Tensor) -> Tensor:
        return (a.to(torch.float32) - b.to(torch.float32)).double() * 2

    return Subject(run, [leaf(1.7e9 + 0.25), leaf(1.7e9 - 61.5)])


@fault("GL307")
def narrow_weights() -> Subject:
    def run(x: Tensor, w: Tensor) -> Tensor:
        return (x.to(torch.bfloat16).to(DOUBLE) * w).sum().exp()

    return Subject(
        run,
        [
            torch.linspace(0.1, 1.7, 30, dtype=DOUBLE).requires_grad_(),
            torch.linspace(0.3, 0.5, 30, dtype=DOUBLE).requires_grad_(),
        ],
    )


@fault("GL308")
def unseeded() -> Subject:
    def run(x: Tensor) -> Tensor:
        return (x * (1 + int.from_bytes(os.urandom(4), "little") / 2**40)).sum()

    return Subject(run, [leaf(1.0, 2.0)])


@sound
def contracting_logistic() -> Subject:
    def run(x: Tensor) -> Tensor:
        for _ in range(80):
            x = 2.5 * x * (1 - x)
        return x

    return Subject(run, [leaf(0.3)])


@sound
def sum_at_once() -> Subject:
    def run(x: Tensor) -> Tensor:
        return x.expand(3000).sum()

    return Subject(run, [leaf(0.1, dtype=torch.float32)])


@sound
def rotation_at_once() -> Subject:
    def run(a: Tensor, v: Tensor) -> Tensor:
        a = a * 1000
        return torch.stack([a.cos() * v[0] - a.sin() * v[1], a.sin() * v[0] + a.cos() * v[1]])

    return Subject(run, [leaf(0.01), leaf(1.0, 0.5)])


@sound
def softmax_of_products() -> Subject:
    w = torch.linspace(1, 3, 50, dtype=DOUBLE)

    def run(x: Tensor, b: Tensor) -> Tensor:
        return (torch.softmax(x * b, 0) * w).sum()

    return Subject(run, [torch.sin(torch.arange(50.0, dtype=DOUBLE)).requires_grad_(), leaf(0.7)])


@sound
def layer_norm() -> Subject:
    g = torch.Generator().manual_seed(0)
    w = torch.randn(40, 8, generator=g, dtype=DOUBLE)

    def run(x: Tensor, b: Tensor) -> Tensor:
        return (torch.nn.functional.layer_norm(x @ w, (8,)) + b).tanh().mul(torch.arange(8.0, dtype=DOUBLE)).sum()

    return Subject(
        run,
        [
            torch.randn(30, 40, generator=g, dtype=DOUBLE).requires_grad_(),
            torch.full((8,), 0.3, dtype=DOUBLE, requires_grad=True),
        ],
    )


@sound
def chebyshev_nodes() -> Subject:
    k = torch.arange(12, dtype=DOUBLE)
    p = torch.cos(math.pi * (k + 0.5) / 12)
    A = torch.cos(k[None, :] * torch.arccos(p)[:, None])

    def run(y: Tensor) -> Tensor:
        return torch.linalg.solve(A, y)

    return Subject(run, [torch.exp(p).detach().requires_grad_()])


@sound
def least_squares() -> Subject:
    g = torch.Generator().manual_seed(0)
    A = torch.randn(20, 6, generator=g, dtype=DOUBLE)
    b = torch.randn(20, generator=g, dtype=DOUBLE)

    def run(A: Tensor, b: Tensor) -> Tensor:
        q, r = torch.linalg.qr(A)
        return torch.linalg.solve_triangular(r, (q.T @ b)[:, None], upper=True)

    return Subject(run, [A.requires_grad_(), b.requires_grad_()])


@sound
def expm1_of_it() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.expm1(x) / x

    return Subject(run, [leaf(0.3)])


@sound
def right_triangle() -> Subject:
    def run(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.sqrt((a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c))) / 4

    return Subject(run, [leaf(5.0), leaf(4.0), leaf(3.0)])


@sound
def derivative_itself() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.cos(x)

    return Subject(run, [leaf(0.8)])


@sound
def series_of_the_reciprocal() -> Subject:
    def run(x: Tensor) -> Tensor:
        x = -x
        term = torch.ones((), dtype=DOUBLE)
        total = torch.ones((), dtype=DOUBLE)
        for k in range(1, 90):
            term = term * x / k
            total = total + term
        return 1 / total

    return Subject(run, [leaf(-20.0)])


@sound
def log1p_of_it() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.log1p(x)

    return Subject(run, [leaf(3e-17)])


@sound
def half_precision_sum() -> Subject:
    def run(x: Tensor) -> Tensor:
        return x.sum()

    return Subject(run, [torch.ones(3000, dtype=torch.float16).requires_grad_()])


@sound
def scaled_length() -> Subject:
    def run(v: Tensor) -> Tensor:
        return torch.linalg.vector_norm(v / v.abs().max()) * v.abs().max()

    return Subject(run, [leaf(3e200, 4e200)])


@sound
def log_likelihood() -> Subject:
    def run(p: Tensor) -> Tensor:
        return torch.log(p).sum()

    return Subject(run, [torch.full((200,), 0.01, dtype=DOUBLE, requires_grad=True)])


@sound
def logsigmoid_of_it() -> Subject:
    def run(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(-x)

    return Subject(run, [leaf(50.0)])


@sound
def difference_before_the_cast() -> Subject:
    def run(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).to(torch.float32) * 2

    return Subject(run, [leaf(1.7e9 + 0.25), leaf(1.7e9 - 61.5)])


@sound
def cast_that_widens() -> Subject:
    def run(x: Tensor, w: Tensor) -> Tensor:
        return (x.to(DOUBLE) * w.to(DOUBLE)).sum().exp()

    return Subject(run, [torch.linspace(0.1, 1.7, 30).requires_grad_(), torch.linspace(0.3, 0.5, 30).requires_grad_()])


@sound
def seeded_generator() -> Subject:
    def run(x: Tensor) -> Tensor:
        g = torch.Generator().manual_seed(5)
        return (x * (1 + 1e-3 * torch.rand(2, generator=g, dtype=DOUBLE))).sum()

    return Subject(run, [leaf(1.0, 2.0)])

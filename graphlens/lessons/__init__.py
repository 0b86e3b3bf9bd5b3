"""The exercise's modules as subjects: plain torch code that a student can read."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from graphlens.lessons.chain import Chain, Efficient, Hoisted, Severed, Wasteful
from graphlens.lessons.data import conditioned_matrix, symmetric_matrix, vector
from graphlens.lessons.soft_threshold import FORMS, SoftThreshold
from graphlens.subject import Subject

__all__ = ["FACTORIES", "FORMS", "Chain", "Efficient", "Hoisted", "Severed", "SoftThreshold", "Wasteful"]


def soft_threshold(*, y: float = 5.0, T: float = 3.14, form: str = "branching", dtype: str = "float64") -> Subject:
    """Soft-thresholding of one number, for its value, derivative and plot (tasks A and B)."""
    if isinstance(y, bool) or not isinstance(y, (int, float)):
        raise ValueError(f"y must be a number, got {y!r}")
    point = torch.tensor(float(y), dtype=_dtype(dtype), requires_grad=True)
    return Subject(SoftThreshold(T, form), (point,), output_names=("f_T",), name="soft-threshold")


def _chain_lesson(name: str, module: type[Chain]) -> Callable[..., Subject]:
    def factory(
        *,
        n: int = 10_000,
        d: int = 5,
        T: float = 3.14,
        seed_A: int = 10,
        seed_M: int = 0,
        dtype: str = "float64",
        form: str = "branching",
        cond: float | None = None,
    ) -> Subject:
        for label, value, least in (("d", d, 1), ("seed_A", seed_A, 0), ("seed_M", seed_M, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{label} must be a whole number ≥ {least}, got {value!r}")
        kind = _dtype(dtype)
        x = vector(d).to(kind).requires_grad_()
        A = (symmetric_matrix(d, seed_A) if cond is None else _conditioned(d, seed_A, cond, kind)).to(kind)
        A.requires_grad_()
        M0 = symmetric_matrix(d, seed_M).to(kind)

        def phi(g: torch.Tensor) -> torch.Tensor:
            """φ = ‖x − g‖₂²."""
            squared: torch.Tensor = torch.linalg.vector_norm(x - g) ** 2
            return squared

        return Subject(module(M0, T, n, form), (x, A), loss=phi, name=name, output_names=("g",), loss_name="phi")

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = module.__doc__
    return factory


FACTORIES: dict[str, Callable[..., Subject]] = {
    "soft-threshold": soft_threshold,
    "wasteful": _chain_lesson("wasteful", Wasteful),
    "hoisted": _chain_lesson("hoisted", Hoisted),
    "efficient": _chain_lesson("efficient", Efficient),
    "severed": _chain_lesson("severed", Severed),
}


def _conditioned(d: int, seed: int, cond: float, kind: torch.dtype) -> torch.Tensor:
    """A with the condition number asked for, as far as its format can hold it."""
    if isinstance(cond, bool) or not isinstance(cond, (int, float)) or not 1 <= cond < math.inf:
        raise ValueError(f"cond must be a finite number ≥ 1, got {cond!r}")
    # Rounding the entries changes the smallest eigenvalue by about u·κ of itself.
    most = 0.01 / torch.finfo(kind).eps
    if cond > most:
        name = str(kind).removeprefix("torch.")
        raise ValueError(f"cond must be at most {most:.2g} in {name}, where rounded entries change it, got {cond!r}")
    if d == 1 and cond != 1:
        raise ValueError(f"cond must be 1 where d = 1, as the matrix is a number, got {cond!r}")
    return conditioned_matrix(d, seed, cond)


def _dtype(name: str) -> torch.dtype:
    dtypes = {"float64": torch.float64, "float32": torch.float32}
    if not isinstance(name, str) or name not in dtypes:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, dtypes))}, got {name!r}")
    return dtypes[name]

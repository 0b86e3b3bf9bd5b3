"""Condition numbers: by how much an op may enlarge the relative error of what goes into it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from graphlens.accuracy import Condition
from graphlens.analyses.rounding.places import short_place
from graphlens.capture.tape import Call, Tape
from graphlens.graph import GradGraph
from graphlens.numerics.arguments import argument, op_name
from graphlens.numerics.shadow import WIDE, is_float, wide

Doubles = npt.NDArray[np.float64]

# Op: the argument that holds the matrix, and what it holds of it.
_MATRICES = {
    "linalg_inv_ex": (0, "matrix"),
    "_linalg_solve_ex": (0, "matrix"),
    "linalg_solve_triangular": (0, "matrix"),
    "triangular_solve": (1, "matrix"),
    "linalg_cholesky_ex": (0, "matrix"),
    "linalg_lu_factor_ex": (0, "matrix"),
    "linalg_lstsq": (0, "matrix"),
    "_linalg_det": (0, "matrix"),
    "_linalg_slogdet": (0, "matrix"),
    "linalg_lu_solve": (0, "factors"),
    "cholesky_solve": (1, "root"),
    "cholesky_inverse": (0, "root"),
}
SOLVERS = frozenset(_MATRICES)
# Rows × columns × the lesser of them, of all matrices whose singular values are computed to find the worst: some 1 s.
_MOST_WORK = 2_000_000_000


def condition(matrix: torch.Tensor) -> Condition | None:
    """κ₂ of a matrix, or of the worst one of a batch; None if it holds infinities or no entries.

    Computed singular values are off by some u·σ_max (Higham 2002, section 14.4 and chapter 20's notes), so that
    nothing beyond 1 ÷ (max(m, n) · u) can be told.
    """
    a = wide(matrix.detach())
    if a.dtype is not WIDE or a.ndim < 2 or not a.numel() or not bool(a.isfinite().all()):
        return None
    values = torch.linalg.svdvals(a)
    rows, columns = int(a.shape[-2]), int(a.shape[-1])
    most = 2.0**53 / max(rows, columns)
    largest, least = values[..., 0].reshape(-1), values[..., -1].reshape(-1)
    found = torch.where(least > 0, largest / least, torch.full_like(least, math.inf)).max().item()
    return Condition(min(found, most), found >= most, rows, columns)


def matrix_value(call: Call) -> int | None:
    """The value that holds the matrix that a call inverts, factors or solves with; None for another op."""
    known = _MATRICES.get(op_name(call))
    if known is None:
        return None
    found: list[int] = []
    argument(call, known[0], lambda value: found.append(value) or 0)  # type: ignore[func-returns-value]
    return found[0] if found else None


def condition_of(call: Call, tape: Tape) -> Condition | None:
    """κ₂ of the matrix that a call inverts, factors or solves with."""
    value = matrix_value(call)
    if value is None or not is_float(tape.tensors[value]):
        return None
    held, kind = tape.tensors[value], _MATRICES[op_name(call)][1]
    if op_name(call) in ("linalg_solve_triangular", "triangular_solve"):
        return condition(_triangle(call, held))
    if kind == "factors":  # exchanges of rows leave singular values as they are
        a = wide(held)
        lower = a.tril(-1) + torch.eye(a.shape[-1], dtype=WIDE)
        return condition(lower @ a.triu())
    if kind == "root":
        of_root = condition(held.tril() if bool((held.triu(1) == 0).all()) else held.triu())
        return of_root and of_root._replace(kappa=of_root.kappa**2)
    return condition(held)


def gram_condition(call: Call, tape: Tape) -> Condition | None:
    """κ₂ of X, where the matrix that a call solves with was computed as XᵀX or X Xᵀ; its κ is the square of that."""
    value = matrix_value(call)
    made = next((one for one in tape.calls if value is not None and value in one.outputs), None)
    if made is None or op_name(made) not in ("mm", "bmm") or len(made.inputs) != 2:
        return None
    one, other = (tape.tensors[number] for number in made.inputs)
    is_gram = one.shape == other.mT.shape and torch.equal(one, other.mT)
    return condition(one) if is_gram else None


def conditions_of(tape: Tape, graph: GradGraph) -> list[Condition]:
    """κ₂ of the matrices that a tape inverts, factors or solves with: of each name the worst, the largest first."""
    worst: dict[str, Condition] = {}
    leaves = {value: name for name, value in tape.leaves.items()}
    seen, work, is_all = set[tuple[str, int]](), 0.0, True
    for call in tape.calls:
        value = matrix_value(call)
        # Factors come from a factorisation, whose matrix has its own row.
        if value is None or _MATRICES[op_name(call)][1] == "factors" or (op_name(call), value) in seen:
            continue
        seen.add((op_name(call), value))
        shape = tape.tensors[value].shape
        work += tape.tensors[value].numel() * min(shape[-2:], default=0)
        if work > _MOST_WORK:
            is_all = False
            break
        found = condition_of(call, tape)
        if found is not None:
            name = leaves.get(value) or _line(call, graph)
            if name not in worst or found.kappa > worst[name].kappa:
                worst[name] = found._replace(matrix=name)
    rows = sorted(worst.values(), key=lambda found: -found.kappa)
    return rows if is_all else [found._replace(at_least=True) for found in rows]


def _line(call: Call, graph: GradGraph) -> str:
    """ "chain.py:104", or the op's name where the line is not known."""
    source = None if call.node is None else graph.nodes[call.node].source
    return op_name(call) if source is None else short_place(str(graph.sources[source]))


def _triangle(call: Call, held: torch.Tensor) -> torch.Tensor:
    """The triangle that a triangular solve reads."""
    known = {item.name for item in call.function._schema.arguments}
    upper = bool(argument(call, "upper", lambda _: None))
    unit = bool(argument(call, "unitriangular", lambda _: None)) if "unitriangular" in known else False
    if not unit:
        return held.triu() if upper else held.tril()
    ones = torch.eye(held.shape[-1], dtype=held.dtype)
    return (held.triu(1) if upper else held.tril(-1)) + ones


def amplification(derivative: Doubles, value: Doubles, result: float) -> float:
    """‖∂ℓ/∂v‖ · ‖v‖ ÷ ‖result‖: by how much a relative error of v may come out larger in a result.

    Args:
        derivative: of a functional ℓ of the result by v; the weights of ℓ have the norm 1.
        result: the norm of the result.
    """
    if result == 0:
        return math.inf
    with np.errstate(over="ignore", invalid="ignore"):  # where derivatives leave the range, there is no such number
        return float(np.linalg.norm(derivative.ravel()) * np.linalg.norm(value.ravel()) / abs(result))

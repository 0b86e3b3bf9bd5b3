"""Steps in words, and their places in the code."""

from __future__ import annotations

from collections.abc import Iterable

from graphlens.analyses.findings import Place
from graphlens.analyses.listing import Listing, Step
from graphlens.analyses.redundancy.numbering import Equalities
from graphlens.analyses.redundancy.saving import Savings

_NAMES = {
    "linalg_inv_ex": "inv", "_linalg_solve_ex": "solve", "linalg_cholesky_ex": "cholesky", "_softmax": "softmax",
    "_log_softmax": "log_softmax", "native_layer_norm": "layer_norm", "_unsafe_view": "view", "_to_copy": "cast",
}  # fmt: skip
_INFIX = {"mv": "@", "mm": "@", "bmm": "@", "dot": "@", "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
_DEPTH = 2

# They say how a tensor is laid out and compute nothing.
FREE = frozenset(
    ("t", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand", "squeeze", "unsqueeze", "select",
     "slice", "detach", "alias", "unbind", "split", "split_with_sizes", "as_strided", "diagonal", "lift_fresh",
     "_reshape_alias", "movedim", "chunk", "narrow", "unfold", "_conj")
)  # fmt: skip


class Telling:
    """Words for the steps of one listing."""

    def __init__(self, listing: Listing, found: Equalities, savings: Savings) -> None:
        self.listing = listing
        self.found = found
        self.savings = savings

    def expression(self, step: Step, depth: int = _DEPTH) -> str:
        """ "inv(A)", "A @ …", "exp(x * 2)"."""
        name = _NAMES.get(step.op, step.op.strip("_"))
        operands = [self.value(value, depth - 1) for value in step.inputs]
        if step.op in _INFIX:
            if len(operands) == 1 and isinstance(step.numbers.get(1), (int, float)):
                operands.append(f"{step.numbers[1]:g}")
            if len(operands) == 2:
                return f"{operands[0]} {_INFIX[step.op]} {operands[1]}"
        if len(operands) > 3:
            operands = [*operands[:2], "…"]
        return f"{name}({', '.join(operands)})"

    def value(self, value: int, depth: int) -> str:
        """A leaf's name, the expression of what made it, or "…"."""
        if value in self.listing.leaves:
            return self.listing.leaves[value]
        step = self.found.made_by.get(value)
        if step is None or depth <= 0 or not step.inputs:
            return "…"
        text = self.expression(step, depth)
        return f"({text})" if step.op in _INFIX else text

    def line(self, step: Step) -> str:
        """Its line of code; "" where not known."""
        return self.savings.place(step.node)[0]

    def where(self, step: Step, nodes: Iterable[int]) -> Place:
        """The place of a step, and the nodes that a finding is about."""
        return self.where_of(step.node, nodes)

    def where_of(self, node: int | None, nodes: Iterable[int]) -> Place:
        """The place of a node."""
        source, text, module = self.savings.place(node)
        return Place(source, text, module, tuple(sorted(nodes)))


def nodes_of(steps: Iterable[Step]) -> set[int]:
    """The nodes that steps made."""
    return {step.node for step in steps if step.node is not None}


def times(count: int) -> str:
    """ "twice", "10,000 times"."""
    return "twice" if count == 2 else f"{count:,} times"

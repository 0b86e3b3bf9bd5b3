"""Work that undoes other work: one small rule a pair of ops.

A rule looks at a step and at the steps that made its inputs, and names the value that the step gives
back, or None. Whether it really does so for the run's numbers is checked afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.analyses.listing import Step
from graphlens.analyses.redundancy.known import Known, Look, Rule, Undone
from graphlens.analyses.redundancy.rules_places import TAKING, put_back, reordered

PRODUCTS = ("mv", "mm", "bmm")


def undone(step: Step, known: Known) -> Undone | None:
    """The first rule that fits; the value has the step's shape and dtype."""
    for name, look in RULES.get(step.op, ()):
        found = look(step, known)
        if found is not None and step.outputs[0] is not None:
            value, result = (known.listing.values[number] for number in (found.value, step.outputs[0]))
            if value.shape == result.shape and value.dtype == result.dtype:
                return found._replace(rule=name)
    return None


def _inverse_product(step: Step, known: Known) -> Undone | None:
    """A⁻¹(A y), A(A⁻¹ y), and from the right (y A)A⁻¹."""
    first, second = step.inputs
    for matrix, other, is_left in ((first, second, True), (second, first, False)):
        inner = known.maker(other, *PRODUCTS)
        if inner is None or len(inner.inputs) != 2:
            continue
        partner, value = inner.inputs if is_left else reversed(inner.inputs)
        inverted = _is_inverse(matrix, partner, known)
        if inverted is not None:
            return Undone(value, (inner, step), inverted)
    return None


def _is_inverse(one: int, other: int, known: Known) -> int | None:
    """The matrix that is inverted, if one is the inverse of the other."""
    for inverse, matrix in ((one, other), (other, one)):
        maker = known.maker(inverse, "linalg_inv_ex")
        if maker is not None and maker.inputs[0] == matrix:
            return matrix
    return None


def _inverse_twice(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "linalg_inv_ex")
    return Undone(inner.inputs[0], (inner, step), inner.inputs[0]) if inner else None


def _solve(step: Step, known: Known) -> Undone | None:
    """solve(A, A y)."""
    inner = known.maker(step.inputs[1], *PRODUCTS)
    if inner is None or step.numbers.get("left") is False or inner.inputs[0] != step.inputs[0]:
        return None
    return Undone(inner.inputs[1], (inner, step), step.inputs[0])


def _product_of_solution(step: Step, known: Known) -> Undone | None:
    """A solve(A, b)."""
    inner = known.maker(step.inputs[1], "_linalg_solve_ex")
    if inner is None or inner.numbers.get("left") is False or inner.inputs[0] != step.inputs[0]:
        return None
    return Undone(inner.inputs[1], (inner, step), step.inputs[0])


def _pair(inner_op: str) -> Look:
    """outer(inner(x)) is x: both have one tensor and nothing else."""

    def rule(step: Step, known: Known) -> Undone | None:
        inner = known.maker(step.inputs[0], inner_op)
        if inner is None or len(inner.inputs) != 1 or len(step.inputs) != 1:
            return None
        return Undone(inner.inputs[0], (inner, step))

    return rule


def _square_of_root(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "sqrt")
    return Undone(inner.inputs[0], (inner, step)) if inner and step.numbers.get(1) == 2 else None


_POSITIVE = ("exp", "sigmoid", "softplus", "abs", "relu", "_softmax")


def _root_of_square(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "pow")
    if inner is None or inner.numbers.get(1) != 2 or known.maker(inner.inputs[0], *_POSITIVE) is None:
        return None
    return Undone(inner.inputs[0], (inner, step))


def _layout(step: Step, known: Known) -> Undone | None:
    """Two moves of dimensions that together move none."""
    inner = known.maker(step.inputs[0], "t", "transpose", "permute")
    if inner is None:
        return None
    rank = len(known.shape(inner.inputs[0]))
    first, second = order_of(inner, rank), order_of(step, rank)
    if first is None or second is None or [first[k] for k in second] != list(range(rank)):
        return None
    return Undone(inner.inputs[0], (inner, step))


def order_of(step: Step, rank: int) -> list[int] | None:
    """Where each dimension of the result comes from."""
    order = list(range(rank))
    if step.op == "t":
        return order[::-1]
    if step.op == "permute":
        dims = step.numbers.get(1)
        return [int(k) % rank for k in dims] if isinstance(dims, (list, tuple)) else None
    one, other = step.numbers.get(1), step.numbers.get(2)
    if not isinstance(one, int) or not isinstance(other, int):
        return None
    order[one], order[other] = order[other], order[one]
    return order


def _flipped(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "flip")
    return Undone(inner.inputs[0], (inner, step)) if inner and inner.numbers == step.numbers else None


def _rolled(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "roll")
    if inner is None or inner.numbers.get(2, []) != step.numbers.get(2, []):
        return None
    there, back = inner.numbers.get(1), step.numbers.get(1)
    if not isinstance(there, (list, tuple)) or not isinstance(back, (list, tuple)):
        return None
    undoes = [-k for k in there] == list(back)
    return Undone(inner.inputs[0], (inner, step)) if undoes else None


def _opposite(outer: str, inner_op: str) -> Look:
    """(x + c) − c and the like, for a tensor c or a number."""

    def rule(step: Step, known: Known) -> Undone | None:
        if "alpha" in step.numbers:
            return None
        for position, value in enumerate(step.inputs):
            inner = known.maker(value, inner_op)
            if inner is None or "alpha" in inner.numbers or (position and outer not in ("add", "mul")):
                continue
            other = _operand(step, position)
            for place, kept in enumerate(inner.inputs):
                if place and inner_op not in ("add", "mul"):
                    continue
                if other is not None and _operand(inner, place) == other and "rounding_mode" not in inner.numbers:
                    return Undone(kept, (inner, step))
        return None

    return rule


def _operand(step: Step, position: int) -> tuple[str, object] | None:
    """The other operand of a binary op: a value or a number."""
    others = [value for place, value in enumerate(step.inputs) if place != position]
    if len(others) == 1:
        return "value", others[0]
    number = step.numbers.get(1)
    return ("number", number) if not others and isinstance(number, (int, float)) else None


_WIDER = {
    "float32": {"float64"},
    "float16": {"float32", "float64"},
    "bfloat16": {"float32", "float64"},
    "float64": set(),
    "int32": {"int64", "float64"},
    "int64": set(),
}


def _cast(step: Step, known: Known) -> Undone | None:
    """To a type that holds every number of the first one, and back."""
    inner = known.maker(step.inputs[0], "_to_copy")
    if inner is None:
        return None
    values = known.listing.values
    narrow, wide = values[inner.inputs[0]].dtype, values[step.inputs[0]].dtype
    return Undone(inner.inputs[0], (inner, step)) if wide in _WIDER.get(narrow, set()) else None


def _view(step: Step, known: Known) -> Undone | None:
    inner = known.maker(step.inputs[0], "view", "_unsafe_view", "unsqueeze", "squeeze", "reshape")
    if inner is None or known.shape(inner.inputs[0]) != known.shape(step.outputs[0] or 0):
        return None
    return Undone(inner.inputs[0], (inner, step))


def _joined(*cut: str) -> Look:
    """All parts of a tensor put together again in their order."""

    def rule(step: Step, known: Known) -> Undone | None:
        inner = known.made_by.get(step.inputs[0]) if step.inputs else None
        if inner is None or inner.op not in cut or step.inputs != inner.outputs:
            return None
        if _dimension(step) != _dimension(inner):
            return None
        return Undone(inner.inputs[0], (inner, step))

    return rule


def _dimension(step: Step) -> object:
    place = {"split": 2, "split_with_sizes": 2, "unbind": 1, "cat": 1, "stack": 1}[step.op]
    return step.numbers.get(place, step.numbers.get("dim", 0))


_VIEW = Rule("view and view", _view)
_TRANSPOSED = Rule("transposed twice", _layout)
_REORDERED = Rule("reordered and back", reordered)


def _put_back(taken_by: str) -> tuple[Rule]:
    return (Rule("taken out and put back", put_back(taken_by)),)


# By the op that undoes. The names are what the page on GL202 lists, and what a finding's evidence says.
RULES: dict[str, Sequence[Rule]] = {
    **dict.fromkeys(
        PRODUCTS, (Rule("inverse and product", _inverse_product), Rule("solve and product", _product_of_solution))
    ),
    "linalg_inv_ex": (Rule("inverse of the inverse", _inverse_twice),),
    "_linalg_solve_ex": (Rule("product and solve", _solve),),
    "log": (Rule("exp and log", _pair("exp")),),
    "exp": (Rule("log and exp", _pair("log")),),
    "expm1": (Rule("log1p and expm1", _pair("log1p")),),
    "log1p": (Rule("expm1 and log1p", _pair("expm1")),),
    "tanh": (Rule("atanh and tanh", _pair("atanh")),),
    "atanh": (Rule("tanh and atanh", _pair("tanh")),),
    "logit": (Rule("sigmoid and logit", _pair("sigmoid")),),
    "neg": (Rule("neg and neg", _pair("neg")),),
    "reciprocal": (Rule("reciprocal twice", _pair("reciprocal")),),
    "_conj": (Rule("conj and conj", _pair("_conj")),),
    "pow": (Rule("root and square", _square_of_root),),
    "sqrt": (Rule("square and root", _root_of_square),),
    "t": (_TRANSPOSED,),
    "transpose": (_TRANSPOSED,),
    "permute": (Rule("permuted and back", _layout),),
    "flip": (Rule("flip and flip", _flipped),),
    "roll": (Rule("roll and roll", _rolled),),
    "add": (Rule("sub and add", _opposite("add", "sub")),),
    "sub": (Rule("add and sub", _opposite("sub", "add")),),
    "mul": (Rule("div and mul", _opposite("mul", "div")),),
    "div": (Rule("mul and div", _opposite("div", "mul")),),
    "_to_copy": (Rule("cast and back", _cast),),
    **dict.fromkeys(("view", "_unsafe_view", "unsqueeze", "squeeze", "reshape"), (_VIEW,)),
    **dict.fromkeys(TAKING, (_REORDERED,)),
    "index_put": _put_back("index"),
    "scatter": _put_back("gather"),
    "slice_scatter": _put_back("slice"),
    "select_scatter": _put_back("select"),
    "cat": (Rule("cut and joined", _joined("split", "split_with_sizes")),),
    "stack": (Rule("unbound and stacked", _joined("unbind")),),
}


def rule_names() -> list[str]:
    """Each name once, in the order of the table."""
    return list(dict.fromkeys(rule.name for rules in RULES.values() for rule in rules))

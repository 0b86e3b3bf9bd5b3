"""How a value leaves the graph: what people call it, and what to write instead."""

from __future__ import annotations

from typing import NamedTuple

from graphlens.flow import COPY, DIFFERENTIABLE, PYTHON, REQUIRES_GRAD, SWITCHES, Flow, Step


class Mechanism(NamedTuple):
    """`says_so` tells code that exists to cut a graph from code that does so by accident.

    `flat` is a step, whose derivative is 0 wherever it exists: other paths lose nothing by it.
    """

    name: str
    what: str
    fix: str
    says_so: bool = False
    flat: bool = False


BLOCK = "a block without gradients"
REENTRANT = Mechanism(
    "a reentrant checkpoint", "runs its function without gradients, and none of its inputs requires one",
    "pass use_reentrant=False to torch.utils.checkpoint.checkpoint",
)  # fmt: skip
SAMPLED = Mechanism(
    "sample() of a distribution", "draws without gradients",
    "use rsample() where the distribution has one; else the log_prob() of what was drawn, as policy gradients do",
    says_so=True,
)  # fmt: skip
COPIED = Mechanism(
    "copy.deepcopy()", "copies the values into new parameters without history",
    "call the module itself, or torch.func.functional_call with tensors that were computed from its parameters",
    says_so=True,
)  # fmt: skip
# The place is that of the decorator.
DECORATED = Mechanism(
    "a function without gradients", "computes its results without recording them",
    "take the decorator off, or move this line out of the function", says_so=True,
)  # fmt: skip
_COPIES = "copies the values into a new tensor without history"
_TO_TEXT = "hands the value on as text, which keeps no history"
_TO_PYTHON = "hands the value to Python, which keeps no history"
_TO_MEMORY = "hands out the bare memory, which keeps no history"
_VIEW = "use the tensor itself, or a view of it as by .view() or .as_strided(), which stays in the graph"
_STACK = "replace it by torch.stack([...]) (or torch.cat), which stays in the graph"
_STAY = "keep the computation in torch, and call it for logging only"

_BY_FUNCTION = {
    "torch.tensor": (_COPIES, _STACK),
    "torch.as_tensor": (_COPIES, _STACK),
    "torch.asarray": (_COPIES, _STACK),
    "Tensor.new_tensor": (_COPIES, "use the tensor itself (or torch.stack of several), which stays in the graph"),
    "torch.nn.Parameter": (
        "makes a new parameter that starts a graph of its own",
        "use the tensor itself; a parameter belongs into the module's constructor",
    ),
    "torch.autograd.Variable": (
        "makes a new tensor that starts a graph of its own",
        "leave out Variable(): every tensor takes part in autograd",
    ),
    "torch.from_numpy": (_COPIES, _STAY),
    "Tensor.item": (_TO_PYTHON, _STAY),
    "Tensor.tolist": (_TO_PYTHON, _STAY),
    "Tensor.numpy": (_TO_PYTHON, _STAY),
    "Tensor.__array__": (_TO_PYTHON, _STAY),
    "Tensor.__float__": (_TO_PYTHON, "leave out float(); the tensor itself can be used as a number"),
    "Tensor.__int__": (_TO_PYTHON, _STAY),
    "Tensor.__index__": (_TO_PYTHON, _STAY),
    "Tensor.__complex__": (_TO_PYTHON, _STAY),
    "Tensor.__format__": (_TO_TEXT, _STAY),
    "Tensor.__repr__": (_TO_TEXT, _STAY),
    "Tensor.__dlpack__": ("hands the memory to another library, which keeps no history", _STAY),
    "Tensor.storage": (_TO_MEMORY, _VIEW),
    "Tensor.untyped_storage": (_TO_MEMORY, _VIEW),
    "Tensor.__deepcopy__": (
        "copies the values into a new tensor without history",
        "use .clone(), which stays in the graph",
    ),
    "torch.autograd.grad": (
        "computes a gradient that has no graph of its own",
        "pass create_graph=True to torch.autograd.grad",
    ),
    "Tensor.data =": ("replaces a leaf's values behind autograd's back", "compute with the new tensor itself"),
}
FROM_PYTHON = frozenset(
    ("torch.tensor", "torch.as_tensor", "torch.asarray", "torch.from_numpy", "torch.frombuffer", "torch.full")
)
TO_PYTHON = frozenset(name for name, (what, _) in _BY_FUNCTION.items() if what in (_TO_PYTHON, _TO_TEXT, _TO_MEMORY))
DETACHING = ("Tensor.detach", "torch.detach", "Tensor.detach_", "Tensor.data", COPY)
_SAYING_SO = {
    "Tensor.detach": "leave out .detach()",
    "torch.detach": "leave out torch.detach()",
    "Tensor.detach_": "leave out .detach_()",
    "Tensor.data": "use the tensor itself instead of its .data",
    "Tensor.requires_grad_": "leave out requires_grad_(False)",
    "Tensor.requires_grad =": "leave out requires_grad = False",
}
# Where what is detached goes to NumPy, which takes nothing else.
TORCH_ALL_THE_WAY = "keep the computation in torch from here to the loss: NumPy and Python keep no history"
CUTS_BY_NAME = frozenset((".detach()", ".data", "torch.detach()", ".detach_()"))
_CASTS = frozenset(
    f"Tensor.{name}" for name in ("long", "int", "short", "char", "byte", "bool", "to", "type", "type_as")
)
_COMPARISONS = frozenset(
    ("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "not_equal", "isclose",
     "logical_and", "logical_or", "logical_not", "isnan", "isinf", "isfinite", "__eq__", "__ne__", "__lt__", "__gt__",
     "__le__", "__ge__")
)  # fmt: skip


def mechanism_of(flow: Flow, step: Step, outputs: tuple[int, ...]) -> Mechanism:
    """How a step cut the graph; `outputs` are those of its results that go on."""
    name = step.function
    short = name.rpartition(".")[2]
    if name == COPY:
        return COPIED
    if name in SWITCHES:
        return Mechanism(shown(name), "switches gradients off", _SAYING_SO[name], says_so=True)
    if name in _SAYING_SO:
        return Mechanism(shown(name), "cuts its result from the graph", _SAYING_SO[name], says_so=True)
    if name in _BY_FUNCTION:
        return Mechanism(shown(name), *_BY_FUNCTION[name])
    if any(flow.values[value] & PYTHON for value in outputs):
        return Mechanism(shown(name), _TO_PYTHON, _STAY)
    if step.grad and step.written and step.outputs[0] not in outputs and flow.values[step.outputs[0]] & REQUIRES_GRAD:
        return Mechanism(
            shown(name), "writes into memory that it was handed through .data or .detach(), behind autograd's back",
            "write into the tensor itself, and not into its .data or a detached copy",
        )  # fmt: skip
    if not any(flow.values[value] & DIFFERENTIABLE for value in outputs):
        if name in _CASTS:
            return Mechanism(
                f"{shown(name)} to an integer or boolean dtype", "has a result that can carry no gradient",
                "keep a floating-point dtype on the way to the loss; in place of an entry at a whole number take one "
                "between entries, as torch.nn.functional.grid_sample does", flat=True,
            )  # fmt: skip
        if short in _COMPARISONS:
            return Mechanism(
                f"the comparison {shown(name)}", "has a boolean result, which can carry no gradient",
                "use a smooth stand-in for the comparison, as sigmoid((a - b) / temperature)", flat=True,
            )  # fmt: skip
        return Mechanism(
            shown(name), "has an integer or boolean result, which can carry no gradient",
            "use a smooth stand-in, as softmax for argmax, on the way to the loss", flat=True,
        )  # fmt: skip
    if not step.grad:
        return Mechanism(
            BLOCK, "computes its results without recording them",
            "move this line out of the block", says_so=True,
        )  # fmt: skip
    if name.endswith(".apply"):
        return Mechanism(
            name, "returns a result that it marked as not differentiable",
            "leave out ctx.mark_non_differentiable, and return the gradient from backward()",
        )  # fmt: skip
    return Mechanism(
        shown(name), "has no derivative: its result starts without history", "use a differentiable op instead"
    )


def shown(function: str) -> str:
    """A function as people write it: ".item()", "float()", ".data", "torch.tensor()"."""
    if function == COPY:
        return COPIED.name
    if function.endswith(" ="):
        return f".{function.removeprefix('Tensor.').removesuffix(' =')} = …"
    if function.startswith("Tensor."):
        short = function.removeprefix("Tensor.")
        if short in ("data", "grad", "T", "mT", "H", "mH", "real", "imag"):
            return f".{short}"
        plain = {"__float__": "float()", "__int__": "int()", "__bool__": "bool()", "__index__": "an index",
                 "__complex__": "complex()", "__array__": "numpy.asarray()", "__deepcopy__": "copy.deepcopy()",
                 "__format__": "an f-string or format()", "__repr__": "str() or print()",
                 "__setitem__": "an assignment to x[…]", "__getitem__": "x[…]"}  # fmt: skip
        return plain.get(short, f".{short}()")
    return f"{function}()"

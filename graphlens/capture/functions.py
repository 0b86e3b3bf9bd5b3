"""What the recorder must know about a torch function: its name, and what it does to its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_IN_PLACE = frozenset(
    f"__{name}__"
    for name in (
        *("setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
        *("iand", "ior", "ixor", "ilshift", "irshift"),
    )
)
# What hands a tensor's value to Python.
_READS = ("float", "int", "bool", "index", "complex", "array", "dlpack")
ESCAPES = frozenset(("Tensor.item", "Tensor.tolist", "Tensor.numpy", *(f"Tensor.__{name}__" for name in _READS)))
# Attributes that are tensors; the others (shape, dtype, requires_grad …) are not recorded.
_TENSOR_ATTRIBUTES = frozenset(("data", "T", "mT", "H", "mH", "real", "imag", "grad"))
# Their result shares memory with their argument, though autograd does not call it a view.
_ALIASES = frozenset(("Tensor.data", "Tensor.detach", "torch.detach", "torch.nn.Parameter", "torch.as_tensor"))
_QUIET = frozenset(
    (
        *("dim", "size", "stride", "numel", "is_contiguous", "is_floating_point", "element_size", "_is_view"),
        *("__len__", "__repr__", "__format__"),
    )
)


class FunctionFacts(NamedTuple):
    """`name` is how Python code calls it."""

    name: str
    ignored: bool = False
    in_place: bool = False
    escapes: bool = False
    aliases: bool = False


def facts_of(function: Callable[..., Any]) -> FunctionFacts:
    """Name and habits of a function as a `TorchFunctionMode` is given it."""
    short = getattr(function, "__name__", "") or type(function).__name__
    owner = getattr(function, "__self__", None)
    if short in ("__get__", "__set__") and owner is not None:
        attribute = getattr(owner, "__name__", "") or getattr(getattr(owner, "fget", None), "__name__", "")
        if short == "__set__":
            changes = attribute in ("data", "requires_grad")
            return FunctionFacts(f"Tensor.{attribute} =", ignored=not changes, in_place=changes)
        name = f"Tensor.{attribute}"
        return FunctionFacts(name, ignored=attribute not in _TENSOR_ATTRIBUTES, aliases=name in _ALIASES)
    if short == "_set_grad_enabled":
        return FunctionFacts("torch.set_grad_enabled")
    name = _dotted(function, short)
    return FunctionFacts(
        name,
        ignored=short in _QUIET,
        in_place=short in _IN_PLACE or (short.endswith("_") and not short.endswith("__")),
        escapes=name in ESCAPES,
        aliases=name in _ALIASES,
    )


def _dotted(function: Callable[..., Any], short: str) -> str:
    owner = getattr(function, "__qualname__", short).rpartition(".")[0]
    module = getattr(function, "__module__", None) or ""
    if owner in ("TensorBase", "Tensor", "_TensorBase"):
        return f"Tensor.{short}"
    if module in ("torch", "torch.functional", "torch._VF") or owner.startswith("_VariableFunctions"):
        return f"torch.{short}"
    if module.startswith(("torch._C._nn", "torch.nn.functional")):
        return f"torch.nn.functional.{short}"
    if module.startswith("torch._C._"):  # torch._C._linalg holds linalg_inv
        family = module.removeprefix("torch._C._")
        return f"torch.{family}.{short.removeprefix(family + '_')}"
    return f"{module}.{short}" if module else short

"""What the recorder must know about a torch function: its name, and what it does to its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from graphlens.flow import NO_GRAD

_IN_PLACE = frozenset(
    f"__{name}__"
    for name in (
        *("setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
        *("iand", "ior", "ixor", "ilshift", "irshift"),
    )
)
# What hands a tensor's value to Python.
_READS = ("float", "int", "bool", "index", "complex", "array", "dlpack", "format", "repr")
ESCAPES = frozenset(
    f"Tensor.{name}"
    for name in ("item", "tolist", "numpy", "storage", "untyped_storage", *(f"__{name}__" for name in _READS))
)
# Attributes that are tensors; the others (shape, dtype, requires_grad …) are not recorded.
_TENSOR_ATTRIBUTES = frozenset(("data", "T", "mT", "H", "mH", "real", "imag", "grad"))
# Their result shares memory with their argument, though autograd does not call it a view.
_ALIASES = frozenset(
    (
        *("Tensor.data", "Tensor.detach", "torch.detach", "torch.as_tensor"),
        *("torch.nn.Parameter", "torch.autograd.Variable"),
    )
)
# They change what a tensor says of itself, and leave the values in its memory alone.
_RELABELS = frozenset(
    (
        *("requires_grad_", "detach_", "resize_", "resize_as_", "set_", "share_memory_", "rename_", "swapaxes_"),
        *("t_", "transpose_", "swapdims_", "squeeze_", "unsqueeze_", "as_strided_", "data =", "requires_grad ="),
    )
)
_QUIET = frozenset(
    (
        *("dim", "size", "stride", "numel", "is_contiguous", "is_floating_point", "element_size", "_is_view"),
        "__len__",
    )
)


class FunctionFacts(NamedTuple):
    """What is to be known of a function.

    `name` is how Python code calls it. One that is `plain` makes its result from its arguments and
    does nothing else that matters here: it is neither `ignored`, nor `in_place`, nor does its result
    escape to Python, nor is it an alias. `memory` says that a function in place writes values, and not
    only labels.
    """

    name: str
    ignored: bool = False
    plain: bool = True
    in_place: bool = False
    memory: bool = False
    escapes: bool = False
    aliases: bool = False


def facts_of(function: Callable[..., Any]) -> FunctionFacts:
    """Name and habits of a function as a `TorchFunctionMode` is given it."""
    short = getattr(function, "__name__", "") or type(function).__name__
    owner = getattr(function, "__self__", None)
    if short in ("__get__", "__set__") and owner is not None:
        attribute = getattr(owner, "__name__", "") or getattr(getattr(owner, "fget", None), "__name__", "")
        if short == "__set__":
            return _in_place(f"Tensor.{attribute} =") if attribute in _SET else _IGNORED
        return _named(f"Tensor.{attribute}") if attribute in _TENSOR_ATTRIBUTES else _IGNORED
    if short == "apply" and isinstance(owner, type):  # of a custom autograd.Function
        return FunctionFacts(f"{owner.__name__}.apply")
    if short == "_set_grad_enabled":
        return FunctionFacts(NO_GRAD, ignored=True, plain=False)  # recorded only where it changes something
    if short in _QUIET:
        return _IGNORED
    name = _dotted(function, short)
    if name in ESCAPES:
        return FunctionFacts(name, plain=False, escapes=True)
    stem = short.partition(".")[0]  # aten.add_.Tensor is called add_.Tensor
    if stem in _IN_PLACE or (stem.endswith("_") and not stem.endswith("__")):
        return _in_place(name)
    return _named(name)


def _named(name: str) -> FunctionFacts:
    if name in _ALIASES:
        return FunctionFacts(name, plain=False, aliases=True)
    return FunctionFacts(name, plain=name != "Tensor.backward")


_IGNORED = FunctionFacts("", ignored=True, plain=False)
_SET = ("data", "requires_grad")  # torch tells nobody when .real or .imag is assigned to


def _in_place(name: str) -> FunctionFacts:
    short = name.removeprefix("torch.").removeprefix("Tensor.")
    return FunctionFacts(name, plain=False, in_place=True, memory=short not in _RELABELS)


def _dotted(function: Callable[..., Any], short: str) -> str:
    owner = getattr(function, "__qualname__", short).rpartition(".")[0]
    module = getattr(function, "__module__", None) or ""
    if owner in ("TensorBase", "Tensor", "_TensorBase"):
        return f"Tensor.{short}"
    if module in ("torch", "torch.functional", "torch._VF") or owner.startswith("_VariableFunctions"):
        return f"torch.{short}"
    if module.startswith(("torch._C._nn", "torch.nn.functional")):
        return f"torch.nn.functional.{short}"
    if module.startswith("torch._ops."):
        return f"torch.ops.{module.removeprefix('torch._ops.')}.{short}"
    if module.startswith("torch._C._"):  # torch._C._linalg holds linalg_inv
        family = module.removeprefix("torch._C._")
        return f"torch.{family}.{short.removeprefix(family + '_')}"
    return f"{module}.{short}" if module else short

"""Read what each autograd node keeps for backward, without unpacking anything.

`node._saved_x` fires saved-tensor hooks, re-runs checkpointed functions and raises after an
in-place write; `node._raw_saved_x.data` does none of that. It is private: held by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node as AutogradNode

from graphlens.graph import SavedTensor, printable

_RAW = "_raw_saved_"
# Slots that hold a result of the op itself (autograd saves it detached, so that it does not tell).
_RESULT_SLOT = re.compile(
    r"(result\d*|output|out|inverse|[ALPQRSU]|LU|Vh|eigenvalues|eigenvectors|solution|log_?sumexp|values)"
)
# Nodes of autograd itself that save nothing, or whose kept function Python cannot see.
_HIDING = {"CopySlices", "CppFunction"}


class NodeType(NamedTuple):
    """What all nodes of one Python type have in common; looked up once per type."""

    op: str | None
    kind: str
    raw_slots: tuple[tuple[str, str, str], ...]  # (slot, attribute, role of what needs no gradient)
    hides: bool


class Ledger:
    """Collects `SavedTensor` records and numbers the storages behind them.

    Args:
        roles: `(tensor, role)` of every leaf and named input; a saved view of one has its role.
    """

    def __init__(self, roles: Iterable[tuple[torch.Tensor, str]]) -> None:
        held = list(roles)
        self.records: list[SavedTensor] = []
        self._types: dict[type, NodeType] = {}
        self.storages: dict[int, int] = {}
        self._roles: dict[int, str] = {}
        # Leaves are saved over and over (a hub at every use): what is true of one is worked out
        # once. id() is a safe key only because the tensors are held here.
        self._held = [tensor for tensor, _ in held]
        self._leaf_facts: dict[int, Facts | None] = {id(tensor): None for tensor in self._held}
        for tensor, role in held:
            for _, part in _parts(tensor):
                key = _storage_key(part)
                if key is not None:
                    self._roles.setdefault(key, role)

    def node_type(self, node: AutogradNode) -> NodeType:
        """The op, kind and slots of a node's type."""
        found = self._types.get(type(node))
        if found is None:
            found = self._types[type(node)] = _inspect(node)
        return found

    def read(self, number: int, node: AutogradNode, kind: NodeType) -> str:
        """Add the records of one node; return "read", "freed" or "hidden"."""
        empty: list[str] = []
        found = False
        for slot, attribute, role in kind.raw_slots:
            try:
                raw = getattr(node, attribute)
            except RuntimeError:  # a freed tuple tells at once, a freed tensor reads as an empty one
                return "freed"
            if type(raw) is tuple:
                for position, item in enumerate(raw):
                    self._add(number, f"{slot}[{position}]", role, item.data, item.unpack_hook is not None)
                continue
            data = raw.data
            if data is None:
                empty.append(slot)
                continue
            found = True
            # The hot path of every capture, once per saved tensor.
            facts = self._leaf_facts.get(id(data)) or self._facts(data, role)
            if facts is not None and raw.unpack_hook is None:
                self.records.append(_new(SavedTensor, (number, slot) + facts))  # noqa: RUF005  # splatting is slower
            else:
                self._add(number, slot, role, data, raw.unpack_hook is not None)
        if kind.kind == "custom":
            return self._read_custom(number, node)
        if kind.hides:
            return "hidden"
        # An empty slot is an absent optional tensor, or one that a backward pass has freed (with
        # all the others). Only the unpacking accessor tells; with nothing to unpack, no hook fires.
        if not found and any(_is_freed(node, slot) for slot in empty):
            return "freed"
        return "read"

    def _read_custom(self, number: int, node: AutogradNode) -> str:
        try:
            raw = node._raw_saved_tensors  # type: ignore[attr-defined]
        except RuntimeError:
            return "freed"
        for position, item in enumerate(raw or ()):
            slot = f"saved_tensors[{position}]"
            self._add(number, slot, "constant", item.data, item.unpack_hook is not None)
        # Tensors set as attributes on ctx are kept too, although autograd does not know of them.
        for name, value in vars(node).items():
            for slot, tensor in _tensors_in(f"ctx.{printable(str(name))}", value):
                self._add(number, slot, "constant", tensor, packed=False)
        return "read"

    def _add(self, number: int, slot: str, role: str, data: Any, packed: bool) -> None:
        facts = self._leaf_facts.get(id(data)) or self._facts(data, role)
        if facts is not None:
            self.records.append(SavedTensor(number, slot, *facts[:-1], packed))
        elif isinstance(data, torch.Tensor):
            for suffix, part in _parts(data):
                self._add(number, slot + suffix, role, part, packed)
        elif data is not None:
            self.records.append(SavedTensor(number, slot, packed=packed))

    def _facts(self, data: Any, role: str) -> Facts | None:
        """What a record says of a tensor; None for a sparse one, and for what is no tensor."""
        try:
            # Not data_ptr(): it is 0 for every tensor on the meta device.
            held = data.untyped_storage()
            view_bytes = data.nbytes
        except (AttributeError, RuntimeError, NotImplementedError, TypeError):
            return self._facts_without_storage(data, role)
        key = held._cdata
        storages = self.storages
        shape, dtype, device = look_of(data)
        if data.requires_grad:
            role = "intermediate"
        role = self._roles.get(key, role)
        facts = (shape, dtype, device, view_bytes, storages.setdefault(key, len(storages)), held.nbytes(), role, False)
        if id(data) in self._leaf_facts:
            self._leaf_facts[id(data)] = facts
        return facts

    def _facts_without_storage(self, data: Any, role: str) -> Facts | None:
        if not isinstance(data, torch.Tensor) or len(_parts(data)) > 1:
            return None
        role = "intermediate" if data.requires_grad else role
        return (*look_of(data), _view_bytes(data), None, None, role, False)


# shape, dtype, device, view bytes, storage, storage bytes, role, packed
Facts = tuple[tuple[int, ...] | None, str, str, int | None, int | None, int | None, str, bool]
_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
Look = tuple[tuple[int, ...] | None, str, str]
_LOOKS: dict[tuple[tuple[int, ...], torch.dtype, torch.device], Look] = {}


def look_of(tensor: Any) -> Look:
    """Shape, dtype and device as plain values; the shape is None where it is symbolic or ragged.

    Takes a tensor, or autograd's metadata of one. The values are shared between equal looks, of
    which a graph has few.
    """
    try:
        key = (tuple(tensor.shape), tensor.dtype, tensor.device)
        look = _LOOKS.get(key)
    except (TypeError, RuntimeError):  # a symbolic size has no hash, a ragged tensor no shape
        return None, dtype_name(tensor.dtype), str(tensor.device)
    if look is None:
        shape, dtype, device = key
        plain = shape if all(type(length) is int for length in shape) else None
        look = (plain, dtype_name(dtype), str(device))
        if len(_LOOKS) < 10_000:
            _LOOKS[key] = look
    return look


def dtype_name(dtype: torch.dtype) -> str:
    """"float64" for torch.float64."""
    return str(dtype).removeprefix("torch.")


def _inspect(node: AutogradNode) -> NodeType:
    cls = type(node)
    if isinstance(node, BackwardCFunction):
        return NodeType(printable(cls.__name__), "custom", (), hides=False)
    attributes = [name for name in dir(cls) if name.startswith(_RAW)]
    raw_slots = tuple((_slot(name), name, _role(_slot(name))) for name in attributes)
    if cls.__name__ == "AccumulateGrad":
        return NodeType("AccumulateGrad", "leaf", (), hides=False)
    # C++ extensions share one Python type: their nodes must be asked one by one.
    op = None if cls.__name__ == "CppFunction" else op_name(node)
    return NodeType(op, "function", raw_slots, hides=cls.__name__ in _HIDING)


def _slot(attribute: str) -> str:
    return attribute.removeprefix(_RAW)


def _role(slot: str) -> str:
    return "intermediate" if _RESULT_SLOT.fullmatch(slot) else "constant"


def op_name(node: AutogradNode) -> str:
    """Autograd's name of a node without its namespace."""
    return printable(node.name().rpartition("::")[2])


def _is_freed(node: AutogradNode, slot: str) -> bool:
    try:
        getattr(node, f"_saved_{slot}")
    except RuntimeError:
        return True
    return False


def _tensors_in(slot: str, value: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield slot, value
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            if isinstance(item, torch.Tensor):
                yield f"{slot}[{position}]", item


def _parts(tensor: torch.Tensor) -> tuple[tuple[str, torch.Tensor], ...]:
    """A sparse tensor is kept as its parts; any other tensor as itself."""
    layout = tensor.layout
    if layout is torch.strided:
        return (("", tensor),)
    if layout is torch.sparse_coo:
        return ((".indices", tensor._indices()), (".values", tensor._values()))
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        indices = ((".crow_indices", tensor.crow_indices()), (".col_indices", tensor.col_indices()))
        return (*indices, (".values", tensor.values()))
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        indices = ((".ccol_indices", tensor.ccol_indices()), (".row_indices", tensor.row_indices()))
        return (*indices, (".values", tensor.values()))
    return (("", tensor),)


def _view_bytes(tensor: torch.Tensor) -> int | None:
    try:
        return int(tensor.nbytes)
    except (RuntimeError, TypeError, ValueError):
        return None


def _storage_key(tensor: torch.Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, TypeError):
        return None

"""Numbers the values of a forward pass without keeping any tensor alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import ref

import numpy
import torch

from graphlens.flow import DIFFERENTIABLE, LEAF, PYTHON, REQUIRES_GRAD, UNSEEN

_DIFFERENTIABLE = frozenset(
    kind
    for kind in (getattr(torch, name) for name in dir(torch))
    if isinstance(kind, torch.dtype) and (kind.is_floating_point or kind.is_complex)
)
_MOST_NESTING = 4
_MOST_NUMBERS = 100_000


class Values:
    """Value numbers of tensors, and of the Python numbers and arrays that were read from them.

    An object is known by its id for as long as a weak reference says that it is the same one.
    """

    def __init__(self) -> None:
        self.flags = bytearray()
        self._known: dict[int, tuple[ref[Any], int]] = {}
        self._floats: dict[int, tuple[float, int]] = {}  # they have no weak references; they are small
        self._written: dict[int, int] = {}  # per base that a view was written to: its value
        self._aliases: dict[int, ref[Any]] = {}  # what shares memory with a tensor that is no view of it

    def find(self, item: Any) -> int | None:
        """The number of a tensor that was met before."""
        entry = self._known.get(id(item))
        return entry[1] if entry is not None and entry[0]() is item else None

    def of(self, tensor: torch.Tensor) -> int:
        """The number of a tensor that is read; one that was not met before is marked as unseen."""
        entry = self._known.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1]
        return self.add(tensor, UNSEEN)

    def add(self, tensor: torch.Tensor, flags: int = 0) -> int:
        """A new number for a tensor that was made or written."""
        number = len(self.flags)
        # Not `grad_fn is None`: asking for the node makes it a Python object for life. A view of a
        # leaf that was made without gradients says that it requires one, and never receives it.
        if tensor.requires_grad:
            if not tensor.is_leaf:
                flags |= REQUIRES_GRAD
            elif not (tensor._is_view() and tensor._base is not None and tensor._base.requires_grad):
                flags |= REQUIRES_GRAD | LEAF
        if tensor.dtype in _DIFFERENTIABLE:
            flags |= DIFFERENTIABLE
        self.flags.append(flags)
        self._known[id(tensor)] = (ref(tensor), number)
        return number

    def read(self, arguments: Any, found: list[int], nesting: int = _MOST_NESTING) -> None:
        """Append the numbers of all values in a call's arguments."""
        for item in arguments:
            if isinstance(item, torch.Tensor):
                entry = self._known.get(id(item))
                found.append(entry[1] if entry is not None and entry[0]() is item else self.of(item))
                if self._written:
                    self._read_base(item, found)
            elif isinstance(item, (list, tuple)):
                if nesting:
                    self.read(item, found, nesting - 1)
            elif isinstance(item, dict):
                if nesting:
                    self.read(item.values(), found, nesting - 1)
            elif self._floats and isinstance(item, float):
                entry_ = self._floats.get(id(item))
                if entry_ is not None and entry_[0] is item:
                    found.append(entry_[1])
            elif isinstance(item, numpy.ndarray):
                for array in (item, item.base):
                    number = self.find(array) if array is not None else None
                    if number is not None:
                        found.append(number)

    def _read_base(self, tensor: torch.Tensor, found: list[int]) -> None:
        base = tensor._base
        if base is not None and id(base) in self._written and self.find(base) is not None:
            found.append(self._written[id(base)])

    def write(self, tensor: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """New numbers for a tensor that was written in place, and for all that share its memory.

        Returns:
            Their numbers before and after; the tensor's own come first.
        """
        before, after = [self.of(tensor)], [self.add(tensor)]
        seen = {id(tensor)}
        waiting: list[torch.Tensor] = [tensor]
        while waiting:
            item = waiting.pop()
            alias = self._aliases.get(id(item))
            for other in (item._base, alias() if alias is not None else None):
                if isinstance(other, torch.Tensor) and id(other) not in seen:
                    seen.add(id(other))
                    before.append(self.of(other))
                    after.append(self.add(other))
                    self._written[id(other)] = after[-1]
                    waiting.append(other)
        return tuple(before), tuple(after)

    def share(self, made: torch.Tensor, source: torch.Tensor) -> None:
        """Remember that two tensors share memory."""
        self._aliases[id(made)] = ref(source)

    def escape(self, value: Any) -> int | None:
        """Number what a tensor's value became in Python; None for what cannot be told from others."""
        if isinstance(value, numpy.ndarray):
            number = self._python()
            self._known[id(value)] = (ref(value), number)
            return number
        floats = list(_floats_in(value))
        if not floats:
            return None
        number = self._python()
        self._floats.update((id(item), (item, number)) for item in floats)
        return number

    def _python(self) -> int:
        self.flags.append(PYTHON)
        return len(self.flags) - 1

    def numbers(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """The numbers of those tensors that were met."""
        found = {name: self.find(tensor) for name, tensor in tensors.items()}
        return {name: number for name, number in found.items() if number is not None}


def _floats_in(value: Any) -> list[float]:
    """The floats of a number or of nested lists, as `tolist` makes them."""
    found: list[float] = []
    waiting = [value]
    while waiting and len(found) < _MOST_NUMBERS:
        item = waiting.pop()
        if isinstance(item, float):
            found.append(item)
        elif isinstance(item, list):
            waiting.extend(item)
    return found

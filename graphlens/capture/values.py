"""Numbers the values of a forward pass without keeping any tensor alive."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
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
_GRADIENT = REQUIRES_GRAD | DIFFERENTIABLE
_PLAIN = (torch.Tensor, torch.nn.Parameter)  # not subclasses: asking those for a dtype may run their code
# Arguments of these types hold no value.
EMPTY = frozenset((int, bool, str, type(None), slice, type(...), torch.dtype, torch.device, torch.Size, torch.layout))
_MOST_NESTING = 4
_MOST_NUMBERS = 100_000
_BLOCK = 1 << 16


class Values:
    """Value numbers of tensors, and of the Python numbers and arrays that were read from them.

    An object is known by its id for as long as a weak reference says that it is the same one.
    Memory that was written in place is known by its storage: a tensor that was numbered before the
    write, and lives in that storage, is read as two values, its own and the written one.

    Attributes:
        known: per id of a tensor or array a weak reference to it, and its number.
        written: per id of a storage that was written to a weak reference to it, and the number of what
            was written last. A storage keeps its Python object for as long as it lives.
            (A `StorageWeakRef` would keep a piece of the heap in the very place that the storage's
            memory leaves, so that the next one does not fit.)
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[ref[Any], int]] = {}
        self.written: dict[int, tuple[ref[Any], int]] = {}
        self._next = itertools.count().__next__  # atomic: several threads number their values
        self._flags = bytearray(_BLOCK)
        self._grows = threading.Lock()
        self._floats: dict[int, tuple[float, int]] = {}  # they have no weak references; they are small
        self._shared: dict[int, ref[Any]] = {}  # per id of an array the storage it lies in
        self._aliases: dict[int, tuple[ref[Any], ref[Any]]] = {}  # what shares memory with no history in common

    def flags(self) -> bytes:
        """The flags of all values. Numbers the end, so that every value before it is known to be complete."""
        end = self._next()
        return bytes(self._flags[:end]).ljust(end, b"\0")

    def find(self, item: Any) -> int | None:
        """The number of a tensor that was met before."""
        entry = self.known.get(id(item))
        return entry[1] if entry is not None and entry[0]() is item else None

    def living(self, numbers: Collection[int]) -> dict[int, Any]:
        """The tensors and arrays that have these numbers, those that still live and were not written since."""
        found = {number: reference() for reference, number in list(self.known.values()) if number in numbers}
        return {number: item for number, item in found.items() if item is not None}

    def of(self, tensor: torch.Tensor) -> int:
        """The number of a tensor that is read; one that was not met before is marked as unseen."""
        entry = self.known.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1]
        return self.add(tensor, UNSEEN)

    def add(self, tensor: torch.Tensor, flags: int = 0) -> int:
        """A new number for a tensor that was made or written."""
        if type(tensor) in _PLAIN:
            flags |= _look(tensor)
        else:
            with torch._C.DisableTorchFunctionSubclass():
                flags |= _look(tensor)
        number = self._next()
        self._set(number, flags)
        self.known[id(tensor)] = (ref(tensor), number)
        return number

    def _set(self, number: int, flags: int) -> None:
        try:
            self._flags[number] = flags
        except IndexError:
            with self._grows:
                missing = number + 1 - len(self._flags)
                if missing > 0:
                    self._flags.extend(bytes(missing + len(self._flags)))
            self._flags[number] = flags

    def numbers_in(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> list[int]:
        """The numbers of all values in a call's arguments."""
        found: list[int] = []
        if self.written:
            self.read(args, found)
        else:  # what `read` does for the most common arguments, without a call for each
            known = self.known
            for item in args:
                entry = known.get(id(item))
                if entry is not None and entry[0]() is item:
                    found.append(entry[1])
                elif item.__class__ not in EMPTY:
                    self.read((item,), found)
        if kwargs:
            self.read(kwargs.values(), found)
        return found

    def read(self, arguments: Any, found: list[int], nesting: int = _MOST_NESTING) -> None:
        """Append the numbers of all values in arguments."""
        for item in arguments:
            if isinstance(item, torch.Tensor):
                number = self.find(item)
                found.append(self._met(item) if number is None else number)
                if self.written:
                    self._read_memory(storage_of(item), -1 if number is None else number, found)
            elif item.__class__ in EMPTY:
                pass
            elif isinstance(item, (list, tuple)):
                if nesting and self._may_hold(item):
                    self.read(item, found, nesting - 1)
            elif isinstance(item, dict):
                if nesting:
                    self.read(item.values(), found, nesting - 1)
            elif isinstance(item, float):
                if self._floats:
                    known = self._floats.get(id(item))
                    if known is not None and known[0] is item:
                        found.append(known[1])
            elif isinstance(item, (torch.UntypedStorage, torch.TypedStorage)):
                number = self.find(_untyped(item))
                if number is not None:
                    found.append(number)
            elif isinstance(item, numpy.ndarray):
                for array in (item, item.base):
                    self._read_array(array, found)

    def _met(self, tensor: torch.Tensor) -> int:
        """A number for a tensor that was not met before; what vmap hands on has that of its own argument."""
        number = self.find(_unbatched(tensor)) if _is_batched(tensor) else None
        if number is None:
            return self.add(tensor, UNSEEN)
        self.known[id(tensor)] = (ref(tensor), number)
        return number

    def _may_hold(self, items: list[Any] | tuple[Any, ...]) -> bool:
        """Whether a sequence is worth going through: long lists of plain numbers are not."""
        kinds = set(map(type, items))
        kinds -= EMPTY
        if kinds == {float}:
            return bool(self._floats) and not self._floats.keys().isdisjoint(map(id, items))
        return bool(kinds)

    def _read_array(self, array: Any, found: list[int]) -> None:
        number = self.find(array) if isinstance(array, numpy.ndarray) else None
        if number is not None:
            found.append(number)
            if self.written:
                storage = self._shared.get(id(array))
                self._read_memory(None if storage is None else storage(), number, found)

    def _read_memory(self, storage: Any, number: int, found: list[int]) -> None:
        entry = self.written.get(id(storage))
        if entry is not None and entry[1] > number and entry[0]() is storage:
            found.append(entry[1])

    def write(self, tensor: torch.Tensor, *, memory: bool = True) -> tuple[list[int], list[int]]:
        """New numbers for a tensor that was written in place, and for what it was made from in the same memory.

        Args:
            memory: whether its values were written, and not only what it says of itself.

        Returns:
            Their numbers before and after; the tensor's own come first. What came before may be more.
        """
        before, after = [self.of(tensor)], [self.add(tensor)]
        if memory:
            more: list[int] = []
            for other in self._sources(tensor):
                numbers: list[int] = []
                self.read((other,), numbers)
                before.append(numbers[0])
                more.extend(numbers[1:])
                after.append(self.add(other))
            before.extend(more)
            storage = storage_of(tensor)
            if storage is not None:
                self.written[id(storage)] = (ref(storage), after[0])
        return before, after

    def _sources(self, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
        """What a tensor is a view of, or was made from by detach() and its like; and so on."""
        seen = {id(tensor)}
        waiting = [tensor]
        while waiting:
            item = waiting.pop()
            alias = self._aliases.get(id(item))
            source = alias[1]() if alias is not None and alias[0]() is item else None
            for other in (_base(item), source):
                if isinstance(other, torch.Tensor) and id(other) not in seen:
                    seen.add(id(other))
                    waiting.append(other)
                    yield other

    def share(self, made: torch.Tensor, source: torch.Tensor) -> None:
        """Remember that a tensor was made from another one in its memory, without being a view of it."""
        self._aliases[id(made)] = (ref(made), ref(source))

    def escape(self, value: Any, source: Any) -> int | None:
        """Number what a tensor's value became in Python; None for what cannot be told from others."""
        if isinstance(value, numpy.ndarray):
            number = self._python()
            self.known[id(value)] = (ref(value), number)
            storage = storage_of(source) if isinstance(source, torch.Tensor) else None
            self._shared.pop(id(value), None)
            if storage is not None:
                self._shared[id(value)] = ref(storage)
            return number
        if isinstance(value, (torch.UntypedStorage, torch.TypedStorage)):
            storage, number = _untyped(value), self._python()
            self.known[id(storage)] = (ref(storage), number)
            return number
        floats = list(_floats_in(value))
        if not floats:
            return None
        number = self._python()
        self._floats.update((id(item), (item, number)) for item in floats)
        return number

    def _python(self) -> int:
        number = self._next()
        self._set(number, PYTHON)
        return number

    def numbers(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """The numbers of those tensors that were met, as they are now."""
        found = {}
        for name, tensor in tensors.items():
            number = self.find(tensor)
            if number is not None:
                now = [number]
                if self.written:
                    # What it shares memory with was written since: that is where its values come from.
                    self._read_memory(storage_of(tensor), number, now)
                found[name] = now[-1]
        return found


def _look(tensor: torch.Tensor) -> int:
    """REQUIRES_GRAD, LEAF and DIFFERENTIABLE of a tensor."""
    if tensor.requires_grad:
        # Not `grad_fn is None`: asking for the node makes it a Python object for life.
        if not tensor.is_leaf:
            return _GRADIENT
        # A view of a leaf that was made without gradients says that it requires one, and never receives it.
        if not (tensor._is_view() and tensor._base is not None and tensor._base.requires_grad):
            return _GRADIENT | LEAF
        return DIFFERENTIABLE
    if tensor.dtype not in _DIFFERENTIABLE:
        return 0
    # Under vmap the tensor inside knows whether there is a graph, and the one around it does not.
    return _GRADIENT if _is_batched(tensor) and _unbatched(tensor).requires_grad else DIFFERENTIABLE


_is_batched = torch._C._functorch.is_batchedtensor


def _unbatched(tensor: torch.Tensor) -> torch.Tensor:
    """What vmap made a tensor from, through all its levels."""
    while _is_batched(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _base(tensor: torch.Tensor) -> torch.Tensor | None:
    if type(tensor) in _PLAIN:
        return tensor._base
    with torch._C.DisableTorchFunctionSubclass():
        return tensor._base


def storage_of(tensor: torch.Tensor) -> Any:
    """A tensor's storage, always the same object; None if it has none of its own, as a sparse one."""
    try:
        if type(tensor) in _PLAIN:
            return tensor.untyped_storage()
        with torch._C.DisableTorchFunctionSubclass():
            return tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return None


def _untyped(storage: torch.UntypedStorage | torch.TypedStorage) -> torch.UntypedStorage:
    return storage._untyped_storage if isinstance(storage, torch.TypedStorage) else storage


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

"""Which value a tensor has while ops run, views of one storage and writes to it counted in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload

from graphlens.capture.memories import Look, Memory, Write, extent_of, fills, overlap, place_of
from graphlens.capture.room import room
from graphlens.capture.tape import Ref, Tape, filled
from graphlens.errors import MeasureError
from graphlens.units import bytes_text

aten = torch.ops.aten


class Values:
    """The numbers of values on a tape. It keeps their tensors, so that a storage's address is its name."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.memories: dict[int, Memory] = {}
        self.others: dict[int, tuple[int, torch.Tensor]] = {}  # without a storage: by id
        self.buffers: dict[int, str] = {}  # by the address of the storage
        self.room, self.held = room(), 0  # bytes

    def _note(
        self, function: OpOverload, args: tuple[Any, ...], outputs: tuple[int | None, ...],
        kwargs: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Write a call on the tape; here those that only the tape makes."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget what only recording needs."""
        self.memories.clear()
        self.others.clear()

    def value(self, tensor: torch.Tensor) -> int:
        """The number of the value that a tensor has now."""
        needs_grad = tensor.requires_grad
        number = self._value(tensor, needs_grad)
        if needs_grad:
            self.tape.requiring.add(number)
        return number

    def _value(self, tensor: torch.Tensor, needs_grad: bool) -> int:
        place = place_of(tensor)
        if place is None:
            found = self.others.get(id(tensor))
            return found[0] if found else self._new(tensor, is_source=True)
        address, look = place
        memory = self.memories.get(address)
        if memory is None:
            return self._new(tensor, is_source=True)
        number = memory.values.get(look)
        if not needs_grad and memory.detached:
            number = memory.detached.get(look, number)
        if number is not None:
            return number
        return self._read_again(tensor, memory, look)

    def first_values(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Per leaf that was made in the run the number that it had when autograd first saw it read.

        Nothing that autograd follows writes to a leaf; what fills it before, as an initialisation, makes it.
        """
        found: dict[str, int] = {}
        several: dict[int, str] = {}
        for name, tensor in tensors.items():
            memory, look = self._memory(tensor)
            first = None if memory is None else memory.first.get(look)
            found[name] = self.value(tensor) if first is None else first
            if memory is not None and look in memory.renewed:
                several.update((number, name) for number in (found[name], *memory.renewed[look]))
        decided = set[str]()
        for call in self.tape.calls if several else ():
            for number in call.inputs if call.tracked and not call.backward else ():
                name = several.get(number, "")
                if name and name not in decided:
                    decided.add(name)
                    found[name] = number
        return found

    def known(self, tensor: torch.Tensor) -> int | None:
        """The number of the value that a tensor has now, if it has been seen."""
        memory, look = self._memory(tensor)
        return None if memory is None else memory.values.get(look)

    def _memory(self, tensor: torch.Tensor) -> tuple[Memory | None, Look]:
        """What is known of its storage, if there is any; and its look."""
        address, look = place_of(tensor) or (None, ())
        return self.memories.get(address) if address is not None else None, look

    def _new(self, tensor: torch.Tensor, *, is_source: bool = False) -> int:
        tensors = self.tape.tensors
        number = len(tensors)
        tensors.append(tensor.detach())
        if is_source:
            self.tape.sources.append(number)
        place = place_of(tensor)
        if place is None:
            self.others[id(tensor)] = number, tensor
            return number
        address, look = place
        memory = self.memories.get(address)
        if memory is None:
            memory = self.memories[address] = Memory()
            self._hold(0 if is_source else tensor.untyped_storage().nbytes())
        if is_source and not memory.first:
            memory.source = number
        memory.values[look] = number
        memory.first.setdefault(look, number)
        memory.live[number] = None
        if memory.cover is None and not memory.writes and fills(tensor):
            memory.cover, memory.is_flat = (number, tensors[number]), False
        return number

    def _hold(self, size: int) -> None:
        """Count what the tape keeps from being freed; a system that runs out of memory kills without a word."""
        self.held += size
        if self.room is not None and self.held > self.room:
            raise MeasureError(
                f"the values of all its ops together take more than the {bytes_text(self.room)} that are free: they "
                "cannot be written down; take a smaller batch, fewer rounds or a smaller model"
            )

    def _read_again(self, tensor: torch.Tensor, memory: Memory, look: Look) -> int:
        """The value of a tensor whose memory was written to through another one."""
        if memory.cover is None or memory.cover[1].dtype != tensor.dtype or tensor.is_conj() or tensor.is_neg():
            if memory.writes or memory.cover is None:
                self.tape.opaque["a view of memory written to"] += bool(memory.writes)
            return self._new(tensor, is_source=True)
        flat = self._flat(memory)
        tensors = self.tape.tensors
        made = tensor.detach()
        place = list(tensor.shape), list(tensor.stride()), tensor.storage_offset()
        tensors.append(made)
        number = len(tensors) - 1
        self._note(aten.as_strided.default, (Ref(flat), *place), (number,))
        memory.values[look] = number
        memory.live[number] = None
        return number

    def _flat(self, memory: Memory) -> int:
        """The whole storage as a vector, with all that was written to it."""
        assert memory.cover is not None
        number, cover = memory.cover
        tensors = self.tape.tensors
        if not memory.is_flat:
            # Laid out in the order of memory, whatever layout the value has when it is replayed.
            strides = cover.stride()
            order = sorted(range(cover.ndim), key=lambda k: (-int(strides[k]), -cover.shape[k]))
            contiguous = {"memory_format": torch.contiguous_format}
            number = self._derived(aten.permute.default, number, order)
            number = self._derived(aten.clone.default, number, **contiguous)
            number = self._derived(aten.view.default, number, [-1])
        for write in memory.writes:
            # Not as_strided_scatter, whose derivative for the vector is wrong in torch 2.13.
            places = torch.arange(len(tensors[number])).as_strided(write.size, write.stride, write.offset)
            index = len(tensors)
            tensors.append(places.reshape(-1))
            self.tape.sources.append(index)
            written = self._derived(aten.reshape.default, write.value, [-1])
            number = self._derived(aten.scatter.src, number, 0, Ref(index), Ref(written))
        flat = tensors[number]
        memory.is_flat = True
        memory.cover, memory.writes = (number, flat), []
        return number

    def _derived(self, function: OpOverload, number: int, *args: Any, **kwargs: Any) -> int:
        """Call an op on a value for the tape alone, and note it."""
        tensors = self.tape.tensors
        given = filled(args, tensors.__getitem__)
        tensors.append(function(tensors[number], *given, **kwargs).clone())  # later writes must not change it
        self._note(function, (Ref(number), *args), (len(tensors) - 1,), kwargs)
        return len(tensors) - 1

    def _laid_out(self, args: Sequence[Any], known: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of `as_strided`, which goes by the layout in memory, for a vector of all of that memory."""
        memory, _ = self._memory(args[0])
        if memory is None or memory.cover is None or memory.cover[1].dtype is not args[0].dtype:
            return known
        offset = args[3] if len(args) > 3 and args[3] is not None else int(args[0].storage_offset())
        return Ref(self._flat(memory)), known[1], known[2], offset

    def _cut_off(self, tensor: torch.Tensor) -> int:
        """A new value that only tensors without a gradient have; the others keep theirs."""
        memory, look = self._memory(tensor)
        assert memory is not None  # that of the tensor that it was cut off from
        kept = memory.values.get(look)
        number = self._new(tensor)
        memory.detached[look] = number
        if kept is not None:
            memory.values[look] = kept
        return number

    def _before_write(self, tensor: torch.Tensor) -> None:
        """Copy the values that are about to be overwritten."""
        address = (place_of(tensor) or (None,))[0]
        memory = self.memories.get(address) if address is not None else None
        if memory is None:
            return
        if memory.source is not None:
            self.tape.written.append(memory.source)
            if address in self.buffers:
                self.tape.buffers[memory.source] = self.buffers[address]
            memory.source = None
        first, last = extent_of(tensor)
        for number, extent in list(memory.live.items()):
            low, high = extent or extent_of(self.tape.tensors[number])
            memory.live[number] = low, high
            if low <= last and first <= high and overlap(tensor, self.tape.tensors[number]):
                copy = self.tape.tensors[number].clone()
                self._hold(copy.untyped_storage().nbytes())
                self.tape.tensors[number] = copy
                del memory.live[number]
                if memory.cover is not None and memory.cover[0] == number:
                    memory.cover = number, copy

    def _after_write(self, tensor: torch.Tensor, *, is_source: bool = True) -> int:
        """The value that a tensor has after it was written to."""
        place = place_of(tensor)
        if place is None:
            self.others.pop(id(tensor), None)
            return self._new(tensor, is_source=is_source)
        memory = self.memories.setdefault(place[0], Memory())
        # What does not overlap keeps its value.
        memory.values = {key: number for key, number in memory.values.items() if number in memory.live}
        memory.detached = {key: number for key, number in memory.detached.items() if number in memory.live}
        if fills(tensor):
            memory.cover, memory.writes = None, []
            number = self._new(tensor, is_source=is_source)
            if tensor.requires_grad and tensor.is_leaf:
                memory.renewed.setdefault(place[1], []).append(number)
            return number
        number = self._new(tensor, is_source=is_source)
        self.tape.parts.add(number)
        if memory.cover is not None and memory.cover[0] == number:
            memory.cover = None
        memory.writes.append(Write(number, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset())))
        return number

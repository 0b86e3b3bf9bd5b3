"""Record a tape: run a program under a mode that sees every op below autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from graphlens.capture.backward import walk_again
from graphlens.capture.memories import Look, Memory, Write, extent_of, fills, place_of
from graphlens.capture.op_facts import OpFacts, facts_of
from graphlens.capture.program import Program, cleared_gradients, run_backward, wanted_leaves
from graphlens.capture.reads import Reads
from graphlens.capture.release import drain
from graphlens.capture.saved_values import saved_values
from graphlens.capture.tape import Call, Ref, Tape, filled, flat_outputs, running_moments
from graphlens.collector import paused_collector
from graphlens.graph import GradGraph

aten = torch.ops.aten
_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


def record_tape(program: Program, graph: GradGraph | None = None) -> Tape:
    """Run a program forward and backward once, and write down every op.

    Args:
        graph: its graph, whose nodes the calls then know.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    mode = _Taping()
    with paused_collector(lasting=True):
        known = {name: mode.value(tensor) for name, tensor in program.leaves.items()}
        with Reads() as reads, mode:
            made = program.forward()
        mode.tape.reads = reads.count
        wanted = wanted_leaves(program, made)
        handles: list[Any] = []
        if graph is not None and made.roots:
            found = walk_again(program, made, graph)
            mode.number_forward({seq: number for number, seq in enumerate(found.seqs, len(found.leaves))})
            mode.tape.saved = saved_values(found.nodes, mode.known)
            handles = [handle for number, node in enumerate(found.nodes) for handle in mode.follow(number, node)]
            del found
        tape = mode.tape
        try:
            with cleared_gradients(wanted.values()):
                if made.roots:
                    with mode:
                        mode.begin_backward()
                        run_backward(made.roots, wanted)
                for name, tensor in wanted.items():
                    tape.leaves[name] = known[name] if name in known else mode.first_value(tensor)
                    if tensor.grad is not None:
                        tape.gradients[name] = mode.value(tensor.grad)
        finally:
            for handle in handles:
                handle.remove()
        for name, tensor in made.outputs.items():
            tape.outputs[name] = mode.value(tensor)
        for name, tensor in made.roots.items():
            tape.roots[name] = mode.value(tensor)
        mode.close()
        del made
        drain()
    return tape


class _Taping(TorchDispatchMode):
    """Writes a tape while ops run. It keeps their tensors, so that a storage's address is its name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self.memories: dict[int, Memory] = {}
        self.others: dict[int, tuple[int, torch.Tensor]] = {}  # without a storage: by id
        self.backward = False
        self.current: int | None = None
        self.sent = False
        self.seqs: list[int | None] = []

    # What runs when

    def number_forward(self, numbers: Mapping[int, int]) -> None:
        """Tell the calls so far which nodes they belong to, by autograd's sequence numbers.

        A node is made right before its op is called, and below autograd a node stands for one op:
        the first one after a number has been given out is the node's.
        """
        taken = set()
        for place, seq in enumerate(self.seqs):
            node = None if seq in taken else numbers.get(seq if seq is not None else -1)
            if node is not None:
                taken.add(seq)
                self.tape.calls[place] = self.tape.calls[place]._replace(node=node)

    def follow(self, number: int, node: torch.autograd.graph.Node) -> tuple[Any, Any]:
        """Hook a node, so that the calls of its backward know it."""

        def enter(_: object) -> None:
            self.current, self.sent = number, False

        def leave(_: object, __: object) -> None:
            self.sent = True

        return node.register_prehook(enter), node.register_hook(leave)

    def begin_backward(self) -> None:
        self.backward = True

    def close(self) -> None:
        """Forget what only recording needs."""
        self.memories.clear()
        self.others.clear()

    # Values

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

    def first_value(self, tensor: torch.Tensor) -> int:
        """The number that a tensor had when it was first seen, for a leaf: nothing writes to it."""
        memory, look = self._memory(tensor)
        return self.value(tensor) if memory is None else memory.first.get(look) or self.value(tensor)

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
        if is_source and not memory.first:
            memory.source = number
        memory.values[look] = number
        memory.first.setdefault(look, number)
        memory.live[number] = None
        if memory.cover is None and not memory.writes and fills(tensor):
            memory.cover, memory.is_flat = (number, tensors[number]), False
        return number

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

    # Calls

    def _note(
        self, function: OpOverload, args: tuple[Any, ...], outputs: tuple[int | None, ...],
        kwargs: dict[str, Any] | None = None, random: bool = False, seq: int | None = None,
    ) -> None:  # fmt: skip
        if not self.backward:
            self.seqs.append(seq)
        self.tape.calls.append(
            Call(
                function, args, kwargs or {}, outputs, self.current if self.backward else None, self.backward,
                self.backward and self.sent, random, torch.is_grad_enabled(),
            )
        )  # fmt: skip

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        seq = None if self.backward else _sequence_number() - 1
        facts = facts_of(func)
        if not kwargs and not facts.writes:
            return self._dispatch_pure(func, facts, args, seq)
        kwargs = kwargs or {}
        written = [kwargs.get(place) if isinstance(place, str) else args[place] for place in facts.writes]
        targets = [tensor for tensor in flat_outputs(written) if isinstance(tensor, torch.Tensor)]
        skipped = {id(tensor) for tensor in targets} if facts.out else set()
        known_args = tuple(self._referred(value) for value in args)
        known_kwargs = {
            key: self._referred(value) for key, value in kwargs.items() if not (skipped and key in facts.out)
        }
        for tensor in targets:
            self._before_write(tensor)
        made = func(*args, **kwargs)
        function = facts.function
        if function is None or facts.lacks(args):
            for tensor in targets:
                self._after_write(tensor)
            self.tape.opaque[str(func)] += 1
        elif function is aten.copy.default:
            self._note_copy(args[0], args[1], known_args[1].value, seq)
        else:
            outputs = tuple(
                self._made(tensor, targets) if isinstance(tensor, torch.Tensor) else None
                for tensor in flat_outputs(made if not targets or facts.returns else written)
            )
            self._note(function, known_args, outputs, known_kwargs, facts.random, seq)
        return made

    def _dispatch_pure(self, func: Any, facts: OpFacts, args: Sequence[Any], seq: int | None) -> Any:
        """Run an op that writes to nothing that its schema tells of: nearly all of a long pass."""
        value, tensor_type = self.value, torch.Tensor
        known = tuple([Ref(value(item)) if isinstance(item, tensor_type) else self._referred(item) for item in args])
        if func is aten.as_strided.default:
            known = self._laid_out(args, known)
        untold = running_moments(func, args)
        for tensor in untold:
            self._before_write(tensor)
        made = func(*args)
        if facts.lacks(args):
            self.tape.opaque[str(func)] += 1
            return made
        outputs: tuple[int | None, ...]
        if not isinstance(made, tensor_type):
            outputs = tuple([self._new(item) if isinstance(item, tensor_type) else None for item in flat_outputs(made)])
        elif func is aten.detach.default and args[0].requires_grad and place_of(made) is not None:
            outputs = (self._cut_off(made),)
        else:
            outputs = (self._new(made),)
        self._note(func, known, outputs, None, facts.random, seq)
        for tensor in untold:
            self._after_write(tensor)
        return made

    def _laid_out(self, args: Sequence[Any], known: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of `as_strided`, which goes by the layout in memory, for a vector of all of that memory."""
        memory, _ = self._memory(args[0])
        if memory is None or memory.cover is None or memory.cover[1].dtype is not args[0].dtype:
            return known
        offset = args[3] if len(args) > 3 and args[3] is not None else int(args[0].storage_offset())
        return Ref(self._flat(memory)), known[1], known[2], offset

    def _note_copy(self, tensor: torch.Tensor, source: torch.Tensor, number: int, seq: int | None) -> None:
        """What `copy_` writes, in ops that have a derivative; the node, if there is one, is the last one's."""
        if source.dtype is not tensor.dtype or source.device != tensor.device:
            number = self._derived(aten._to_copy.default, number, dtype=tensor.dtype, device=tensor.device)
        if source.shape != tensor.shape:
            number = self._derived(aten.expand.default, number, list(tensor.shape))
        self._note(aten.clone.default, (Ref(number),), (self._after_write(tensor, is_source=False),), seq=seq)

    def _referred(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return Ref(self.value(value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._referred(item) for item in value)
        return value

    def _made(self, tensor: torch.Tensor, targets: Sequence[torch.Tensor]) -> int:
        if any(tensor is target for target in targets):
            return self._after_write(tensor, is_source=False)
        return self._new(tensor)

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
        memory, _ = self._memory(tensor)
        if memory is None:
            return
        if memory.source is not None:
            self.tape.written.append(memory.source)
            memory.source = None
        first, last = extent_of(tensor)
        for number, extent in list(memory.live.items()):
            low, high = extent or extent_of(self.tape.tensors[number])
            memory.live[number] = low, high
            if low <= last and first <= high:
                copy = self.tape.tensors[number].clone()
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
            return self._new(tensor, is_source=is_source)
        number = self._new(tensor, is_source=is_source)
        if memory.cover is not None and memory.cover[0] == number:
            memory.cover = None
        memory.writes.append(Write(number, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset())))
        return number

"""Record a tape: run a program under a mode that sees every op below autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from graphlens.capture.backward import walk_again
from graphlens.capture.memories import place_of
from graphlens.capture.op_facts import OpFacts, facts_of
from graphlens.capture.program import Program, cleared_gradients, run_backward, wanted_leaves
from graphlens.capture.reads import Reads
from graphlens.capture.release import drain
from graphlens.capture.saved_values import saved_values
from graphlens.capture.tape import Call, Ref, Tape, flat_outputs, running_moments
from graphlens.capture.tape_values import Values
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
        module = program.subject.module if program.subject is not None else None
        if isinstance(module, torch.nn.Module):
            mode.name_buffers(module)
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
                made_here = mode.first_values({name: each for name, each in wanted.items() if name not in known})
                for name, tensor in wanted.items():
                    tape.leaves[name] = known[name] if name in known else made_here[name]
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


class _Taping(Values, TorchDispatchMode):
    """Writes a tape while ops run."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]
        Values.__init__(self)
        self.backward = False
        self.current: int | None = None
        self.sent = False
        self.seqs: list[int | None] = []
        self.in_place: set[int] = set()  # places of forward calls that write over their first argument

    def name_buffers(self, module: torch.nn.Module) -> None:
        """Know the module's buffers by name, in case that the run writes over them."""
        for name, tensor in module.named_buffers():
            place = place_of(tensor)
            if place is not None:
                self.buffers.setdefault(place[0], name)

    # What runs when

    def number_forward(self, numbers: Mapping[int, int]) -> None:
        """Tell the calls so far which nodes they belong to, by autograd's sequence numbers.

        A node is made right before its op is called, and below autograd a node stands for one op:
        the first one after a number has been given out is the node's.
        """
        taken = set()
        for place, seq in enumerate(self.seqs):
            if seq is not None and seq not in numbers and self._kept_a_copy(place):
                seq -= 1
            node = None if seq in taken else numbers.get(seq if seq is not None else -1)
            if node is not None:
                taken.add(seq)
                self.tape.calls[place] = self.tape.calls[place]._replace(node=node)

    def _kept_a_copy(self, place: int) -> bool:
        """Whether a call in place comes after the copy of what it writes over, which its node keeps.

        Autograd makes the node, then the copy, which is followed and takes a number of its own.
        """
        if place not in self.in_place or not place or self.seqs[place - 1] != self.seqs[place]:
            return False
        before = self.tape.calls[place - 1]
        return before.function is aten.clone.default and before.args[:1] == self.tape.calls[place].args[:1]

    def follow(self, number: int, node: torch.autograd.graph.Node) -> tuple[Any, Any]:
        """Hook a node, so that the calls of its backward know it."""

        def enter(_: object) -> None:
            self.current, self.sent = number, False

        def leave(_: object, __: object) -> None:
            self.sent = True

        return node.register_prehook(enter), node.register_hook(leave)

    def begin_backward(self) -> None:
        self.backward = True

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
            if targets and not self.backward:
                self.in_place.add(len(self.seqs))
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

"""Two runs of a program from the same state, held against each other bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from graphlens.accuracy import Difference, Repeat
from graphlens.capture.program import Program, cleared_gradients, run_backward, wanted_leaves
from graphlens.capture.start import Start
from graphlens.capture.tape import Call, Ref, Tape
from graphlens.capture.taping import record_tape
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.numerics.arguments import op_name
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.shadow import doubles_of, is_number

# Results that are bytes for the op's own backward, not all of which are written to.
_WORKSPACES = {"mkldnn_rnn_layer": 3}


def measure_repeat(program: Program, graph: GradGraph | None, start: Start | None = None) -> Repeat:
    """Run a program twice from the same state, and find the first op that makes a difference.

    Args:
        graph: its graph, whose nodes the ops then know; of no use where every run makes another one.
        start: the state that both runs begin with; the present one if None.
    """
    start = start or Start.of(program)
    try:
        return held_together(*_twice(program, graph, start))
    except MeasureError:  # another graph than the one that is known
        return held_together(*_twice(program, None, start))


def repeat_of(program: Program, graph: GradGraph | None, tape: Tape, start: Start) -> Repeat:
    """Run a program once more, and where its results differ from those of a tape look for the op that parts them.

    Args:
        tape: a run of the program from the state that `start` holds.
    """
    with start.again():
        made = program.forward()
        wanted = wanted_leaves(program, made)
        with cleared_gradients(wanted.values()):
            if made.roots:
                run_backward(made.roots, wanted)
            gradients = {name: leaf.grad for name, leaf in wanted.items() if leaf.grad is not None}
    pairs = [(tape.outputs, made.outputs), (tape.roots, made.roots), (tape.gradients, gradients)]
    if all(known.keys() == now.keys() for known, now in pairs) and all(
        same_bits(tape.tensors[value], now[name]) for known, now in pairs for name, value in known.items()
    ):
        return Repeat("same", ops=len(tape.calls))
    return measure_repeat(program, graph, start)


def _twice(program: Program, graph: GradGraph | None, start: Start) -> tuple[Tape, Tape]:
    with start.again():
        first = record_tape(program, graph)
    with start.again():
        return first, record_tape(program, graph)


def held_together(first: Tape, second: Tape) -> Repeat:
    """What two tapes of one program differ in, and where that began."""
    results = tuple(_results(first, second))
    found = _Search(first, second).run() or Repeat("same")
    return replace(found, results=results, ops=len(first.calls))


@dataclass
class _Search:
    """Goes along both tapes, which number their values alike as long as they call the same ops.

    Attributes:
        differ: the values that differ.
        unwritten: memory that nothing was written to, whose bits say nothing.
    """

    one: Tape
    two: Tape
    differ: set[int] = field(default_factory=set)
    unwritten: set[int] = field(default_factory=set)

    def run(self) -> Repeat | None:
        """The first difference, and how many of its kind there are."""
        found: Repeat | None = None
        read: set[int] = set()
        sources = set(self.one.sources)
        for place, (mine, other) in enumerate(zip(self.one.calls, self.two.calls, strict=False)):
            if mine.function is not other.function or _shape(mine) != _shape(other):
                return found or self._other_op(place, mine, other)
            fresh = [value for value in mine.inputs if value in sources and value not in read]
            read.update(fresh)
            for value in fresh:
                if self._differs(value):
                    self.differ.add(value)
                    found = _and(found, self._measured("source", place, mine, value))
            beginning = self._step(place, mine)
            found = _and(found, beginning)
        if found is None and len(self.one.calls) != len(self.two.calls):
            place = min(len(self.one.calls), len(self.two.calls))
            return self._other_op(place, *(_at(tape, place) for tape in (self.one, self.two)))
        return found

    def _step(self, place: int, call: Call) -> Repeat | None:
        """Compare what a call made; a difference begins here if it read nothing that differs."""
        kernel = KERNELS.get(op_name(call))
        moves = kernel is not None and kernel.moves
        if "empty" in op_name(call) or (moves and not self.unwritten.isdisjoint(call.inputs)):
            self.unwritten.update(value for value in call.outputs if value is not None)
            return None
        workspace = _WORKSPACES.get(op_name(call))
        begins = self.differ.isdisjoint(call.inputs)
        beginning: Repeat | None = None
        for position, value in enumerate(call.outputs):
            if value is None:
                continue
            if position == workspace:
                self.unwritten.add(value)
            elif self._differs(value):
                self.differ.add(value)
                if begins and beginning is None:
                    beginning = self._measured("result", place, call, value)
        return beginning

    def _differs(self, value: int) -> bool:
        return not same_bits(self.one.tensors[value], self.two.tensors[value])

    def _measured(self, kind: str, place: int, call: Call, value: int) -> Repeat:
        one, two = self.one.tensors[value], self.two.tensors[value]
        name = op_name(self.one.calls[self._reader(place)]) if kind == "source" else op_name(call)
        found = Repeat(kind, place, name, self._node(place), origins=1, random=call.random)
        if one.shape != two.shape:
            return replace(found, first=tuple(one.shape), second=tuple(two.shape))
        apart, size = _distance(one, two)
        bits = (_bytes(tensor).reshape(max(tensor.numel(), 1), -1) for tensor in (one, two))
        differing = int(np.not_equal(*bits).any(axis=1).sum()) if one.dtype == two.dtype else one.numel()
        return replace(found, difference=apart, size=size, entries=one.numel(), differing=differing)

    def _other_op(self, place: int, mine: Call | None, other: Call | None) -> Repeat:
        names = [None if call is None else op_name(call) for call in (mine, other)]
        found = Repeat("op", place, names[0] or "", self._node(place), names[0], names[1], origins=1)
        if mine is not None and other is not None and mine.function is other.function:
            first, second = next(_unequal(mine, other), (None, None))
            return replace(found, kind="argument", first=first, second=second)
        return found

    def _node(self, place: int) -> int | None:
        """The node of a call, or of the first one that reads what it made, directly or not."""
        return next((call.node for _, call in self._readers(place) if call.node is not None), None)

    def _reader(self, place: int) -> int:
        """The first call that computes something of what a call reads, and does not only hand it on."""
        for number, call in self._readers(place):
            kernel = KERNELS.get(op_name(call))
            if kernel is None or not kernel.moves:
                return number
        return place

    def _readers(self, place: int) -> Iterator[tuple[int, Call]]:
        """A call, and those that read what it made, directly or not."""
        made: set[int] = set()
        for number, call in enumerate(self.one.calls[place:], place):
            if number == place or not made.isdisjoint(call.inputs):
                yield number, call
                made.update(value for value in call.outputs if value is not None)


def same_bits(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two tensors hold the same bits, those of NaN and of −0 included."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.layout is not torch.strided or two.layout is not torch.strided:
        one, two = one.to_dense(), two.to_dense()
    return bool(np.array_equal(_bytes(one), _bytes(two)))


def _bytes(tensor: torch.Tensor) -> Any:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if plain._is_zerotensor():
        plain = torch.zeros_like(plain)
    return plain.view(torch.uint8).numpy() if plain.numel() else np.zeros(0, np.uint8)


def _at(tape: Tape, place: int) -> Call | None:
    return tape.calls[place] if place < len(tape.calls) else None


def _and(found: Repeat | None, more: Repeat | None) -> Repeat | None:
    """The first of two differences; a second one of its kind is counted."""
    if found is None or more is None:
        return found or more
    return replace(found, origins=found.origins + (found.kind == more.kind))


_PLAIN = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


def _text(item: Any) -> Any:
    """An argument as it reads, so that NaN is NaN; of a generator and the like no more than what it is."""
    if isinstance(item, Ref):
        return item
    if isinstance(item, (list, tuple)):
        return tuple(map(_text, item))
    return repr(item) if isinstance(item, _PLAIN) else type(item).__name__


def _arguments(call: Call) -> tuple[Any, ...]:
    return call.args, tuple(call.kwargs.values())


def _shape(call: Call) -> Any:
    """What a call is besides its function and the values that it reads and makes."""
    return _text(_arguments(call)), tuple(call.kwargs), call.backward, len(call.outputs)


def _unequal(one: Call, two: Call) -> Iterator[tuple[object, object]]:
    """The arguments that differ, those of the first call and of the second."""

    def pairs(mine: Any, other: Any) -> Iterator[tuple[object, object]]:
        nested = isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and not isinstance(mine, Ref)
        if nested and len(mine) == len(other):
            for left, right in zip(mine, other, strict=True):
                yield from pairs(left, right)
        elif _text(mine) != _text(other):
            yield None if isinstance(mine, Ref) else mine, None if isinstance(other, Ref) else other

    yield from pairs(_arguments(one), _arguments(two))


def _distance(one: torch.Tensor, two: torch.Tensor) -> tuple[float, float]:
    """The largest difference of two tensors, and the largest magnitude in the first; infinite for NaN on one side."""
    mine, other = (doubles_of(t) if is_number(t) else t.double().cpu().numpy() for t in (one, two))
    with np.errstate(invalid="ignore"):
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        apart = np.where(same, 0.0, np.abs(mine - other))
    size = np.abs(mine)[np.isfinite(mine)]
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)), float(size.max(initial=0.0))


def _results(one: Tape, two: Tape) -> Sequence[Difference]:
    """The outputs, and the gradients of leaves, whose bits differ; a loss that is an output as that alone."""
    found = []
    pairs: Sequence[tuple[str, Callable[[Tape], Mapping[str, int]]]] = (
        ("output", lambda tape: tape.outputs),
        ("loss", lambda tape: tape.roots),
        ("gradient", lambda tape: tape.gradients),
    )
    for kind, named in pairs:
        mine, other = named(one), named(two)
        for name in dict.fromkeys((*mine, *other)):
            if kind == "loss" and mine.get(name) in one.outputs.values():
                continue
            if name not in mine or name not in other:
                found.append(Difference(name, kind, float("inf"), 0.0))
                continue
            first, second = one.tensors[mine[name]], two.tensors[other[name]]
            if not same_bits(first, second):
                apart = _distance(first, second) if first.shape == second.shape else (float("inf"), 0.0)
                found.append(Difference(name, kind, *apart))
    return found

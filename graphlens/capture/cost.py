"""Floating-point operations and bytes moved per node, counted from the ops that run below autograd."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from graphlens.capture.backward import walk_again
from graphlens.capture.flops import FORMULAS, FREE, WINDOWS, nothing
from graphlens.capture.program import Program, cleared_gradients, run_backward
from graphlens.graph import GradGraph

_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]

# Which of their tensors they do not read: they only write, ask one for its shape, or look a few entries up.
_FILLING = """
    zeros zeros_like ones ones_like full full_like new_zeros new_ones new_full zero_ fill_ arange scalar_tensor eye
    rand randn rand_like randn_like randint randperm uniform_ normal_ bernoulli_ random_
"""
_FILLS = frozenset(_FILLING.split())
_LOOKUPS = frozenset(("embedding", "index", "index_select", "gather"))
_PICKS = frozenset(("nll_loss_forward", "nll_loss2d_forward"))
_UNREAD = {"copy_": 1}


@dataclass
class Tally:
    """What some ops cost. FLOPs count a multiply-add as 2; `uncounted` names the ops without a formula.

    `unsized` counts the tensors whose bytes cannot be seen, such as sparse ones; where it is not 0,
    `moved` says nothing.
    """

    flops: int = 0
    moved: int = 0  # bytes read and written
    ops: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)
    unsized: int = 0


@dataclass(frozen=True)
class Costs:
    """Per node what its forward op and its backward cost; `other` is what no node stands for."""

    forward: Mapping[int, Tally]
    backward: Mapping[int, Tally]
    other: Tally


def count_costs(program: Program, graph: GradGraph) -> Costs:
    """Run both passes once, and count.

    An op of the forward pass belongs to the node that was made last before it, if it is the first:
    below autograd each node stands for one op. Those of a custom Function have no node each, and
    what runs without gradients has none: they are `other`, with what the backward pass does
    outside its nodes.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    counter = _Counter()
    with counter:
        made = program.forward()
    found = walk_again(program, made, graph)
    first = len(found.leaves)
    forward: dict[int, Tally] = {}
    taken = set()
    for number, seq in enumerate(found.seqs, first):
        tally = counter.tallies.get(seq)
        if tally is not None and graph.nodes[number].kind == "function":
            forward[number] = tally
            taken.add(seq)
    other = counter.other
    for seq, tally in counter.tallies.items():
        if seq not in taken:
            _add(other, tally)
    counter = _Counter(other)

    def enter(number: int) -> Callable[[object], None]:
        def hook(_: object) -> None:
            counter.current = number

        return hook

    handles = [node.register_prehook(enter(number)) for number, node in enumerate(found.nodes)]
    try:
        with cleared_gradients(program.leaves.values()), counter:
            counter.is_forward = False
            run_backward(made.roots, program.leaves)
    finally:
        for handle in handles:
            handle.remove()
    return Costs(forward, counter.tallies, other)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, other: Tally | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallies: dict[int, Tally] = {}
        self.other = other or Tally()
        self.is_forward = True
        self.current: int | None = None

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if self.is_forward:
            number: int | None = _sequence_number() - 1
            tally = self.other if number in self.tallies else self.tallies.setdefault(number, Tally())  # type: ignore[arg-type]
        else:
            number = self.current
            tally = self.other if number is None else self.tallies.setdefault(number, Tally())
        count(tally, func, args, kwargs, made)
        return made


def count(tally: Tally, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> None:
    """Add one call of an op to a tally."""
    packet = func._overloadpacket
    name = packet.__name__
    if func.is_view or name in FREE:
        return
    outputs = _tensors([made])
    inputs = _tensors([*args, *(value for key, value in kwargs.items() if key != "out")])
    tally.ops += 1
    _count_bytes(tally, name, inputs, outputs)
    shapes = [tuple(tensor.shape) for tensor in inputs], [tuple(tensor.shape) for tensor in outputs]
    plain = name if name in FORMULAS else name.removesuffix("_")
    formula = FORMULAS.get(plain)
    if formula is not nothing and any(tensor.is_complex() or not _is_dense(tensor) for tensor in (*inputs, *outputs)):
        tally.uncounted[name] += 1  # the formulas are those of real and dense tensors
    elif packet in flop_registry:
        tally.flops += int(flop_registry[packet](*args, **kwargs, out_val=made))
    elif plain in WINDOWS:
        tally.flops += math.prod(_pair(args[1])) * math.prod(shapes[1][0])
    elif formula is None:
        tally.uncounted[name] += 1
    else:
        tally.flops += formula(*shapes)


def _count_bytes(tally: Tally, name: str, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    tally.unsized += sum(not _is_dense(tensor) for tensor in (*inputs, *outputs))
    written = sum(map(_bytes, outputs))
    if name in _FILLS:
        tally.moved += written
    elif name in _LOOKUPS:
        # Of the table no more is read than what is found there.
        tally.moved += 2 * written + sum(map(_bytes, inputs[1:]))
    elif name in _PICKS:
        # One entry of the table for each index, and what is read besides.
        tally.moved += written + inputs[1].numel() * inputs[0].element_size() + sum(map(_bytes, inputs[1:]))
    else:
        tally.moved += written + sum(map(_bytes, inputs[_UNREAD.get(name, 0) :]))


def _add(total: Tally, part: Tally) -> None:
    total.flops += part.flops
    total.moved += part.moved
    total.ops += part.ops
    total.uncounted.update(part.uncounted)
    total.unsized += part.unsized


def _tensors(items: Any) -> list[torch.Tensor]:
    found = []
    for item in items:
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, (list, tuple)):
            found.extend(_tensors(item))
    return found


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _bytes(tensor: torch.Tensor) -> int:
    """Distinct bytes: what expand() repeats is one and the same."""
    if not _is_dense(tensor):
        return 0
    lengths = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return min(math.prod(lengths) * tensor.element_size(), tensor.untyped_storage().nbytes())


def _pair(length: Any) -> tuple[int, ...]:
    """The sides of a window."""
    sides = tuple(length) if isinstance(length, (list, tuple)) else (length,)
    return sides * 2 if len(sides) == 1 else sides

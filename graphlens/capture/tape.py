"""Every op below autograd that a run calls, forward and backward, written down as a pure function.

Below autograd a pass is a list of calls of aten ops. On the tape each has values (numbered, never
changed) as inputs and outputs: an op that writes into a tensor appears as the op that returns the
result instead, and a tensor that shares the memory written to gets a new value when it is read
again. So the list can be run again in another arithmetic, or searched for what is computed twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch._ops import OpOverload


class Ref(NamedTuple):
    """A tensor among the arguments of a call: the number of its value."""

    value: int


class Call(NamedTuple):
    """One aten op that ran.

    Attributes:
        function: a function of its arguments: `add` where `add_` was called.
        args, kwargs: as they were given; each tensor is a `Ref`, in lists and tuples too.
        outputs: the values of the returned tensors, those of lists one after the other; None for
            what is no tensor.
        node: the node of the graph that it belongs to: the one whose forward op it is, or whose
            backward it is part of; None if there is none.
        backward: whether the backward pass called it.
        accumulates: whether the engine called it to add up gradients that meet; `node` then is the
            one that sent the later of the two.
        random: whether it draws random numbers.
        tracked: whether autograd followed it (`torch.is_grad_enabled()`).
    """

    function: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int | None, ...]
    node: int | None = None
    backward: bool = False
    accumulates: bool = False
    random: bool = False
    tracked: bool = True

    @property
    def inputs(self) -> list[int]:
        """The values that it reads, in the order of its arguments."""
        found: list[int] = []
        for item in (*self.args, *self.kwargs.values()) if self.kwargs else self.args:
            if type(item) is Ref:  # what most arguments are: asked for a million times
                found.append(item.value)
            elif isinstance(item, (list, tuple)):
                found.extend(refs(item))
        return found


@dataclass
class Tape:
    """Values and calls of one run, forward and backward.

    It keeps every value, so that it takes the memory of all intermediate results together.

    Attributes:
        tensors: per value the tensor of the run, detached.
        sources: the values that no call made: leaves, inputs and constants.
        leaves, outputs, roots, gradients: values by name; gradients of leaves that received one.
        opaque: ops that could not be written as functions, and how often they ran; what they wrote
            is a source.
        written: sources that the run wrote over: what it did outlives it.
        buffers: of these the module's buffers, with their names.
        reads: how often numbers left tensors for Python; what became of them there is not on the tape.
        requiring: the values that were read by a tensor that required a gradient.
        saved: the value that a node of the graph keeps for backward, by node and slot.
        parts: values that were written over a part of a storage.
    """

    calls: list[Call] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    leaves: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    roots: dict[str, int] = field(default_factory=dict)
    gradients: dict[str, int] = field(default_factory=dict)
    opaque: Counter[str] = field(default_factory=Counter)
    written: list[int] = field(default_factory=list)
    buffers: dict[int, str] = field(default_factory=dict)
    requiring: set[int] = field(default_factory=set)
    reads: int = 0
    saved: dict[tuple[int, str], int] = field(default_factory=dict)
    parts: set[int] = field(default_factory=set)

    def made_by(self) -> list[int | None]:
        """Per value the position of the call that made it; None for a source."""
        made: list[int | None] = [None] * len(self.tensors)
        for place, call in enumerate(self.calls):
            for value in call.outputs:
                if value is not None:
                    made[value] = place
        return made


def refs(value: Any) -> Iterator[int]:
    """The numbers of all values in nested arguments, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Ref):
            yield item.value
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))


def filled(value: Any, tensor_of: Callable[[int], Any]) -> Any:
    """Arguments with something in the place of each `Ref`."""
    if isinstance(value, Ref):
        return tensor_of(value.value)
    if isinstance(value, (list, tuple)):
        return type(value)(filled(item, tensor_of) for item in value)
    return value


def run_call(call: Call, tensor_of: Callable[[int], Any]) -> list[Any]:
    """Call its function on other tensors; what comes back in the order of `call.outputs`."""
    args = filled(call.args, tensor_of)
    kwargs = {key: filled(value, tensor_of) for key, value in call.kwargs.items()}
    moments = {id(tensor) for tensor in running_moments(call.function, args)}
    if moments:
        args = tuple(item.clone() if id(item) in moments else item for item in args)
    return flat_outputs(call.function(*args, **kwargs))


def running_moments(function: OpOverload, args: Sequence[Any]) -> list[torch.Tensor]:
    """The running mean and variance that batch_norm writes into, which its schema does not say."""
    if function is not torch.ops.aten.native_batch_norm.default or not args[5]:
        return []
    return [item for item in args[3:5] if isinstance(item, torch.Tensor)]


def flat_outputs(made: Any) -> list[Any]:
    """What an op returned, lists and tuples one after the other."""
    if not isinstance(made, (list, tuple)):
        return [made]
    return [tensor for item in made for tensor in flat_outputs(item)]


def replay(tape: Tape, sources: Mapping[int, torch.Tensor] | None = None) -> list[torch.Tensor | None]:
    """Run all calls again on the recorded sources; per value what comes out.

    Random numbers are those of the run. Nothing is kept for a backward pass.

    Args:
        sources: values that are to be taken as given instead.
    """
    values: list[torch.Tensor | None] = [None] * len(tape.tensors)
    for number in tape.sources:
        values[number] = tape.tensors[number]
    given = sources or {}
    for number, tensor in given.items():
        values[number] = tensor
    with torch.no_grad():
        for call in tape.calls:
            made: list[Any] | None = None
            if call.random:
                made = [tape.tensors[k] if k is not None else None for k in call.outputs]
            for output, tensor in zip(call.outputs, made or run_call(call, values.__getitem__), strict=True):
                if output is not None and output not in given:  # some ops return no workspace without autograd
                    values[output] = tape.tensors[output] if tensor is None else tensor
    return values

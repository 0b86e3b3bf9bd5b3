"""The time of single ops, each run by itself again and again, and from that the time of a list of them.

In a long pass an op finds cold caches, and takes several times as long as in a short one: what a
shorter program will take cannot be read off the longer one's nodes.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Hashable, Sequence, Set
from typing import Any, NamedTuple

import torch

from graphlens.capture.tape import Call, Ref, Tape, filled, flat_outputs
from graphlens.collector import paused_collector
from graphlens.proof.simplify import Simplified

_RUNS = 25
_CALLS = 200  # of a cheap op, to see what its way into torch costs
_clock = time.perf_counter_ns


class Alone(NamedTuple):
    """Nanoseconds of an op, and of the backward of the node that it makes."""

    forward: float
    backward: float


def times_alone(simplified: Simplified) -> Alone | None:
    """What the calls that are left take together; ops of one kind on tensors of one shape are timed once.

    Returns None where one cannot be run by itself.
    """
    tape = simplified.tape
    gradient = tape.requiring
    kinds: dict[Hashable, _Op] = {}
    counts: Counter[Hashable] = Counter()
    for call in simplified.calls:
        key = _kind(call, tape, gradient)
        counts[key] += 1
        if key not in kinds:
            kinds[key] = _Op(call, tape, gradient)
    try:
        with paused_collector():
            backward = _sweep(list(kinds.values()))
            a_node = _engine()
            way = _way_of_an_overload()
    except (RuntimeError, NotImplementedError):
        return None
    for key, op in kinds.items():
        if op.backward:
            backward += counts[key] * (statistics.median(op.backward) + a_node)
    forward = sum(counts[key] * max(0.0, statistics.median(op.forward) - way) for key, op in kinds.items())
    return Alone(forward, backward)


class _Op:
    """One call on tensors of its own, and the nanoseconds that it took."""

    def __init__(self, call: Call, tape: Tape, gradient: Set[int]) -> None:
        self.call = call
        inputs: dict[int, torch.Tensor] = {}
        for value in call.inputs:
            tensor = tape.tensors[value].detach()
            wants = value in gradient and call.tracked
            inputs[value] = tensor.requires_grad_() if wants else tensor
        self.args = filled(call.args, inputs.__getitem__)
        self.kwargs = {key: filled(value, inputs.__getitem__) for key, value in call.kwargs.items()}
        self.made: list[Any] = []
        self.forward: list[float] = []
        self.backward: list[float] = []

    def run(self) -> None:
        function, args, kwargs = self.call.function, self.args, self.kwargs
        start = _clock()
        made = function(*args, **kwargs)
        self.forward.append(_clock() - start)
        self.made = flat_outputs(made)

    def run_backward(self) -> None:
        spent = _time_backward(self.made)
        if spent is not None:
            self.backward.append(spent)


def _sweep(ops: Sequence[_Op]) -> float:
    """Run the ops in turns, as a pass does: one that is run again at once finds everything in the caches.

    Returns what a backward pass takes whatever there is to do: that of a graph with one cheap node.
    """
    start = []
    for _ in range(_RUNS):
        for op in ops:
            op.run()
        start.append(_chain(1))
        for op in reversed(ops):
            op.run_backward()
    return statistics.median(start)


def _kind(call: Call, tape: Tape, gradient: Set[int]) -> Hashable:
    def look(item: Any) -> Hashable:
        if isinstance(item, Ref):
            tensor = tape.tensors[item.value]
            return tuple(tensor.shape), tensor.stride(), tensor.dtype, item.value in gradient
        if isinstance(item, (list, tuple)):
            return tuple(look(part) for part in item)
        return repr(item)

    return call.function, look(call.args), look(tuple(call.kwargs.items())), call.tracked


def _time_backward(made: list[Any]) -> float | None:
    tensors = [tensor for tensor in made if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None]
    if not tensors:
        return None
    node: Any = tensors[0].grad_fn
    gradients: list[torch.Tensor | None] = [None] * len(node._input_metadata)
    for tensor in tensors:
        if tensor.grad_fn is node:
            gradients[tensor.output_nr] = torch.ones_like(tensor)
    with torch.no_grad():
        start = _clock()
        node(*gradients)
        return _clock() - start


def _engine() -> float:
    """What the engine adds to the work of a node."""
    short, long = 1, 101
    own = statistics.median(_time_backward([torch.ones((), requires_grad=True).neg()]) or 0.0 for _ in range(_RUNS))
    times = {length: statistics.median(_chain(length) for _ in range(_RUNS)) for length in (short, long)}
    return max(0.0, (times[long] - times[short]) / (long - short) - own)


def _way_of_an_overload() -> float:
    """What calling an op by its overload, as is done here, takes longer than by its name, as a program does."""
    tensor = torch.ones((), requires_grad=True)
    by_overload, by_name = torch.ops.aten.neg.default, torch.neg
    spent: dict[Any, list[int]] = {by_overload: [], by_name: []}
    for _ in range(_CALLS):
        for function, times in spent.items():
            start = _clock()
            function(tensor)
            times.append(_clock() - start)
    return max(0.0, statistics.median(spent[by_overload]) - statistics.median(spent[by_name]))


def _chain(length: int) -> int:
    """The backward pass of a chain of cheap nodes with one leaf."""
    end = leaf = torch.ones((), requires_grad=True)
    for _ in range(length):
        end = end.neg()
    start = _clock()
    torch.autograd.backward([end], inputs=[leaf])
    return _clock() - start

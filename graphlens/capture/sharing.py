"""Which part of a call's time belongs to which of the nodes that it made."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphlens.capture.backward import walk_again
from graphlens.capture.program import Program
from graphlens.capture.release import drain
from graphlens.collector import paused_collector
from graphlens.graph import GradGraph

_RUNS = 3
_clock = time.perf_counter_ns
_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


def forward_ops(program: Program, graph: GradGraph) -> dict[int, int]:
    """Nanoseconds of the ops below autograd that ran for each node in the forward pass: the quickest of a few runs.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    quickest: dict[int, int] = {}
    for _ in range(_RUNS):
        with paused_collector():
            watch = _Watch()
            with watch:
                made = program.forward()
            found = walk_again(program, made, graph)
            numbers = set(found.seqs)
            for number, seq in enumerate(found.seqs, len(found.leaves)):
                spent = watch.spent[seq]
                if not spent and seq + 1 not in numbers:
                    # An op in place makes its node, then a copy to keep, which takes the next number.
                    spent = watch.spent[seq + 1]
                quickest[number] = min(spent, quickest.get(number, spent))
            del made, found
            drain()
    return quickest


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spent: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        number = _sequence_number() - 1  # of the node that was made last
        start = _clock()
        made = func(*args, **(kwargs or {}))
        self.spent[number] += _clock() - start
        return made


def shared_out(
    forward: Sequence[int | None], together: Sequence[Sequence[int]], ops: Mapping[int, int]
) -> tuple[int | None, ...]:
    """The forward times, where those of one call are shared among its nodes in proportion to their ops' times.

    Args:
        together: the nodes of each call that made several.
        ops: nanoseconds of each node's ops by themselves.
    """
    times = list(forward)
    for nodes in together:
        spent = [times[node] for node in nodes]
        weights = [ops.get(node, 0) for node in nodes]
        if None in spent or not sum(weights):
            continue
        whole = sum(ns or 0 for ns in spent)
        for node, weight in zip(nodes, weights, strict=True):
            times[node] = round(whole * weight / sum(weights))
    return tuple(times)

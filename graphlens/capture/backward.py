"""The time of every node of a backward pass, and of the forward op that made it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.program import Pass, Program, cleared_gradients, recorder_of, run_backward
from graphlens.capture.release import drain
from graphlens.capture.timing import Progress, timing
from graphlens.capture.walk import Walk, walk
from graphlens.collector import paused_collector
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.records import Timing

_clock = time.perf_counter_ns
_CHAIN = 2000  # nodes of the graph that the cost of a hook is measured on


@dataclass(frozen=True)
class NodeTimes:
    """Nanoseconds per node, medians over the repeats; None for a node that was not run.

    A node's backward time begins when the engine hands it its gradient and ends when the engine
    hands the next node its own: it holds the node's own work, the adding up of the gradients that
    it sends on, and the engine's way to the next node. The cost of the hooks, `hook_ns` a node,
    was measured on another graph and is subtracted.

    Attributes:
        plain, hooked: seconds of the backward pass without and with hooks, measured in turns.
        order, starts: the nodes in the order in which the last repeat ran them, and when, in
            nanoseconds after its beginning, hooks included; `end` is when it was done.
    """

    backward: tuple[int | None, ...]
    forward: tuple[int | None, ...]
    hook_ns: float
    plain: Timing
    hooked: Timing
    order: tuple[int, ...]
    starts: tuple[int, ...]
    end: int

    @property
    def coverage(self) -> float:
        """The nodes' backward times together, as a share of the plain backward pass."""
        return sum(filter(None, self.backward)) / 1e9 / self.plain.median


def time_nodes(
    program: Program, graph: GradGraph, repeats: int = 5, *, progress: Progress = lambda _: None
) -> NodeTimes:
    """Run a program `repeats` times with hooks on every node, and in turns without.

    Raises:
        MeasureError: it makes another graph every time, or its work is not done on the CPU, where
            the engine runs one node after the other.
    """
    devices = {node.device for node in graph.nodes} - {None, "cpu"}
    if devices:
        raise MeasureError(
            f"{program.name} runs on {', '.join(sorted(map(str, devices)))}; the time of single nodes is measured on "
            "the CPU only, where one runs after the other"
        )
    hook = hook_cost()
    plain: list[float] = []
    hooked: list[float] = []
    backward: list[list[int | None]] = []
    forward: list[list[int | None]] = []
    order: list[int] = []
    stamps: list[int] = []
    _run(program, graph, None)  # to warm up
    for repeat in range(repeats):
        progress(f"{program.name}: timing each node, run {repeat + 1} of {repeats}")
        spent, _, _, made = _run(program, graph, None)
        plain.append(spent / 1e9)
        forward.append(made)
        spent, order, stamps, _ = _run(program, graph, hook)
        hooked.append(spent / 1e9)
        row: list[int | None] = [None] * len(graph.nodes)
        for node, start, following in zip(order, stamps, stamps[1:], strict=False):
            row[node] = (row[node] or 0) + max(0, round(following - start - hook))
        backward.append(row)
    plain_timing, hooked_timing = timing(plain), timing(hooked)
    assert plain_timing is not None
    assert hooked_timing is not None
    return NodeTimes(
        _medians(backward),
        _medians(forward),
        hook,
        plain_timing,
        hooked_timing,
        tuple(order),
        tuple(stamps[:-1]),
        stamps[-1],
    )


def _run(program: Program, graph: GradGraph, hook: float | None) -> tuple[int, list[int], list[int], list[int | None]]:
    """One run. With a hook: nanoseconds, the nodes in order, their starts and the end. Without: forward times."""
    with paused_collector():
        recorder = recorder_of(program)
        if hook is None:
            with recorder:
                made = program.forward()
        else:
            made = program.forward()
        found = _walked(made)
        nodes = found.nodes
        if len(nodes) != len(graph.nodes):
            raise MeasureError(
                f"{program.name} makes another graph every time ({len(graph.nodes):,} nodes, then {len(nodes):,}); the "
                "time of single nodes cannot be told"
            )
        forward: list[int | None] = []
        if hook is None:
            origins = recorder.attribution().origins
            spent = [origins.get(seq, (None, None, None))[2] for seq in found.seqs]
            forward = [*([None] * len(found.leaves)), *spent]
        order: list[int] = []
        stamps: list[int] = []
        handles = [] if hook is None else _stamp(nodes, order, stamps)
        try:
            with cleared_gradients(program.leaves.values()):
                start = _clock()
                run_backward(made.roots, program.leaves)
                end = _clock()
        finally:
            for handle in handles:
                handle.remove()
        del made, found, nodes
        drain()
    return end - start, order, [stamp - start for stamp in (*stamps, end)], forward


def _stamp(
    nodes: Sequence[AutogradNode], order: list[int], stamps: list[int]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hook every node, so that the order and the times in which they are run are written down."""

    def hook_of(number: int) -> Callable[[object], None]:
        def hook(
            _: object,
            append: Callable[[int], None] = order.append,
            stamp: Callable[[int], None] = stamps.append,
            clock: Callable[[], int] = _clock,
        ) -> None:
            append(number)
            stamp(clock())

        return hook

    return [node.register_prehook(hook_of(number)) for number, node in enumerate(nodes)]


def hook_cost() -> float:
    """Nanoseconds that a hook adds to a node, measured on a chain of cheap nodes."""
    pairs = []
    for _ in range(5):
        spent = []
        for hooked in (False, True):
            value = torch.ones(4, requires_grad=True)
            for _ in range(_CHAIN):
                value = value.neg()
            end = value.sum()
            nodes = walk([torch.autograd.graph.get_gradient_edge(end).node]).nodes
            handles = _stamp(nodes, [], []) if hooked else []
            with paused_collector():
                start = _clock()
                end.backward()  # type: ignore[no-untyped-call]
                spent.append(_clock() - start)
            for handle in handles:
                handle.remove()
        pairs.append((spent[1] - spent[0]) / _CHAIN)
    return max(0.0, statistics.median(pairs))


def _walked(made: Pass) -> Walk:
    return walk(torch.autograd.graph.get_gradient_edge(tensor).node for tensor in made.roots.values())


def _medians(rows: Sequence[Sequence[int | None]]) -> tuple[int | None, ...]:
    columns = zip(*rows, strict=True)
    return tuple(None if None in column else round(statistics.median(column)) for column in columns)

"""The time of every node of a backward pass, and of the forward op that made it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.ledger import Ledger, op_name
from graphlens.capture.program import Pass, Program, cleared_gradients, recorder_of, run_backward
from graphlens.capture.release import drain
from graphlens.capture.timing import Progress, timing
from graphlens.capture.walk import Walk, walk
from graphlens.collector import paused_collector
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.records import Timing

_clock = time.perf_counter_ns
_CHAIN = 200  # nodes of the graph that the cost of a hook is measured on: so few that a pass is rarely interrupted
_ROUNDS = 50  # of measuring it


@dataclass(frozen=True)
class NodeTimes:
    """Nanoseconds per node, medians over the repeats; None for a node that was not run.

    A node's backward time begins when the engine hands it its gradient and ends when the engine
    hands the next node its own: it holds the node's own work, the adding up of the gradients that
    it sends on, and the engine's way to the next node. The cost of the hooks, `hook_ns` a node,
    was measured on another graph and is subtracted.

    Attributes:
        plain, hooked: seconds of the backward pass without and with hooks, measured in turns.
        together: the nodes of each call that made several: each has an equal part of its forward time.
        order, starts: the nodes in the order in which the last repeat ran them, and when, in
            nanoseconds after its beginning, hooks included; `end` is when the last one was done. What
            the engine does before the first node and after the last one belongs to no node:
            `before` and `after` are medians of it in nanoseconds.
    """

    backward: tuple[int | None, ...]
    forward: tuple[int | None, ...]
    hook_ns: float
    plain: Timing
    hooked: Timing
    order: tuple[int, ...]
    starts: tuple[int, ...]
    end: int
    before: int
    after: int
    together: tuple[tuple[int, ...], ...] = ()

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
    busy: list[float] = []
    hooked: list[float] = []
    backward: list[list[int | None]] = []
    forward: list[list[int | None]] = []
    once = _run_plain(program, graph)  # to warm up
    run = _run_hooked(program, graph, None)
    before: list[int] = []
    after: list[int] = []
    for repeat in range(repeats):
        progress(f"{program.name}: timing each node, run {repeat + 1} of {repeats}")
        once = _run_plain(program, graph)
        plain.append(once.seconds)
        busy.append(once.processor)
        forward.append(once.forward)
        run = _run_hooked(program, graph, run.order[-1])
        hooked.append(run.seconds)
        row: list[int | None] = [None] * len(graph.nodes)
        for node, start, following in zip(run.order, run.starts, (*run.starts[1:], run.end), strict=True):
            row[node] = max(0, round(following - start - hook))
        backward.append(row)
        before.append(run.starts[0])
        after.append(round(run.seconds * 1e9) - run.end)
    plain_timing, hooked_timing = timing(plain, busy), timing(hooked)
    assert plain_timing is not None
    assert hooked_timing is not None
    return NodeTimes(
        _medians(backward), _medians(forward), hook, plain_timing, hooked_timing, run.order, run.starts, run.end,
        round(statistics.median(before)), round(statistics.median(after)), once.together,
    )  # fmt: skip


class _Hooked(NamedTuple):
    """A backward pass with hooks: its nodes in order, when each began, and when the last one was done."""

    seconds: float
    order: tuple[int, ...]
    starts: tuple[int, ...]
    end: int


class _Plain(NamedTuple):
    """A run without hooks: seconds of backward by the clock and of the processor, and each node's forward op."""

    seconds: float
    processor: float
    forward: list[int | None]
    together: tuple[tuple[int, ...], ...]


def _run_plain(program: Program, graph: GradGraph) -> _Plain:
    """Run a program, and time its passes and the calls of its forward pass."""
    with paused_collector():
        with recorder_of(program) as recorder:
            made = program.forward()
        found = walk_again(program, made, graph)
        attribution = recorder.attribution()
        origins = attribution.origins
        numbers = {seq: number for number, seq in enumerate(found.seqs, len(found.leaves))}
        calls = ([numbers[seq] for seq in own if seq in numbers] for own in attribution.together)
        together = tuple(tuple(nodes) for nodes in calls if len(nodes) > 1)
        spent = [origins.get(seq, (None, None, None))[2] for seq in found.seqs]
        with cleared_gradients(program.leaves.values()):
            began = time.process_time()
            start = _clock()
            run_backward(made.roots, program.leaves)
            end = _clock()
            busy = time.process_time() - began
        forward = [*([None] * len(found.leaves)), *spent]
        del made, found
        drain()
    return _Plain((end - start) / 1e9, busy, forward, together)


def _run_hooked(program: Program, graph: GradGraph, last: int | None) -> _Hooked:
    """Run a program with hooks.

    Args:
        last: the node that is expected to be the last one. After it the engine clears its tables away,
            which can take longer than any node of a large graph and belongs to none.
    """
    with paused_collector():
        made = program.forward()
        nodes = walk_again(program, made, graph).nodes
        stamps = [0] * len(nodes)
        ends: list[int] = []
        handles = _stamp(nodes, stamps)
        if last is not None:
            handles.append(nodes[last].register_hook(lambda _, __: ends.append(_clock())))
        try:
            with cleared_gradients(program.leaves.values()):
                start = _clock()
                run_backward(made.roots, program.leaves)
                end = _clock()
        finally:
            for handle in handles:
                handle.remove()
        del made, nodes
        drain()
    order = sorted((number for number, stamp in enumerate(stamps) if stamp), key=stamps.__getitem__)
    done = ends[-1] if ends and order[-1] == last else end
    return _Hooked((end - start) / 1e9, tuple(order), tuple(stamps[number] - start for number in order), done - start)


def _stamp(nodes: Sequence[AutogradNode], stamps: list[int]) -> list[torch.utils.hooks.RemovableHandle]:
    """Hook every node, so that the time at which it begins is written down in its place."""

    # A list that grows instead takes milliseconds for some nodes, whenever it is moved.
    def hook_of(number: int) -> Callable[[object], None]:
        def hook(_: object, stamps: list[int] = stamps, clock: Callable[[], int] = _clock) -> None:
            stamps[number] = clock()

        return hook

    return [node.register_prehook(hook_of(number)) for number, node in enumerate(nodes)]


def hook_cost() -> float:
    """Nanoseconds that a hook adds to a node, measured on a chain of cheap nodes."""
    spent: dict[bool, list[int]] = {False: [], True: []}
    for _ in range(_ROUNDS):
        for hooked in (False, True):
            value = torch.ones(4, requires_grad=True)
            for _ in range(_CHAIN):
                value = value.neg()
            end = value.sum()
            nodes = walk([torch.autograd.graph.get_gradient_edge(end).node]).nodes
            handles = _stamp(nodes, [0] * len(nodes)) if hooked else []
            with paused_collector():
                start = _clock()
                end.backward()  # type: ignore[no-untyped-call]
                spent[hooked].append(_clock() - start)
            for handle in handles:
                handle.remove()
    # The shortest of each: what else the machine does can only lengthen a pass.
    return max(0.0, (min(spent[True]) - min(spent[False])) / _CHAIN)


# Below a dispatch mode, as costs are counted with, reshape() takes the other way to the same view.
_SAME = frozenset(("ReshapeAliasBackward0", "ViewBackward0"))


def walk_again(program: Program, made: Pass, graph: GradGraph) -> Walk:
    """The nodes of another run of a program, if they are those that its graph was captured with.

    Raises:
        MeasureError: they are others.
    """
    found = walk(torch.autograd.graph.get_gradient_edge(tensor).node for tensor in made.roots.values())
    inspect = Ledger(()).node_type
    ops = [inspect(node).op or op_name(node) for node in found.nodes]
    if len(ops) != len(graph.nodes):
        raise MeasureError(
            f"{program.name} makes another graph every time ({len(graph.nodes):,} nodes, then {len(ops):,}); the "
            "time and the costs of single nodes cannot be told"
        )
    for number, (op, node) in enumerate(zip(ops, graph.nodes, strict=True)):
        if op != node.op and not {op, node.op} <= _SAME:
            raise MeasureError(
                f"{program.name} makes another graph every time (node {number} is {node.op}, then {op}); the time "
                "and the costs of single nodes cannot be told"
            )
    return found


def _medians(rows: Sequence[Sequence[int | None]]) -> tuple[int | None, ...]:
    columns = zip(*rows, strict=True)
    return tuple(None if None in column else round(statistics.median(column)) for column in columns)

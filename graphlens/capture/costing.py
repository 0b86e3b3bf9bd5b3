"""A graph whose nodes know what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from graphlens.capture.backward import NodeTimes, time_nodes
from graphlens.capture.cost import Costs, Tally, count_costs
from graphlens.capture.program import Program
from graphlens.capture.sharing import forward_ops, shared_out
from graphlens.capture.timing import Progress
from graphlens.graph import GradGraph, Node
from graphlens.records import CostRun


def measure_costs(
    program: Program, graph: GradGraph, repeats: int = 5, *, progress: Progress = lambda _: None
) -> tuple[GradGraph, CostRun, NodeTimes]:
    """Time each node of a program's graph and count its FLOPs and bytes; the graph then knows them.

    Raises:
        MeasureError: the program makes another graph every time, or does not run on the CPU.
    """
    times = _timed(program, graph, repeats, progress)
    progress(f"{program.name}: counting")
    costs = count_costs(program, graph)
    uncounted: Counter[str] = Counter()
    for tally in (*costs.forward.values(), *costs.backward.values(), costs.other):
        uncounted.update(tally.uncounted)
    run = CostRun(
        repeats, times.plain, times.hooked, times.coverage, times.hook_ns, dict(uncounted.most_common()),
        costs.other.ops, costs.other.flops, costs.other.moved, times.before, times.after,
        sum(map(len, times.together)),
    )  # fmt: skip
    return with_costs(graph, times, costs), run, times


def _timed(program: Program, graph: GradGraph, repeats: int, progress: Progress) -> NodeTimes:
    """The times of the nodes; a call that made several shares its own among them by what their ops take."""
    times = time_nodes(program, graph, repeats, progress=progress)
    if not times.together:
        return times
    progress(f"{program.name}: timing the ops of calls that made several nodes")
    return replace(times, forward=shared_out(times.forward, times.together, forward_ops(program, graph)))


def measure_times(
    program: Program, graph: GradGraph, repeats: int = 5, *, progress: Progress = lambda _: None
) -> tuple[GradGraph, NodeTimes]:
    """Time each node of a program's graph in both passes; the graph then knows them.

    Raises:
        MeasureError: the program makes another graph every time, or does not run on the CPU.
    """
    times = _timed(program, graph, repeats, progress)
    nodes = [
        node._replace(forward_ns=forward, backward_ns=backward)
        for node, forward, backward in zip(graph.nodes, times.forward, times.backward, strict=True)
    ]
    return _with_nodes(graph, nodes), times


def with_costs(graph: GradGraph, times: NodeTimes, costs: Costs) -> GradGraph:
    """The graph with its nodes' times, FLOPs and bytes moved."""
    nodes = [_with_costs(node, number, times, costs) for number, node in enumerate(graph.nodes)]
    return _with_nodes(graph, nodes)


def _with_nodes(graph: GradGraph, nodes: list[Node]) -> GradGraph:
    return GradGraph(
        nodes, graph.edges, graph.saved, graph.inputs, graph.outputs, graph.meta, graph.sources, graph.calls
    )


def _with_costs(node: Node, number: int, times: NodeTimes, costs: Costs) -> Node:
    forward, backward = costs.forward.get(number), costs.backward.get(number)
    return node._replace(
        forward_ns=times.forward[number],
        backward_ns=times.backward[number],
        forward_flops=_flops(forward),
        # A node without ops of its own in the backward pass passes its gradient on as it is.
        backward_flops=_flops(backward) if backward is not None else 0,
        forward_moved=_moved(forward),
        backward_moved=_moved(backward) if backward is not None else 0,
    )


def _flops(tally: Tally | None) -> int | None:
    return None if tally is None or tally.uncounted else tally.flops


def _moved(tally: Tally | None) -> int | None:
    return None if tally is None or tally.unsized else tally.moved

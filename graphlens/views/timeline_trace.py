"""Both passes as a trace that chrome://tracing and Perfetto open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from graphlens.analyses.timeline import Timeline, backward_timeline, forward_timeline
from graphlens.graph import GradGraph, shape_text
from graphlens.records import CostRun

_TRACKS = {1: "forward pass", 2: "backward pass"}


def trace_json(graph: GradGraph, order: Sequence[int], run: CostRun, name: str) -> bytes:
    """One event for each node and each stretch of a module's call, on a track for each pass."""
    return json.dumps(trace_document(graph, order, run, name), ensure_ascii=False, separators=(",", ":")).encode()


def trace_document(graph: GradGraph, order: Sequence[int], run: CostRun, name: str) -> dict[str, Any]:
    """The trace in the Trace Event Format: complete events, "X", with `ts` and `dur` in microseconds.

    Args:
        order: the nodes in the order in which the backward pass ran them.
    """
    passes = {1: forward_timeline(graph), 2: backward_timeline(graph, order, run)}
    events: list[dict[str, Any]] = [_named("process_name", 0, name)]
    saved = [(sums.view_bytes, sums.storage_bytes) if not sums.unknown else None for sums in graph.saved_by_node()]
    for track, timeline in passes.items():
        events.append(_named("thread_name", track, _TRACKS[track]))
        events.append({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": track, "args": {"sort_index": track}})
        events.extend(_events(graph, timeline, track, saved))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "target": name,
            "durations": (
                f"Each node's duration is its median over {run.repeats} runs. The nodes are laid end to end in the "
                "order in which they ran, so that gaps between them, as the Python code of a forward pass, are not "
                "shown. What the hooks cost that time the nodes was measured apart and subtracted."
            ),
            "engine": "What the engine does before the first node of the backward pass and after the last one.",
            "leaves": "A leaf (AccumulateGrad) stands in the module of the node that ran before it.",
            "not_measured": "A null among the arguments says that a number was not measured or not counted.",
            "forward_sum_ns": passes[1].total,
            "backward_sum_ns": passes[2].total,
            "backward_plain_ns": round(run.plain.median * 1e9),
            "coverage": run.coverage,
            "hook_ns": run.hook_ns,
            "repeats": run.repeats,
            "forward_nodes_not_timed": list(passes[1].untimed),
            "backward_nodes_not_timed": list(passes[2].untimed),
        },
    }


def _named(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": 1, "tid": track, "args": {"name": name}}


def _events(
    graph: GradGraph, timeline: Timeline, track: int, saved: Sequence[tuple[int, int] | None]
) -> Iterator[dict[str, Any]]:
    for span in timeline.spans:
        event = {"ph": "X", "pid": 1, "tid": track, "ts": span.start / 1000, "dur": span.length / 1000}
        call = None if span.call is None else graph.calls[span.call]
        if span.node is None:
            if call is None:
                yield {**event, "name": "engine", "cat": "engine", "args": {}}
                continue
            yield {
                **event, "name": str(call), "cat": "module", "args": {"class": call.kind, "call": call.number}
            }  # fmt: skip
            continue
        node = graph.nodes[span.node]
        forward = track == 1
        args: dict[str, Any] = {
            "node": span.node,
            "source": None if node.source is None else str(graph.sources[node.source]),
            "line": None if node.source is None else graph.sources[node.source].text,
            "module": None if call is None else str(call),
            "shape": shape_text(node.shape),
            "dtype": node.dtype,
            "flops": node.forward_flops if forward else node.backward_flops,
            "bytes_moved": node.forward_moved if forward else node.backward_moved,
        }
        if node.kind == "leaf":
            args["leaf"] = node.name
        else:
            sizes = saved[span.node]
            args["saved_view_bytes"], args["saved_storage_bytes"] = sizes or (None, None)
        yield {**event, "name": node.op, "cat": "node", "args": args}

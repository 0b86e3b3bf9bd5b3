"""The JSON documents on time and memory of single nodes; as those of `documents`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphlens.analyses.cost import CostRow, CostTable
from graphlens.analyses.findings import Finding
from graphlens.analyses.memory import Growth, Memory
from graphlens.analyses.overhead import Overhead, overhead_numbers
from graphlens.analyses.timeline import Flame
from graphlens.analyses.unrest import caution
from graphlens.graph import GradGraph
from graphlens.records import CostRun
from graphlens.views.documents import finding_document
from graphlens.views.memory_report import objects_bytes
from graphlens.views.plain import timing


def cost_document(
    target: str,
    costs: CostTable,
    run: CostRun,
    findings: Sequence[Finding] = (),
    overhead: Overhead | None = None,
) -> dict[str, Any]:
    """`graphlens stats --cost --json`. Nanoseconds, FLOPs, bytes; null where not measured or not counted."""
    machine = costs.machine
    return {
        "target": target,
        "by": costs.by,
        "rows": [_cost(row) for row in costs.rows],
        "total": _cost(costs.total),
        "backward": {"plain": timing(run.plain), "hooked": timing(run.hooked), "coverage": run.coverage},
        "hook_ns": run.hook_ns,
        "around_ns": {"before": run.before_ns, "after": run.after_ns},
        "findings": [finding_document(finding) for finding in findings],
        "overhead": None if overhead is None else overhead_numbers(overhead),
        "notes": _notes(run),
        "nodes_with_shared_forward_time": run.shared,
        "not_counted": dict(run.uncounted),
        "other": {"ops": run.other_ops, "flops": run.other_flops, "moved": run.other_moved},
        "machine": None
        if machine is None
        else {"flops": machine.flops, "bandwidth": machine.bandwidth, "call": machine.call, "threads": machine.threads},
    }


def memory_document(target: str, memory: Memory, growth: Growth) -> dict[str, Any]:
    """`graphlens memory --json`. Bytes; null where not measured. The curves as they are, one number a node."""
    return {
        "target": target,
        "saved": {
            "views": memory.views,
            "storage_bytes": memory.storages,
            "storages": memory.storage_count,
            "anyway": memory.anyway,
            "kept": memory.kept,
            "not_available": memory.unknown,
        },
        "growth": {
            "bytes": growth.pass_bytes,
            "min": growth.low,
            "max": growth.high,
            "rounds": growth.rounds,
            "passes": growth.passes,
            "objects": objects_bytes(memory, growth),
            "reason": growth.reason or None,
        },
        "peak_with_gradients": {"bytes": memory.peak, "backward_nodes_run": memory.peak_step},
        "by": memory.by,
        "rows": [{"key": row.key, "storages": row.storages, "bytes": row.bytes} for row in memory.rows],
        "curve": {
            "forward": list(memory.forward),
            "backward": list(memory.backward),
            "gradients": None if memory.gradients is None else list(memory.gradients),
        },
    }


def timeline_document(target: str, file: str, graph: GradGraph, flame: Flame, run: CostRun) -> dict[str, Any]:
    """`graphlens timeline --json`. Nanoseconds of the nodes together, seconds of the passes."""
    return {
        "target": target,
        "file": file,
        "nodes": len(graph),
        "bars": len(flame.bars),
        "backward_ns": flame.total,
        "backward": {"plain": timing(run.plain), "hooked": timing(run.hooked), "coverage": run.coverage},
        "hook_ns": run.hook_ns,
        "around_ns": {"before": run.before_ns, "after": run.after_ns},
        "notes": _notes(run),
    }


def _notes(run: CostRun) -> list[str]:
    """What speaks against the times, if anything does."""
    text = caution({"the backward pass": run.plain})
    return [text] if text else []


def _cost(row: CostRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "nodes": row.nodes,
        "forward_ns": row.forward_ns,
        "backward_ns": row.backward_ns,
        "flops": row.flops,
        "moved": row.moved,
        "nodes_not_counted": row.uncounted,
        "nodes_not_sized": row.unsized,
        "intensity": row.intensity,
        "flops_a_second": row.flops_a_second,
        "bytes_a_second": row.bytes_a_second,
        "bound": None if row.bound == "unknown" else row.bound,
    }

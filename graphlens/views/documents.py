"""The JSON documents that scripts rely on: stable keys, unrounded numbers, null for not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphlens.analyses.budgets import Budget
from graphlens.analyses.comparison import Comparison
from graphlens.analyses.connectivity import Connectivity, Verdict
from graphlens.analyses.counts import Row, SavedKind, Stats
from graphlens.analyses.differences import Difference
from graphlens.analyses.explanation import Explanation
from graphlens.analyses.findings import Finding
from graphlens.analyses.proof import Proof
from graphlens.analyses.unrest import caution
from graphlens.records import Gradient, RunRecord, TensorValue, Timing
from graphlens.views.plain import evidence, number, timing
from graphlens.views.rounding_document import accuracy_document, nearness_document

if TYPE_CHECKING:
    import numpy

MOST_VALUES = 10_000


def to_json(document: Mapping[str, Any]) -> str:
    """The document as text; NaN and infinities, which JSON lacks, as "nan", "inf", "-inf"."""
    return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)


def run_document(run: RunRecord) -> dict[str, Any]:
    """`graphlens run --json`. Seconds; values longer than MOST_VALUES are cut, and say so."""
    return {
        "target": run.target,
        "outputs": {name: _tensor(value) for name, value in run.outputs.items()},
        "loss": number(run.loss),
        "gradients": {name: _gradient(gradient) for name, gradient in run.gradients.items()},
        "time": {"forward": timing(run.forward), "backward": timing(run.backward)},
        "threads": run.threads,
        "nodes": None if run.graph is None else len(run.graph),
        "notes": [*run.notes, *filter(None, [caution({"forward": run.forward, "backward": run.backward})])],
    }


def check_document(target: str, found: Connectivity, notes: Sequence[str] = ()) -> dict[str, Any]:
    """`graphlens check --json`."""
    return {
        "target": target,
        "verdicts": [_verdict(v) for v in found.verdicts],
        "findings": [finding_document(finding) for finding in found.findings],
        "notes": list(notes),
    }


def explain_document(explanation: Explanation) -> dict[str, Any]:
    """`graphlens explain --json`."""
    run, proof = explanation.run, explanation.proof
    return {
        "target": explanation.target,
        "topics": list(explanation.topics),
        "nodes": None if explanation.graph is None else len(explanation.graph),
        "verdicts": [_verdict(v) for v in explanation.verdicts],
        "findings": [finding_document(finding) for finding in explanation.findings],
        "time": {"backward": None if run is None else timing(run.plain)},
        "proof": None if proof is None else _proof(proof),
        "accuracy": None if explanation.accuracy is None else accuracy_document(explanation.accuracy),
        "threads": explanation.threads,
        "notes": [*explanation.notes, *([explanation.caution] if explanation.caution else [])],
    }


def _proof(proof: Proof) -> dict[str, Any]:
    predicted = proof.prediction
    return {
        "holds": proof.holds,
        "refusal": proof.refusal or None,
        "failures": proof.failures,
        "bound": proof.bound,
        "comparison": None if proof.comparison is None else comparison_document(proof.comparison),
        "predicted": None
        if predicted is None
        else {
            "nodes": predicted.nodes,
            "saved_storage_bytes": predicted.storage_bytes,
            "forward": predicted.forward,
            "backward": predicted.backward,
        },
        "gathered": {
            item.name: {
                "contributions": item.contributions,
                "terms": item.terms,
                "largest": item.largest,
                "truth": item.truth,
                "is_zero": item.is_zero,
                "precision": item.precision,
                "unknown": item.unknown or None,
            }
            for item in proof.gathered
        },
        "trials": [
            {
                "amount": t.amount,
                "outputs": t.outputs,
                "gradients": t.gradients,
                "failure": t.failure or None,
                "explained": list(t.explained),
            }
            for t in proof.trials
        ],
        "noise": dict(proof.noise),
        "saved": proof.saved,
        "names_something": proof.names,
        "by_hand": list(proof.by_hand),
        "gone": dict(proof.gone),
        "calls": proof.calls,
        "guards": proof.guards,
        "code": proof.code,
    }


def _verdict(verdict: Verdict) -> dict[str, str]:
    return {"name": verdict.name, "role": verdict.role, "verdict": verdict.verdict, "words": verdict.words}


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding, as each document has it."""
    where = finding.where
    return {
        "code": finding.code,
        "level": finding.level,
        "title": finding.title,
        "claim": finding.claim,
        "where": {
            "source": where.source or None,
            "text": where.text or None,
            "module": where.module or None,
            "nodes": list(where.nodes),
            "callers": list(where.callers),
        },
        "evidence": evidence(finding.evidence),
        "fix": finding.fix,
    }


def stats_document(target: str, stats: Stats, notes: Sequence[str] = ()) -> dict[str, Any]:
    """`graphlens stats --json`. Bytes and nanoseconds; null where a size or a time is not available.

    `calls` is null but for modules, and `tensors` unless the kinds of saved tensors were asked for.
    """
    return {
        "target": target,
        "nodes": stats.nodes,
        "edges": stats.edges,
        "depth": stats.depth,
        "leaves": [
            {"name": leaf.name, "role": leaf.role, "shape": _shape(leaf.shape), "dtype": leaf.dtype, "uses": leaf.uses}
            for leaf in stats.leaves
        ],
        "unreached": list(stats.unreached),
        "saved": _saved(stats.total),
        "forward_ns": stats.total.forward_ns,
        "by": stats.by,
        "rows": [_row(row) for row in stats.rows],
        "tensors": None if stats.tensors is None else [_kind(kind) for kind in stats.tensors],
        "notes": list(notes),
    }


def comparison_document(comparison: Comparison, budgets: Sequence[Budget] = ()) -> dict[str, Any]:
    """`graphlens compare --json`."""
    a, b = comparison.a, comparison.b
    gaps = [row.max_abs for row in comparison.outputs]
    worst = None if not gaps or None in gaps else max(gap for gap in gaps if gap is not None)
    return {
        "a": _side(a, comparison.stats_a),
        "b": _side(b, comparison.stats_b),
        "output": {"max_abs_diff": worst, "tensors": {row.name: _difference(row) for row in comparison.outputs}},
        "loss": None if comparison.loss is None else {"name": comparison.loss.name, **_difference(comparison.loss)},
        "gradients": {row.name: _difference(row) for row in comparison.gradients},
        "truth": nearness_document(comparison.nearness),
        "time": {"forward": _times(a.forward, b.forward), "backward": _times(a.backward, b.backward)},
        "why": [
            {"code": reason.code, "claim": reason.claim, "evidence": evidence(reason.evidence)}
            for reason in comparison.reasons
        ]
        + [
            {"target": side.target, **finding_document(finding)}
            for side, findings in ((a, comparison.waste_a), (b, comparison.waste_b))
            for finding in findings
        ],
        "notes": [comparison.caution] if comparison.caution else [],
        "budgets": {
            budget.name: {
                "ratio": number(budget.ratio),
                "limit": budget.limit,
                "exceeded": budget.is_exceeded,
                "a": budget.a,
                "b": budget.b,
                "least": number(budget.least),
            }
            for budget in budgets
        },
    }


def _side(run: RunRecord, stats: Stats | None) -> dict[str, Any]:
    return {
        "target": run.target,
        "nodes": None if stats is None else stats.nodes,
        "edges": None if stats is None else stats.edges,
        "depth": None if stats is None else stats.depth,
        "saved": None if stats is None else _saved(stats.total),
        "loss": number(run.loss),
        "threads": run.threads,
    }


def _difference(row: Difference) -> dict[str, Any]:
    return {
        "a": row.a,
        "b": row.b,
        "max_abs_diff": row.max_abs,
        "relative": row.relative,
        "ulps": row.ulps,
        "largest_of_one": number(row.largest),
        "note": row.note,
    }


def _times(a: Timing | None, b: Timing | None) -> dict[str, Any]:
    ratio = a.median / b.median if a is not None and b is not None else None
    return {"a": timing(a), "b": timing(b), "ratio": ratio}


def _saved(total: Row) -> dict[str, Any]:
    return {
        "tensors": None if total.freed else total.saved_tensors,
        "bytes": None if total.freed else total.saved_bytes,
        "storages": None if total.freed else total.storages,
        "storage_bytes": None if total.freed else total.storage_bytes,
        "not_available": total.unknown,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "key": row.key,
        "nodes": row.nodes,
        "saved_tensors": None if row.freed else row.saved_tensors,
        "saved_bytes": None if row.freed else row.saved_bytes,
        "storage_bytes": None if row.freed else row.storage_bytes,
        "not_available": row.unknown,
        "calls": row.calls,
        "forward_ns": row.forward_ns,
        "not_timed": row.untimed,
    }


def _kind(kind: SavedKind) -> dict[str, Any]:
    return {
        "key": kind.key,
        "dtype": kind.dtype,
        "shape": _shape(kind.shape),
        "role": kind.role,
        "tensors": kind.tensors,
        "saved_bytes": kind.saved_bytes,
        "storages": kind.storages,
        "storage_bytes": kind.storage_bytes,
        "not_available": kind.unknown,
    }


def _gradient(gradient: Gradient) -> dict[str, Any]:
    if gradient.value is None:
        return {"status": "none", "shape": None, "value": None, "reason": gradient.reason}
    return {"status": "value", **_tensor(gradient.value)}


def _tensor(tensor: TensorValue) -> dict[str, Any]:
    document: dict[str, Any] = {"shape": list(tensor.shape), "dtype": tensor.dtype, "value": None}
    if tensor.value is None:
        return document
    if tensor.value.size <= MOST_VALUES:
        document["value"] = _plain(tensor.value)
    else:
        document["value"] = _plain(tensor.value.reshape(-1)[:MOST_VALUES])
        document["cut"] = {"shown": MOST_VALUES, "of": int(tensor.value.size)}
    return document


def _plain(array: numpy.ndarray[Any, Any]) -> Any:
    """Nested lists of numbers that JSON can hold; a complex number is [real, imaginary]."""
    import numpy

    if array.dtype.kind == "c":
        array = numpy.stack([array.real, array.imag], axis=-1)
    if array.dtype.kind == "f" and not numpy.isfinite(array).all():
        return _finite(array.tolist())
    return array.tolist()


def _finite(value: Any) -> Any:
    return [_finite(item) for item in value] if isinstance(value, list) else number(value)


def _shape(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)

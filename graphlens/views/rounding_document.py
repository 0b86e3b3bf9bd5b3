"""What was measured about a run's rounding as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphlens.accuracy import Accuracy, Attribution, Quantity
from graphlens.analyses.nearness import Nearness
from graphlens.analyses.rounding.shares import shares
from graphlens.views.plain import number

_MOST_SHARES = 100


def accuracy_document(accuracy: Accuracy) -> dict[str, Any]:
    """The part "accuracy" of `graphlens explain --json`."""
    return {
        "method": accuracy.method,
        "precision": accuracy.precision,
        "unit_roundoff": accuracy.unit,
        "ops": len(accuracy.ops),
        "results": [_quantity(accuracy, item) for item in accuracy.quantities],
        "branches": {
            "otherwise": sum(branch.otherwise for branch in accuracy.branches),
            "undecided": sum(branch.undecided for branch in accuracy.branches),
        },
        "conditions": [
            {
                "matrix": found.matrix,
                "shape": [found.rows, found.columns],
                "kappa_2": number(found.kappa),
                "lower_bound": found.at_least,
            }
            for found in accuracy.conditions
        ],
        "reads_by_python": accuracy.escaped,
        "seconds": accuracy.seconds,
        "notes": list(accuracy.notes),
    }


def _quantity(accuracy: Accuracy, item: Quantity) -> dict[str, Any]:
    significant = item.significant
    return {
        "name": item.name,
        "kind": item.kind,
        "shape": list(item.shape),
        "dtype": item.dtype,
        "largest": number(item.size),
        "max_abs_error": number(item.error),
        "error_norm": number(item.norm),
        "largest_true": number(item.truth),
        "true_is_zero": item.is_zero,
        "ulps": number(item.ulps),
        "digits": number(item.digits),
        "significant_digits": None
        if significant is None
        else dict(zip(("estimate", "low", "high"), map(number, significant), strict=True)),
        "attribution": None if item.attribution is None else _attribution(accuracy, item.attribution),
    }


def _attribution(accuracy: Accuracy, made: Attribution) -> dict[str, Any]:
    rows: Sequence[Any] = shares(accuracy, made)
    return {
        "functional": made.functional,
        "total": number(made.total),
        "net": number(made.net),
        "magnitude": number(made.magnitude),
        "discrepancy": number(made.discrepancy),
        "unmeasured": dict(made.unmeasured),
        "groups": len(rows),
        "by": [
            {
                "op": row.op,
                "pass": row.during,
                "line": row.line,
                "ops": row.ops,
                "net": number(row.net),
                "magnitude": number(row.magnitude),
                "share": number(row.share),
            }
            for row in rows[:_MOST_SHARES]
        ],
    }


def nearness_document(rows: Sequence[Nearness]) -> dict[str, Any] | None:
    """The part "truth" of `graphlens compare --json`; null where the true values were not measured."""
    if not rows:
        return None
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(f"{row.kind}s" if row.kind != "loss" else "loss", {})[row.name] = {
            "same_true_value": row.agree,
            "a": _side(row.a),
            "b": _side(row.b),
            "nearer": row.nearer or None,
            "digits": number(row.digits) if row.nearer else None,
        }
    return found


def _side(item: Quantity | None) -> dict[str, Any] | None:
    if item is None:
        return None
    return {"max_abs_error": number(item.error), "digits": number(item.digits), "true_is_zero": item.is_zero}

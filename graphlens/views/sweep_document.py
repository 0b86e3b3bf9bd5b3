"""The JSON document of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphlens.analyses import exactness
from graphlens.analyses.growth import Law
from graphlens.analyses.sweep_points import Gap, Point, Sweep
from graphlens.views.plain import evidence, number, timing


def sweep_document(sweep: Sweep, laws: Sequence[Law]) -> dict[str, Any]:
    """`graphlens sweep --json`. Bytes and seconds; null where not measured, or where no law can be claimed."""
    return {
        "target": sweep.names[0],
        "against": sweep.names[1] if len(sweep.names) > 1 else None,
        "what": sweep.what,
        "over": {key: [_option(value) for value in values] for key, values in sweep.over.items()},
        "set": [{key: _option(value) for key, value in chosen.items()} for chosen in sweep.settings],
        "repeats": sweep.repeats,
        "jobs": sweep.jobs,
        "versions": dict(sweep.versions),
        "points": [_point(point) for point in sweep.points],
        "laws": [_law(law, sweep.names) for law in laws],
        "notes": list(sweep.notes),
    }


def _point(point: Point) -> dict[str, Any]:
    sides = [
        {
            "nodes": side.nodes,
            "edges": side.edges,
            "depth": side.depth,
            "saved_storage_bytes": side.saved,
            "not_available": side.unsized,
            "time": {"forward": timing(side.forward), "backward": timing(side.backward)},
            "loss": number(side.loss),
            "threads": side.threads,
            "options": evidence(side.options),
            "notes": list(side.notes),
            "exactness": None if side.exactness is None else exactness.to_plain(side.exactness),
        }
        for side in point.sides
    ]
    return {
        "options": {key: _option(value) for key, value in point.options.items()},
        "failure": point.failure or None,
        "kept": point.is_kept,
        "target": sides[0] if sides else None,
        "against": sides[1] if len(sides) > 1 else None,
        "output": _gap(point.output),
        "gradient": _gap(point.gradient),
    }


def _gap(gap: Gap | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    return {
        "max_abs_diff": gap.max_abs,
        "relative": gap.relative,
        "one_sided": {name: number(size) for name, size in gap.one_sided.items()},
        "note": gap.note,
    }


def _law(law: Law, names: Sequence[str]) -> dict[str, Any]:
    power, line = law.power, law.line
    return {
        "quantity": law.quantity.key,
        "unit": law.quantity.unit or None,
        "target": None if law.side is None else names[law.side],
        "over": law.over,
        "where": {key: _option(value) for key, value in law.where.items()},
        "points": law.points,
        "constant": law.constant,
        "power": None
        if power is None
        else {
            "exponent": number(power.exponent),
            "standard_error": number(power.error),
            "factor": number(power.factor),
            "r_squared": power.r_squared,
            "points": power.points,
            "from": power.low,
            "to": power.high,
        },
        "line": None
        if line is None
        else {
            "slope": number(line.slope),
            "slope_error": number(line.slope_error),
            "intercept": number(line.intercept),
            "intercept_error": number(line.intercept_error),
            "r_squared": line.r_squared,
            "points": line.points,
            "from": line.low,
            "to": line.high,
            "exact": line.is_exact,
        },
        "note": law.note,
    }


def _option(value: Any) -> Any:
    """An option's value as JSON can hold it; what it cannot hold, as Python writes it."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)

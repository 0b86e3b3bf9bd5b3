"""What a sweep measured: one point for each setting of the options, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphlens.analyses import exactness
from graphlens.analyses.counts import stats
from graphlens.analyses.differences import Difference, gradient_differences, output_differences
from graphlens.analyses.exactness import Exactness
from graphlens.records import RunRecord, Timing


@dataclass(frozen=True)
class Side:
    """What one target measured at one point.

    Attributes:
        nodes, edges, depth: of its backward graph; None where no output has one.
        saved: bytes of the storages held for backward; None where they are not available.
        unsized: nodes and tensors whose size is not available; where it is not 0, `saved` is a lower bound.
        forward, backward: wall-clock seconds; None where not measured.
        options: all options of the target's factory, those that were left alone too.
        exactness: None where it was not asked for, or there is no backward graph.
    """

    nodes: int | None = None
    edges: int | None = None
    depth: int | None = None
    saved: int | None = None
    unsized: int = 0
    forward: Timing | None = None
    backward: Timing | None = None
    loss: float | None = None
    threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    exactness: Exactness | None = None


@dataclass(frozen=True)
class Gap:
    """By how much the tensors of two targets differ at one point.

    Attributes:
        max_abs: the largest |a − b| over the entries of all tensors that both targets have; None
            where it cannot be formed.
        relative: the largest of the tensors' own max |a − b| ÷ max |b|.
        one_sided: the tensors that have a value for one target only, with the largest magnitude of
            that value where it is known; no difference is formed for them.
        note: why there is no number.
    """

    max_abs: float | None
    relative: float | None
    one_sided: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Point:
    """One setting of the options that are swept.

    Attributes:
        options: the value of each swept option.
        sides: the target, and the one it is held against, if there is one. Empty where it failed.
        repeats: how many runs were timed.
        failure: why the point has no numbers.
        is_kept: whether it was taken over from an earlier sweep.
    """

    options: Mapping[str, Any]
    sides: tuple[Side, ...] = ()
    output: Gap | None = None
    gradient: Gap | None = None
    repeats: int = 0
    failure: str = ""
    is_kept: bool = False


@dataclass(frozen=True)
class Sweep:
    """A target, or two, at many settings of their options.

    Attributes:
        names: what to call the targets; two of one name are told apart.
        over: the swept options and their values.
        settings: the options that stayed the same, by target, as far as they were set.
        jobs: how many points were run at a time; times are never measured but one point at a time.
        versions: of graphlens and of torch.
        what: "cost" if counts, sizes and times were asked for, "error" if errors were.
        notes: what was done on the reader's behalf.
    """

    names: tuple[str, ...]
    over: Mapping[str, Sequence[Any]]
    points: tuple[Point, ...]
    settings: tuple[Mapping[str, Any], ...] = ()
    repeats: int = 0
    jobs: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    what: str = "cost"

    @property
    def done(self) -> tuple[Point, ...]:
        """The points that did not fail."""
        return tuple(point for point in self.points if not point.failure)


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether an option's values are numbers that a quantity can grow with; True and False are none."""
    return all(type(value) in (int, float) and abs(value) <= _LARGEST for value in values)


_LARGEST = 1e150  # far beyond any option that one sweeps, and float() still takes it


def point_of(options: Mapping[str, Any], runs: Sequence[RunRecord], all_options: Sequence[Mapping[str, Any]]) -> Point:
    """The numbers of one run, or of two runs side by side, without their tensors."""
    sides = tuple(_side(run, chosen) for run, chosen in zip(runs, all_options, strict=True))
    output = gradient = None
    if len(runs) == 2:
        a, b = runs
        if a.outputs and b.outputs:
            output = gap(output_differences(a.outputs, b.outputs))
        if a.gradients and b.gradients:
            gradient = gap(gradient_differences(a.gradients, b.gradients))
    times = [timing for run in runs for timing in (run.forward, run.backward) if timing is not None]
    return Point(dict(options), sides, output, gradient, max((timing.repeats for timing in times), default=0))


def _side(run: RunRecord, options: Mapping[str, Any]) -> Side:
    rest = (run.forward, run.backward, run.loss, run.threads, dict(options), tuple(run.notes))
    if run.graph is None:
        return Side(None, None, None, None, 0, *rest)
    counted = stats(run.graph)
    total = counted.total
    saved = None if total.freed or (total.unknown and not total.storage_bytes) else total.storage_bytes
    return Side(counted.nodes, counted.edges, counted.depth, saved, total.unknown, *rest)


def gap(rows: Sequence[Difference]) -> Gap:
    """The largest difference of many tensors; a tensor that one target lacks is named instead."""
    one_sided = {row.name: row.largest for row in rows if row.a != row.b}
    both = [row for row in rows if row.a == row.b == "value"]
    unknown = next((row for row in both if row.max_abs is None), None)
    if unknown is not None:
        return Gap(None, None, one_sided, f"{unknown.name}: {unknown.note}")
    if not both:
        return Gap(None, None, one_sided, "no tensor has a value for both")
    known = [row.relative for row in both if row.relative is not None]
    return Gap(max(row.max_abs or 0.0 for row in both), max(known) if known else None, one_sided)


# A point as JSON, for a file of finished points and between processes


def to_plain(point: Point) -> dict[str, Any]:
    """What was measured at a point, as JSON can hold it; its options are the caller's to write."""
    return {
        "sides": [_plain_side(side) for side in point.sides],
        "output": _plain_gap(point.output),
        "gradient": _plain_gap(point.gradient),
        "repeats": point.repeats,
        "failure": point.failure,
    }


def from_plain(options: Mapping[str, Any], plain: Mapping[str, Any], *, is_kept: bool = False) -> Point:
    """The inverse of `to_plain`.

    Raises:
        ValueError: `plain` is nothing that `to_plain` has written.
    """
    try:
        return Point(
            dict(options),
            tuple(_side_from(side) for side in plain["sides"]),
            _gap_from(plain["output"]),
            _gap_from(plain["gradient"]),
            _whole(plain["repeats"]),
            str(plain["failure"]),
            is_kept,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no point: {error}") from error


def _plain_side(side: Side) -> dict[str, Any]:
    return {
        "nodes": side.nodes,
        "edges": side.edges,
        "depth": side.depth,
        "saved": side.saved,
        "unsized": side.unsized,
        "forward": _plain_timing(side.forward),
        "backward": _plain_timing(side.backward),
        "loss": _plain_number(side.loss),
        "threads": side.threads,
        "options": dict(side.options),
        "notes": list(side.notes),
        **({} if side.exactness is None else {"exactness": exactness.to_plain(side.exactness)}),
    }


def _plain_timing(timing: Timing | None) -> list[float] | None:
    return None if timing is None else [timing.median, timing.min, timing.max, timing.repeats]


def _plain_gap(found: Gap | None) -> dict[str, Any] | None:
    if found is None:
        return None
    one_sided = {name: _plain_number(size) for name, size in found.one_sided.items()}
    return {"max_abs": found.max_abs, "relative": found.relative, "one_sided": one_sided, "note": found.note}


def _plain_number(value: float | None) -> float | str | None:
    """NaN and infinities, which JSON lacks, as text."""
    return value if value is None or math.isfinite(value) else str(value)


def _side_from(plain: Mapping[str, Any]) -> Side:
    return Side(
        nodes=_or_none(_whole, plain["nodes"]),
        edges=_or_none(_whole, plain["edges"]),
        depth=_or_none(_whole, plain["depth"]),
        saved=_or_none(_whole, plain["saved"]),
        unsized=_whole(plain["unsized"]),
        forward=_timing_from(plain["forward"]),
        backward=_timing_from(plain["backward"]),
        loss=_or_none(_number, plain["loss"]),
        threads=_or_none(_whole, plain["threads"]),
        options=dict(plain["options"]),
        notes=tuple(map(str, plain["notes"])),
        exactness=_or_none(exactness.from_plain, plain.get("exactness")),
    )


def _timing_from(plain: Any) -> Timing | None:
    if plain is None:
        return None
    median, least, most, repeats = plain
    return Timing(_number(median), _number(least), _number(most), _whole(repeats))


def _gap_from(plain: Any) -> Gap | None:
    if plain is None:
        return None
    one_sided = {str(name): _or_none(_number, size) for name, size in plain["one_sided"].items()}
    return Gap(_or_none(_number, plain["max_abs"]), _or_none(_number, plain["relative"]), one_sided, str(plain["note"]))


def _or_none(read: Any, value: Any) -> Any:
    return None if value is None else read(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) and value not in ("nan", "inf", "-inf"):
        raise ValueError(f"{value!r} is no number")
    return float(value)

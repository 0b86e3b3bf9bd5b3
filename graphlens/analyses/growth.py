"""How a measured quantity grows with an option: a power law and a straight line, with their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphlens.analyses.exactness import along_condition, matrices
from graphlens.analyses.fits import FEWEST, Line, Power, exact_line, fit_line, fit_power, student_t
from graphlens.analyses.sweep_points import Point, Side, Sweep, is_numeric
from graphlens.records import Timing
from graphlens.units import count_text, seconds_text


@dataclass(frozen=True)
class Quantity:
    """One number of a point.

    Attributes:
        key: its name in documents.
        label: its name in a report.
        unit: "nodes", "edges", "B", "s", or "" for a difference.
        kind: "count" repeats exactly; "time" has the spread of a clock; "difference" and "error" are rounding
            noise.
        is_of_pair: whether it belongs to two targets together.
    """

    key: str
    label: str
    unit: str
    kind: str
    is_of_pair: bool = False


NODES = Quantity("nodes", "nodes", "nodes", "count")
EDGES = Quantity("edges", "edges", "edges", "count")
DEPTH = Quantity("depth", "depth", "edges", "count")
SAVED = Quantity("saved_storage_bytes", "saved", "B", "count")
FORWARD = Quantity("forward", "forward", "s", "time")
BACKWARD = Quantity("backward", "backward", "s", "time")
OUTPUT = Quantity("output_difference", "output difference", "", "difference", is_of_pair=True)
GRADIENT = Quantity("gradient_difference", "gradient difference", "", "difference", is_of_pair=True)
COSTS = (NODES, EDGES, DEPTH, SAVED, FORWARD, BACKWARD, OUTPUT, GRADIENT)


@dataclass(frozen=True)
class Law:
    """How one quantity grows with one option while the others stay as they are.

    Attributes:
        side: 0 for the target, 1 for the one it is held against, None for what belongs to both.
        where: the other swept options.
        constant: the value, where it is the same at all points.
        power, line: None where they cannot be claimed; `note` says why.
    """

    quantity: Quantity
    side: int | None
    over: str
    where: Mapping[str, Any]
    points: int
    constant: float | None = None
    power: Power | None = None
    line: Line | None = None
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One quantity along one option: x and y of the points that have both, by rising x."""

    quantity: Quantity
    side: int | None
    over: str
    where: Mapping[str, Any]
    xs: tuple[Any, ...]
    ys: tuple[float, ...]
    timings: tuple[Timing, ...] = ()
    lacking: int = 0  # points without a value
    bounds: int = 0  # points whose value is a lower bound


def laws(sweep: Sweep) -> tuple[Law, ...]:
    """The growth of each quantity along each numeric option, for each setting of the others.

    Errors besides along the condition number, where that varies.
    """
    along = [one for over, values in sweep.over.items() if is_numeric(values) for one in series(sweep, over)]
    # Over many decades of κ₂ no straight line says anything.
    return (*map(_law, along), *(replace(_law(one), line=None) for one in by_condition(sweep)))


def quantities(sweep: Sweep) -> tuple[Quantity, ...]:
    """What a sweep measured: costs, or the errors of the results that any of its points has."""
    if sweep.what == "cost":
        return COSTS
    found = (side.exactness for point in sweep.done for side in point.sides if side.exactness is not None)
    return tuple(dict.fromkeys(error_of(result.label) for exactness in found for result in exactness.results))


_ERROR_OF = "error of "


def error_of(label: str) -> Quantity:
    """The largest error of a result."""
    return Quantity(_ERROR_OF + label, _ERROR_OF + label, "", "error")


def condition_name(matrix: str) -> str:
    """What stands in the place of an option: what errors grow with where options change a matrix."""
    return f"κ₂({matrix})"


def by_condition(sweep: Sweep) -> Iterator[Series]:
    """The relative errors of results over the κ₂ of a matrix that the one option that is swept changes."""
    if sum(len(values) > 1 for values in sweep.over.values()) != 1:
        return
    for side in range(len(sweep.names)):
        found = [exact for point in sweep.done if (exact := point.sides[side].exactness) is not None]
        for matrix in matrices(found)[:1]:
            for label, pairs in along_condition(found, matrix).items():
                if len({f"{kappa:.2g}" for kappa, _ in pairs}) >= FEWEST:
                    xs, ys = zip(*pairs, strict=True)
                    name = f"relative {_ERROR_OF}{label}"
                    yield Series(Quantity(name, name, "", "error"), side, condition_name(matrix), {}, xs, ys)


def series(sweep: Sweep, over: str) -> Iterator[Series]:
    """What was measured along one option, for each setting of the others; without what never was."""
    asked = quantities(sweep)
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in sweep.points:
        groups.setdefault(tuple(repr(value) for key, value in point.options.items() if key != over), []).append(point)
    for group in groups.values():
        done = [point for point in group if not point.failure]
        if is_numeric(sweep.over[over]):
            done.sort(key=lambda point: float(point.options[over]))
        where = {key: value for key, value in group[0].options.items() if key != over}
        for side in range(len(sweep.names)):
            for quantity in asked:
                if not quantity.is_of_pair:
                    yield from _one_series(quantity, side, over, where, group, done)
        for quantity in asked:
            if quantity.is_of_pair and len(sweep.names) == 2:
                yield from _one_series(quantity, None, over, where, group, done)


def _one_series(
    quantity: Quantity, side: int | None, over: str, where: Mapping[str, Any], group: Sequence[Point],
    done: Sequence[Point],
) -> Iterator[Series]:  # fmt: skip
    present = [point for point in done if value_at(point, quantity, side) is not None]
    if not present:
        return
    values = [value_at(point, quantity, side) for point in present]
    timings = [timing_at(point, quantity, side) for point in present] if quantity.kind == "time" else []
    bounds = 0
    if quantity is SAVED and side is not None:
        bounds = sum(point.sides[side].unsized > 0 for point in present)
    yield Series(
        quantity, side, over, where,
        tuple(point.options[over] for point in present),
        tuple(value for value in values if value is not None),
        tuple(timing for timing in timings if timing is not None),
        len(group) - len(present),
        bounds,
    )  # fmt: skip


def value_at(point: Point, quantity: Quantity, side: int | None) -> float | None:
    """A quantity of a point that did not fail; a time is the median. None where not measured."""
    if side is None:
        found = point.output if quantity is OUTPUT else point.gradient
        return None if found is None else found.max_abs
    if quantity.kind == "error":
        return _error_at(point.sides[side], quantity)
    timing = timing_at(point, quantity, side)
    if timing is not None:
        return timing.median
    return _COUNTS[quantity.key](point.sides[side]) if quantity.key in _COUNTS else None


_COUNTS: dict[str, Callable[[Any], int | None]] = {
    NODES.key: lambda side: side.nodes,
    EDGES.key: lambda side: side.edges,
    DEPTH.key: lambda side: side.depth,
    SAVED.key: lambda side: side.saved,
}


def _error_at(side: Side, quantity: Quantity) -> float | None:
    found = {} if side.exactness is None else side.exactness.by_label
    result = found.get(quantity.key.removeprefix(_ERROR_OF))
    return None if result is None else result.error


def timing_at(point: Point, quantity: Quantity, side: int | None) -> Timing | None:
    """The median and the range of a time."""
    if side is None or quantity not in (FORWARD, BACKWARD):
        return None
    return point.sides[side].forward if quantity is FORWARD else point.sides[side].backward


def _law(one: Series) -> Law:
    xs, ys = one.xs, one.ys
    if len(xs) < FEWEST:
        lack = f" ({one.lacking} more without a value)" if one.lacking else ""
        points = f"{len(xs)} point{'' if len(xs) == 1 else 's'}{lack}"
        return _without_law(one, f"{points}: a law needs at least {FEWEST}")
    if one.bounds:
        return _without_law(one, "some sizes are lower bounds, which tell no law")
    if len(set(ys)) == 1:
        return _without_law(one, "0 at every point" if ys[0] == 0 else "the same at every point", constant=ys[0])
    if len(set(map(float, xs))) < FEWEST:
        return _without_law(one, f"fewer than {FEWEST} different values of {one.over}")
    if not all(map(math.isfinite, ys)):
        return _without_law(one, "not every value is finite")
    if one.quantity.kind == "count":
        line = exact_line(xs, ys) or fit_line(xs, ys)
        power, note = _power(xs, ys)
        return Law(one.quantity, one.side, one.over, one.where, len(xs), None, power, line, note)
    return _noisy_law(one)


def _without_law(one: Series, note: str, constant: float | None = None) -> Law:
    return Law(one.quantity, one.side, one.over, one.where, len(one.xs), constant, note=note)


NO_LAW = "not told apart from"
_DECADES = 1e4  # times the smallest: beyond it the largest point alone decides a line through errors
_LINEAR = 0.25  # by which the exponent of an error may differ from 1 where it is told to grow along a line


def _noisy_law(one: Series) -> Law:
    """A time or a rounding difference: only what stands out of its scatter is claimed."""
    if one.timings:
        lost = _lost_in_noise(one)
        if lost:
            return _without_law(one, f"{lost}, so that no growth can be claimed")
    power, note = _power(one.xs, one.ys)
    if power is not None and abs(power.exponent) < student_t(power.points - 2) * power.error:
        note = (
            f"the exponent through the {power.points} larger points is {power.exponent:.2f} ± {power.error:.2f}, which "
            f"of so few is {NO_LAW} 0 at 95 %"
        )
        power = None
    line: Line | None = fit_line(one.xs, one.ys)
    # Over decades the last point decides a line's slope: it is no law of errors beside another exponent.
    is_other = power is not None and abs(power.exponent - 1) > max(student_t(power.points - 2) * power.error, _LINEAR)
    is_wide = max(one.xs) > _DECADES * min((x for x in one.xs if x > 0), default=math.inf)
    if one.quantity.kind != "time" and (is_other or is_wide):
        line = None
    if line is not None and abs(line.slope) < student_t(line.points - 2) * line.slope_error:
        note = "; ".join(filter(None, (note, "no slope stands out of the scatter")))
        line = None
    return Law(one.quantity, one.side, one.over, one.where, len(one.xs), None, power, line, note)


# Times of different points may be taken minutes apart, in which clock rate and caches drift by up to this factor.
_DRIFT = 1.5


def _lost_in_noise(one: Series) -> str:
    """Why times do not tell growth from the spread of the clock; "" where they do."""
    change = abs(one.ys[-1] - one.ys[0])
    spread = max(timing.max - timing.min for timing in one.timings)
    if change <= 2 * spread:
        ends = f"{one.over} = {x_text(one.xs[0])} to {x_text(one.xs[-1])}"
        return (
            f"from {ends} the median changes by {seconds_text(change)}, no more than twice the spread of "
            f"{seconds_text(spread)} at a single point"
        )
    if max(one.ys) < _DRIFT * min(one.ys):
        return f"the largest median is less than {_DRIFT} times the smallest, as a machine drifts between points"
    return ""


def x_text(x: Any) -> str:
    """A value of an option as a report shows it: "10,000", "0.5", "float32"."""
    if type(x) is int:
        return count_text(x)
    return f"{x:g}" if type(x) is float else str(x)


def larger(count: int) -> int:
    """How many of so many points a power law is fitted to: the upper half of them, but three at least.

    An intercept bends the law at its small end; the exponent that one asks for is that of the large end.
    """
    return max(FEWEST, math.ceil(count / 2))


def _power(xs: Sequence[float], ys: Sequence[float]) -> tuple[Power | None, str]:
    usable = [(x, y) for x, y in zip(xs, ys, strict=True) if x > 0 and y > 0]
    if len(usable) < FEWEST:
        return None, f"a power law needs at least {FEWEST} points above 0; there are {len(usable)}"
    chosen = usable[-larger(len(usable)) :]
    if len({y for _, y in chosen}) == 1:
        return None, f"the {len(chosen)} larger points have one value, so that no exponent is fitted"
    return fit_power([x for x, _ in chosen], [y for _, y in chosen]), ""

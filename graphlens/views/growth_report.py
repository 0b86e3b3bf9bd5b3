"""The report that `graphlens sweep` prints, and its CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.exactness import telling
from graphlens.analyses.fits import FEWEST, Line, Power
from graphlens.analyses.growth import NO_LAW, Law, x_text
from graphlens.analyses.sweep_points import Gap, Point, Side, Sweep, is_numeric
from graphlens.graph import printable
from graphlens.records import Timing
from graphlens.units import bytes_text, count_text, seconds_text, significant
from graphlens.views.exactness_report import MOST_RESULTS, error_parts
from graphlens.views.opening import NOT_MEASURED, options_text
from graphlens.views.table import heading, paragraph, table, to_text

_LONGEST_NAME = 12  # of a target, in a column of its own
_MOST_GROUPS = 6  # settings of the other options, each with a section of laws


def growth_report(sweep: Sweep, laws: Sequence[Law], *, width: int = 80, colour: bool = False) -> str:
    """The points of a sweep row by row, and how each quantity grows."""
    points = _errors if sweep.what == "error" else _points
    parts = [*_opening(sweep, width), *points(sweep, width), *_laws(sweep, _told(sweep, laws), width)]
    return to_text(parts, width=width, colour=colour)


def growth_csv(sweep: Sweep) -> str:
    """One row for each point and target; what was not measured is left empty. Bytes and seconds."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    times = [f"{which}_{what}" for which in ("forward", "backward") for what in ("median", "min", "max")]
    gaps = [f"{which}_{what}" for which in ("output", "gradient") for what in ("max_abs_diff", "relative")]
    counts = ("nodes", "edges", "depth", "saved_storage_bytes")
    writer.writerow((*sweep.over, "target", *counts, *times, "loss", *gaps, "failure"))
    for point in sweep.points:
        for number, name in enumerate(sweep.names):
            side = point.sides[number] if point.sides else Side()
            sizes = (side.nodes, side.edges, side.depth, side.saved)
            seconds = (*_three(side.forward), *_three(side.backward))
            differences = (*_two(point.output), *_two(point.gradient))
            options = map(str, point.options.values())
            writer.writerow((*options, name, *sizes, *seconds, side.loss, *differences, printable(point.failure)))
    return stream.getvalue()


def _three(timing: Timing | None) -> tuple[float | None, ...]:
    return (None, None, None) if timing is None else (timing.median, timing.min, timing.max)


def _two(gap: Gap | None) -> tuple[float | None, float | None]:
    return (None, None) if gap is None else (gap.max_abs, gap.relative)


def _opening(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    threads = {side.threads for point in sweep.done for side in point.sides if side.threads is not None}
    fact = f"{min(threads)} thread{'s' if threads != {1} else ''}" if len(threads) == 1 else ""
    title = f"{' against '.join(sweep.names)} over {', '.join(sweep.over)}"
    yield heading(printable(title), fact, width=width)
    per_side = [sweep.done[0].sides[number].options for number in range(len(sweep.names))] if sweep.done else []
    same = [options for k, options in enumerate(per_side) if options not in per_side[:k]]
    for number, options in enumerate(same):
        lead = f"{sweep.names[number]}: " if len(same) > 1 else ""
        fixed = options_text({key: value for key, value in options.items() if key not in _varied(sweep)})
        if fixed:
            yield paragraph(printable(lead + fixed), width=width)
    for number, name in enumerate(sweep.names):
        notes = dict.fromkeys(note for point in sweep.done for note in point.sides[number].notes)
        for note in notes:
            yield paragraph(printable(f"{name}: {note}."), width=width)
    for note in sweep.notes:
        yield paragraph(printable(f"{note}."), width=width)


# The points


def _points(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    names = short_names(sweep.names)
    yield from _about_names(sweep, names, width)
    varied = _varied(sweep)
    of = ("of",) if len(names) > 1 else ()
    lead = (*map(printable, varied), *of)
    # Numbers stay whole where a table is too wide, words wrap.
    words = {place for place, key in enumerate(varied) if not is_numeric(sweep.over[key])} | {len(varied)}
    texts = words if of else words - {len(varied)}
    yield Text("")
    header = (*lead, "nodes", "edges", "depth", "saved", "loss")
    yield table(header, _rows(sweep, varied, names, _count_cells), left=0, texts=texts)
    if sweep.repeats:
        yield Text("")
        header = (*lead, "forward", "range", "backward", "range")
        yield table(header, _rows(sweep, varied, names, _time_cells), left=0, texts=texts)
    else:
        yield Text(f"\nforward and backward: {NOT_MEASURED} (--repeats 0)")
    if len(names) > 1:
        yield Text("")
        header = (*lead[: len(varied)], "output differs", "relative", "gradients differ", "relative")
        yield table(header, _gap_rows(sweep, varied), left=0, texts=words - {len(varied)})
        yield from _about_gaps(sweep, width)
    yield from _failed(sweep, width)


def _errors(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    names = short_names(sweep.names)
    yield from _about_names(sweep, names, width)
    yield from error_parts(sweep, _varied(sweep), names, width)
    yield from _failed(sweep, width)


def _about_names(sweep: Sweep, names: tuple[str, ...], width: int) -> Iterator[RenderableType]:
    if names != sweep.names:
        for name, whole in zip(names, sweep.names, strict=True):
            yield paragraph(f"{name} is {printable(whole)}.", width=width)


def _failed(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    failed = [point for point in sweep.points if point.failure]
    if failed:
        yield heading("\nFailed")
        for point in failed:
            text = printable(f"{point_text(point.options)}: {point.failure.rstrip('.')}.")
            yield paragraph(text, width=width, indent="    ", first="  · ")


def _varied(sweep: Sweep) -> tuple[str, ...]:
    """The options that have more than one value, which alone need a column."""
    return tuple(key for key, values in sweep.over.items() if len(values) > 1) or tuple(sweep.over)


def short_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The targets' names, or a and b where they would take too much of a table's room."""
    return names if len(names) == 1 or max(map(len, names)) <= _LONGEST_NAME else ("a", "b")[: len(names)]


def point_text(options: Mapping[str, Any]) -> str:
    """ "n = 1,000, d = 5"."""
    return ", ".join(f"{key} = {x_text(value)}" for key, value in options.items())


def _rows(
    sweep: Sweep, varied: tuple[str, ...], names: tuple[str, ...], cells: Callable[[Side | None], tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    for point in sweep.points:
        options = _option_cells(point, varied)
        for number, name in enumerate(names):
            of = (name,) if len(names) > 1 else ()
            side = point.sides[number] if point.sides else None
            # The options stand once for each point, so that the eye finds its rows together.
            lead = options if number == 0 else ("",) * len(options)
            yield (*lead, *of, *cells(side))


def _count_cells(side: Side | None) -> tuple[str, ...]:
    if side is None:
        return ("failed", "", "", "", "")
    if side.nodes is None or side.edges is None or side.depth is None:
        return ("no graph", "", "", "", _loss(side))
    saved = "not available" if side.saved is None else f"{'≥ ' if side.unsized else ''}{bytes_text(side.saved)}"
    return (count_text(side.nodes), count_text(side.edges), count_text(side.depth), saved, _loss(side))


def _loss(side: Side) -> str:
    return "none" if side.loss is None else f"{side.loss:.8g}"


def _time_cells(side: Side | None) -> tuple[str, ...]:
    if side is None:
        return ("failed", "", "", "")
    cells = []
    for timing in (side.forward, side.backward):
        cells += [NOT_MEASURED, ""] if timing is None else [seconds_text(timing.median), range_text(timing)]
    return tuple(cells)


def range_text(timing: Timing) -> str:
    """ "195–213 ms", "98–1,230 µs"; the unit stands once, where both ends have it."""
    low, high = seconds_text(timing.min), seconds_text(timing.max)
    if low == high:
        return low
    number, _, unit = low.rpartition(" ")
    return f"{number}–{high}" if unit == high.rpartition(" ")[2] else f"{low} – {high}"


def _option_cells(point: Point, varied: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(printable(x_text(point.options[key])) for key in varied)


def _gap_rows(sweep: Sweep, varied: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for point in sweep.points:
        options = _option_cells(point, varied)
        if point.failure:
            yield (*options, "failed", "", "", "")
            continue
        yield (*options, *_gap_cells(point.output), *_gap_cells(point.gradient))


def _gap_cells(gap: Gap | None) -> tuple[str, str]:
    if gap is None or gap.max_abs is None:
        return ("none formed", "")
    if gap.max_abs == 0.0:
        return ("0", "0")
    return (significant(gap.max_abs, 2), "" if gap.relative is None else significant(gap.relative, 2))


def _about_gaps(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    """What the differences leave out: values on one side only, and what cannot be subtracted."""
    for label, gaps in (
        ("output", [point.output for point in sweep.done if point.output is not None]),
        ("gradient", [point.gradient for point in sweep.done if point.gradient is not None]),
    ):
        alone: dict[str, float] = {}
        for gap in gaps:
            for name, size in gap.one_sided.items():
                alone[name] = max(alone.get(name, 0.0), size or 0.0)
        for name, size in list(alone.items())[:_MOST_GROUPS]:
            most = f", of at most {significant(size, 2)}" if size else ""
            yield paragraph(f"The {label} {printable(name)} has a value for one target only{most}.", width=width)
        if len(alone) > _MOST_GROUPS:
            yield Text(f"… and {len(alone) - _MOST_GROUPS:,} more (--json lists them all)")
        for note in dict.fromkeys(gap.note for gap in gaps if gap.note):
            yield paragraph(f"No {label} difference is formed where {printable(note)}.", width=width)


# The laws


def _told(sweep: Sweep, laws: Sequence[Law]) -> Sequence[Law]:
    """Of very many results only those that have a column."""
    if sweep.what != "error":
        return laws
    known = [side.exactness for point in sweep.done for side in point.sides if side.exactness is not None]
    shown = telling(known)[:MOST_RESULTS]
    return [law for law in laws if any(law.quantity.label.endswith(f"error of {label}") for label in shown)]


def _laws(sweep: Sweep, laws: Sequence[Law], width: int) -> Iterator[RenderableType]:
    for over, values in sweep.over.items():
        if not is_numeric(values):
            yield Text("")
            yield _no_law(over, "its values are not all numbers", width)
            continue
        if len(values) < FEWEST:
            yield Text("")
            count = f"{len(values)} value{'' if len(values) == 1 else 's'}"
            yield _no_law(over, f"it has {count}, and a law needs at least {FEWEST}", width)
            continue
        groups: dict[str, list[Law]] = {}
        for law in laws:
            if law.over == over:
                groups.setdefault(point_text(law.where), []).append(law)
        for where, group in list(groups.items())[:_MOST_GROUPS]:
            yield Text("")
            of = " of errors" if sweep.what == "error" else ""
            yield heading(printable(f"Growth{of} along {over}{f', at {where}' if where else ''}"))
            yield from _group(sweep, over, group, width)
        if len(groups) > _MOST_GROUPS:
            yield Text(f"\n… and at {len(groups) - _MOST_GROUPS:,} more settings (--json has all)")


    along = [law for law in laws if law.over not in sweep.over]
    for over in dict.fromkeys(law.over for law in along):
        yield Text("")
        yield heading(printable(f"Growth of relative errors along the condition number {over}"))
        yield from _group(sweep, over, [law for law in along if law.over == over], width)


def _no_law(over: str, why: str, width: int) -> RenderableType:
    return paragraph(f"Along {printable(over)} no growth law is fitted: {why}.", width=width)


def _group(sweep: Sweep, over: str, laws: Sequence[Law], width: int) -> Iterator[RenderableType]:
    names = short_names(sweep.names)
    notes = {law.note for law in laws}
    if len(notes) == 1 and not any(law.power or law.line for law in laws) and laws[0].constant is None:
        yield paragraph(f"No law: {notes.pop()}.", width=width, indent="    ", first="  ")
        return
    found = [law for law in laws if law.power is not None]
    if found:
        yield paragraph(
            f"y = a·{over}^p, least squares in log-log over the larger half of the points, {FEWEST} at least:",
            width=width, indent="  ",
        )  # fmt: skip
        rows = [(f"  {_name(law, names)}", *_power_cells(law, law.power)) for law in found if law.power is not None]
        yield table(("", "p", "from", "to", "points", "R²"), rows)
    lines = [(law, law.line) for law in laws if law.line is not None]
    exact = [(law, line) for law, line in lines if line.is_exact]
    if exact:
        lead = f"y = slope·{over} + intercept, whole numbers that give every point exactly:"
        yield paragraph(lead, width=width, indent="  ")
        yield table(("", "y", "per step", "intercept", "points"), [
            (f"  {_name(law, names)}", exact_text(line, over), *_exact_cells(law, line)) for law, line in exact
        ])  # fmt: skip
    fitted = [(law, line) for law, line in lines if not line.is_exact]
    if fitted:
        yield paragraph(f"y = slope·{over} + intercept, least squares over all points:", width=width, indent="  ")
        yield table(("", "per step", "intercept", "points", "R²"), [
            (f"  {_name(law, names)}", *_line_cells(law, line)) for law, line in fitted
        ])  # fmt: skip
    scattered = [law for law in laws if law.quantity.kind == "error" and not law.power and law.note and not law.line]
    if len(scattered) > 1 and all(law.constant is None and NO_LAW in law.note for law in scattered):
        text = f"{', '.join(_name(law, names) for law in scattered)}: they scatter too much for a law to be claimed."
        yield paragraph(text, width=width, indent="    ", first="  · ")
        laws = [law for law in laws if law not in scattered]
    for law in laws:
        if law.note:
            yield paragraph(_remark(law, names), width=width, indent="    ", first="  · ")


def _name(law: Law, names: tuple[str, ...]) -> str:
    lead = f"{printable(names[law.side])} " if law.side is not None and len(names) > 1 else ""
    label = law.quantity.label
    if law.quantity.kind == "error":  # what the heading says needs no room in the table
        label = label.removeprefix("relative ").removeprefix("error of ").replace("gradient of", "grad")
    return lead + label


def _remark(law: Law, names: tuple[str, ...]) -> str:
    if law.constant is not None and law.constant != 0:
        amount = amount_text(law.constant, law.quantity.unit)
        return f"{_name(law, names)}: constant, {amount} at all {law.points} points."
    return f"{_name(law, names)}: {law.note}."


def _power_cells(law: Law, power: Power) -> tuple[str, ...]:
    error = f"{power.error:.4f}" if power.error < 0.01 else f"{power.error:.2f}"
    exponent = f"{power.exponent:.4f}" if power.error < 0.01 else f"{power.exponent:.2f}"
    low, high = x_text(power.low), x_text(power.high)
    return (f"{exponent} ± {error}", low, high, f"{power.points} of {law.points}", r_squared_text(power.r_squared))


def r_squared_text(share: float) -> str:
    """ "0.9997"; 1 only where it is 1."""
    return "1" if share == 1.0 else f"{min(share, 0.99999):.5f}" if share > 0.999 else f"{share:.3f}"


def _exact_cells(law: Law, line: Line) -> tuple[str, ...]:
    unit = law.quantity.unit
    return (amount_text(line.slope, unit), amount_text(line.intercept, unit), str(line.points))


def _line_cells(law: Law, line: Line) -> tuple[str, ...]:
    unit = law.quantity.unit
    slope = with_error(line.slope, line.slope_error, unit)
    intercept = with_error(line.intercept, line.intercept_error, unit)
    return (slope, intercept, str(line.points), r_squared_text(line.r_squared))


_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}


def with_error(value: float, error: float, unit: str) -> str:
    """ "16.7 ± 0.12 µs": both in one unit, the value to no more digits than its error supports."""
    if unit == "":
        return f"{significant(value, 2)} ± {significant(error, 2)}"
    size = max(abs(value), error)
    scales = _SCALES.get(unit, ((1.0, unit),))
    scale, name = next((pair for pair in scales if size >= pair[0]), scales[-1])
    value, error = value / scale, error / scale
    places = 4 if error == 0 else min(max(1 - math.floor(math.log10(error)), 0), 4)
    digits = max(3 - math.floor(math.log10(abs(value))), 0) if value else 0  # four significant ones at most
    return f"{value:,.{min(places, digits)}f} ± {significant(error, 2)} {name}"


def exact_text(line: Line, over: str) -> str:
    """ "3·n + 15 exactly"."""
    slope, intercept = int(line.slope), int(line.intercept)
    factor = {1: "", -1: "−"}.get(slope, f"{'−' if slope < 0 else ''}{abs(slope):,}·")
    rest = f" {'−' if intercept < 0 else '+'} {abs(intercept):,}" if intercept else ""
    return f"{factor}{over}{rest} exactly"


def amount_text(value: float, unit: str) -> str:
    """A number with its unit; counts of bytes stay whole where they are."""
    if unit == "s":
        return seconds_text(value)
    if unit == "":
        return significant(value, 2)
    number = count_text(int(value)) if float(value).is_integer() else significant(value, 3)
    if unit == "B" and abs(value) >= 10_000:
        return f"{'−' if value < 0 else ''}{bytes_text(round(abs(value)))}"
    if unit != "B" and abs(value) == 1:
        return f"{number} {unit.removesuffix('s')}"
    return f"{number} {unit}"

"""How quantities grow with an option, as small multiples: nodes, bytes, times, differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphlens.analyses.growth import (
    BACKWARD,
    FORWARD,
    GRADIENT,
    NODES,
    OUTPUT,
    SAVED,
    Quantity,
    Series,
    series,
    x_text,
)
from graphlens.analyses.sweep_points import Sweep, is_numeric
from graphlens.graph import printable
from graphlens.views.growth_report import amount_text
from graphlens.views.plotting import COLOURS, LINES, MARKERS, file_of, plain, prefixed, settings, ticks

# Each panel: its y axis, whose ticks carry the unit, and its quantities; the first is drawn with full markers, the
# second with hollow ones.
_PANELS: tuple[tuple[str, str, tuple[Quantity, ...]], ...] = (
    ("Nodes", "grad_fn nodes", (NODES,)),
    ("Memory", "storage saved for backward", (SAVED,)),
    ("Time", "wall-clock time", (FORWARD, BACKWARD)),
    ("Difference", "largest absolute difference", (OUTPUT, GRADIENT)),
)


def plot_growth(sweep: Sweep, kind: str) -> bytes:
    """The picture as "svg", "png" or "pdf"; the same sweep gives the same bytes.

    x is the first option that has numbers, else the first one; the others make lines of their own.
    """
    from matplotlib.figure import Figure

    over = next((key for key, values in sweep.over.items() if is_numeric(values)), next(iter(sweep.over)))
    found = list(series(sweep, over))
    panels = [panel for panel in _PANELS if any(one.quantity in panel[2] for one in found)]
    title = printable(f"{' against '.join(sweep.names)} over {', '.join(sweep.over)}")
    with settings():
        columns = 2 if len(panels) in (2, 4) else max(len(panels), 1)
        rows = math.ceil(len(panels) / columns) or 1
        figure = Figure(figsize=(4.6 * columns if columns > 1 else 6, 3.5 * rows + 0.9), layout="constrained")
        figure.suptitle(title)
        groups = _groups(found)
        for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
            _draw(axes, panel, [one for one in found if one.quantity in panel[2]], groups, sweep, over)
        _legend(figure, sweep, found, groups, columns)
        return file_of(figure, kind, title=title, description=_described(sweep, found))


def _described(sweep: Sweep, found: Sequence[Series]) -> str:
    """What the picture shows, in words: each line by its ends."""
    sentences = []
    for one in found:
        if one.quantity in {quantity for panel in _PANELS for quantity in panel[2]}:
            name = " against ".join(sweep.names) if one.side is None else sweep.names[one.side]
            where = "".join(f", {key} = {x_text(value)}" for key, value in one.where.items())
            first, last = (amount_text(y, one.quantity.unit) for y in (one.ys[0], one.ys[-1]))
            ends = f"{first} at {one.over} = {x_text(one.xs[0])}"
            if len(one.xs) > 1:
                ends = f"from {ends} to {last} at {x_text(one.xs[-1])}"
            sentences.append(f"{name}{where}: {one.quantity.label} {ends}.")
    return printable(" ".join(sentences))


def _groups(found: Sequence[Series]) -> dict[tuple[int | None, str], int]:
    """Numbers for the lines: one for each target at each setting of the other options."""
    groups: dict[tuple[int | None, str], int] = {}
    for one in found:
        groups.setdefault(_group(one), len(groups))
    return groups


def _group(one: Series) -> tuple[int | None, str]:
    return (one.side, ", ".join(f"{key} = {x_text(value)}" for key, value in one.where.items()))


def _look(number: int, *, is_first: bool) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    return {
        "color": colour,
        "linestyle": LINES[number % len(LINES)],
        "linewidth": 1.5,
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 6,
        "markerfacecolor": colour if is_first else "white",
    }


def _draw(
    axes: Any,
    panel: tuple[str, str, tuple[Quantity, ...]],
    lines: Sequence[Series],
    groups: Mapping[tuple[int | None, str], int],
    sweep: Sweep,
    over: str,
) -> None:
    title, label, quantities = panel
    numeric = is_numeric(sweep.over[over])
    hidden = 0
    shown: list[tuple[float, float]] = []
    for one in lines:
        look = _look(groups[_group(one)], is_first=one.quantity == quantities[0])
        if not numeric:
            look["linestyle"] = ""  # there is nothing between two words
        places = one.xs if numeric else [list(map(repr, sweep.over[over])).index(repr(x)) for x in one.xs]
        # On a logarithmic axis 0 has no place.
        drawn = [k for k, y in enumerate(one.ys) if y > 0 and math.isfinite(y) and (places[k] > 0 or not numeric)]
        hidden += len(one.ys) - len(drawn)
        if not drawn:
            continue
        xs, ys = [places[k] for k in drawn], [one.ys[k] for k in drawn]
        shown += zip(xs, ys, strict=True)
        if one.timings:
            below = [one.timings[k].median - one.timings[k].min for k in drawn]
            above = [one.timings[k].max - one.timings[k].median for k in drawn]
            axes.errorbar(xs, ys, yerr=(below, above), capsize=2, elinewidth=0.8, **look)
        else:
            axes.plot(xs, ys, **look)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(printable(over))
    axes.set_ylabel(label)
    if hidden:
        title = "every value is 0 or less" if not shown else f"{hidden} of the values are 0 or less: not shown"
        axes.text(0.02, 0.98, title, transform=axes.transAxes, fontsize=8, va="top")
    _scale(axes, sweep, over, lines[0].quantity.unit, shown)
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes: Any, sweep: Sweep, over: str, unit: str, shown: Sequence[tuple[float, float]]) -> None:
    """Logarithmic axes with plain numbers on them; an option without numbers gets one place for each value."""
    if is_numeric(sweep.over[over]):
        if shown:
            axes.set_xscale("log")
            ticks(axes.xaxis, [x for x, _ in shown], plain)
    else:
        values = sweep.over[over]
        axes.set_xticks(range(len(values)), [printable(x_text(value)) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
    if not shown:
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    ticks(axes.yaxis, [y for _, y in shown], prefixed(unit) if unit in ("s", "B") else plain)


def _legend(
    figure: Any, sweep: Sweep, found: Sequence[Series], groups: Mapping[tuple[int | None, str], int], columns: int
) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for (side, where), number in groups.items():
        name = " against ".join(sweep.names) if side is None else sweep.names[side]
        label = printable(f"{name}{', ' if where else ''}{where}")
        handles.append(Line2D([], [], label=label, **_look(number, is_first=True)))
    grey: dict[str, Any] = {"color": "#555555", "linestyle": "", "marker": "o", "markersize": 6}
    full, hollow = (", ".join(names) for names in _marked(found))
    if hollow:
        handles.append(Line2D([], [], label=f"full: {full}", **grey))
        handles.append(Line2D([], [], label=f"hollow: {hollow}", markerfacecolor="white", **grey))
    if handles:
        ncols = min(len(handles), max(1, 2 * columns - 1))
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9,
                      handlelength=4)  # fmt: skip


def _marked(found: Sequence[Series]) -> Iterator[list[str]]:
    """What full markers stand for, then what hollow ones do; in the panels that have both."""
    present = {one.quantity for one in found}
    pairs = [panel[2] for panel in _PANELS if len(panel[2]) == 2 and present & set(panel[2])]
    for place in range(2):
        yield [pair[place].label for pair in pairs if pair[place] in present]

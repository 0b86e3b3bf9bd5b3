"""The error along the rounds of a loop, forward and backward, beside what theory says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from graphlens.accuracy import Accuracy, LoopErrors
from graphlens.analyses.rounding.laws import law_of, prediction, random_walk, worst_case
from graphlens.errors import MeasureError
from graphlens.units import count_text, significant
from graphlens.views.plotting import file_of, plain, settings, ticks

_MOST_PANELS = 6
_POINTS = 200  # of a line; of longer ones as many, at even distances of the logarithm
_ANCHORS = 14  # at most, of the markers of a line


class Line(NamedTuple):
    """One line of a panel: its label, its look, and its points."""

    label: str
    look: dict[str, Any]
    rounds: list[int]
    values: list[float]


# Told apart by the colour-blind, and without colour by line style and marker.
_LOOKS: dict[str, dict[str, Any]] = {
    "measured": {"color": "#000000", "linestyle": "-", "marker": "o", "linewidth": 1.8},
    "systematic": {"color": "#D55E00", "linestyle": (0, (5, 1.5)), "marker": "s", "linewidth": 1.5},
    "rounding": {"color": "#0072B2", "linestyle": (0, (1, 1.2)), "marker": "^", "linewidth": 1.5},
    "from before": {"color": "#CC79A7", "linestyle": (0, (3, 1.5, 1, 1.5)), "marker": "D", "linewidth": 1.2},
    "prediction": {"color": "#D55E00", "linestyle": (0, (1, 3)), "marker": "x", "linewidth": 1.2},
    "random signs": {"color": "#6c757d", "linestyle": "-", "marker": "+", "linewidth": 0.9},
    "worst case": {"color": "#6c757d", "linestyle": (0, (6, 3)), "marker": "", "linewidth": 0.9},
}  # fmt: skip


def plot_errors(accuracy: Accuracy, kind: str, *, title: str) -> bytes:
    """The picture as "svg", "png" or "pdf"; the same run gives the same bytes, and text is text.

    Raises:
        MeasureError: there is no loop whose errors are known.
    """
    from matplotlib.figure import Figure

    loops = [(loop, lines) for loop in accuracy.loops if (lines := lines_of(loop))][:_MOST_PANELS]
    if not loops:
        raise MeasureError(
            "there is no error along a loop to plot: the run has no loop of at least 8 rounds in which each reads "
            "what the one before it made, or its errors are not known"
        )
    columns = min(2, len(loops))
    rows = -(-len(loops) // columns)
    with settings(11):
        figure = Figure(figsize=(5.6 * columns, 4.2 * rows + 0.8), layout="constrained")
        figure.suptitle(title, fontsize=12)
        grid = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for axes, (loop, lines) in zip(grid, loops, strict=False):
            _draw(axes, loop, lines)
        for axes in grid[len(loops) :]:
            axes.set_axis_off()
        _legend(figure, [line for _, lines in loops for line in lines])
        described = " ".join(_described(loop) for loop, _ in loops)
        return file_of(figure, kind, title=title, description=described)


def lines_of(loop: LoopErrors) -> list[Line]:
    """What is known of a loop's error, by round; lines that are 0 throughout are left out."""
    rows: list[tuple[str, Sequence[float]]] = []
    if loop.error is not None:
        rows.append(("measured", loop.error.tolist()))
    split = loop.split
    if split is not None:
        rows += [("systematic", split.systematic.tolist()), ("rounding", split.rounding.tolist())]
        rows.append(("from before", split.inherited.tolist()))
        told = prediction(split)
        if told is not None:
            rows.append(("prediction", told.tolist()))
        rows += [("random signs", random_walk(split).tolist()), ("worst case", worst_case(split).tolist())]
    return [line for name, values in rows if (line := _line(name, values)).values]


def _line(name: str, values: Sequence[float]) -> Line:
    """The points that have a place on logarithmic axes, of many some."""
    known = [k for k in range(1, len(values)) if math.isfinite(values[k]) and values[k] > 0]
    if len(known) > _POINTS:
        wanted = {round((len(values) - 1) ** (part / _POINTS)) for part in range(_POINTS + 1)}
        known = [k for k in known if k in wanted]
    return Line(name, _LOOKS[name], known, [values[k] for k in known])


def _draw(axes: Any, loop: LoopErrors, lines: Sequence[Line]) -> None:
    for line in lines:
        axes.plot(
            line.rounds, line.values, **line.look, markevery=_anchors(line), markersize=5, markerfacecolor="white"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks(axes.xaxis, [round_ for line in lines for round_ in line.rounds], plain)
    ticks(axes.yaxis, [value for line in lines for value in line.values], plain)
    axes.set_title(f"{'backward' if loop.backward else 'forward'} pass: {law_of(loop).verdict}", fontsize=11)
    axes.set_xlabel("rounds (of the backward pass: from the last one)" if loop.backward else "rounds")
    axes.set_ylabel("‖error‖₂ (in units of the values)")
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _anchors(line: Line) -> list[int]:
    """Points with a marker, at even distances of the logarithm; each line begins elsewhere: none hides another."""
    names = list(_LOOKS)
    shift = names.index(line.label) / len(names)
    last = math.log(line.rounds[-1]) or 1.0
    asked = [math.exp(last * (part + shift) / _ANCHORS) for part in range(_ANCHORS)]
    places = [min(range(len(line.rounds)), key=lambda k: abs(line.rounds[k] - round_)) for round_ in asked]
    return sorted(set(places))


def _legend(figure: Any, lines: Sequence[Line]) -> None:
    from matplotlib.lines import Line2D

    present = {line.label: line.look for line in lines}
    handles = [
        Line2D([], [], label=_WORDS.get(name, name), **look, markersize=5, markerfacecolor="white")
        for name, look in _LOOKS.items()
        if name in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9, handlelength=4)


_WORDS = {
    "systematic": "systematic: the same error in every round",
    "rounding": "roundings that differ",
    "from before": "from before the loop",
    "prediction": "prediction n·‖R y‖, or propagated",
    "random signs": "√n: roundings of random sign",
    "worst case": "worst case: all errors one way",
}


def _described(loop: LoopErrors) -> str:
    law = law_of(loop)
    where = "backward" if loop.backward else "forward"
    text = f"The {where} pass of a loop of {count_text(loop.rounds)} rounds: {law.verdict}"
    if law.final is not None:
        text += f", an error of {significant(law.final, 2)} at the end"
    if law.predicted is not None:
        text += f", predicted {significant(law.predicted, 2)}"
    return f"{text}."

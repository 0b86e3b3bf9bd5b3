"""How errors grow along a swept option: those of results, and those of loops beside what theory says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from graphlens.analyses.exactness import Exactness, LoopError, along_condition, loop_keys, matrices, telling
from graphlens.analyses.growth import condition_name, x_text
from graphlens.analyses.sweep_points import Point, Sweep, is_numeric
from graphlens.errors import MeasureError
from graphlens.graph import printable
from graphlens.units import significant
from graphlens.views.exactness_report import MOST_RESULTS, loop_title
from graphlens.views.plotting import COLOURS, LINES, MARKERS, file_of, plain, settings, ticks

_MOST_ROWS = 6  # targets, and settings of the other options
_MOST_LOOPS = 2

Pairs = list[tuple[Any, float]]


class Line(NamedTuple):
    """One line of a panel."""

    label: str
    pairs: Pairs
    look: Mapping[str, Any]
    is_of_theory: bool = False  # and of what it is held against: not of a result


class Panel(NamedTuple):
    """One pair of axes: its titles and its lines."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    is_numbered: bool = False  # though the option that is swept may have no numbers


_BEFORE = "from before the loop"
_LITTLE = 0.01  # of the error: what was there before is not drawn where it is less at every point
_LOOP_LINES: tuple[tuple[str, Callable[[LoopError], float | None], dict[str, Any]], ...] = (
    ("measured", lambda loop: loop.error, {"color": "#000000", "linestyle": "-", "marker": "o", "linewidth": 1.8}),
    ("prediction n·‖R y‖", lambda loop: loop.predicted,
     {"color": "#D55E00", "linestyle": (0, (5, 1.5)), "marker": "x"}),
    (_BEFORE, lambda loop: loop.inherited, {"color": "#CC79A7", "linestyle": "-.", "marker": "D"}),
    ("√n: roundings of random sign", lambda loop: loop.random_signs,
     {"color": "#0072B2", "linestyle": (0, (1, 1.2)), "marker": "^"}),
    ("worst case: all errors one way", lambda loop: loop.worst_case,
     {"color": "#6c757d", "linestyle": (0, (6, 3)), "marker": "v"}),
)  # fmt: skip


def plot_exactness(sweep: Sweep, kind: str) -> bytes:
    """The picture as "svg", "png" or "pdf"; the same sweep gives the same bytes, and text is text.

    A row for each target and each setting of the other options. x is the first option that has
    numbers, else the first one.

    Raises:
        MeasureError: no error is known at any point.
    """
    from matplotlib.figure import Figure

    over = next((key for key, values in sweep.over.items() if is_numeric(values)), next(iter(sweep.over)))
    rows = list(_rows(sweep, over))
    grid = [_panels(sweep, side, where, points, over) for side, where, points in rows[:_MOST_ROWS]]
    columns = max(map(len, grid))
    if not any(y > 0 for panels in grid for panel in panels for line in panel.lines for _, y in line.pairs):
        raise MeasureError("there is no error to plot: none is above 0 and known at any point")
    title = f"Errors of {' against '.join(sweep.names)} over {', '.join(sweep.over)}"
    if len(rows) > _MOST_ROWS:
        title += f" (the first {_MOST_ROWS} of {len(rows)} settings)"
    with settings():
        # Four panels of one row stand two by two.
        height, width = (2, 2) if (len(grid), columns) == (1, 4) else (len(grid), columns)
        figure = Figure(figsize=(4.8 * width + 0.4, 3.7 * height + 0.9), layout="constrained")
        figure.suptitle(printable(title))
        cells = figure.subplots(height, width, squeeze=False, sharey="col" if height == len(grid) else False)
        cells = cells.reshape(len(grid), columns)
        for (side, where, _), panels, row in zip(rows, grid, cells, strict=False):
            for panel, axes in zip(panels, row, strict=False):
                is_numbered = panel.is_numbered or is_numeric(sweep.over[over])
                _draw(axes, panel, None if is_numbered else sweep.over[over], _lead(sweep, side, where))
            for axes in row[len(panels) :]:
                axes.set_axis_off()
        cells[0, 0].legend(frameon=False, fontsize=8, handlelength=3.5)
        _legend(figure, [line for panels in grid for panel in panels for line in panel.lines if line.is_of_theory])
        return file_of(figure, kind, title=printable(title), description=_described(sweep, over))


def _rows(sweep: Sweep, over: str) -> Iterator[tuple[int, Mapping[str, Any], list[Point]]]:
    """Targets and settings of the other options, each with its points by rising x."""
    groups: dict[str, list[Point]] = {}
    for point in sweep.done:
        rest = {key: value for key, value in point.options.items() if key != over}
        groups.setdefault(repr(rest), []).append(point)
    for points in groups.values():
        if is_numeric(sweep.over[over]):
            points.sort(key=lambda point: float(point.options[over]))
        where = {key: value for key, value in points[0].options.items() if key != over}
        for side in range(len(sweep.names)):
            yield side, where, points


def _panels(sweep: Sweep, side: int, where: Mapping[str, Any], points: Sequence[Point], over: str) -> list[Panel]:
    known = [(point.options[over], exact) for point in points if (exact := point.sides[side].exactness) is not None]
    found = [exact for _, exact in known]
    labels = telling([exact for point in sweep.done for each in point.sides if (exact := each.exactness) is not None])
    labels = labels[:MOST_RESULTS]
    panels = [
        Panel(
            "Results",
            over,
            "largest absolute error",
            [Line(label, _errors(known, label), _look(number)) for number, label in enumerate(labels)],
        )
    ]
    for key in loop_keys(found)[:_MOST_LOOPS]:
        loops = [(x, loop) for x, exact in known if (loop := exact.loop(key)) is not None]
        lines = [
            Line(name, [(x, value) for x, loop in loops if (value := read(loop)) is not None], look, True)
            for name, read, look in _LOOP_LINES
            if name != _BEFORE or any((loop.inherited or 0.0) > _LITTLE * (loop.error or 0.0) for _, loop in loops)
        ]
        panels.append(Panel(loop_title(key), over, "‖error‖₂ after the last round", lines))
    for matrix in matrices(found)[:1]:
        kappas = [(x, item.kappa) for x, exact in known if (item := exact.condition(matrix)) is not None]
        if len({f"{kappa:.2g}" for _, kappa in kappas}) > 1 and not _is_the_option(kappas):
            panels.append(_by_condition(labels, found, matrix))
    return panels


def _errors(known: Sequence[tuple[Any, Exactness]], label: str) -> Pairs:
    """A result's error over the option."""
    results = [(x, exact.by_label[label]) for x, exact in known if label in exact.by_label]
    return [(x, result.error) for x, result in results if result.error is not None]


def _by_condition(labels: Sequence[str], found: Sequence[Exactness], matrix: str) -> Panel:
    """Relative errors over κ₂ of a matrix, and u·κ₂ beside them."""
    rows: Mapping[str, Pairs] = along_condition(found, matrix)
    lines = [
        Line(label, rows.get(label, []), {**_look(number), "linestyle": ""}) for number, label in enumerate(labels)
    ]
    known = [(exact, item.kappa) for exact in found if (item := exact.condition(matrix)) and not item.at_least]
    rule = sorted((kappa, exact.unit * kappa) for exact, kappa in known)
    look = {"color": "#6c757d", "linestyle": (0, (6, 3)), "marker": ""}
    lines.append(Line("u·κ₂: of one inverse or solve", rule, look, True))
    title = "Against the condition number"
    return Panel(title, condition_name(matrix), "largest error ÷ largest true entry", lines, is_numbered=True)


def _is_the_option(kappas: Sequence[tuple[Any, float]]) -> bool:
    """Whether the swept option is the condition number of the matrix itself."""
    return all(type(x) in (int, float) and math.isclose(x, kappa, rel_tol=0.01) for x, kappa in kappas)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def _lead(sweep: Sweep, side: int, where: Mapping[str, Any]) -> str:
    parts = [sweep.names[side]] if len(sweep.names) > 1 else []
    return ", ".join((*parts, *(f"{key} = {x_text(value)}" for key, value in where.items())))


def _draw(axes: Any, panel: Panel, words: Sequence[Any] | None, lead: str) -> None:
    places = {repr(value): place for place, value in enumerate(words or ())}
    shown: list[tuple[float, float]] = []
    hidden = 0
    for line in panel.lines:
        pairs = [(places[repr(x)] if words is not None else x, y) for x, y in line.pairs]
        drawn = [(x, y) for x, y in pairs if y > 0 and math.isfinite(y)]
        hidden += len(pairs) - len(drawn)
        look = {**line.look, "linestyle": ""} if words is not None and line.look["marker"] else line.look
        if drawn:
            axes.plot(
                *zip(*drawn, strict=True), label=printable(line.label), markersize=5.5, markerfacecolor="white", **look
            )
        shown += drawn
    axes.set_title(printable(f"{lead}: {panel.title}" if lead else panel.title), fontsize=10)
    axes.set_xlabel(printable(panel.x_label))
    axes.set_ylabel(panel.y_label)
    if hidden:
        text = f"{hidden} of the values {'is' if hidden == 1 else 'are'} 0 or not finite: not shown"
        axes.text(0.02, 0.98, text, transform=axes.transAxes, fontsize=8, va="top")
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        axes.set_yscale("log")
        ticks(axes.yaxis, [y for _, y in shown], plain)
    if words is not None:
        axes.set_xticks(range(len(words)), [printable(x_text(value)) for value in words])
        axes.set_xlim(-0.5, len(words) - 0.5)
    elif shown:
        xs = [x for x, _ in shown]
        # Numbers of one size, as seeds are, stand at even distances.
        if min(xs) > 0 and max(xs) >= 8 * min(xs):
            axes.set_xscale("log")
            ticks(axes.xaxis, xs, plain)


def _legend(figure: Any, lines: Sequence[Line]) -> None:
    from matplotlib.lines import Line2D

    looks = {line.label: line.look for line in reversed(lines) if line.pairs}
    order = dict.fromkeys(line.label for line in lines if line.pairs)
    handles = [
        Line2D([], [], label=printable(label), markersize=5.5, markerfacecolor="white", **looks[label])
        for label in order
    ]
    columns = max(1, int(figure.get_figwidth() / 2.9))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9,
                  handlelength=4)  # fmt: skip


def _described(sweep: Sweep, over: str) -> str:
    """What the picture shows, in words: each result's error at the ends of the sweep."""
    sentences = []
    for side, where, points in _rows(sweep, over):
        known = [(point.options[over], exact) for point in points if (exact := point.sides[side].exactness) is not None]
        for label in telling([exact for _, exact in known])[:MOST_RESULTS]:
            errors = _errors(known, label)
            ends = [f"{significant(error, 2)} at {over} = {x_text(x)}" for x, error in (*errors[:1], *errors[1:][-1:])]
            if ends:
                lead = _lead(sweep, side, where)
                sentences.append(f"{lead + ': ' if lead else ''}the error of {label} is {', '.join(ends)}.")
    return printable(" ".join(sentences))

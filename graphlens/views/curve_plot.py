"""A scalar function and its derivative, one above the other, with `None` shown as what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphlens.errors import DrawError
from graphlens.records import Curve
from graphlens.views.plotting import file_of, settings

_BLUE, _VERMILION = "#0072B2", "#D55E00"  # told apart by the colour-blind, and by line style


MOST = 1e300  # of larger numbers the places of an axis overflow


def plot_curve(curve: Curve, kind: str, *, title: str) -> bytes:
    """The picture as "svg", "png" or "pdf"; the same curve gives the same bytes.

    Raises:
        DrawError: numbers are so large that an axis cannot show them.
    """
    from matplotlib.figure import Figure

    numbers = (*curve.points, *curve.values, *(value for value in curve.derivatives if value is not None))
    largest = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
    if largest > MOST:
        raise DrawError(
            f"a plot shows numbers up to {MOST:g}, and over this --range there are some of {largest:.3g}; "
            "choose a smaller --range"
        )
    with settings(11):
        figure = Figure(figsize=(7, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        figure.suptitle(title)
        above.plot(curve.points, curve.values, color=_BLUE, linewidth=2)
        above.set_ylabel(f"{curve.name}({curve.argument})")
        for run in _runs(curve.derivatives):
            points = [curve.points[k] for k in run]
            if curve.derivatives[run[0]] is None:
                below.plot(points, [0.0] * len(run), color=_VERMILION, linewidth=2, linestyle=(0, (1, 1.5)))
            else:
                below.plot(points, [curve.derivatives[k] for k in run], color=_BLUE, linewidth=2)
        below.set_ylabel(f"{curve.name}′({curve.argument})")
        below.set_xlabel(curve.argument)
        below.plot([], [], color=_BLUE, linewidth=2, label="value from autograd")
        if None in curve.derivatives:
            label = f"None: no path to {curve.argument}, stands for 0"
            below.plot([], [], color=_VERMILION, linewidth=2, linestyle=(0, (1, 1.5)), label=label)
        below.legend(loc="center right", frameon=False)
        below.margins(y=0.15)
        for axes in (above, below):
            axes.grid(visible=True, linewidth=0.4, alpha=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        return file_of(figure, kind, title=title, description=_described(curve))


def _described(curve: Curve) -> str:
    """What the picture shows, in words."""
    low, high = min(curve.points), max(curve.points)
    text = f"{curve.name}({curve.argument}) above its derivative, from {curve.argument} = {low:g} to {high:g}."
    none = [f"{curve.points[run[0]]:g} to {curve.points[run[-1]]:g}" for run in _runs(curve.derivatives)
            if curve.derivatives[run[0]] is None]  # fmt: skip
    return f"{text} No derivative comes from autograd at {', '.join(none)}." if none else text


def _runs(derivatives: Sequence[float | None]) -> list[list[int]]:
    """Maximal stretches of points that all have a value, or all have none."""
    runs: list[list[int]] = []
    for k, value in enumerate(derivatives):
        if runs and (derivatives[runs[-1][-1]] is None) == (value is None):
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs

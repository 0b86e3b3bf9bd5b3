"""A scalar function and its derivative, one above the other, with `None` shown as what it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from graphlens.records import Curve

_BLUE, _VERMILION = "#0072B2", "#D55E00"  # told apart by the colour-blind, and by line style


def plot_curve(curve: Curve, kind: str, *, title: str) -> bytes:
    """The picture as "svg", "png" or "pdf"; the same curve gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "graphlens", "svg.fonttype": "none", "font.size": 11}
    with matplotlib.rc_context(settings):
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
        stream = io.BytesIO()
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(stream, format=kind, dpi=150, metadata=dates.get(kind))
        return stream.getvalue()


def _runs(derivatives: Sequence[float | None]) -> list[list[int]]:
    """Maximal stretches of points that all have a value, or all have none."""
    runs: list[list[int]] = []
    for k, value in enumerate(derivatives):
        if runs and (derivatives[runs[-1][-1]] is None) == (value is None):
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs

"""What is kept for backward through both passes, as a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphlens.analyses.memory import Memory
from graphlens.units import bytes_text, count_text
from graphlens.views.plotting import file_of, settings

_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#6c757d"  # told apart by the colour-blind, and by line style
_MOST_POINTS = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plot_memory(memory: Memory, kind: str, *, title: str) -> bytes:
    """The picture as "svg" or "png"; the same curve gives the same bytes, and text is text."""
    from matplotlib.figure import Figure

    power = min(max(0, int(math.log10(max(memory.peak, 1)) // 3)), len(_UNITS) - 1)
    scale = 1000.0**power
    functions = len(memory.forward)
    with settings(11):
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        last = functions + len(memory.backward) - 1
        end = last + max(1.0, last / 100)  # a little more, so that the last step is seen
        steps, sizes = thinned([0, *memory.forward, *memory.backward[1:]])
        places, heights = [*steps, end], [size / scale for size in (*sizes, sizes[-1])]
        axes.fill_between(places, heights, step="post", color=_BLUE, alpha=0.25, linewidth=0)
        axes.step(places, heights, where="post", color=_BLUE, linewidth=1.6, label="kept for backward")
        if memory.gradients is not None:
            more, sums = thinned(memory.total)
            axes.step(
                [*(functions + step for step in more), end], [size / scale for size in (*sums, sums[-1])],
                where="post", color=_VERMILION, linewidth=1.6, linestyle=(0, (4, 1.5)),
                label="with gradients of leaves",
            )  # fmt: skip
        axes.axvline(functions, color=_GREY, linewidth=1, linestyle=":")
        peaks = [(functions, memory.kept)]
        if memory.peak > memory.kept:
            peaks.append((functions + memory.peak_step, memory.peak))
        for step, size in peaks:
            axes.plot([step], [size / scale], marker="o", color="black", markersize=5, clip_on=False)
            axes.annotate(
                bytes_text(size), (step, size / scale), xytext=(-8, 4), textcoords="offset points", ha="right"
            )
        axes.set_ylim(0, memory.peak / scale * 1.15 or 1)
        axes.set_xlim(0, end)
        axes.set_ylabel(f"{'at least, ' if memory.unknown else ''}{_UNITS[power]}")
        axes.set_xlabel("nodes that have run: forward pass, then (after the dotted line) backward pass")
        axes.legend(loc="upper left", frameon=False)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        description = (
            f"A curve over the nodes of both passes. It rises to {bytes_text(memory.kept)} at the end of the forward "
            f"pass, after {count_text(functions)} nodes, and falls in the backward pass. With the gradients of the "
            f"leaves it reaches {bytes_text(memory.peak)}."
        )
        return file_of(figure, kind, title=title, description=description)


def thinned(values: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places and values of a curve, of a long one the largest of each stretch: the peak stays what it is."""
    width = -(-len(values) // _MOST_POINTS)
    if width <= 1:
        return list(range(len(values))), list(values)
    places, kept = [], []
    for start in range(0, len(values), width):
        part = values[start : start + width]
        kept.append(max(part))
        places.append(start)
    return [*places, len(values) - 1], [*kept, values[-1]]

"""A flame chart of a backward pass, as SVG written by hand and as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from graphlens.analyses.timeline import Bar, Flame
from graphlens.graph import GradGraph, printable
from graphlens.records import CostRun
from graphlens.units import count_text, nodes_text, percent_text, seconds_text
from graphlens.views.palette import DARK, LIGHT, MIDDLE_GREY
from graphlens.views.svg import id_prefix

# Points of the picture.
_WIDTH, _MARGIN = 1200, 20
_ROW, _GAP = 24, 2
_HEAD, _FOOT = 64, 64
_FONT, _ADVANCE = 12, 6.5  # the size of letters, and the most that one takes on average
_MOST_LINES = 3

# Rows and kinds are told apart by their place and their words; colour only helps.
_COLOURS = {
    "pass": "function",
    "engine": "function",
    "rest": "function",
    "module": "leaf",
    "op": "closed",
    "custom": "custom",
}


@dataclass(frozen=True)
class Chart:
    """A flame chart with what is written around it."""

    graph: GradGraph
    flame: Flame
    run: CostRun
    name: str

    @property
    def title(self) -> str:
        """The heading."""
        return f"Backward pass of {printable(self.name)}: {seconds_text(self.flame.total / 1e9)}"

    @property
    def subtitle(self) -> str:
        """What the total is."""
        return (
            f"{nodes_text(self.flame.nodes)}, laid end to end as they ran; medians of {count_text(self.run.repeats)} "
            f"run{'' if self.run.repeats == 1 else 's'}; the pass by itself takes {seconds_text(self.run.plain.median)}"
        )

    @property
    def note(self) -> str:
        """How to read bars that were put together; "" where there are none."""
        if not any(bar.is_gathered for bar in self.flame.bars):
            return ""
        return "Dashed: many short stretches, put together by name, the longest first; … is the sum of the rest."

    @property
    def height(self) -> int:
        """In points."""
        return _HEAD + self.flame.rows * _ROW + _FOOT

    def x(self, ns: float) -> float:
        """Where a moment lies."""
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * ns / max(self.flame.total, 1)

    def box(self, bar: Bar) -> tuple[float, float, float, float]:
        """Left, top, width and height of a bar: true to its time, neighbours parted by a line."""
        left, right = self.x(bar.start), self.x(bar.start + bar.length)
        return left, _HEAD + bar.row * _ROW, right - left, _ROW - _GAP

    def label(self, bar: Bar) -> str:
        """As much of what a bar is called as fits into it."""
        room = int((self.box(bar)[2] - 6) / _ADVANCE)
        count = f" × {count_text(bar.nodes)}" if bar.nodes > 1 and bar.kind in ("op", "custom") else ""
        time = f": {seconds_text(bar.length / 1e9)}"
        short = bar.name.removesuffix("0").removesuffix("Backward")
        for text in (bar.name + count + time, bar.name + count, short + count, short):
            if len(text) <= room:
                return text
        return f"{short[: room - 1]}…" if room >= 4 else ""

    def tip(self, bar: Bar) -> str:
        """What a browser shows where the mouse points at a bar."""
        called = {"rest": "too short to be shown by themselves", "engine": "what the engine does around the nodes"}
        share = percent_text(bar.length, self.flame.total)
        lines = [f"{called.get(bar.kind, bar.name)}: {seconds_text(bar.length / 1e9)}, {share} of the pass"]
        if bar.nodes:
            lines[0] += f", {nodes_text(bar.nodes)}"
        if bar.path:
            lines.append(f"in {bar.path}")
        sources = self.graph.sources
        for source, nodes in bar.lines.most_common(_MOST_LINES):
            count = f" × {count_text(nodes)}" if nodes > 1 else ""
            lines.append(f"{sources[source]}{count}: {sources[source].text}".removesuffix(": "))
        if len(bar.lines) > _MOST_LINES:
            more = len(bar.lines) - _MOST_LINES
            lines.append(f"and {count_text(more)} more line{'' if more == 1 else 's'}")
        if bar.is_gathered:
            lines.append("put together from many short stretches")
        return "\n".join(lines)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Places and numbers of the axis, in milliseconds."""
        total = self.flame.total / 1e6
        if total <= 0:
            return
        step = _step(total)
        digits = max(0, -math.floor(math.log10(step)))
        for k in range(int(total / step) + 1):
            yield self.x(k * step * 1e6), f"{k * step:,.{digits}f}"

    @property
    def description(self) -> str:
        """For those who cannot see it: the total, and the longest ops."""
        longest: dict[str, int] = {}
        for bar in self.flame.bars:
            if bar.kind in ("op", "custom"):
                longest[bar.name] = longest.get(bar.name, 0) + bar.length
        listed = sorted(longest.items(), key=lambda item: (-item[1], item[0]))[:5]
        ops = ", ".join(
            f"{printable(op)} {seconds_text(ns / 1e9)} ({percent_text(ns, self.flame.total)})" for op, ns in listed
        )
        return (
            f"A flame chart over {seconds_text(self.flame.total / 1e9)}: the whole pass at the top, below it the "
            f"modules, and below these the ops. {self.subtitle}. The ops that are shown take: {ops}."
        )


def _step(total: float) -> float:
    """A round step that gives 5 to 12 ticks."""
    power: float = 10.0 ** math.floor(math.log10(total))
    return next(power * part for part in (0.1, 0.2, 0.5, 1.0) if total / (power * part) <= 12)


def flame_svg(chart: Chart) -> bytes:
    """The chart as SVG: the same chart gives the same bytes, its text can be selected, its bars have tooltips."""
    body = "\n".join(_svg_parts(chart))
    prefix = id_prefix(chart.name, body)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{prefix}" role="img" '
        f'aria-labelledby="{prefix}-title {prefix}-desc" viewBox="0 0 {_WIDTH} {chart.height}" '
        f'width="{_WIDTH}" height="{chart.height}" style="max-width: 100%; height: auto" '
        f'font-family="Arial, Helvetica, sans-serif" font-size="{_FONT}">\n'
        f'<title id="{prefix}-title">{_text(chart.title)}</title>\n'
        f'<desc id="{prefix}-desc">{_text(chart.description)}</desc>\n'
        f"<style>{_style(prefix)}</style>\n"
    )
    return ('<?xml version="1.0" encoding="utf-8"?>\n' + head + body + "\n</svg>\n").encode()


def _text(words: str) -> str:
    return escape(printable(words), quote=True)


def _svg_parts(chart: Chart) -> Iterator[str]:
    axis = _HEAD + chart.flame.rows * _ROW + 4
    yield f'<text class="gl-page" x="{_MARGIN}" y="26" font-size="17" font-weight="bold">{_text(chart.title)}</text>'
    yield f'<text class="gl-page" x="{_MARGIN}" y="48">{_text(chart.subtitle)}</text>'
    for bar in chart.flame.bars:
        left, top, width, height = chart.box(bar)
        fill, line = LIGHT.boxes[_COLOURS[bar.kind]]
        dashes = ' stroke-dasharray="4 2"' if bar.is_gathered else ""
        yield f'<g class="gl-{bar.kind}"><title>{escape(chart.tip(bar))}</title>'
        yield (
            f'<rect x="{left:.2f}" y="{top}" width="{width:.2f}" height="{height}" fill="{fill}" stroke="{line}" '
            f'stroke-width="{min(1.0, width / 3):.2f}"{dashes}/>'
        )
        if label := chart.label(bar):
            yield f'<text x="{left + 4:.2f}" y="{top + 15}" fill="{LIGHT.text}">{_text(label)}</text>'
        yield "</g>"
    yield f'<path class="gl-axis" d="M {_MARGIN} {axis} H {_WIDTH - _MARGIN}" stroke="{MIDDLE_GREY}"/>'
    for x, number in chart.ticks():
        yield f'<path class="gl-axis" d="M {x:.2f} {axis} v 5" stroke="{MIDDLE_GREY}"/>'
        yield f'<text class="gl-page" x="{x:.2f}" y="{axis + 18}" text-anchor="middle">{number}</text>'
    yield (
        f'<text class="gl-page" x="{_WIDTH - _MARGIN}" y="{axis + 36}" text-anchor="end">milliseconds</text>'
    )
    if chart.note:
        yield f'<text class="gl-page" x="{_MARGIN}" y="{axis + 36}">{_text(chart.note)}</text>'


def _style(prefix: str) -> str:
    """Colours that suit the page around the picture, as those of the other pictures do; see `svg`."""
    rules = [
        f"#{prefix} .gl-page {{ fill: currentColor; }}",
        f"#{prefix}:root {{ color-scheme: light dark; }}",
        f"#{prefix}:root .gl-page {{ fill: CanvasText; paint-order: stroke; stroke: Canvas; stroke-width: 3px; "
        "stroke-linejoin: round; }",
        f"#{prefix} g text {{ fill: light-dark({LIGHT.text}, {DARK.text}); pointer-events: none; }}",
    ]
    for kind, box in _COLOURS.items():
        (fill, line), (dark_fill, dark_line) = LIGHT.boxes[box], DARK.boxes[box]
        rules.append(
            f"#{prefix} .gl-{kind} rect {{ fill: light-dark({fill}, {dark_fill}); "
            f"stroke: light-dark({line}, {dark_line}); }}"
        )
    return "\n".join(rules)


def flame_png(chart: Chart) -> bytes:
    """The chart as PNG, on white."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    settings: Any = {"font.size": _FONT * 0.72, "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(_WIDTH / 100, chart.height / 100))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, _WIDTH)
        axes.set_ylim(chart.height, 0)
        axes.axis("off")
        axes.text(_MARGIN, 26, chart.title, fontsize=12, fontweight="bold", color=LIGHT.text)
        axes.text(_MARGIN, 48, chart.subtitle, color=LIGHT.text)
        for bar in chart.flame.bars:
            left, top, width, height = chart.box(bar)
            fill, line = LIGHT.boxes[_COLOURS[bar.kind]]
            dashes: Any = (0, (4, 2)) if bar.is_gathered else "solid"
            axes.add_patch(
                Rectangle(
                    (left, top), width, height, facecolor=fill, edgecolor=line, linewidth=min(0.8, width / 4),
                    linestyle=dashes,
                )
            )  # fmt: skip
            if label := chart.label(bar):
                axes.text(left + 4, top + 15, label.replace("$", r"\$"), color=LIGHT.text, clip_on=True)
        axis = _HEAD + chart.flame.rows * _ROW + 4
        axes.plot([_MARGIN, _WIDTH - _MARGIN], [axis, axis], color=MIDDLE_GREY, linewidth=0.8)
        for x, number in chart.ticks():
            axes.plot([x, x], [axis, axis + 5], color=MIDDLE_GREY, linewidth=0.8)
            axes.text(x, axis + 18, number, ha="center", color=LIGHT.text)
        axes.text(_WIDTH - _MARGIN, axis + 36, "milliseconds", ha="right", color=LIGHT.text)
        axes.text(_MARGIN, axis + 36, chart.note, color=LIGHT.text)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        return stream.getvalue()

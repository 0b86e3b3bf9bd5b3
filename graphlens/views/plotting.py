"""What all plots share: settings, looks of lines, numbers along axes, and how a figure becomes a file's bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from graphlens.views.svg import finish_svg, id_prefix

# Told apart by the colour-blind; and in black and white by marker and by line style.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvP*X"
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


def settings(size: int = 10) -> AbstractContextManager[None]:
    """Text that is text, in SVG and in PDF, at this size; and bytes that are the same for the same picture."""
    import matplotlib

    chosen: Any = {
        "svg.hashsalt": "graphlens",
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.size": size,
        "text.parse_math": False,  # a name may hold a dollar sign
    }
    return matplotlib.rc_context(chosen)


def file_of(figure: Any, kind: str, *, title: str, description: str) -> bytes:
    """A figure as "svg", "png" or "pdf", without dates; an SVG says in words what it shows."""
    stream = io.BytesIO()
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Title": title},
        "pdf": {"CreationDate": None, "Title": title},
        "png": {"Software": None},
    }
    figure.savefig(stream, format=kind, dpi=150, metadata=metadata[kind])
    data = stream.getvalue()
    if kind != "svg":
        return data
    return finish_svg(data, title=title, description=description, prefix=id_prefix(title, description))


def ticks(axis: Any, values: Sequence[float], text: Callable[[float, Any], str]) -> None:
    """Plain numbers at powers of ten, or at 1, 2 and 5 times them where there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values), max(values)
    if low == high:  # a line of one height: some room around it
        axis.axes.update_datalim([(low / 3, low / 3), (low * 3, low * 3)], updatex=axis.axis_name == "x",
                                 updatey=axis.axis_name == "y")  # fmt: skip
        axis.axes.autoscale_view()
    is_short = high / low < 30 if low else True
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_short else (1.0,), numticks=12))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: Any) -> str:
    """ "1,000", "0.1", "1e-9"."""
    if 1 <= value < 1e6:
        return f"{value:,.0f}" if value.is_integer() else f"{value:,g}"
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")


def prefixed(unit: str) -> Callable[[float, Any], str]:
    """ "100 µs", "10 kB"."""
    from matplotlib.ticker import EngFormatter

    formatter = EngFormatter(unit=unit)
    return lambda value, _: str(formatter(value))

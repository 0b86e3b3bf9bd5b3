"""Whether the clock was disturbed while passes were timed: by other programs, as a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphlens.analyses.findings import listed
from graphlens.records import Timing
from graphlens.units import percent_text, seconds_text

_WIDE = 3.0  # times the shortest run: what a pass by itself does not vary by
_IDLE = 0.8  # of the time: a pass that has a processor for less waited for one, or for something else


def caution(timings: Mapping[str, Timing | None] | Iterable[tuple[str, Timing | None]]) -> str:
    """What speaks against the times, in a sentence; nothing where they are steady.

    Args:
        timings: by the name of what was timed.
    """
    signs = []
    for name, timing in timings.items() if isinstance(timings, Mapping) else timings:
        if timing is None:
            continue
        if timing.max > _WIDE * timing.min:
            signs.append(f"{name} took {seconds_text(timing.min)} to {seconds_text(timing.max)}")
        elif timing.processor is not None and timing.processor < _IDLE:
            signs.append(f"{name} had a processor for {percent_text(timing.processor, 1)} of its time")
    if not signs:
        return ""
    shown = signs if len(signs) <= _MOST else [*signs[: _MOST - 1], f"{len(signs) - _MOST + 1} times more like that"]
    return (
        f"Caution: the times are disturbed, as where other programs are running: {listed(shown)}. Repeat on an idle "
        "machine."
    )


_MOST = 3

"""Numbers as people read them: with a unit, and no more digits than the measurement supports."""

from __future__ import annotations

import math

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def count_text(count: int) -> str:
    """ "30,015"."""
    return f"{count:,}"


def nodes_text(count: int) -> str:
    """ "1 node", "30,015 nodes"."""
    return counted(count, "node")


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 run", "5 runs", "1 entry", "1,200 entries"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def bytes_text(size: int) -> str:
    """ "640 B", "2.80 MB"; decimal units, three digits."""
    if size < 1000:
        return f"{size} B"
    # A size that three digits would round up to 1000 belongs to the next unit.
    power = min(_exponent(size, 3) // 3, len(_BYTE_UNITS) - 1)
    return f"{significant(size / 1000**power, 3)} {_BYTE_UNITS[power]}"


def seconds_text(seconds: float) -> str:
    """ "266 ms", "8.9 µs"; three digits, or two below ten: clocks here repeat no better."""
    if seconds == 0.0:
        return "0 s"
    unit, name = next((pair for pair in _TIME_UNITS if abs(seconds) >= 0.9995 * pair[0]), _TIME_UNITS[-1])
    value = seconds / unit
    return f"{significant(value, 3 if abs(value) >= 9.95 else 2)} {name}"


def ratio_text(a: float, b: float) -> str:
    """ "2,350 ×"; "" where there is no ratio."""
    if not b or not math.isfinite(a / b):
        return ""
    return f"{significant(a / b, 3 if a / b >= 100 else 2)} ×"


def percent_text(part: float, whole: float) -> str:
    """ "66.6 %"; "" where the whole is 0, "< 0.1 %" for a trace."""
    if not whole:
        return ""
    share = 100 * part / whole
    return "< 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits, and thousands separators where it is large."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = _exponent(value, digits)
    if -4 <= exponent < 6:
        rounded = round(value, digits - 1 - exponent)
        return f"{rounded:,.{max(digits - 1 - exponent, 0)}f}"
    return f"{value:.{digits - 1}e}"


def _exponent(value: float, digits: int) -> int:
    """The power of ten of the first digit, once the value is rounded to so many digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])

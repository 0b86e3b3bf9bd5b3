"""What --over says: the options that are swept, and their values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from graphlens.analyses.sweep_points import is_numeric
from graphlens.errors import TargetError
from graphlens.targets import parse_options

MOST_POINTS = 10_000


def parse_over(texts: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """The values of each swept option, numbers in rising order, and what was done on the reader's behalf.

    Raises:
        TargetError: an option or a value cannot be read, or none is given.
    """
    over: dict[str, list[Any]] = {}
    notes: list[str] = []
    for text in texts:
        key, equals, listed = text.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise TargetError(f"--over {text!r:.80} is not of the form KEY=V1,V2,…, as in --over n=10,100,1000")
        if key in over:
            raise TargetError(f"--over {key} is given twice; put all its values into one list, as in --over {key}=1,2")
        over[key] = _values(key, listed, notes)
    points = 1
    for values in over.values():
        points *= len(values)
    if points > MOST_POINTS:
        raise TargetError(f"--over asks for {points:,} points, more than {MOST_POINTS:,}; name fewer values")
    return over, notes


def grid(over: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Each combination of values; the first option changes fastest, so that its points stand together."""
    keys = list(over)
    combined = itertools.product(*(over[key] for key in reversed(keys)))
    return [dict(zip(keys, reversed(values), strict=True)) for values in combined]


def _values(key: str, listed: str, notes: list[str]) -> list[Any]:
    if not listed.strip():
        raise TargetError(f"--over {key} lists no value; name some, as in --over {key}=10,100,1000")
    found: dict[str, Any] = {}
    twice: list[str] = []
    for item in _items(listed):
        if not item:
            raise TargetError(f"--over {key}: a value is missing in {listed!r:.80}; write one between two commas")
        if ".." in item:
            values = _range(key, item)
            notes.append(
                f"{key}={item} stands for {', '.join(map(str, values))}: 1 and 3 times each power of ten, and both ends"
            )
        else:
            values = [_value(key, item)]
        for value in values:
            if repr(value) in found:
                twice.append(str(value))
            found[repr(value)] = value
    if twice:
        notes.append(f"{key}: {', '.join(dict.fromkeys(twice))} was named more than once and is run once")
    chosen = list(found.values())
    return sorted(chosen) if is_numeric(chosen) else chosen


def _items(listed: str) -> Iterator[str]:
    """The parts between commas, but not those within brackets or quotes: (2,3),(4,5) are two values."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(listed):
        if quote:
            quote = "" if letter == quote and listed[place - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth <= 0:
            yield listed[start:place].strip()
            start = place + 1
    yield listed[start:].strip()


def _value(key: str, item: str) -> Any:
    if len(item) > 1 and item.isdigit() and item[0] == "0":
        # Python reads 000 as 0, so that n=1,000 would run at 1 and at 0.
        raise TargetError(f"--over {key}: {item!r:.80} begins with 0; write a thousand as 1000 or 1_000, not as 1,000")
    try:
        (value,) = parse_options([f"{key}={item}"]).values()
    except TargetError as error:
        raise TargetError(
            f"--over {key}: {item!r:.80} is no Python literal; quote a text, as in --over {key}=\"'a b','c'\""
        ) from error
    if type(value) is float and value - value != 0:  # 1e999
        raise TargetError(f"--over {key}: {item!r:.80} is not finite; name a number")
    return value


def _range(key: str, item: str) -> list[Any]:
    """low..high: both ends, and between them 1 and 3 times each power of ten."""
    texts = [text.strip() for text in item.split("..")]
    wrong = TargetError(f"--over {key}: {item!r:.80} is no range of numbers above 0, as 10..10000 is; low end first")
    try:
        low, high = (Decimal(text.replace("_", "")) for text in texts)
    except (InvalidOperation, ValueError) as error:
        raise wrong from error
    if not (low.is_finite() and high.is_finite() and Decimal("1e-100") <= low < high <= Decimal("1e100")):
        raise wrong
    powers = range(low.adjusted(), high.adjusted() + 1)
    steps = (Decimal(digit).scaleb(power) for power in powers for digit in (1, 3))
    values = [low, *(step for step in steps if low < step < high), high]
    are_whole = all(text.replace("_", "").isdigit() for text in texts)
    return [int(value) if are_whole else float(value) for value in values]

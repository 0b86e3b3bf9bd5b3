"""Tandem repeats in a sequence of tokens, in time near to its length."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Repeat(NamedTuple):
    """Positions start … end−1 repeat with a period: each token equals the one a period later."""

    start: int
    end: int
    period: int


def repeats(tokens: Sequence[int]) -> list[Repeat]:
    """The maximal repeats of at least two periods, each with its shortest period.

    A repeat of period p shows up wherever a window of k tokens, p/2 < k ≤ p, was last seen p
    positions ago. Windows of 1, 2, 4, … tokens are numbered from those of half the length, so that
    all periods together cost O(N log N).

    Two repeats of periods p < q, none of them part of the other, share fewer than p + q positions
    (Fine and Wilf), so that the second has more than q − p positions of its own. Behind one repeat
    that covers nearly everything, no much longer period needs to be looked for.
    """
    words = array("q", tokens).tobytes()
    found: list[Repeat] = []
    names = list(tokens)
    longest, known = Repeat(0, 0, 0), 0
    width = 1
    while 2 * width <= len(tokens):
        _collect(names, width, words, found)
        longest = max([longest, *found[known:]], key=lambda repeat: repeat.end - repeat.start)
        known = len(found)
        if width > len(tokens) - (longest.end - longest.start) + longest.period:
            break
        names = _doubled(names, width)
        if not names:
            break
        width *= 2
    return found


def _doubled(names: list[int], width: int) -> list[int]:
    """Numbers for the windows of twice the width; nothing if they are all different."""
    numbered: dict[int, int] = {}
    factor = max(names) + 1
    pairs = [a * factor + b for a, b in zip(names, names[width:], strict=False)]
    number = numbered.setdefault
    doubled = [number(pair, len(numbered)) for pair in pairs]
    return doubled if len(numbered) < len(doubled) else []


def _collect(names: list[int], width: int, words: bytes, found: list[Repeat]) -> None:
    last = [-(2**62)] * (max(names) + 1)
    settled: dict[int, int] = {}
    limit = 2 * width
    for place, name in enumerate(names):
        period = place - last[name]
        last[name] = place
        if not width <= period < limit or settled.get(period, 0) > place:
            continue
        first = place - _common_before(words, place, place - period)
        end = place + _common_after(words, place, place - period)
        settled[period] = end
        if end - first >= period:
            found.append(Repeat(first - period, end, period))


def _common_after(words: bytes, a: int, b: int) -> int:
    """How many words from a on equal those from b on, b < a."""
    return _longest(len(words) // 8 - a, lambda length, step: _equal(words, a + length, b + length, step))


def _common_before(words: bytes, a: int, b: int) -> int:
    """How many words before a equal those before b, b < a."""
    return _longest(b, lambda length, step: _equal(words, a - length - step, b - length - step, step))


def _longest(most: int, goes_on: Callable[[int, int], bool]) -> int:
    """The length of a run of at most so many words; `goes_on` tells whether a run goes on for so many more."""
    length, step = 0, 8
    while step:
        step = min(step, most - length)
        if step and goes_on(length, step):
            length += step
            step *= 2
        elif step > 1:
            most = length + step - 1
            step //= 2
        else:
            step = 0
    return length


def _equal(words: bytes, a: int, b: int, length: int) -> bool:
    # Slices of bytes compare at memory speed, which a loop over tokens does not.
    return words[8 * a : 8 * (a + length)] == words[8 * b : 8 * (b + length)]

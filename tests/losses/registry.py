"""What a case is, and how one is entered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from graphlens.subject import Subject


class Pair(NamedTuple):
    """A program that loses digits, and one that gives the same without losing them.

    `arguments` makes what both are called with; `other` what the mended one is called with, if that differs.
    """

    bad: Callable[..., Any]
    good: Callable[..., Any]
    arguments: Sequence[torch.Tensor]
    other: Sequence[torch.Tensor] | None = None


@dataclass(frozen=True)
class Fault:
    """A program with one loss of digits, at the line of `bad` that is commented "<- fault".

    Attributes:
        code: the finding that must be raised.
        allowed: further codes that are as right.
        level: of the finding, where it is no warning.
        gains: decimal digits that the remedy must win at least, in the worst of all results.
        kept: results whose loss has another reason, which the remedy leaves as it is.
    """

    name: str
    build: Callable[[], Pair]
    code: str
    line: int
    allowed: frozenset[str]
    level: str
    gains: float
    kept: frozenset[str]

    def bad(self) -> Subject:
        pair = self._pair()
        return Subject(pair.bad, pair.arguments, name=self.name)

    def good(self) -> Subject:
        pair = self._pair()
        return Subject(pair.good, pair.arguments if pair.other is None else pair.other, name=f"{self.name}, mended")

    def _pair(self) -> Pair:
        torch.manual_seed(0)
        return self.build()


@dataclass(frozen=True)
class Sound:
    """A program that loses nothing that matters."""

    name: str
    function: Callable[[], Subject]

    def build(self) -> Subject:
        torch.manual_seed(0)
        return self.function()


FAULTY: list[Fault] = []
HEALTHY: list[Sound] = []


def faulty(
    code: str, *, gains: float, allowed: Collection[str] = (), level: str = "warning", kept: Collection[str] = ()
) -> Callable[[Callable[[], Pair]], Callable[[], Pair]]:
    """Enters a program that loses digits."""

    def enter(function: Callable[[], Pair]) -> Callable[[], Pair]:
        source, first = inspect.getsourcelines(function)
        (line,) = (first + at for at, text in enumerate(source) if text.rstrip().endswith("# <- fault"))
        FAULTY.append(Fault(function.__name__, function, code, line, frozenset(allowed), level, gains, frozenset(kept)))
        return function

    return enter


def healthy(function: Callable[[], Subject]) -> Callable[[], Subject]:
    """Enters a sound program."""
    HEALTHY.append(Sound(function.__name__, function))
    return function


def leaf(*numbers: Any, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A leaf that wants a gradient."""
    return torch.tensor(numbers, dtype=dtype, requires_grad=True)


def wanted(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor as a leaf that wants a gradient."""
    return tensor.detach().requires_grad_(True)

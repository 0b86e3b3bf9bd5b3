"""What a rule looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from graphlens.analyses.listing import Listing, Step


class Known(NamedTuple):
    """What has been seen so far: the step that made a value, its inputs already by their first numbers."""

    listing: Listing
    made_by: dict[int, Step]

    def maker(self, value: int, *ops: str) -> Step | None:
        """The step that made a value as its first output, if it is one of these ops."""
        step = self.made_by.get(value)
        return step if step is not None and step.op in ops and step.outputs[0] == value else None

    def shape(self, value: int) -> tuple[int, ...]:
        return self.listing.values[value].shape


class Undone(NamedTuple):
    """A step gives back `value`; `steps` undo one another, the last one is the step itself.

    `matrix` is what is inverted, where that is a matrix: the rounding grows with its condition.
    `rule` is the name of the rule that says so.
    """

    value: int
    steps: tuple[Step, ...]
    matrix: int | None = None
    rule: str = ""


Look = Callable[[Step, Known], "Undone | None"]


class Rule(NamedTuple):
    """A rule for the step that undoes: its name, first what is done and then what undoes it, and how it looks."""

    name: str
    look: Look

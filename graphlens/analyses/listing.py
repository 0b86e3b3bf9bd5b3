"""The forward pass as a list of steps between numbered values: what an analysis of its work reads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Step(NamedTuple):
    """One op that ran.

    Attributes:
        op: its name, "mv"; `overload` tells its forms apart.
        attributes: its arguments with "·" in the place of each tensor; equal where the ops do the same.
        numbers: those of its arguments that are plain numbers, by position or name.
        inputs, outputs: values, by number.
        node: of the graph, if it made one.
        is_random: whether it draws random numbers.
        is_tracked: whether autograd followed it.
    """

    op: str
    overload: str
    attributes: Hashable
    numbers: Mapping[int | str, object]
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    node: int | None
    is_random: bool = False
    is_tracked: bool = True


class Value(NamedTuple):
    """One tensor; `content` is equal for constants that are equal, None for what is no constant."""

    shape: tuple[int, ...]
    dtype: str
    bytes: int
    content: Hashable = None


@dataclass(frozen=True)
class Listing:
    """The steps of a forward pass in order.

    Attributes:
        values: by number.
        leaves: names of the inputs and parameters, by value.
        ends: the values of the outputs and of what is differentiated.
        requiring: the values that require a gradient.
    """

    steps: Sequence[Step]
    values: Sequence[Value]
    leaves: Mapping[int, str]
    ends: Sequence[int]
    requiring: frozenset[int]

    def makers(self) -> dict[int, int]:
        """Per value that a step made the step's position."""
        return {value: place for place, step in enumerate(self.steps) for value in step.outputs if value is not None}

"""The forward pass as a list of steps between numbered values: what an analysis of its work reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from graphlens.graph import GradGraph


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

    def reading(self, inputs: tuple[int, ...]) -> Step:
        """The same step on other values; a plain call takes a third of the time of `_replace`."""
        return Step(
            self.op, self.overload, self.attributes, self.numbers, inputs, self.outputs, self.node, self.is_random,
            self.is_tracked,
        )  # fmt: skip


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
        roots: of these what is differentiated.
        saved: the value that a node keeps for backward, by node and slot, where it is known.
        requiring: the values that require a gradient.
    """

    steps: Sequence[Step]
    values: Sequence[Value]
    leaves: Mapping[int, str]
    ends: Sequence[int]
    requiring: frozenset[int]
    roots: Sequence[int] = ()
    saved: Mapping[tuple[int, str], int] = field(default_factory=dict)


def leaf_names(graph: GradGraph) -> dict[int, str]:
    """The names of a graph's leaves, by node; those without one are leaf[0], leaf[1], … in the order of their nodes."""
    leaves = {number: node.name for number, node in enumerate(graph.nodes) if node.kind == "leaf"}
    taken = set(leaves.values())
    unnamed = (name for name in map("leaf[{}]".format, itertools.count()) if name not in taken)
    return {number: name or next(unnamed) for number, name in leaves.items()}


class Linked(Protocol):
    """Anything that reads some values and makes others."""

    @property
    def inputs(self) -> Iterable[int]: ...

    @property
    def outputs(self) -> Iterable[int | None]: ...


_Linked = TypeVar("_Linked", bound=Linked)


def followed(
    steps: Sequence[_Linked], roots: Iterable[int], passes: Callable[[_Linked], bool], carries: Callable[[int], bool]
) -> tuple[list[_Linked], set[int]]:
    """The steps that a gradient comes through on its way back from the roots, in order, and the values.

    What an output needs that is not differentiated is not among them, nor what only a comparison reads.

    Args:
        passes: whether a gradient passes a step at all.
        carries: whether a value can have a gradient.
    """
    values = set(roots)
    on_the_way = []
    for step in reversed(steps):
        if passes(step) and any(value in values for value in step.outputs):
            values.update(filter(carries, step.inputs))
            on_the_way.append(step)
    on_the_way.reverse()
    return on_the_way, values

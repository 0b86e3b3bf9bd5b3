"""The table of kernels: how each aten op is computed on arrays of exact numbers and balls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graphlens.numerics.balls import Array, ball, doubles, is_real

Bools = npt.NDArray[np.bool_]


class Unsupported(Exception):
    """A kernel does not cover this use of its op; the text says why."""


class TooWide(Exception):
    """The balls are too wide to go on: an inverse might not exist, a root might be imaginary."""


@dataclass(frozen=True)
class Kernel:
    """An op on arrays.

    Attributes:
        compute: takes a `Site`, then the op's arguments; returns an array, or several as a tuple or
            list, with None for what is no array of numbers.
        linear: sets of argument positions. The op is linear in the arguments of one set together, as
            long as the others stay; in each set separately.
        offsets: positions at which plain and whole numbers are such arguments too, not places or sizes.
        moves: it only moves entries, so that nothing is rounded while the format stays the same.
        shared: worth keeping for another call with the same arguments.
    """

    name: str
    compute: Callable[..., Any]
    linear: tuple[frozenset[int], ...] = ()
    offsets: frozenset[int] = frozenset()
    moves: bool = False
    shared: bool = False

    def __call__(self, site: Site, *args: Any, **kwargs: Any) -> list[Any]:
        """Compute the results; arguments that a newer torch may have added are not covered."""
        try:
            made = self.compute(site, *args, **kwargs)
        except TypeError:
            try:
                inspect.signature(self.compute).bind(site, *args, **kwargs)
            except TypeError:
                raise Unsupported(f"other arguments than aten::{self.name} is known to have") from None
            raise
        return list(made) if isinstance(made, (list, tuple)) else [made]


KERNELS: dict[str, Kernel] = {}


def kernel(
    *names: str,
    linear: Iterable[Sequence[int]] = (),
    offsets: Iterable[int] = (),
    moves: bool = False,
    shared: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function under names of aten ops, without namespace and overload."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name in KERNELS:
                raise ValueError(f"two kernels for aten::{name}")
            groups = tuple(frozenset(group) for group in linear)
            KERNELS[name] = Kernel(name, function, groups, frozenset(offsets), moves, shared)
        return function

    return enter


class Site:
    """What a kernel may ask about the call that it stands for.

    Attributes:
        inputs: the tensors of the run by position or name of the argument.
        outputs: the tensors of the run that came out.
        otherwise, undecided: entries at which exact arithmetic takes another branch than the run,
            or cannot tell; the run's branch was followed.
    """

    __slots__ = ("arguments", "function", "otherwise", "outputs", "undecided")

    def __init__(
        self, function: Any, arguments: Callable[[int | str], Any], outputs: Sequence[torch.Tensor | None]
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.outputs = outputs
        self.otherwise = 0
        self.undecided = 0

    def floats(self, argument: int | str) -> Any:
        """An argument as the run had it: a tensor in float64 or whole numbers, anything else as it is."""
        value = self.arguments(argument)
        if isinstance(value, torch.Tensor):
            return doubles(value) if is_real(value) else value.detach().cpu().numpy()
        return value

    def made(self, position: int = 0) -> npt.NDArray[Any]:
        """A result as the run had it."""
        tensor = self.outputs[position]
        assert tensor is not None
        return doubles(tensor) if is_real(tensor) else tensor.detach().cpu().numpy()

    def branch(self, taken: Any, yes: Callable[..., Any], no: Callable[..., Any], *operands: Any) -> Bools:
        """Follow the run's decisions, and count where exact arithmetic decides otherwise or cannot.

        Args:
            taken: what the run decided, per entry.
            yes, no: whether an entry certainly is, certainly is not so; both fail on a ball that is too wide.
            operands: the arrays that the decision is about.
        """
        followed: Bools = np.asarray(taken, dtype=bool)
        given = np.broadcast_arrays(followed, *operands)
        for so, *entries in zip(*(array.ravel().tolist() for array in given), strict=True):
            if not (yes if so else no)(*entries):
                if (no if so else yes)(*entries):
                    self.otherwise += 1
                else:
                    self.undecided += 1
        return followed

    def above(self, taken: Any, value: Array, bound: Any) -> Bools:
        """The run's `value > bound`."""
        return self.branch(taken, lambda a, b: a > b, lambda a, b: a <= b, value, bound)

    def below(self, taken: Any, value: Array, bound: Any) -> Bools:
        """The run's `value < bound`."""
        return self.branch(taken, lambda a, b: a < b, lambda a, b: a >= b, value, bound)


def pick(condition: Any, yes: Any, no: Any) -> Array:
    """np.where on objects, always an array."""
    condition, yes, no = np.broadcast_arrays(condition, yes, no)
    made = np.empty(condition.shape, dtype=object)
    made[...] = no
    made[condition] = yes[condition]
    return made


def each(function: Callable[..., Any], *operands: Any) -> Array:
    """A function of single entries, entry by entry."""
    made: Array = np.asarray(np.frompyfunc(function, len(operands), 1)(*operands), dtype=object)
    return made


def each_ball(function: Callable[[Any], Any], operand: Array) -> Array:
    """A function of balls, entry by entry."""
    return each(lambda entry: function(ball(entry)), operand)

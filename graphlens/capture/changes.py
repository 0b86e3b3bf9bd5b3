"""Further runs with other values, which tell what the outputs depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import torch

from graphlens.capture.diagnose import call_of
from graphlens.capture.program import Program, recorder_of
from graphlens.capture.record import Recorder
from graphlens.capture.start import Start, unexpanded
from graphlens.flow import Flow
from graphlens.observation import MOST_ENTRIES

FEW_GROUPS = 12  # of leaves that are changed by little, one run each
_MOST_RUNS = 20  # to find out what the outputs depend on
_MOST_SCENES = 4  # calls whose results are changed, one run each
# Those, two runs to compare them with, and three that watch the forward pass or the backward pass.
MOST_FURTHER_RUNS = _MOST_RUNS + 2 + _MOST_SCENES + 3
_FAILS = "a run with other values failed, or gave none"
# A whole number that a value is cast to needs a large change, and a sign a negative factor.
_LITTLE = (1.03, 0.02)
_MUCH = ((2.0, 1.0), (-2.0, -1.0))


_Outputs = dict[str, torch.Tensor]
_Entries = dict[str, list[int]]


class Dependence(NamedTuple):
    """What changed runs told: see `Observation.dependence`; and why they do not tell more, "" if they do.

    `merged` are the groups that could not be told apart, by their numbers.
    """

    entries: dict[str, dict[str, list[int]]]
    untried: str = ""
    merged: tuple[tuple[int, ...], ...] = ()


def dependence(
    program: Program, start: Start, groups: Sequence[Sequence[str]], tensors: Mapping[str, torch.Tensor]
) -> Dependence:
    """Which entries of which output change when the values of leaves are changed, one group at a time.

    A few groups are changed by a few per cent, each for itself. Those that change nothing so, or
    many, are changed together by more, and by halves where something changes, for as long as there
    are runs left; then those that were last changed together are told together. Groups for which
    this cannot be told are left out: where two runs of the same state differ or give no values, or
    where a changed run fails. An entry that does not change may still depend on a leaf.
    """
    one = _outputs(program, start)
    if not one:
        return Dependence({}, _FAILS)
    if _difference(one, _outputs(program, start)) != {}:
        return Dependence({}, "two runs from the same state gave different results")
    search = _Search(program, start, [[tensors[name] for name in group] for group in groups], one)
    merged = search.run()
    entries = {name: search.told[number] for number in sorted(search.told) for name in groups[number]}
    return Dependence(entries, search.why, merged)


class _Search:
    """Changes groups of leaves, together and by halves, until it is told which of them matter or no runs are left."""

    def __init__(
        self, program: Program, start: Start, groups: Sequence[Sequence[torch.Tensor]], one: _Outputs
    ) -> None:
        self.told: dict[int, _Entries] = {}
        self.why = ""
        self._program = program
        self._start = start
        self._groups = groups
        self._one = one
        self._left = _MOST_RUNS - 2

    def run(self) -> tuple[tuple[int, ...], ...]:
        """Fill `told`, and `why` where that leaves a group out; returns the groups that are told together."""
        if len(self._groups) <= FEW_GROUPS:
            for number in range(len(self._groups)):
                entries = self._changed([number], _LITTLE)
                if entries:
                    self.told[number] = entries
        level = [[number for number in range(len(self._groups)) if number not in self.told]]
        known: list[tuple[list[int], _Entries]] = []  # sets that change something, and what
        # All sets of a level or none, so that every leaf is told of as exactly as any other.
        while any(level) and self._left >= len(_MUCH) * len(level):
            known, level = self._split(level)
        for numbers, entries in known:
            self.told.update((number, entries) for number in numbers)
        if any(level) and len(self.told) < len(self._groups):
            self.why = f"{_MOST_RUNS} runs were not enough to try all leaves"
        return tuple(tuple(numbers) for numbers, _ in known)

    def _split(self, level: list[list[int]]) -> tuple[list[tuple[list[int], _Entries]], list[list[int]]]:
        """Try the sets of a level; returns those of several groups that change something, and the next level."""
        known: list[tuple[list[int], _Entries]] = []
        following: list[list[int]] = []
        for numbers in level:
            seen: list[_Entries | None] = []
            while len(seen) < len(_MUCH) and not any(seen):
                seen.append(self._changed(numbers, _MUCH[len(seen)]))
            if not any(seen) and None not in seen:
                self.told.update((number, {}) for number in numbers)
            elif len(numbers) > 1:
                half = (len(numbers) + 1) // 2
                following += [numbers[:half], numbers[half:]]
                if seen[-1]:
                    known.append((numbers, seen[-1]))
            elif seen[-1]:
                self.told[numbers[0]] = seen[-1]
        return known, following

    def _changed(self, numbers: Sequence[int], change: tuple[float, float]) -> _Entries | None:
        self._left -= 1
        leaves = [tensor for number in numbers for tensor in self._groups[number]]
        found = _difference(self._one, _outputs(self._program, self._start, leaves, change))
        if found is None:
            self.why = _FAILS
        return found


def effects(program: Program, start: Start, first: Flow, scenes: Sequence[Sequence[int]]) -> dict[int, bool]:
    """Whether the outputs change when what the steps of a scene hand on is changed, per step.

    Args:
        scenes: steps of the first run, by line and function.
    """
    one = _outputs(program, start)
    if not one or _difference(one, _outputs(program, start)) != {}:
        return {}
    found: dict[int, bool] = {}
    for numbers in scenes[:_MOST_SCENES]:
        call = call_of(first, first.steps[numbers[0]])
        with start.again(), recorder_of(program) as recorder:
            recorder.replace = changer = _Changer(recorder, call)
            entries = _difference(one, _values_of(program))
        if entries is not None and changer.changed:
            found.update((number, bool(entries)) for number in numbers)
    return found


class _Changer:
    """Changes what one line's calls of one function hand on, by little."""

    def __init__(self, recorder: Recorder, call: tuple[str, str]) -> None:
        self._recorder = recorder
        self._call = call
        self._lines: dict[int | None, str] = {None: ""}
        self.changed = False

    def __call__(self, function: str, source: int | None, made: Any) -> Any:
        if function != self._call[0]:
            return made
        if source not in self._lines:
            self._lines.update(enumerate(map(str, self._recorder.sites.sources())))
        if self._lines[source] != self._call[1]:
            return made
        other = _changed_a_little(made)
        self.changed |= other is not made
        return other


def _changed_a_little(made: Any) -> Any:
    factor, more = _LITTLE
    if isinstance(made, torch.Tensor):
        if not (made.dtype.is_floating_point or made.dtype.is_complex):
            return made + 1 if made.dtype is not torch.bool else ~made
        return (made.detach() * factor + more).requires_grad_(made.requires_grad)
    if isinstance(made, list):
        return [_changed_a_little(item) for item in made]
    if isinstance(made, bool):
        return not made
    if isinstance(made, int):
        return made * 2 + 1
    return made * factor + more if isinstance(made, (float, complex, numpy.ndarray)) else made


def _outputs(
    program: Program, start: Start, changed: Sequence[torch.Tensor] = (), change: tuple[float, float] = _LITTLE
) -> _Outputs | None:
    """What a run gives with some leaves changed; None where it fails, or gives no values."""
    with start.again():
        try:
            with torch.no_grad():
                for tensor in changed:
                    unexpanded(tensor.data).mul_(change[0]).add_(change[1])
        except RuntimeError:  # a dtype without arithmetic, or memory that cannot be written
            return None
        return _values_of(program)


def _values_of(program: Program) -> _Outputs | None:
    try:
        made = program.forward()
    except Exception:  # the user's code may refuse a changed value in its own way
        return None
    found = {name: tensor.detach().clone() for name, tensor in {**made.outputs, **made.differentiated}.items()}
    return None if any(tensor.is_meta for tensor in found.values()) else found


def _difference(one: _Outputs, two: _Outputs | None) -> dict[str, list[int]] | None:
    """The entries that differ, by output; None where the outputs cannot be compared."""
    if two is None or one.keys() != two.keys():
        return None
    try:
        entries = {name: _changed(one[name], two[name]) for name in one}
    except (RuntimeError, NotImplementedError):  # a nested tensor, for instance
        return None
    return {name: numbers for name, numbers in entries.items() if numbers}


def _changed(one: torch.Tensor, two: torch.Tensor) -> list[int]:
    if one.shape != two.shape:
        return list(range(max(one.numel(), two.numel())))[: MOST_ENTRIES + 1]
    one, two = (item if item.layout is torch.strided else item.to_dense() for item in (one, two))
    same = (one == two) | ((one != one) & (two != two))
    numbers: list[int] = (~same).flatten().nonzero().flatten()[: MOST_ENTRIES + 1].tolist()
    return numbers

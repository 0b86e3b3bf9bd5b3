"""Which values of a forward pass are equal, by what was computed from what (value numbering).

Two steps with the same op and the same arguments give the same value; a step that undoes another
gives back what was there before. Each step is looked at once, after its inputs have been replaced by
the first values that they are equal to: so chains collapse as they are read.
(Alpern, Wegman and Zadeck 1988, "Detecting equality of variables in programs".)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from graphlens.analyses.listing import Listing, Step
from graphlens.analyses.redundancy.known import Known, Undone
from graphlens.analyses.redundancy.rules import order_of, undone

# What they return is not decided by their arguments, or is memory that nobody has written to.
_UNDECIDED = frozenset(
    ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense")
)


class Repeat(NamedTuple):
    """A step that computes what an earlier one did."""

    step: Step
    first: Step


@dataclass
class Equalities:
    """Values that are equal to earlier ones.

    Attributes:
        same: per value an earlier one.
        repeats, undone: why, by step; `undone` with the step whose result is the given value.
        steps: all steps, reading the first values that their inputs are equal to.
        made_by: per value that nothing earlier is equal to the step that made it.
    """

    same: dict[int, int] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)
    undone: list[tuple[Step, Undone]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    made_by: dict[int, Step] = field(default_factory=dict)

    def first(self, value: int) -> int:
        """The first value that it is equal to."""
        while value in self.same:
            value = self.same[value]
        return value


Holds = Callable[[int, int, "Undone | None"], bool]


def equalities(listing: Listing, holds: Holds) -> Equalities:
    """Read the steps in order.

    Args:
        holds: checks on the run's own numbers whether two values are equal: to the last bit where no
            rule is given, and up to the rule's rounding where one is. What does not hold is not said.
    """
    found = Equalities()
    known = Known(listing, found.made_by)
    seen: dict[Hashable, Step] = {}
    constants: dict[Hashable, int] = {}
    for value, facts in enumerate(listing.values):
        if facts.content is not None:
            first = constants.setdefault(facts.content, value)
            if first != value:
                found.same[value] = first
    read: dict[int, Step] = {}  # the steps as they ran, by their first output
    for raw in listing.steps:
        if raw.outputs and raw.outputs[0] is not None:
            read[raw.outputs[0]] = raw
        step = raw
        if not found.same.keys().isdisjoint(raw.inputs):
            step = raw.reading(tuple([found.first(value) for value in raw.inputs]))
        found.steps.append(step)
        # Two leaves that are filled with the same numbers are two leaves: each has a gradient of its own.
        is_leaf = not listing.leaves.keys().isdisjoint(step.outputs)
        if step.is_random or is_leaf or step.op in _UNDECIDED or not step.outputs:
            _keep(found, step)
            continue
        key = (*_said(step, listing), _is_followed(step, listing))
        before = seen.get(key)
        if before is not None and _all_hold(step, before, holds):
            found.repeats.append(Repeat(step, before))
            pairs = zip(step.outputs, before.outputs, strict=True)
            found.same.update((a, b) for a, b in pairs if a is not None and b is not None)
            continue
        seen.setdefault(key, step)
        gives = undone(step, known)
        if gives is not None and _gives_back(step, gives, listing, read, holds):
            found.undone.append((step, gives))
            found.same[step.outputs[0] or 0] = found.first(gives.value)
            continue
        _keep(found, step)
    return found


_MOVING = ("t", "transpose", "permute")
_COMMUTING = ("add", "mul", "maximum", "minimum")


def _said(step: Step, listing: Listing) -> tuple[Hashable, ...]:
    """What a step computes: the same for all spellings of one move of dimensions, and for a + b and b + a."""
    if step.op in _MOVING:
        order = order_of(step, len(listing.values[step.inputs[0]].shape))
        if order is not None:
            return "permute", tuple(order), step.inputs
    if step.op in _COMMUTING and step.attributes == 2:  # two tensors and nothing else
        return step.op, step.overload, tuple(sorted(step.inputs))
    return step.op, step.overload, step.attributes, step.inputs


def _gives_back(step: Step, gives: Undone, listing: Listing, read: Mapping[int, Step], holds: Holds) -> bool:
    result = step.outputs[0]
    return result is not None and _allowed(step, gives, listing) and holds(result, _went_in(gives, read), gives)


def _went_in(gives: Undone, read: Mapping[int, Step]) -> int:
    """The very value that the first of the steps read.

    Its first equal may be far away: each link of a chain rounds.
    """
    inner = gives.steps[0]
    raw = read[inner.outputs[0] or 0]
    return raw.inputs[inner.inputs.index(gives.value)]


def _keep(found: Equalities, step: Step) -> None:
    for value in step.outputs:
        if value is not None:
            found.made_by[value] = step


def _is_followed(step: Step, listing: Listing) -> bool:
    """Whether its result has a gradient: what was cut off on purpose is not the same."""
    return step.is_tracked and not listing.requiring.isdisjoint(step.outputs)


def _allowed(step: Step, gives: Undone, listing: Listing) -> bool:
    """Whether gradients go the same way through the value as through the steps."""
    result = step.outputs[0]
    followed = all(each.is_tracked for each in gives.steps)
    return (result in listing.requiring) == (gives.value in listing.requiring) and (
        followed or result not in listing.requiring
    )


def _all_hold(step: Step, first: Step, holds: Holds) -> bool:
    for a, b in zip(step.outputs, first.outputs, strict=True):
        if a is not None and b is not None and not holds(a, b, None):
            return False
    return True

"""Which leaves a value was computed from, and which of them it can still send a gradient to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from graphlens.flow import LEAF, REQUIRES_GRAD, Flow

# They read the shape of their argument and not its values.
_LOOK_ALIKES = frozenset(
    (
        *(f"torch.{name}_like" for name in ("zeros", "ones", "empty", "full", "rand", "randn", "randint")),
        *(f"Tensor.new_{name}" for name in ("zeros", "ones", "empty", "full", "empty_strided")),
    )
)


class Cut(NamedTuple):
    """A step at which leaves, a bit mask, lost their connection to a value that goes on."""

    step: int
    lost: int


@dataclass(frozen=True)
class Lineage:
    """For each value bit masks of leaves; leaf number k of `names` is bit k.

    Attributes:
        carried: the leaves that the value was computed from, in whatever way.
        live: those that it is still connected to through autograd.
        needed: the leaves for which it matters that an end was computed from the value; -1 means
            all. What happens inside a custom Function does not matter for its arguments: their
            gradient is what its backward returns.
    """

    flow: Flow
    names: tuple[str, ...]
    carried: list[int]
    live: list[int]
    needed: list[int]

    @classmethod
    def of(cls, flow: Flow, leaves: Mapping[str, int], ends: Iterable[int]) -> Lineage:
        """Follow `leaves` (name → value) forward through the steps, and the ends backward."""
        count = len(flow.values)
        names = tuple(leaves)
        carried, live, own = [0] * count, [0] * count, [0] * count
        for bit, name in enumerate(names):
            for table in (carried, live, own):
                table[leaves[name]] |= 1 << bit
        flags = flow.values
        for step in flow.steps:
            if not step.outputs or step.function in _LOOK_ALIKES:
                continue
            by_value = through = 0
            for value in (*step.inputs, *step.written):
                by_value |= carried[value]
                through |= live[value]
            for place, value in enumerate(step.outputs):
                carried[value] |= by_value
                if flags[value] & LEAF:
                    # A leaf that was written over stays the leaf it is; what was written has no history.
                    own[value] |= own[step.written[place]] if place < len(step.written) else 0
                    live[value] |= own[value]
                elif flags[value] & REQUIRES_GRAD:
                    live[value] |= through
        needed = [0] * count
        for value in ends:
            needed[value] = -1
        for step in reversed(flow.steps):
            mask = 0
            for value in step.outputs:
                mask |= needed[value]
            if not mask or step.function in _LOOK_ALIKES:
                continue
            for value in step.inputs:
                needed[value] |= mask
            if step.written and step.function.endswith(".apply"):
                for value in step.inputs:
                    mask &= ~live[value]
            for value in step.written:
                needed[value] |= mask
        return cls(flow, names, carried, live, needed)

    def cuts(self) -> Iterator[Cut]:
        """The steps where leaves are lost on the way to an end, in forward order."""
        for number, step in enumerate(self.flow.steps):
            if step.function in _LOOK_ALIKES:
                continue
            matters = kept = 0
            for value in step.outputs:
                if self.needed[value]:
                    matters |= self.needed[value]
                    kept |= self.live[value]
            lost = self.entering(number) & matters & ~kept if matters else 0
            if lost:
                yield Cut(number, lost)

    def entering(self, number: int) -> int:
        """The leaves that the inputs of a step are connected to through autograd."""
        step = self.flow.steps[number]
        mask = 0
        for value in step.inputs:
            mask |= self.live[value]
        return mask

    def leaves(self, mask: int) -> tuple[str, ...]:
        """The names of the leaves in a mask."""
        found = []
        while mask:
            low = mask & -mask
            found.append(self.names[low.bit_length() - 1])
            mask ^= low
        return tuple(found)

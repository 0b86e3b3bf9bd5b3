"""Which leaves a value was computed from, and which of them it can still send a gradient to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from graphlens.flow import LEAF, REQUIRES_GRAD, Flow, Step

# They read the shape or the dtype of their argument and not its values,
_LOOK_ALIKES = frozenset(
    (
        *(f"torch.{name}_like" for name in ("zeros", "ones", "empty", "rand", "randn", "randint")),
        *(f"Tensor.new_{name}" for name in ("zeros", "ones", "empty", "empty_strided")),
    )
)
# of their first argument, while those after it may be values,
_FILLED_LIKE = frozenset(("torch.full_like", "Tensor.new_full", "Tensor.new_tensor"))
# or of their last.
_MADE_LIKE = frozenset(f"Tensor.{name}_as" for name in ("expand", "view", "reshape", "type"))
# They make one result of each argument, and of that alone.
_PAIRWISE = frozenset(
    ("torch.broadcast_tensors", "torch.meshgrid", *(f"torch.atleast_{count}d" for count in (1, 2, 3)))
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
            if not step.outputs:
                continue
            by_value = through = 0
            for value in (*values_read(step), *step.written):
                by_value |= carried[value]
                through |= live[value]
            pairwise = _is_pairwise(step)
            for place, value in enumerate(step.outputs):
                if pairwise:
                    by_value, through = carried[step.inputs[place]], live[step.inputs[place]]
                carried[value] |= by_value
                if flags[value] & LEAF:
                    # A leaf that was written over stays the leaf it is; what was written has no history.
                    own[value] |= own[step.written[place]] if place < len(step.written) else 0
                    live[value] |= own[value]
                elif flags[value] & REQUIRES_GRAD:
                    # Written without gradients: the history is that of before.
                    before = live[step.written[place]] if place < len(step.written) else 0
                    live[value] |= before if step.written and not step.grad else through
        needed = [0] * count
        for value in ends:
            needed[value] = -1
        for step in reversed(flow.steps):
            mask = 0
            for value in step.outputs:
                mask |= needed[value]
            if not mask:
                continue
            if _is_pairwise(step):
                for value, made in zip(step.inputs, step.outputs, strict=True):
                    needed[value] |= needed[made]
                continue
            for value in values_read(step):
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
            matters = kept = lost = 0
            if _is_pairwise(step):
                for value, made in zip(step.inputs, step.outputs, strict=True):
                    lost |= self.live[value] & self.needed[made] & ~self.live[made]
            else:
                for value in step.outputs:
                    if self.needed[value]:
                        matters |= self.needed[value]
                        kept |= self.live[value]
                lost = self.entering(number) & matters & ~kept if matters else 0
            if lost:
                yield Cut(number, lost)

    def last_cuts(self, ends: Iterable[int]) -> dict[int, int]:
        """Per cutting step the leaves whose value goes on to an end past no other cut of theirs.

        It is these that must be mended. Where a policy's draw is read by a log-probability that loses its gradient
        later, for instance, the draw loses one as well, and is right.
        """
        last = {cut.step: cut.lost for cut in self.cuts()}
        free = [0] * len(self.flow.values)  # the leaves that can go from the value to an end past no cut of theirs
        for value in ends:
            free[value] = -1
        for number in range(len(self.flow.steps) - 1, -1, -1):
            step = self.flow.steps[number]
            if _is_pairwise(step):
                for value, made in zip(step.inputs, step.outputs, strict=True):
                    free[value] |= free[made]
                continue
            on = 0
            for value in step.outputs:
                on |= free[value]
            if number in last:
                on, last[number] = on & ~last[number], on & last[number]
            for value in (*values_read(step), *step.written):
                free[value] |= on
        return last

    def entering(self, number: int) -> int:
        """The leaves that the inputs of a step are connected to through autograd."""
        mask = 0
        for value in values_read(self.flow.steps[number]):
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


def _is_pairwise(step: Step) -> bool:
    return step.function in _PAIRWISE and len(step.inputs) == len(step.outputs)


def values_read(step: Step) -> tuple[int, ...]:
    """The inputs of a step whose values its result comes from."""
    if step.function in _LOOK_ALIKES:
        return ()
    if step.function in _FILLED_LIKE:
        return step.inputs[1:]
    # More than two stand for memory that was written; which of them is the last argument is not known.
    return step.inputs[:1] if step.function in _MADE_LIKE and len(step.inputs) == 2 else step.inputs

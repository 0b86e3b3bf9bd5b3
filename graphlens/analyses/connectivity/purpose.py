"""GL101, how serious: what a value that was cut from the graph is used for, and how it was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import DETACHING
from graphlens.analyses.connectivity.twins import is_fed, updated_leaves
from graphlens.analyses.lineage import values_read
from graphlens.flow import REQUIRES_GRAD, SWITCHES, UNSEEN, Step

# Of several tensors their sum: the derivative with respect to one does not depend on another. A
# difference is left out: it compares, even where its derivative does not show that.
_SUMS = frozenset(("torch.add", "Tensor.add", "Tensor.add_", "Tensor.__add__", "Tensor.__radd__", "Tensor.__iadd__"))
_JOINS = frozenset(("torch.stack", "torch.cat", "torch.hstack", "torch.vstack"))
# Of one tensor a multiple, a sum of entries, or another shape.
_LINEAR = frozenset(
    f"{owner}.{name}"
    for owner in ("torch", "Tensor")
    for name in ("sum", "mean", "mul", "div", "neg", "reshape", "view", "squeeze", "unsqueeze", "flatten", "clone",
                 "__mul__", "__rmul__", "__imul__", "__truediv__", "__itruediv__", "__neg__", "__getitem__", "__rsub__",
                 "__sub__", "sub")
)  # fmt: skip
_SIDE_BY_SIDE = frozenset(f"torch.{name}" for name in ("cat", "concat", "concatenate", "hstack", "column_stack"))
# They say how far two tensors are from each other.
_COMPARE = frozenset(
    f"{owner}.{name}"
    for owner, names in (
        ("torch", ("sub", "subtract", "dist", "cdist", "cosine_similarity", "pairwise_distance")),
        ("Tensor", ("sub", "sub_", "subtract", "dist", "__sub__", "__rsub__", "__isub__")),
        ("torch.nn.functional", ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "cross_entropy",
                                 "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_similarity",
                                 "pairwise_distance")),
    )
    for name in names
)  # fmt: skip
_CUT, _JOINED = 1, 2  # what depends on the cut value alone, and together with something that is trained
_MOST_DATA = 64  # tensors of data that are told apart


class Purpose(NamedTuple):
    """What became of a value after it was cut from the graph.

    Attributes:
        idle: it is only added to what is differentiated, so that no gradient depends on it. What a
            loss aims at does not go that way.
        part: it is added to something that is trained.
        feature: a trained weight is applied to it or to what was made with it, as to a layer's
            output. What a loss aims at meets no weight.
        shared: every such weight is applied to something else as well, as a discriminator's are.
        unrecorded: no call that computes with the lost leaves was recorded; else it was, and its
            result thrown away.
        apart: nothing that is trained loses a path here.
        same_data: a module that is trained reads the same data.
        through: leaves without a gradient that are applied to it, as a target critic judges an actor's choice.
        compared: it is first held against something that is trained.
        with_input: it is put beside the very data that it was made of, and trained weights are applied to both, as a
            critic judges a choice together with the state. Nothing that is trained had a part in it so far.
    """

    idle: bool
    part: bool
    feature: bool
    shared: bool
    unrecorded: bool
    apart: bool
    same_data: bool
    through: frozenset[str]
    compared: bool
    with_input: bool


class _Sums(NamedTuple):
    """Whether a value is `only` added to others, all the way; whether it is at `first`; and whether it is compared."""

    only: bool
    first: bool
    compared: bool


class Purposes:
    """Looks up the purpose of cuts in one recorded run."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._steps = facts.flow.steps
        self._flags = facts.flow.values

    def of(self, cut: Sequence[int], lost: Collection[int], *, apart: bool) -> Purpose:
        """The purpose of what these steps cut.

        Args:
            cut: numbers of steps, in forward order.
            lost: the values of the leaves that lose their last path there.
        """
        spoilt, weights, sums, through = self._followed(cut)
        elsewhere = any(
            spoilt[end.value]
            for end in (*self._facts.seen.ends, *self._facts.seen.outputs)
            if end.value is not None and not end.requires_grad
        )
        reaches = any(spoilt[value] for value in self._facts.ends)
        shared, data = self._applied_to_others(spoilt, weights)
        own_data = 0
        for number in cut:
            for value in values_read(self._steps[number]):
                own_data |= self._data[value]
        weighed = bool(weights) or not through.isdisjoint(self._weights)
        return Purpose(
            sums.only and reaches and not elsewhere,
            sums.first,
            bool(weights),
            bool(weights) and shared,
            self._recorded.isdisjoint(lost),
            apart,
            bool(own_data & data),
            frozenset(leaf.name for leaf in self._facts.lost if leaf.value in through and leaf.value not in lost),
            sums.compared,
            weighed and self._is_beside(spoilt, own_data),
        )

    def _is_beside(self, spoilt: bytearray, data: int) -> bool:
        """Whether what depends on the cut value is put beside some of this data, and nothing trained is in either."""
        carried, trained = self._facts.lineage.carried, self._trained
        for step in self._steps:
            if step.function not in _SIDE_BY_SIDE or any(carried[value] & trained for value in step.inputs):
                continue
            if any(map(spoilt.__getitem__, step.inputs)):
                others = [value for value in step.inputs if not spoilt[value]]
                if any(self._data[value] & data for value in others):
                    return True
        return False

    @cached_property
    def _trained(self) -> int:
        """The leaves that receive a gradient, as a mask."""
        fed = {leaf.name for leaf in self._facts.wanted if is_fed(leaf)}
        return sum(1 << bit for bit, name in enumerate(self._facts.lineage.names) if name in fed)

    def _followed(self, cut: Sequence[int]) -> tuple[bytearray, set[int], _Sums, set[int]]:
        """What depends on the cut value, the weights that are applied to it, how it is added, and what is read too."""
        spoilt = bytearray(len(self._flags))
        cutting = set(cut)
        weights: set[int] = set()
        beside: set[int] = set()
        only, first, compared = True, False, False
        for number in range(cut[0], len(self._steps)):
            step = self._steps[number]
            made = [value for value in step.outputs if value not in step.inputs]
            reads = (*values_read(step), *step.written)
            if number in cutting:
                for value in made:
                    spoilt[value] = _CUT
                continue
            if not any(spoilt[value] for value in reads):
                continue
            beside.update(reads)
            joined = step.grad and any(self._on_path[value] for value in step.outputs)
            if joined:
                weights.update(self._weights[value] for value in reads if value in self._weights)
                only &= _only_adds(step, reads)
                met = any(spoilt[value] == _CUT for value in reads)
                first |= met and step.function in _SUMS
                compared |= met and step.function in _COMPARE
            for value in made:
                spoilt[value] = _JOINED if joined else _CUT
        return spoilt, weights, _Sums(only, first, compared), beside

    def _applied_to_others(self, spoilt: bytearray, weights: Collection[int]) -> tuple[bool, int]:
        """Whether each weight is applied to something else too; and the data that trained weights are applied to."""
        others, data = set(), 0
        for step in self._steps:
            if not (step.grad and any(self._on_path[value] for value in step.outputs)):
                continue
            applied = [self._weights[value] for value in step.inputs if value in self._weights]
            if applied and not any(spoilt[value] for value in step.inputs):
                others.update(applied)
                for value in step.inputs:
                    data |= self._data[value]
        return others.issuperset(weights), data

    @cached_property
    def updated(self) -> frozenset[str]:
        """The lost leaves that the run itself writes the values of trained ones into, as for an average of them."""
        return frozenset(updated_leaves(self._facts))

    @cached_property
    def _on_path(self) -> bytearray:
        """Per value whether a gradient comes to it."""
        found = bytearray(len(self._flags))
        for end in self._facts.ends:
            found[end] = bool(self._flags[end] & REQUIRES_GRAD)
        for step in reversed(self._steps):
            if any(found[value] for value in step.outputs):
                for value in (*step.inputs, *step.written) if step.grad else step.written:
                    found[value] = bool(self._flags[value] & REQUIRES_GRAD)
        return found

    @cached_property
    def _weights(self) -> dict[int, int]:
        """The values of trained weights and of their transposes, views and casts; with the weight's own."""
        found = {
            leaf.value: leaf.value
            for leaf in self._facts.wanted
            # Biases, scales and temperatures are found in losses as well.
            if leaf.role == "parameter" and len(leaf.shape) > 1 and leaf.value is not None and leaf.gradient != "none"
        }
        for step in self._steps:
            if len(step.inputs) == 1 and step.inputs[0] in found:
                found.update((value, found[step.inputs[0]]) for value in step.outputs if value not in found)
        return found

    @cached_property
    def _data(self) -> list[int]:
        """Per value the data, bit for bit, that it was computed from."""
        found = [0] * len(self._flags)
        seen = self._facts.seen
        named = {leaf.value: leaf.role for leaf in seen.leaves if leaf.value is not None}
        roots = [value for value, role in named.items() if role != "parameter"]
        met = (value for step in self._steps for value in step.inputs if self._flags[value] & UNSEEN)
        roots += dict.fromkeys(value for value in met if value not in named and value not in seen.existing)
        for bit, value in enumerate(roots[:_MOST_DATA]):
            found[value] = 1 << bit
        for step in self._steps:
            mask = 0
            for value in (*values_read(step), *step.written):
                mask |= found[value]
            for value in step.outputs:
                found[value] |= mask
        return found

    @cached_property
    def _recorded(self) -> set[int]:
        """The values that some call computed with while autograd was recording."""
        plain = {*DETACHING, *SWITCHES, "Tensor.data ="}
        return {value for step in self._steps if step.grad and step.function not in plain for value in step.inputs}


def _only_adds(step: Step, reads: Sequence[int]) -> bool:
    """Whether no derivative of the step depends on what it reads."""
    if step.function in _SUMS or step.function in _JOINS:
        return True
    return step.function in _LINEAR and len(set(reads)) == 1

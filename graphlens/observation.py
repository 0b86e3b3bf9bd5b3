"""Observation: what one run tells about its gradients, as plain values; the findings are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from graphlens.flow import Flow
from graphlens.graph import GradGraph

MOST_ENTRIES = 64  # of an output whose changes are listed


class LeafFact(NamedTuple):
    """An input or parameter, and what the backward pass gave it.

    `gradient` is "value", "zero" (a value, 0 everywhere), "nonfinite" (a value with NaN or
    infinity), "none", or "not run". `value` is its number in the flow, None if no call used it.
    `sample` holds up to 64 of its entries, evenly spaced, as they were before the run.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    requires_grad: bool
    differentiable: bool
    gradient: str
    value: int | None
    sample: tuple[float, ...] = ()


class EndFact(NamedTuple):
    """An output, or what is differentiated; `finite` is None where its value cannot be read."""

    name: str
    requires_grad: bool
    differentiable: bool
    finite: bool | None
    value: int | None


class Range(NamedTuple):
    """The values of one tensor: the lowest and the highest finite one, and how many are not finite."""

    shape: tuple[int, ...]
    low: float | None
    high: float | None
    nan: int
    infinite: int


class Spoilt(NamedTuple):
    """An input, a parameter or a buffer that held NaN or infinity before the run."""

    name: str
    role: str
    range: Range


class NonFinite(NamedTuple):
    """The first place where NaN or infinity arose; `node` for the backward pass, `step` for the forward.

    `what` is "NaN" or "infinity"; or "asked for", without a place, where the only infinite entries
    are those that the program put there, as in a mask, and the sum that graphlens takes of them is
    not finite on their account. `origin` is the step that made the infinity that NaN was then made of.
    """

    what: str
    step: int | None
    node: int | None
    inputs: tuple[Range, ...]
    outputs: tuple[Range, ...]
    origin: int | None = None
    origin_inputs: tuple[Range, ...] = ()


class Clobbered(NamedTuple):
    """A tensor that a node saved for backward and that was written over since; `message` is autograd's.

    `number` is the node's sequence number as the flow's steps count them, None if that is not known.
    """

    node: int
    slot: str
    message: str
    number: int | None = None


@dataclass(frozen=True)
class Observation:
    """One recorded run.

    Attributes:
        graph: None where no output has a backward graph.
        ends: what is differentiated, "loss" for instance, and what would be if it had a graph; empty
            if the run gave no tensor.
        outputs: the tensors that the forward pass returned.
        is_forward: whether only a forward pass was recorded, and not also what built its module.
        backward_error: why the backward pass failed, "" if it did not.
        stopped: nodes that received a gradient and passed None on towards a leaf, by leaf.
        forward_fault: the call that made a result not finite; or, if the result is finite, the one that made the
            numbers not finite which the node of `backward_fault` then makes NaN of.
        zeroing: nodes that received a gradient other than 0 and passed nothing but 0 on.
        constant: nodes whose result is the same for every input.
        dependence: per leaf, which entries of which output changed when its value was changed and
            the program was run again; leaves that were not tried are missing. At most MOST_ENTRIES + 1
            entries are listed.
        together: groups of leaves that take the same way; they were changed all at once, and have the
            same dependence.
        untried: why leaves are missing in `dependence`, "" if none are.
        effects: per step by which a value left the graph, whether the outputs changed when what it
            handed on was changed; steps that were not tried are missing.
        held: the values of tensors that somebody besides the graph still holds after the run.
        existing: the values that are known to have been there before the run.
        spoilt: what was not finite before the run.
        unlisted: per leaf without a name the place where a module keeps it, in a list or a dictionary of its own, and
            whether that holds nothing else.
        diagnosed: whether the runs that tell the others were made.
    """

    graph: GradGraph | None
    flow: Flow
    leaves: Sequence[LeafFact]
    ends: Sequence[EndFact]
    outputs: Sequence[EndFact]
    is_forward: bool = True
    backward_error: str = ""
    clobbered: Sequence[Clobbered] = ()
    stopped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    zeroing: Sequence[int] = ()
    constant: Sequence[int] = ()
    forward_fault: NonFinite | None = None
    backward_fault: NonFinite | None = None
    dependence: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    together: Sequence[tuple[str, ...]] = ()
    untried: str = ""
    effects: Mapping[int, bool] = field(default_factory=dict)
    held: frozenset[int] = frozenset()
    existing: frozenset[int] = frozenset()
    spoilt: Sequence[Spoilt] = ()
    unlisted: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    diagnosed: bool = False

    @property
    def unfinite(self) -> list[str]:
        """What is differentiated and not finite, by name."""
        return [end.name for end in self.ends if end.finite is False and (end.requires_grad or self.graph is None)]

    @property
    def reached(self) -> dict[str, int]:
        """The leaves that the graph leads to, with their nodes."""
        if self.graph is None:
            return {}
        named = {item.name: item.node for item in self.graph.inputs}
        found = {name: node for name, node in named.items() if node is not None}
        # Leaves without a name of their own were called leaf[0], leaf[1], … in the order of their nodes.
        nodes = set(found.values())
        unnamed = (k for k, node in enumerate(self.graph.nodes) if node.kind == "leaf" and k not in nodes)
        found.update(zip((leaf.name for leaf in self.leaves if leaf.name not in named), unnamed, strict=False))
        return found

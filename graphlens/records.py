"""What a run measured, as plain values: numpy arrays and numbers, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphlens.graph import GradGraph

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds over several repeats.

    `processor` is the processor time of all threads together as a share of them; None if not measured.
    """

    median: float
    min: float
    max: float
    repeats: int
    processor: float | None = None

    def overlaps(self, other: Timing) -> bool:
        """Whether the two ranges have a time in common, so that no difference can be claimed."""
        return self.max >= other.min and other.max >= self.min


@dataclass(frozen=True)
class Machine:
    """Peak FLOPs a second (a multiply-add counts as 2), bytes a second read and written, seconds a tiny op."""

    flops: float
    bandwidth: float
    call: float
    threads: int


@dataclass(frozen=True)
class CostRun:
    """How the costs of nodes were measured, and what does not belong to a node.

    `plain` and `hooked` are the backward pass without and with hooks, `coverage` the sum of the
    nodes' times as a share of the plain one, `hook_ns` the nanoseconds a hook takes. `uncounted`
    are the ops without a formula and how often they ran. `before_ns` and `after_ns` are what the
    engine does before the first node and after the last one. `shared` is the number of nodes that
    were made by a call that made several: each has the part of its time that its own ops take of theirs.
    """

    repeats: int
    plain: Timing
    hooked: Timing
    coverage: float
    hook_ns: float
    uncounted: Mapping[str, int]
    other_ops: int
    other_flops: int
    other_moved: int
    before_ns: int = 0
    after_ns: int = 0
    shared: int = 0


@dataclass(frozen=True)
class TensorValue:
    """A tensor's value; `value` is None where it cannot be read (meta and fake tensors).

    `ulp` is the spacing of 1.0 in the tensor's own dtype (its machine epsilon), 0.0 for integers:
    numpy has no bfloat16, so that the array's dtype may be wider.
    """

    shape: tuple[int, ...]
    dtype: str
    value: numpy.ndarray | None
    ulp: float = 0.0


@dataclass(frozen=True)
class Gradient:
    """The gradient of one input or parameter; `value` is None where autograd gives `None`."""

    value: TensorValue | None
    reason: str = ""  # why there is none


@dataclass(frozen=True)
class RunRecord:
    """One target as it was run.

    `graph` is None where no output has a backward graph; `run` fields are empty for a saved graph.
    """

    target: str
    graph: GradGraph | None
    outputs: Mapping[str, TensorValue] = field(default_factory=dict)
    loss: float | None = None
    loss_name: str = "loss"
    gradients: Mapping[str, Gradient] = field(default_factory=dict)
    forward: Timing | None = None
    backward: Timing | None = None
    threads: int | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Curve:
    """A scalar function at many points; a derivative is None where autograd gives `None`."""

    name: str
    argument: str
    points: Sequence[float]
    values: Sequence[float]
    derivatives: Sequence[float | None]

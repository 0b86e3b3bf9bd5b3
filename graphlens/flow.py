"""Flow: the calls of a forward pass and the values that went from one to the next, as plain records.

The backward graph holds only what carries a gradient. The flow also holds what left it: detached
copies, masks, Python numbers. Values are numbered from 0 in the order in which they were met; a
tensor that is written in place gets a new number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from graphlens.graph import ModuleCall, Source

REQUIRES_GRAD = 1
DIFFERENTIABLE = 2  # of a floating-point or complex dtype
LEAF = 4  # requires a gradient and was made by no recorded op
PYTHON = 8  # a number, list or array outside torch
UNSEEN = 16  # its making was not recorded: it existed before, or torch does not tell

# The functions of steps that switch gradients on, and off for a block, by who makes them.
GRAD = "torch.enable_grad"
NO_GRAD = "torch.no_grad"
CHECKPOINT = "torch.utils.checkpoint.checkpoint"
SAMPLE = "torch.distributions.Distribution.sample"
BLOCKS = (NO_GRAD, CHECKPOINT, SAMPLE)
# The name of `.data` where copy.deepcopy of a parameter calls it.
COPY = "torch.nn.Parameter.__deepcopy__"
# Those of steps by which a leaf begins or ceases to require a gradient.
SWITCHES = ("Tensor.requires_grad =", "Tensor.requires_grad_")


class Step(NamedTuple):
    """One recorded call.

    `function` is how Python code calls it ("torch.stack", "Tensor.detach"); `first` and `end`
    bracket the sequence numbers of the nodes that it made on its thread; `ns` is its wall-clock
    time in nanoseconds without that of recorded calls inside; `grad` says whether autograd was
    recording; `written` are the values that the call wrote over, in the order of `outputs`: () unless
    it was in place, and then the tensor's own and those of what shares its memory.
    """

    function: str
    source: int | None
    call: int | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    first: int
    end: int
    ns: int
    grad: bool
    thread: int = 0
    written: tuple[int, ...] = ()


@dataclass(frozen=True)
class Flow:
    """What the recorder saw.

    Attributes:
        steps: in the order in which the calls ended.
        values: per value its flags, a sum of REQUIRES_GRAD, DIFFERENTIABLE, LEAF, PYTHON, UNSEEN.
        leaves: the value of each named input and parameter that a call used, at its first use.
        outputs: the values of the outputs, and of what is differentiated.
        sources, calls: the lines of code and the calls of modules that the steps refer to.
        threads: Python threads that took part.
        notes: what could not be recorded, and what was done about it.
    """

    steps: Sequence[Step]
    values: bytes
    leaves: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    calls: Sequence[ModuleCall] = ()
    threads: int = 1
    notes: tuple[str, ...] = ()

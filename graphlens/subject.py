"""Subject: something that graphlens can run, and run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Subject:
    """A module (or any callable) with the arguments of its forward pass.

    Attributes:
        module: a `torch.nn.Module`, or any callable that returns tensors.
        args, kwargs: what it is called with. Inputs that should receive a gradient must require it.
        loss: turns the module's output into the scalar that is differentiated. Without it the
            output's own `.loss` is taken, else each output is reduced by `.sum()`.
        name: how reports call the subject.
        output_names: names for the module's outputs, in order.
        loss_name: how reports call the loss.
    """

    module: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[[Any], torch.Tensor] | None = None
    name: str = ""
    output_names: Sequence[str] = ()
    loss_name: str = "loss"

    def __post_init__(self) -> None:
        # A lone argument would be taken apart: a tensor along its first dimension.
        if not isinstance(self.args, Sequence):
            object.__setattr__(self, "args", (self.args,))

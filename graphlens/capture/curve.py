"""Sample a scalar function and its derivative as autograd returns them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch

from graphlens.capture.ledger import dtype_name
from graphlens.capture.program import call_user
from graphlens.errors import MeasureError
from graphlens.records import Curve
from graphlens.subject import Subject


def sample_curve(subject: Subject, low: float, high: float, points: int) -> Curve:
    """Evaluate a subject that maps one number to one number at evenly spaced points.

    A derivative is None where autograd returns `None`: the output does not depend on the input.

    Raises:
        MeasureError: the subject takes or returns something else than one number.
    """
    if not (subject.args and isinstance(subject.args[0], torch.Tensor)) or len(subject.args) != 1 or subject.kwargs:
        raise MeasureError(f"{subject.name} does not take one tensor, so that its curve cannot be drawn; {_WAY_OUT}")
    first = subject.args[0]
    if first.numel() != 1 or not first.dtype.is_floating_point:
        raise MeasureError(
            f"{subject.name} takes a tensor of {dtype_name(first.dtype)} and shape {list(first.shape)}, so that its "
            f"curve cannot be drawn; {_WAY_OUT}"
        )
    grid = torch.linspace(low, high, points, dtype=first.dtype).tolist()
    values: list[float] = []
    derivatives: list[float | None] = []
    for point in grid:
        value, derivative = _evaluate(subject, torch.full_like(first, point, requires_grad=True))
        values.append(value)
        derivatives.append(derivative)
    name = subject.output_names[0] if subject.output_names else "output"
    return Curve(name, _argument_name(subject.module), grid, values, derivatives)


_WAY_OUT = "run -o plots a function of one number; `graphlens render` draws a graph"


def _evaluate(subject: Subject, point: torch.Tensor) -> tuple[float, float | None]:
    output = call_user(subject.module, point)
    if not isinstance(output, torch.Tensor) or output.numel() != 1:
        raise MeasureError(f"{subject.name} does not return one number, so that its curve cannot be drawn; {_WAY_OUT}")
    if not output.requires_grad:
        return output.item(), None
    (gradient,) = torch.autograd.grad(output.reshape(()), point, allow_unused=True)
    return output.item(), None if gradient is None else gradient.item()


def _argument_name(module: Callable[..., object]) -> str:
    function = module.forward if isinstance(module, torch.nn.Module) else module
    try:
        return next(iter(inspect.signature(function).parameters), "input")
    except (TypeError, ValueError):  # some of torch's built-in functions tell none
        return "input"

"""Normalisations in formulas that autograd can differentiate by everything, forward and backward.

Autograd takes the mean and the deviation that these ops hand on to their backward for constants, and
does not differentiate most of the backward ops by them. Here all results depend on all arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Tensor = torch.Tensor
Three = tuple[Tensor | None, Tensor | None, Tensor | None]


def layer_norm(
    input: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x − mean) ÷ √(variance + ε) · weight + bias, the mean, and 1 ÷ √(variance + ε)."""
    dims = tuple(range(input.dim() - len(shape), input.dim()))
    mean, rstd = _moments(input, dims, eps)
    return _scaled((input - mean) * rstd, weight, bias), mean, rstd


def layer_norm_backward(
    grad_out: Tensor, input: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: Sequence[bool],
) -> Three:  # fmt: skip
    """The gradients of x, weight and bias, with mean and 1/√(variance + ε) as they were saved."""
    outer = tuple(range(input.dim() - len(shape)))
    inner = tuple(range(len(outer), input.dim()))
    unit = (input - mean) * rstd
    along = _along(_scaled(grad_out, weight, None), unit, inner) * rstd
    return _masked((along, (grad_out * unit).sum(outer), grad_out.sum(outer)), mask)


def batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same over all dimensions but the second; with the running moments unless in training.

    What it would write into the running moments it leaves alone: they are not among its results.
    """
    if training:
        mean, rstd = _moments(input, _all_but_channels(input), eps)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, rstd = _channels(running_mean, input), (_channels(running_var, input) + eps).rsqrt()
    made = _scaled((input - mean) * rstd, _by_channel(weight, input), _by_channel(bias, input))
    if not training:  # nothing is saved
        return made, mean.new_empty(0), mean.new_empty(0)
    return made, mean.flatten(), rstd.flatten()


def batch_norm_backward(
    grad_out: Tensor, input: Tensor, weight: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    save_mean: Tensor | None, save_invstd: Tensor | None, train: bool, eps: float, mask: Sequence[bool],
) -> Three:  # fmt: skip
    """The gradients of x, weight and bias, with the moments as they were saved, or the running ones."""
    if train:
        assert save_mean is not None
        assert save_invstd is not None
        mean, rstd = _channels(save_mean, input), _channels(save_invstd, input)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, rstd = _channels(running_mean, input), (_channels(running_var, input) + eps).rsqrt()
    dims = _all_but_channels(input)
    unit = (input - mean) * rstd
    sent = _scaled(grad_out, _by_channel(weight, input), None)
    along = (_along(sent, unit, dims) if train else sent) * rstd
    return _masked((along, (grad_out * unit).sum(dims), grad_out.sum(dims)), mask)


def group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, batch: int, channels: int, places: int, groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same over the channels of a group and all places."""
    grouped = input.reshape(batch, groups, -1)
    mean, rstd = _moments(grouped, (2,), eps)
    made = ((grouped - mean) * rstd).reshape(input.shape)
    made = _scaled(made, _by_channel(weight, input), _by_channel(bias, input))
    return made, mean.squeeze(2), rstd.squeeze(2)


def group_norm_backward(
    grad_out: Tensor, input: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, batch: int, channels: int,
    places: int, groups: int, mask: Sequence[bool],
) -> Three:  # fmt: skip
    """The gradients of x, weight and bias, with mean and 1/√(variance + ε) as they were saved."""
    grouped = (batch, groups, -1)
    by_channel = (batch, channels, -1)
    unit = (input.reshape(grouped) - mean.unsqueeze(2)) * rstd.unsqueeze(2)
    sent = _scaled(grad_out, _by_channel(weight, input), None).reshape(grouped)
    along = (_along(sent, unit, (2,)) * rstd.unsqueeze(2)).reshape(input.shape)
    grads = grad_out.reshape(by_channel)
    return _masked((along, (grads * unit.reshape(by_channel)).sum((0, 2)), grads.sum((0, 2))), mask)


def _moments(input: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
    return mean, (variance + eps).rsqrt()


def _along(sent: Tensor, unit: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What is left of a gradient when its mean, and its part along the normalised input, are taken away."""
    return sent - sent.mean(dims, keepdim=True) - unit * (sent * unit).mean(dims, keepdim=True)


def _scaled(made: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        made = made * weight
    return made if bias is None else made + bias


def _all_but_channels(input: Tensor) -> tuple[int, ...]:
    return (0, *range(2, input.dim()))


def _by_channel(vector: Tensor | None, input: Tensor) -> Tensor | None:
    """A number per channel, laid along the second dimension."""
    return None if vector is None else _channels(vector, input)


def _channels(vector: Tensor, input: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (input.dim() - 2))


def _masked(made: tuple[Tensor, Tensor, Tensor], mask: Sequence[bool]) -> Three:
    first, second, third = (tensor if wanted else None for tensor, wanted in zip(made, mask, strict=True))
    return first, second, third

"""The LSTM layer that runs below autograd as one op on the CPU, in formulas."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Tensor = torch.Tensor
_LSTM = 2


def lstm_layer(
    input: Tensor, weight0: Tensor, weight1: Tensor, weight2: Tensor, weight3: Tensor, hx: Tensor, cx: Tensor,
    reverse: bool, batch_sizes: Sequence[int], mode: int, hidden_size: int, num_layers: int, has_biases: bool,
    bidirectional: bool, batch_first: bool, train: bool,
) -> tuple[Tensor, Tensor, Tensor, None]:  # fmt: skip
    """One direction of one layer over (time, batch, features): h of every step, the last h and c.

    The fourth result, a workspace of bytes, is nobody's business but the op's own backward.
    """
    _refuse_others(mode, batch_sizes)
    return *_unrolled((input, weight0, weight1, weight2, weight3, hx, cx), reverse, has_biases), None


def lstm_layer_backward(
    input: Tensor, weight0: Tensor, weight1: Tensor, weight2: Tensor, weight3: Tensor, hx: Tensor, cx: Tensor,
    output: Tensor, hy: Tensor, cy: Tensor, grad_output: Tensor | None, grad_hy: Tensor | None,
    grad_cy: Tensor | None, reverse: bool, mode: int, hidden_size: int, num_layers: int, has_biases: bool,
    train: bool, bidirectional: bool, batch_sizes: Sequence[int], batch_first: bool, workspace: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of x, the weights, h₀ and c₀.

    They are taken from the inputs anew, as the workspace cannot be read: to the gradients' own
    rounding belongs that of the gates which were saved.
    """
    _refuse_others(mode, batch_sizes)
    tracked = torch.is_grad_enabled()
    with torch.enable_grad():
        given = [
            tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
            for tensor in (input, weight0, weight1, weight2, weight3, hx, cx)
        ]
        made = _unrolled(given, reverse, has_biases)
        sent = [
            (tensor * grad).sum()
            for tensor, grad in zip(made, (grad_output, grad_hy, grad_cy), strict=True)
            if grad is not None
        ]
        return torch.autograd.grad(sent, given, create_graph=tracked, allow_unused=True, materialize_grads=True)


def _refuse_others(mode: int, batch_sizes: Sequence[int]) -> None:
    if mode != _LSTM or batch_sizes:
        raise NotImplementedError("another recurrent layer than LSTM, or packed sequences")


def _unrolled(given: Sequence[Tensor], reverse: bool, has_biases: bool) -> tuple[Tensor, Tensor, Tensor]:
    """h of every step, the last h and c; step after step."""
    input, weight0, weight1, weight2, weight3, hx, cx = given
    hidden, cell = hx.reshape(hx.shape[-2:]), cx.reshape(cx.shape[-2:])
    steps = input @ weight0.T
    if has_biases:
        steps = steps + (weight2 + weight3)
    made = []
    for time in reversed(range(len(input))) if reverse else range(len(input)):
        enter, forget, new, leave = (steps[time] + hidden @ weight1.T).chunk(4, dim=1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        made.append(hidden)
    if reverse:
        made.reverse()
    return torch.stack(made), hidden.reshape(hx.shape), cell.reshape(cx.shape)

"""Functions that stand for ops which autograd cannot differentiate, or takes a part of for constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table

from graphlens.capture.tape import Call
from graphlens.numerics.arguments import op_name
from graphlens.numerics.standins_attention import flash_attention, flash_attention_backward
from graphlens.numerics.standins_normal import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from graphlens.numerics.standins_products import cdist_backward, trilinear
from graphlens.numerics.standins_recurrent import lstm_layer, lstm_layer_backward
from graphlens.numerics.standins_solve import cholesky_ex, det, eigh, slogdet, solve_ex


def view(input: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The same numbers in another shape, however they are laid out: a stand-in may lay them out otherwise."""
    if isinstance(size, torch.dtype):
        raise NotImplementedError("the bits of a number as another format")
    return input.reshape(size)


def reshape_alias(input: torch.Tensor, size: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """The same, without the layout."""
    return input.reshape(size)


STAND_INS: dict[str, Callable[..., Any]] = {
    "view": view,
    "_unsafe_view": view,
    "_reshape_alias": reshape_alias,
    # What a program detaches keeps its rounding.
    "detach": torch.ops.aten.alias.default,
    "lift_fresh": torch.ops.aten.alias.default,
    "_scaled_dot_product_flash_attention_for_cpu": flash_attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": flash_attention_backward,
    "native_layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
    "native_batch_norm": batch_norm,
    "native_batch_norm_backward": batch_norm_backward,
    "native_group_norm": group_norm,
    "native_group_norm_backward": group_norm_backward,
    "mkldnn_rnn_layer": lstm_layer,
    "mkldnn_rnn_layer_backward": lstm_layer_backward,
    "_trilinear": trilinear,
    "_cdist_backward": cdist_backward,
    "_linalg_det": det,
    "_linalg_slogdet": slogdet,
    "_linalg_solve_ex": solve_ex,
    "linalg_cholesky_ex": cholesky_ex,
    "_linalg_eigh": eigh,
}


def ways_of(call: Call) -> list[Callable[..., Any]]:
    """The functions that compute what an op does, the preferred one first.

    Torch's own table of ops in terms of simpler ones comes last: it holds derivatives for most of the
    backward ops that have none themselves.
    """
    known = STAND_INS.get(op_name(call))
    if known is not None:
        return [known]
    simpler = decomposition_table.get(call.function)
    return [call.function] if simpler is None else [call.function, simpler]

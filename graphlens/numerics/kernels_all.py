"""Importing this module fills the table of kernels."""

from graphlens.numerics import (
    kernels_adding,
    kernels_attention,
    kernels_backward,
    kernels_choice,
    kernels_elementwise,
    kernels_layout,
    kernels_normal,
    kernels_product,
    kernels_reduce,
    kernels_solve,
)
from graphlens.numerics.registry import KERNELS

__all__ = [
    "KERNELS",
    "kernels_adding",
    "kernels_attention",
    "kernels_backward",
    "kernels_choice",
    "kernels_elementwise",
    "kernels_layout",
    "kernels_normal",
    "kernels_product",
    "kernels_reduce",
    "kernels_solve",
]

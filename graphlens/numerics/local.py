"""The rounding of one call alone: what it made of its float inputs, against the exact result."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flint import ctx, fmpq

from graphlens.capture.tape import Call, Ref
from graphlens.numerics.arguments import argument, arguments, is_drawn, op_name
from graphlens.numerics.balls import (
    Array,
    from_tensor,
    is_discrete,
    is_real,
    likeliest,
    numbers,
    wrapped,
)
from graphlens.numerics.compensated import compensated_error
from graphlens.numerics.effort import DOUBLE_BITS, Work, work_of
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.kernels_layout import JOINS
from graphlens.numerics.registry import Kernel, Site, TooWide, Unsupported

FIRST_PRECISION, HIGHEST_PRECISION = 192, 3072  # bits
ACCURACY_BITS = 40  # to which a local error is known, relative to itself


def local_error(
    call: Call, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor | None], seconds: float = math.inf
) -> list[npt.NDArray[np.float64] | None] | None:
    """The rounding of one call: its float results minus the exact results on the same float inputs.

    Args:
        inputs: the tensors of the run in the order of `call.inputs`.
        outputs: its results in the order of `call.outputs`.
        seconds: how long it may take; what would take longer is not begun.

    Returns:
        Per result the error in float64, correct to about 1e-10 of itself; NaN where it is not known;
        None for what is no floating-point tensor. None altogether if the op is not covered or takes too long.
    """
    real = [tensor is not None and is_real(tensor) for tensor in outputs]
    kernel = KERNELS.get(op_name(call))
    drawn = kernel is None and is_drawn(call, any(map(is_real, inputs)))
    if not all(tensor is None or is_real(tensor) or is_discrete(tensor) for tensor in (*inputs, *outputs)):
        return None
    if not any(real) or drawn or (kernel is not None and kernel.moves and _keeps_format(call, inputs, outputs)):
        return [np.zeros(tuple(t.shape)) if t is not None and ok else None for t, ok in zip(outputs, real, strict=True)]
    if kernel is None:
        return None
    quick = compensated_error(call, inputs, outputs)
    if quick is not None:
        return [quick]
    given = zip((*call.inputs, *call.outputs), (*inputs, *outputs), strict=True)
    tensors = {value: tensor for value, tensor in given if value is not None and tensor is not None}
    work = work_of(call, tensors.__getitem__) if seconds < math.inf else Work()
    before, precision, stop_at = ctx.prec, FIRST_PRECISION, time.perf_counter() + seconds
    try:
        while precision <= HIGHEST_PRECISION:
            if time.perf_counter() + work.seconds(DOUBLE_BITS, precision) > stop_at:
                return None
            ctx.prec = precision
            errors: list[Array | None] | None = None
            with contextlib.suppress(TooWide):
                errors = _errors(call, kernel, inputs, outputs)
            if errors is not None and (precision == HIGHEST_PRECISION or all(map(_are_sharp, errors))):
                return [None if error is None else _nearest(error) for error in errors]
            precision *= 2
    except (Unsupported, ZeroDivisionError):
        return None
    finally:
        ctx.prec = before
    return None


def _errors(
    call: Call, kernel: Kernel, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor | None]
) -> list[Array | None]:
    """The errors as balls, at the precision that is set."""
    tensors = dict(zip(call.inputs, inputs, strict=True))

    def filled(item: Any) -> Any:
        if isinstance(item, Ref):
            return from_tensor(tensors[item.value], rational=False)
        if isinstance(item, (list, tuple)):
            return type(item)(map(filled, item))
        return item

    args, kwargs = arguments(call, filled)
    site = Site(call.function, lambda which: argument(call, which, tensors.__getitem__), outputs)
    made = kernel(site, *args, **kwargs)
    return [
        None
        if tensor is None or value is None or not is_real(tensor)
        else wrapped(from_tensor(tensor, rational=False) - numbers(wrapped(value)))
        for tensor, value in zip(outputs, made, strict=True)
    ]


def _are_sharp(errors: Array | None) -> bool:
    """Whether all errors are known to enough digits."""
    return errors is None or all(map(_is_sharp, errors.flat))


def _is_sharp(error: Any) -> bool:
    if isinstance(error, fmpq) or error.is_exact() or not error.is_finite():
        return True
    return bool(error.rel_accuracy_bits() >= ACCURACY_BITS)


def _nearest(errors: Array) -> npt.NDArray[np.float64]:
    # A ball around 0 that stays so at the highest precision is 0.
    return np.array([likeliest(error) for error in errors.flat], dtype=np.float64).reshape(errors.shape)


def _keeps_format(call: Call, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor | None]) -> bool:
    """Whether what is moved arrives in the format that it had, so that nothing is rounded."""
    formats = {tensor.dtype for tensor in outputs if tensor is not None and is_real(tensor)}
    if op_name(call) in JOINS and any(map(is_discrete, inputs)):
        return False
    if any(isinstance(item, float) for item in (*call.args, *call.kwargs.values())) and formats != {torch.float64}:
        return False
    return all(not is_real(tensor) or {tensor.dtype} == formats for tensor in inputs)

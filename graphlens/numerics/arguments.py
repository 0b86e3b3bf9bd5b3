"""The arguments of a recorded call, as kernels take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphlens.capture.tape import Call, Ref

# Formats and places make no difference to exact numbers.
_IGNORED = ("layout", "device", "pin_memory", "memory_format", "non_blocking", "generator", "dtype")
# Draw numbers, whatever their argument is; what they drew is followed.
_SAMPLERS = ("bernoulli", "uniform", "normal", "normal_functional", "exponential", "cauchy", "log_normal", "geometric",
             "random", "multinomial", "poisson", "rand_like", "randn_like", "randint_like")  # fmt: skip
# By identity, as torch's own hash of an op is slow; that the op is kept makes sure of it.
_names: dict[int, tuple[Any, str]] = {}


def op_name(call: Call) -> str:
    """The name in the table of kernels: of an aten op without namespace and overload."""
    function = call.function
    known = _names.get(id(function))
    if known is None:
        namespace, _, plain = function._schema.name.partition("::")
        known = _names[id(function)] = function, plain if namespace == "aten" else f"{namespace}::{plain}"
    return known[1]


def is_drawn(call: Call, reads_numbers: bool) -> bool:
    """Whether the run's random numbers are all there is to a call: it is no function of numbers besides.

    Args:
        reads_numbers: whether a floating-point tensor is among its inputs.
    """
    return call.random and (op_name(call) in _SAMPLERS or not reads_numbers)


def arguments(call: Call, filled: Callable[[Any], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a kernel, by position where the op allows it; without formats and devices."""
    args = tuple(map(filled, call.args))
    if not call.kwargs:
        return args, {}
    kwargs = {key: filled(value) for key, value in call.kwargs.items() if key not in _IGNORED}
    for argument in call.function._schema.arguments[len(args) :]:
        if argument.kwarg_only or argument.name not in kwargs:
            break
        args = (*args, kwargs.pop(argument.name))
    return args, kwargs


def argument(call: Call, which: int | str, tensor_of: Callable[[int], Any]) -> Any:
    """One argument by position or name, with the run's tensor in the place of its value."""
    known = call.function._schema.arguments
    place = which if isinstance(which, int) else next(k for k, item in enumerate(known) if item.name == which)
    if place >= len(call.args) and known[place].name not in call.kwargs:
        return known[place].default_value
    value = call.args[place] if place < len(call.args) else call.kwargs[known[place].name]
    return tensor_of(value.value) if isinstance(value, Ref) else value

"""The tape's ops run again in float64: as a shadow of a run in a narrower format, and to differentiate it.

A run in float64 comes out as it was. Of a narrower one every op is taken in float64 on what the ops
before it made in float64, so that the shadow is the run with next to no rounding. It goes the run's
way: whole numbers, truth values and random numbers are those of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graphlens.capture.room import room
from graphlens.capture.tape import Call, Tape, filled, flat_outputs
from graphlens.numerics.arguments import is_drawn, op_name
from graphlens.numerics.standins import STAND_INS, ways_of
from graphlens.units import bytes_text

Doubles = npt.NDArray[np.float64]

WIDE = torch.float64
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_WIDER = {
    **dict.fromkeys(_NARROW, WIDE),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
_NUDGE = 2.0**-20
# To which torch's own formulas of an op must agree with it in float64, relative to its largest entry.
_AGREEMENT = 1e-9
# What a function does that is no op for these numbers, or not for float64.
_FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, IndexError)


@dataclass
class Shadow:
    """The values of a tape in float64; those that are no floating-point numbers as the run had them.

    Attributes:
        values: by number.
        uncovered: ops that could not be run in float64, or differentiated, with the number of calls;
            what they made is what the run had.
        tainted: the values that were computed by way of these: they keep some of the run's rounding.
        forgotten: the values that nobody wanted and no later call read: they are those of the run.
    """

    values: list[torch.Tensor]
    uncovered: Counter[str] = field(default_factory=Counter)
    tainted: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)


def in_float64(tape: Tape, *, wanted: Collection[int] | None = None, tracked: bool = False) -> Shadow:
    """Run all calls again in float64.

    Args:
        wanted: the values that are kept, all of them if None. The others are forgotten after the last call that
            reads them: together they take twice as much memory as the run's or more.
        tracked: whether autograd follows every op, so that one value can be differentiated by the others.
            What the program itself detached is followed too: its rounding goes on.
    """
    shadow = Shadow(list(tape.tensors))
    values = shadow.values
    for source in tape.sources:
        values[source] = _source(tape.tensors[source], tracked)
    last = {} if wanted is None else _last_reads(tape, wanted)
    with torch.set_grad_enabled(tracked):
        for position, call in enumerate(tape.calls):
            made = wide_call(call, [values[number] for number in call.inputs], tracked=tracked)
            fits = made is not None
            for place, number in enumerate(call.outputs):
                if number is None or not is_number(tape.tensors[number]):
                    continue
                result = made[place] if made is not None else None
                if result is None or result.shape != tape.tensors[number].shape:
                    fits = fits and result is None
                    result = _source(tape.tensors[number], tracked)
                elif tracked and not result.requires_grad:
                    result = _source(result, tracked)  # made of constants, it is rounded all the same
                values[number] = result
            if not fits:
                shadow.uncovered[op_name(call)] += 1
            if not fits or not shadow.tainted.isdisjoint(call.inputs):
                shadow.tainted.update(number for number in call.outputs if number is not None)
            for number in last.get(position, ()):
                values[number] = tape.tensors[number]
                shadow.forgotten.add(number)
    return shadow


def too_large(tape: Tape, values: Iterable[int] | None = None) -> str:
    """Of values in float64, all of them if None: "20 GB, and 12 GB are free"; "" if they fit or nobody knows."""
    free = room()
    numbers = range(len(tape.tensors)) if values is None else values
    size = sum(8 * tape.tensors[number].numel() for number in numbers if is_number(tape.tensors[number]))
    return "" if free is None or size <= free else f"{bytes_text(size)}, and {bytes_text(free)} are free"


def _last_reads(tape: Tape, wanted: Collection[int]) -> dict[int, list[int]]:
    """Per call the values that no later one reads, and that are not wanted."""
    kept, found = set(wanted), dict[int, list[int]]()
    for position in range(len(tape.calls) - 1, -1, -1):
        call = tape.calls[position]
        done = {number for number in (*call.inputs, *call.outputs) if number is not None and number not in kept}
        if done:
            found[position] = sorted(done)
            kept |= done
    return found


def is_float(tensor: torch.Tensor) -> bool:
    """Whether it holds floating-point numbers that float64 holds too."""
    return tensor.dtype is WIDE or tensor.dtype in _NARROW


def is_number(tensor: torch.Tensor) -> bool:
    """Whether it holds such numbers, or complex ones made of two."""
    return is_float(tensor) or tensor.dtype.is_complex


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of such numbers in float64 or complex128, anything else as it is."""
    wider = _WIDER.get(tensor.dtype)
    return tensor if wider is None else tensor.to(wider)


def doubles_of(tensor: torch.Tensor) -> Doubles:
    """Its numbers; complex ones as their real and imaginary parts along one dimension more."""
    plain = wide(tensor.detach())
    if plain.dtype.is_complex:
        plain = torch.view_as_real(plain.resolve_conj())
    made: Doubles = plain.numpy(force=True)
    return made


def difference(run: torch.Tensor, truth: torch.Tensor) -> Doubles:
    """The run's numbers less the true ones; 0 where both are the same infinity."""
    ours, true = doubles_of(run), doubles_of(truth)
    with np.errstate(invalid="ignore"):
        return np.where(ours == true, 0.0, ours - true)


def wide_call(call: Call, inputs: Sequence[torch.Tensor], *, tracked: bool = False) -> list[Any] | None:
    """One call's function on float64 inputs, in the order of `call.outputs`; None where that fails.

    With `tracked` also where its result cannot be differentiated, though an input can. Random numbers
    that stand for themselves count as failing nowhere: None for every output says that the run's are
    to be taken.
    """
    if call.random and is_drawn(call, any(map(is_number, inputs))):
        return [None] * len(call.outputs)
    if call.random and op_name(call) not in STAND_INS:
        return None
    follows = tracked and any(map(_is_tracked, inputs)) and "empty" not in op_name(call)
    for way in ways_of(call):
        made = _attempt(call, way, inputs)
        if made is None:
            continue
        if not follows:
            return made
        fixed = [place for place, result in enumerate(made) if _is_cut(result)]
        if fixed and not _are_constant(call, way, inputs, made, fixed):
            continue
        if _can_be_followed(call, way, inputs):
            return made if way is call.function else _apart(made)
    return None


def _attempt(call: Call, way: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> list[Any] | None:
    usual = torch.get_default_dtype()
    if usual is not WIDE:
        torch.set_default_dtype(WIDE)  # it is what whole numbers times 0.1 come out in
    try:
        args, kwargs = _widened(call, iter(inputs))
        made = flat_outputs(way(*args, **kwargs))
    except _FAILURES:
        return None
    finally:
        if usual is not WIDE:
            torch.set_default_dtype(usual)
    return made if len(made) == len(call.outputs) else None


def _apart(made: list[Any]) -> list[Any]:
    """Results none of which another one was computed from, so that the derivative by one is by it alone."""
    return [item.view_as(item) if isinstance(item, torch.Tensor) and item.requires_grad else item for item in made]


def _are_constant(
    call: Call, way: Callable[..., Any], inputs: Sequence[torch.Tensor], made: list[Any], places: list[int]
) -> bool:
    """Whether results that autograd does not follow stay as they are when the numbers change a little."""
    with torch.no_grad():
        moved = [value * (1 + _NUDGE) + _NUDGE if is_number(value) else value for value in inputs]
        again = _attempt(call, way, moved)
    return again is not None and all(torch.equal(made[place], again[place]) for place in places)


_followed: dict[tuple[Any, ...], bool] = {}


def _can_be_followed(call: Call, way: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> bool:
    """Whether torch has the derivatives of a function; found by asking for them once.

    They may be missing for some of its arguments, or with some of its switches. Torch's own formulas
    must besides give what the op gives.
    """
    tracked = [value.requires_grad for value in inputs]
    key = (way, call.function, *tracked, *map(_switch, call.args), *map(_switch, call.kwargs.values()))
    if key not in _followed:
        _followed[key] = _has_derivatives(call, way, inputs) and (
            way is call.function or op_name(call) in STAND_INS or _agrees(call, way, inputs)
        )
    return _followed[key]


def _switch(item: Any) -> Any:
    """An argument as far as it may choose among derivatives: whether it is there, true or false."""
    if isinstance(item, (list, tuple)):
        return tuple(map(_switch, item)) if len(item) < 8 else len(item)
    return item if item is None or isinstance(item, (bool, str)) else type(item).__name__


def _has_derivatives(call: Call, way: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> bool:
    given = [value.detach().requires_grad_() if value.requires_grad else value for value in inputs]
    with torch.enable_grad():
        made = _attempt(call, way, given) or []
    ends = [item for item in made if isinstance(item, torch.Tensor) and item.requires_grad]
    if not ends:
        return True
    try:
        torch.autograd.grad(
            ends, [value for value in given if value.requires_grad], list(map(torch.ones_like, ends)), allow_unused=True
        )
    except _FAILURES:
        return False
    return True


def _agrees(call: Call, way: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> bool:
    """Whether a function gives what the op itself gives in float64."""
    with torch.no_grad():
        given = [value.detach() for value in inputs]
        ours, theirs = _attempt(call, way, given), _attempt(call, call.function, given)
    if ours is None or theirs is None:
        return False
    for mine, other in zip(ours, theirs, strict=True):
        if not isinstance(mine, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        if mine.shape != other.shape:
            return False
        error = np.abs(difference(mine, other)).max(initial=0.0) if is_number(mine) else 0.0
        if not error <= _AGREEMENT * np.abs(doubles_of(other)).max(initial=0.0):
            return False
    return True


def _widened(call: Call, numbers: Any) -> tuple[Any, Any]:
    args = tuple(_wide_argument(item) for item in filled(call.args, lambda _: next(numbers)))
    kwargs = {key: _wide_argument(filled(item, lambda _: next(numbers))) for key, item in call.kwargs.items()}
    if op_name(call) in ("_softmax", "_log_softmax"):
        args = (*args[:2], False)  # half_to_float wants a half-precision input
    return args, kwargs


def _wide_argument(item: Any) -> Any:
    return _WIDER.get(item, item) if isinstance(item, torch.dtype) else item


def _source(tensor: torch.Tensor, tracked: bool) -> torch.Tensor:
    if not is_number(tensor):
        return tensor
    copy = wide(tensor.detach())
    if not tracked:
        return copy
    # A tensor of its own: the run's may be used elsewhere.
    return (copy.clone() if copy is tensor or copy.data_ptr() == tensor.data_ptr() else copy).requires_grad_()


def _is_tracked(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad


def _is_cut(result: Any) -> bool:
    """Whether autograd does not follow a floating-point result."""
    if not isinstance(result, torch.Tensor) or not (result.dtype is WIDE or result.dtype is torch.complex128):
        return False
    return not result.requires_grad

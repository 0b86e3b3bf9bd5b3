"""Which values of a tape are the same, because the same op made them of the same values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from graphlens.capture.tape import Ref, Tape
from graphlens.numerics.arguments import op_name

_MOST_CONTENT = 4096  # entries of a constant that are compared


def first_equal(tape: Tape) -> list[int]:
    """Per value the first one that was computed in the same way and is equal to it, to the last bit.

    Computed in the same way: by the same op with the same arguments on values that are equal in this
    sense. Then their errors are the same too, whatever they are (Alpern, Wegman and Zadeck 1988,
    "Detecting equality of variables in programs"). Small constants are compared by what they hold.
    """
    first = list(range(len(tape.tensors)))
    known: dict[Hashable, tuple[int | None, ...]] = {}
    leaves = set(tape.leaves.values())
    constants: dict[Hashable, int] = {}
    for number in tape.sources:
        content = None if number in leaves else _content(tape.tensors[number])
        if content is not None:
            first[number] = constants.setdefault(content, number)
    for call in tape.calls:
        if call.random or "empty" in op_name(call):
            continue
        named = [(name, _plain(item, first)) for name, item in sorted(call.kwargs.items())] if call.kwargs else ()
        key = (call.function, tuple([_plain(item, first) for item in call.args]), *named)
        outputs = known.setdefault(key, call.outputs)
        if outputs is call.outputs:
            continue
        for value, earlier in zip(call.outputs, outputs, strict=True):
            if value is not None and earlier is not None and _equal(tape.tensors[value], tape.tensors[earlier]):
                first[value] = first[earlier]
    return first


def _plain(item: Any, first: list[int]) -> Hashable:
    if type(item) is Ref:
        return first[item.value]
    if isinstance(item, (list, tuple)):
        return tuple([_plain(part, first) for part in item])
    # Numbers as text, as 0.0 and -0.0 are equal, and so are 1, 1.0 and True: what is an int here is a value.
    return f"{type(item).__name__} {item!r}"


def _content(tensor: torch.Tensor) -> Hashable:
    if tensor.layout is not torch.strided or tensor.numel() > _MOST_CONTENT or tensor.is_complex():
        return None
    dense = tensor.contiguous()
    return str(tensor.dtype), tuple(tensor.shape), dense.reshape(-1).view(torch.uint8).numpy().tobytes()


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype is other.dtype and one.shape == other.shape and bool(torch.equal(one, other))

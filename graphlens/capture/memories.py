"""What a tape knows of the memory that tensors lie in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

Look = tuple[Any, ...]


class Write(NamedTuple):
    """A value that was written over a part of a storage, and where: in entries, not bytes."""

    value: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(slots=True)
class Memory:
    """What is known of one storage.

    Attributes:
        values: the values that are in it now, by the look of their tensors.
        detached: the same for tensors that were cut off from the graph of one that looks the same.
        first: the first value of each look.
        renewed: of a leaf that requires a gradient and was filled without one, as when it is initialised: the
            values that it then had, by its look.
        live: of these, and of older ones whose place was not written to, those whose tensor on the
            tape lies in this storage still; with its first and last byte, once somebody asked.
        cover: a value that fills it all, with its tensor; what was written later is in `writes`.
        is_flat: whether the cover is a vector that was made to be one.
        source: its first value, if that is a source.
    """

    values: dict[Look, int] = field(default_factory=dict)
    detached: dict[Look, int] = field(default_factory=dict)
    first: dict[Look, int] = field(default_factory=dict)
    renewed: dict[Look, list[int]] = field(default_factory=dict)
    live: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    cover: tuple[int, torch.Tensor] | None = None
    source: int | None = None
    is_flat: bool = False
    writes: list[Write] = field(default_factory=list)


def place_of(tensor: torch.Tensor) -> tuple[int, Look] | None:
    """The address of a tensor's storage, its own as long as it lives, and what tells tensors in it apart.

    None for a tensor without a storage of its own.
    """
    try:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            if storage.nbytes():
                return storage._cdata, (
                    tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(),
                    tensor.is_neg(),
                )  # fmt: skip
    except (NotImplementedError, RuntimeError):
        pass
    return None


def extent_of(tensor: torch.Tensor) -> tuple[int, int]:
    """The first and the last byte of the storage that belong to the tensor."""
    start = int(tensor.storage_offset())
    steps = sum(int(size - 1) * int(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    size = tensor.element_size()
    return start * size, (start + steps + 1) * size - 1


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors in one storage may have an entry in common.

    By their first and last byte they seem to wherever they interleave, as the columns of a matrix
    do. So each is looked at as a box: an offset is a number whose digits have the strides as places,
    largest first. Where no digit of either can carry, they meet only if their boxes do.
    """
    first, second = extent_of(a), extent_of(b)
    if first[0] > second[1] or second[0] > first[1]:
        return False
    if a.element_size() != b.element_size():
        return True
    places = sorted({stride for x in (a, b) for size, stride in _sides(x) if size > 1}, reverse=True)
    one, two = _box(a, places), _box(b, places)
    if one is None or two is None:
        return True
    return all(low < end and start < high for (low, high), (start, end) in zip(one, two, strict=True))


def _sides(tensor: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(size), int(stride)) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]


def _box(tensor: torch.Tensor, places: list[int]) -> list[tuple[int, int]] | None:
    """Per place the first digit and the one after the last; None where a digit may carry into another."""
    if 0 in places:
        return None
    counts = dict.fromkeys(places, 1)
    for size, stride in _sides(tensor):
        if size > 1:
            counts[stride] += size - 1
    rest = int(tensor.storage_offset())
    box = []
    for place in places:
        digit, rest = divmod(rest, place)
        box.append((digit, digit + counts[place]))
    reach = rest
    for (_, end), place in zip(reversed(box), reversed(places), strict=True):
        if reach >= place:
            return None
        reach += (end - 1) * place
    return [*box, (rest, rest + 1)]


def fills(tensor: torch.Tensor) -> bool:
    """Whether the tensor is all of its storage, each entry once."""
    if tensor.storage_offset() or tensor.numel() * tensor.element_size() != tensor.untyped_storage().nbytes():
        return False
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True

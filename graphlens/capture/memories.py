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
        live: of these, and of older ones whose place was not written to, those whose tensor on the
            tape lies in this storage still; with its first and last byte, once somebody asked.
        cover: a value that fills it all, with its tensor; what was written later is in `writes`.
        is_flat: whether the cover is a vector that was made to be one.
        source: its first value, if that is a source.
    """

    values: dict[Look, int] = field(default_factory=dict)
    detached: dict[Look, int] = field(default_factory=dict)
    first: dict[Look, int] = field(default_factory=dict)
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

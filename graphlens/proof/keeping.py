"""What the shorter program will keep for backward, told from the original's ledger."""

from __future__ import annotations

from collections.abc import Hashable

import torch

from graphlens.graph import GradGraph
from graphlens.proof.simplify import Simplified

aten = torch.ops.aten


def kept_bytes(simplified: Simplified, graph: GradGraph) -> int | None:
    """Bytes of the storages that the nodes that stay will keep; None where one has no known size.

    A node that kept a value of its own keeps the one that stands for it, which others may keep too.
    Where the original wrote over a part of a storage, or kept a copy of what it wrote over, the
    shorter program, which writes nothing over, has storages of another size.
    """
    tape = simplified.tape
    if simplified.changed:
        return None  # another op keeps other values
    made = {value: call for call in simplified.calls for value in call.outputs}
    copies = {
        value
        for call in tape.calls
        if call.function is aten.clone.default and call.node is None
        for value in call.outputs
        if value not in made
    }
    changed = []
    sizes: dict[Hashable, int | None] = {}
    numbers: dict[int, int] = {}  # of the ledger, by the address on the tape
    for record in graph.saved:
        if record.node not in simplified.stay:
            continue
        value = tape.saved.get((record.node, record.slot))
        if value in tape.parts or value in copies:
            return None
        if value is not None and simplified.first(value) != value:
            changed.append(tape.tensors[simplified.first(value)])
            continue
        sizes[record.storage] = record.storage_bytes
        if value is not None and record.storage is not None:
            numbers[_address(tape.tensors[value])] = record.storage
    for tensor in changed:
        address = _address(tensor)
        sizes.setdefault(numbers.get(address, f"at {address}"), tensor.untyped_storage().nbytes())
    if None in sizes or None in sizes.values():
        return None
    return sum(size or 0 for size in sizes.values())


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)

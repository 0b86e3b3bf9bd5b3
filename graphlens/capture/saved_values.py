"""Which values of a tape the nodes keep for backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.ledger import Ledger


def saved_values(
    nodes: Sequence[AutogradNode], known: Callable[[torch.Tensor], int | None]
) -> dict[tuple[int, str], int]:
    """Per node and slot the value that is kept, as far as it is one that an op read or made.

    Args:
        known: the number of the value that a tensor has, if it has one.
    """
    found = {}
    inspect = Ledger(()).node_type
    for number, node in enumerate(nodes):
        for slot, tensor in _kept(node, inspect(node).raw_slots):
            value = known(tensor)
            if value is not None:
                found[number, slot] = value
    return found


def _kept(node: AutogradNode, raw_slots: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, torch.Tensor]]:
    """What a node keeps as it is; not what a hook packed."""
    for slot, attribute, _ in raw_slots:
        raw = getattr(node, attribute)
        items = [(f"{slot}[{place}]", item) for place, item in enumerate(raw)] if type(raw) is tuple else [(slot, raw)]
        for name, item in items:
            if isinstance(item.data, torch.Tensor) and item.unpack_hook is None:
                yield name, item.data

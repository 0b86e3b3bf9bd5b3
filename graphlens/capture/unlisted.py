"""Leaves that a module keeps and does not list: plain tensors, and layers in a plain list, tuple or dictionary."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from graphlens.graph import printable

_OWN = frozenset(vars(torch.nn.Module()))  # what torch itself keeps in a module
_MOST_NESTING = 4
_MOST_ITEMS = 10_000


def unlisted(module: object, wanted: Mapping[str, torch.Tensor], named: Collection[str]) -> dict[str, tuple[str, bool]]:
    """Where a module keeps leaves that `named_parameters()` does not list, by the names that these have in a run.

    Each with whether it is all that its list or dictionary holds: one module in a list is how people hide a module
    on purpose.

    Args:
        named: the leaves that have a name of their own, as inputs have.
    """
    if not isinstance(module, torch.nn.Module):
        return {}
    listed = set(map(id, module.parameters()))
    names = {id(tensor): name for name, tensor in wanted.items() if name not in named and id(tensor) not in listed}
    found: dict[str, tuple[str, bool]] = {}
    if not names:
        return found
    for prefix, owner in module.named_modules():
        for attribute, value in vars(owner).items():
            if attribute not in _OWN and isinstance(value, (torch.Tensor, list, tuple, dict)):
                path = f"{prefix}.{attribute}" if prefix else attribute
                for place, leaf, alone in _leaves_in(path, value):
                    if id(leaf) in names:
                        found.setdefault(names[id(leaf)], (printable(place), alone))
    return found


def _leaves_in(path: str, value: Any) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """The tensors in nested lists, tuples and dictionaries, of modules in these too; and whether a module is alone."""
    waiting: list[tuple[str, Any, int, bool]] = [(path, value, _MOST_NESTING, True)]
    met: set[int] = set()
    while waiting:
        place, item, nesting, alone = waiting.pop()
        if id(item) in met:
            continue
        met.add(id(item))
        if isinstance(item, torch.Tensor):
            yield place, item, False
        elif isinstance(item, torch.nn.Module):
            for name, parameter in item.named_parameters():
                yield f"{place}.{name}", parameter, alone
        elif isinstance(item, (list, tuple, dict)) and nesting and len(item) <= _MOST_ITEMS:
            parts = item.items() if isinstance(item, dict) else enumerate(item)
            one = alone and len(item) == 1
            waiting += [(f"{place}[{key!r}]", part, nesting - 1, one) for key, part in parts]

"""Find the tensors in what a module was given and what it returned, with their names."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

_MOST_NESTING = 20


def named_tensors(name: str, value: Any) -> dict[str, torch.Tensor]:
    """Every tensor in `value`, at any depth of mappings, dataclasses, lists and tuples.

    A tensor alone is called `name`; one inside is called by its key ("loss", "layers[3]").
    """
    return dict(_tensors(name, "", value, _MOST_NESTING))


def _tensors(name: str, path: str, value: Any, nesting: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path or name, value
        return
    if nesting == 0:
        return
    for key, item in _items(value):
        if type(key) is int:
            inner = f"{path or name}[{key}]"
        else:
            inner = f"{path}.{key}" if path else str(key)
        yield from _tensors(name, inner, item, nesting - 1)


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return []


def named_arguments(
    module: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """The tensors among the arguments, called by the names of forward's parameters."""
    function = module.forward if isinstance(module, torch.nn.Module) else module
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{f"args[{k}]": arg for k, arg in enumerate(args)}, **kwargs}
    found: dict[str, torch.Tensor] = {}
    for name, value in bound.items():
        for path, tensor in _tensors(name, name, value, _MOST_NESTING):
            found[path] = tensor
    return found


def named_leaves(
    module: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Every tensor that a gradient can be asked for: the arguments, then the parameters."""
    names = named_arguments(module, args, kwargs)
    if isinstance(module, torch.nn.Module):
        for name, parameter in module.named_parameters():
            names[f"module.{name}" if name in names else name] = parameter
    return names


def declared_loss(output: Any) -> torch.Tensor | None:
    """The output's own loss, as the outputs of common libraries carry it."""
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return loss if isinstance(loss, torch.Tensor) and loss.requires_grad else None

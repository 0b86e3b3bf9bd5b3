"""Run a program without its data: its graph and ledger are predicted, and nothing is allocated."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from graphlens.capture.program import Program, subject_program
from graphlens.capture.resolve import resolve, user_code
from graphlens.errors import TargetError
from graphlens.graph import GradGraph, SavedTensor
from graphlens.targets import Target

NOTE = "predicted without data: nothing was allocated or computed"
# Kernels whose working memory is not known before they run, and where they keep it.
_WORKSPACES = {"MkldnnRnnLayerBackward0": "result3"}


def predicted_program(target: Target, options: Mapping[str, object]) -> Program:
    """A target's program on tensors that have a shape and no data.

    They are fake tensors of the CPU, whose memory is on the meta device: on the meta device itself
    other kernels would be chosen, which keep other tensors. A module whose constructor needs values,
    as `torch.linspace(…)[k].item()` does, is made on the meta device, where values can be asked of
    explicit CPU tensors; its tensors are then swapped for fake ones.

    Raises:
        TargetError: it cannot be built so, or (from its forward pass) something needs a tensor's value.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode, _said_clearly(target):
            program = resolve(target, options)
    except _ValueNeeded:
        with torch.device("meta"), _said_clearly(target):
            program = _swapped(resolve(target, options), mode)
    forward = program.forward

    def predicted() -> Any:
        with _said_clearly(target), user_code(target, "the forward pass"), mode:
            return forward()

    return replace(program, forward=predicted, options={"device": "meta", **program.options})


def _swapped(program: Program, mode: FakeTensorMode) -> Program:
    subject = program.subject
    if subject is None:
        return program
    swap = _Swap(mode)
    if isinstance(subject.module, torch.nn.Module):
        swap.module(subject.module)
    subject = replace(subject, args=swap.value(tuple(subject.args)), kwargs=swap.value(dict(subject.kwargs)))
    return replace(subject_program(subject), options=program.options)


def without_workspaces(graph: GradGraph, storages: Collection[int] = ()) -> tuple[GradGraph, frozenset[int]]:
    """The predicted graph, in which the sizes of working memory are not known rather than 0.

    Args:
        storages: some of its storages, by number; they are returned by their new numbers.
    """
    saved: list[SavedTensor] = []
    numbers: dict[int, int] = {}  # of the storages that are left, in the order of their first use
    for item in graph.saved:
        if _WORKSPACES.get(graph.nodes[item.node].op) == item.slot:
            saved.append(_without_size(item))
        elif item.storage is None:
            saved.append(item)
        else:
            saved.append(item._replace(storage=numbers.setdefault(item.storage, len(numbers))))
    honest = GradGraph(
        graph.nodes, graph.edges, saved, graph.inputs, graph.outputs, graph.meta, graph.sources, graph.calls
    )
    return honest, frozenset(numbers[storage] for storage in storages if storage in numbers)


def _without_size(item: SavedTensor) -> SavedTensor:
    return item._replace(shape=None, view_bytes=None, storage=None, storage_bytes=None)


class _ValueNeeded(TargetError):
    """Something needs a tensor's value."""


@contextlib.contextmanager
def _said_clearly(target: Target) -> Iterator[None]:
    """Turn a failure for want of data into one clear line."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, TargetError) else error
        without_value = (DataDependentOutputException, DynamicOutputShapeException)
        on_meta = isinstance(cause, RuntimeError) and "meta tensor" in str(cause).lower()
        if not isinstance(cause, without_value) and not on_meta:
            raise
        place = re.search(r" failed at (\S+:\d+): ", str(error))
        where = f" at {place[1]}" if place else ""
        raise _ValueNeeded(
            f"{target.text}: a tensor's value is needed{where}, and there is none with --device meta; run it without"
        ) from error


class _Swap:
    """Puts fake tensors of the CPU in the place of others; one tensor is swapped for one."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self.made: dict[int, torch.Tensor] = {}
        self.held: list[torch.Tensor] = []  # id() is a safe key only as long as they live

    def module(self, module: torch.nn.Module) -> None:
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = self.tensor(tensor)  # type: ignore[assignment]
            for name, value in list(vars(part).items()):
                if name in ("_parameters", "_buffers", "_modules"):
                    continue
                swapped = self.value(value)
                if swapped is not value:
                    vars(part)[name] = swapped

    def value(self, value: Any, nesting: int = 20) -> Any:
        """The value with its tensors swapped, at any depth; the very same one where it holds none."""
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if not nesting:
            return value
        if type(value) in (list, tuple):
            items = [self.value(item, nesting - 1) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return type(value)(items)
        if type(value) is dict:
            found = {key: self.value(item, nesting - 1) for key, item in value.items()}
            return value if all(found[key] is value[key] for key in value) else found
        return value

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        found = self.made.get(id(tensor))
        if found is None:
            self.held.append(tensor)
            found = self.made[id(tensor)] = self._fake(tensor)
        return found

    def _fake(self, tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        if tensor.is_meta:
            make: Callable[..., torch.Tensor] = FakeTensor
            fake = make(self.mode, plain, torch.device("cpu"))
        else:
            fake = self.mode.from_tensor(plain)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(fake, tensor.requires_grad)
        return fake.requires_grad_(tensor.requires_grad)

"""The state that a run begins with: what is needed to make the same run again, and to leave no trace of it."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler

from graphlens.capture.program import Program

_MOST_NESTING = 5
_MOST_ITEMS = 100_000
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = (*_MAPPINGS, list, set, deque)
# Objects whose attributes change from step to step.
_STEPPED = (torch.nn.Module, torch.optim.Optimizer, LRScheduler)
_GENERATORS = (torch.Generator, random.Random, numpy.random.Generator, numpy.random.RandomState)


@dataclass(frozen=True)
class _Tensor:
    """A leaf tensor with its values, its flag, and its gradient, all as they were."""

    tensor: torch.Tensor
    value: torch.Tensor
    requires_grad: bool
    grad: torch.Tensor | None
    grad_value: torch.Tensor | None
    grad_version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Tensor:
        grad = tensor.grad if tensor.is_leaf else None
        # A tensor that became part of a graph requires a gradient on that account; as a leaf it did not.
        return cls(
            tensor,
            unexpanded(tensor.detach()).clone(),
            tensor.requires_grad and tensor.is_leaf,
            grad,
            None if grad is None else grad.detach().clone(),
            0 if grad is None else grad._version,
        )

    def restore(self) -> None:
        tensor = self.tensor
        if not tensor.is_leaf:
            with contextlib.suppress(RuntimeError):  # a view stays part of its graph
                tensor.detach_()
        # What shares memory within itself in another way than by expand() cannot be written.
        with torch.no_grad(), contextlib.suppress(RuntimeError):
            place = unexpanded(tensor.data)
            if place.shape == self.value.shape and not tensor.is_inference():
                place.copy_(self.value)
        if tensor.is_leaf:
            tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad
            if self.grad is not None and self.grad_value is not None and self.grad._version != self.grad_version:
                with torch.no_grad(), contextlib.suppress(RuntimeError):
                    self.grad.detach().copy_(self.grad_value)


@dataclass(frozen=True)
class _Items:
    """What a list, a dictionary or a set held, or an object as its attributes."""

    container: Any
    items: Any

    @classmethod
    def of(cls, container: Any) -> _Items:
        return cls(container, list(container.items()) if isinstance(container, dict) else list(container))

    def restore(self) -> None:
        container, now = self.container, _Items.of(self.container).items
        if len(now) == len(self.items) and all(map(_same, now, self.items)):
            return
        container.clear()
        if isinstance(container, dict):
            for key, item in self.items:
                container[key] = item
        elif isinstance(container, set):
            container.update(self.items)
        else:
            container.extend(self.items)


def _same(one: Any, two: Any) -> bool:
    return one is two or (isinstance(one, tuple) and len(one) == len(two) == 2 and all(map(_is, one, two)))


def _is(one: object, two: object) -> bool:
    return one is two


@dataclass(frozen=True)
class Start:
    """The state before a first run.

    Put back are: leaves, buffers and other tensors that modules hold, with their gradients; the
    attributes of modules, of the optimizers and schedulers that they hold, and what is in their
    lists and dictionaries; and the generators of random numbers of torch (on the CPU), Python and
    NumPy. State that is kept elsewhere, as in a global variable or an iterator, is not. A buffer
    that a run wrote its graph into keeps the values and loses the graph.
    """

    tensors: Sequence[_Tensor]
    attributes: Sequence[tuple[object, type, _Items]]
    containers: Sequence[_Items]
    random: Sequence[Callable[[], object]]
    generators: Sequence[Any]

    @classmethod
    def of(cls, program: Program) -> Start:
        """The state now."""
        found = _Found()
        for tensor in program.leaves.values():
            found.visit(tensor)
        if program.subject is not None:
            for item in _holders(program.subject.module):
                found.visit(item)
        return cls._taken(found.tensors, found.objects, found.containers, found.generators)

    @classmethod
    def _taken(
        cls, tensors: Iterable[torch.Tensor], objects: Iterable[object], containers: Iterable[Any],
        generators: Sequence[Any],
    ) -> Start:  # fmt: skip
        return cls(
            [_Tensor.of(tensor) for tensor in tensors],
            [(item, type(item), _Items.of(vars(item))) for item in objects],
            [_Items.of(container) for container in containers],
            [_state_of(generator) for generator in (None, *generators)],
            generators,
        )

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The same state for the length of the block; afterwards things are as they were."""
        now = Start._taken(
            [item.tensor for item in self.tensors],
            [item for item, _, _ in self.attributes],
            [item.container for item in self.containers],
            self.generators,
        )
        try:
            self._restore()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # each was given in the first run
                yield
        finally:
            now._restore()

    def _restore(self) -> None:
        for item, kind, attributes in self.attributes:
            if type(item) is kind:  # a lazy module becomes another one at its first call
                attributes.restore()
        for container in self.containers:
            container.restore()
        for tensor in self.tensors:
            tensor.restore()
        for put_back in self.random:
            put_back()


class _Found:
    """The tensors, containers, objects and generators that a subject holds, each once."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.objects: list[object] = []
        self.containers: list[Any] = []
        self.generators: list[Any] = []
        self._seen: dict[int, object] = {}

    def visit(self, item: object, nesting: int = _MOST_NESTING) -> None:
        waiting = [(item, nesting)]
        while waiting:
            item, nesting = waiting.pop()
            if id(item) in self._seen:
                continue
            if isinstance(item, torch.Tensor):
                self._seen[id(item)] = item
                if item.is_leaf and not is_lazy(item):
                    self.tensors.append(item)
            elif isinstance(item, _GENERATORS):
                self._seen[id(item)] = item
                self.generators.append(item)
            elif isinstance(item, _STEPPED):
                self._seen[id(item)] = item
                lazy = isinstance(item, torch.nn.Module) and any(map(is_lazy, item.parameters(recurse=False)))
                if not lazy:
                    self.objects.append(item)
                if isinstance(item, torch.nn.Module):
                    waiting.extend((tensor, 0) for tensor in item.buffers())
                    waiting.extend((module, _MOST_NESTING) for module in item.children())
                if not lazy:
                    waiting.extend((value, _MOST_NESTING) for value in vars(item).values())
            elif type(item) in _CONTAINERS and nesting and len(item) <= _MOST_ITEMS:  # type: ignore[arg-type]
                self._seen[id(item)] = item
                self.containers.append(item)
                inside = item.values() if isinstance(item, dict) else item
                waiting.extend((value, nesting - 1) for value in inside)  # type: ignore[attr-defined]


def _holders(module: object) -> list[object]:
    """A module; or what a function carries with it."""
    if isinstance(module, torch.nn.Module):
        return [module]
    held = [getattr(module, "__self__", None)]
    for cell in getattr(module, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            held.append(cell.cell_contents)
    return held


def _state_of(generator: Any) -> Callable[[], object]:
    """What puts a generator back into its present state; None stands for those that everybody shares."""
    if generator is None:
        shared, python, numbers = torch.get_rng_state(), random.getstate(), numpy.random.get_state()

        def put_back() -> None:
            torch.set_rng_state(shared)
            random.setstate(python)
            numpy.random.set_state(numbers)

        return put_back
    if isinstance(generator, torch.Generator):
        kept = generator.get_state()
        return lambda: generator.set_state(kept)
    if isinstance(generator, random.Random):
        state = generator.getstate()
        return lambda: generator.setstate(state)
    if isinstance(generator, numpy.random.RandomState):
        older = generator.get_state()
        return lambda: generator.set_state(older)
    bits = generator.bit_generator.state
    return lambda: setattr(generator.bit_generator, "state", bits)


def unexpanded(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor less the dimensions along which one place in memory is repeated."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return tensor
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor

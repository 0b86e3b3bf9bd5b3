"""Names of modules, and the stack of their calls."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import Any

import torch

import graphlens
from graphlens.capture.module_calls import ModuleNames, ModuleStack
from graphlens.graph import ModuleCall


def calls_of(module: Any, *args: Any) -> list[ModuleCall]:
    graph = graphlens.trace(module, *args).graph
    assert graph is not None
    return list(graph.calls)


def paths(module: Any, *args: Any) -> list[str]:
    return [call.path for call in calls_of(module, *args)]


def x() -> torch.Tensor:
    return torch.ones(2, 3, requires_grad=True)


def test_nested_modules_and_their_callers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Tanh()))

    assert calls_of(model, x()) == [
        ModuleCall("", "Sequential", 1),
        ModuleCall("0", "Linear", 1, 0),
        ModuleCall("1", "Sequential", 1, 0),
        ModuleCall("1.0", "Tanh", 1, 2),
    ]


def test_calls_of_one_module_are_counted() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x))

    assert [(call.path, call.number) for call in calls_of(Twice(), x())] == [("", 1), ("fc", 1), ("fc", 2)]


def test_modules_of_a_function_are_named_by_their_class() -> None:
    one, two = torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Linear(3, 3))

    assert paths(lambda x: one(two(one(x))), x()) == ["Linear", "Sequential", "Sequential.0", "Linear"]
    assert paths(lambda x: torch.nn.Linear(3, 3)(one(x)), x()) == ["Linear", "Linear#2"]


def test_modules_in_a_plain_list() -> None:
    class Listed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = [torch.nn.Sequential(torch.nn.Linear(3, 3)) for _ in range(2)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for module in (*self.kept, self.kept[0]):
                x = module(x)
            return x

    model = torch.nn.Sequential(Listed())
    assert paths(model, x())[2:] == [
        "0.(Sequential)", "0.(Sequential).0",
        "0.(Sequential#2)", "0.(Sequential#2).0",
        "0.(Sequential)", "0.(Sequential).0",
    ]  # fmt: skip
    assert paths(Listed(), x())[1:3] == ["(Sequential)", "(Sequential).0"]


def test_a_module_that_forward_adds_has_the_name_that_it_is_given() -> None:
    class Lazy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.late = torch.nn.Sequential(torch.nn.Linear(3, 3))
            return self.late(x)

    assert paths(torch.nn.Sequential(Lazy()), x())[2:] == ["0.late", "0.late.0"]


def test_a_shared_module_is_named_below_its_caller() -> None:
    shared = torch.nn.Linear(3, 3)
    model = torch.nn.ModuleDict({"a": torch.nn.Sequential(shared), "b": torch.nn.Sequential(shared)})

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model
            self.direct = shared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts["b"](self.parts["a"](self.direct(x)))

    assert paths(Both(), x())[1:] == ["direct", "parts.a", "parts.a.0", "parts.b", "parts.b.0"]


def test_a_failing_module_is_left() -> None:
    class Fails(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("planted")

    class Catches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = torch.nn.Sequential(Fails())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.deep(x)
            except ValueError:
                return x.exp()

    graph = graphlens.trace(Catches(), x()).graph
    (exp,) = [node for node in graph.nodes if node.op == "ExpBackward0"]
    assert graph.calls[exp.call].path == ""


def test_a_forward_that_yields() -> None:
    class Yields(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(3))

        def forward(self, x: torch.Tensor) -> Any:
            for layer in self.layers:
                x = layer(x)
                yield x

    class Sums(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Yields()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return sum(y.sum() for y in self.inner(x))

    calls = calls_of(Sums(), x())
    assert [call.path for call in calls] == ["", "inner", "inner.layers.0", "inner.layers.1", "inner.layers.2"]
    assert [call.caller for call in calls] == [None, 0, 0, 0, 0]  # inner has returned before its layers run


def test_no_module_is_kept_alive() -> None:
    names = ModuleNames(None)
    stack = ModuleStack(names, [], Counter())
    module = torch.nn.Sequential(torch.nn.Linear(3, 3))
    gone = weakref.ref(module[0])
    stack.enter(module, 0)
    assert stack.leave(module) == (0, 0)
    del module
    gc.collect()
    assert gone() is None


def test_ids_that_are_used_again() -> None:
    names = ModuleNames(None)
    seen = []
    for _ in range(20):
        module = torch.nn.Tanh()
        seen.append(names.path(module, None))
        del module
    assert len(set(seen)) == 20


def test_leaving_a_module_that_was_not_entered_changes_nothing() -> None:
    stack = ModuleStack(ModuleNames(None), [], Counter())
    entered, other = torch.nn.Tanh(), torch.nn.Tanh()
    stack.enter(entered, 5)
    assert stack.leave(other) is None
    assert stack.open == 0
    assert stack.leave(entered) == (0, 5)
    assert stack.open is None


def test_modules_that_compare_equal_are_two() -> None:
    class Equal(torch.nn.Tanh):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = torch.nn.Module.__hash__

    names = ModuleNames(None)
    one, two = Equal(), Equal()
    assert (names.path(one, None), names.path(two, None)) == ("Equal", "Equal#2")

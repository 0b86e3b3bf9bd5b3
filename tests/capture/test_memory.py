"""The curve of what is kept, against finalizers of what autograd holds; and what a process really grows by."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import graphlens
from graphlens.analyses.memory import Memory, backward_order, memory_of
from graphlens.capture import growing
from graphlens.capture.backward import time_nodes
from graphlens.capture.growing import Growing, measure_growth
from graphlens.capture.memory import persistent_storages
from graphlens.capture.program import cleared_gradients, run_backward, subject_program
from graphlens.capture.walk import walk
from graphlens.graph import GradGraph
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject
from tests.capture.test_cost import MODELS as COST_MODELS
from tests.capture.test_meta import llama


def branches() -> Subject:
    """Storages that several nodes keep, views that pin more than they show, and one that lives to the end."""

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a = x.exp()
        b = a[:2].sin() * a[1:3]
        c = (a @ y).tanh()
        d = c.softmax(0)
        return (b.sum() + (c * d).sum() + d.log().sum()).exp()

    return Subject(forward, (torch.rand(5, 5, requires_grad=True), torch.rand(5, 5, requires_grad=True)))


SUBJECTS: dict[str, Callable[[], Subject]] = {
    **COST_MODELS,
    "llama": llama,
    "branches": branches,
    "wasteful": lambda: FACTORIES["wasteful"](n=50),
    "severed": lambda: FACTORIES["severed"](n=5),
}


class Held:
    """What autograd keeps in the place of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Oracle:
    """Bytes of distinct storages that autograd holds, as its own hooks and Python's finalizers tell it."""

    def __init__(self, subject: Subject) -> None:
        self.counts: dict[int, int] = {}
        self.live = 0
        program = subject_program(subject)
        # What is there before the pass.
        gc.collect()
        self.there = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
        self.before = {self.key(tensor) for tensor in self.there if type(tensor) in (torch.Tensor, torch.nn.Parameter)
                       and tensor.layout is torch.strided}  # fmt: skip
        with saved_tensors_hooks(self.pack, lambda held: held.tensor):
            made = program.forward()
        found = walk(torch.autograd.graph.get_gradient_edge(tensor).node for tensor in made.roots.values())
        self.order: list[int] = []
        self.curve: list[int] = []
        for number, node in enumerate(found.nodes):
            node.register_prehook(self.hook(number))
        with cleared_gradients(program.leaves.values()):
            run_backward(made.roots, program.leaves)
        self.curve.append(self.live)

    @staticmethod
    def key(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def hook(self, number: int) -> Callable[[object], None]:
        def hook(_: object) -> None:
            self.order.append(number)
            self.curve.append(self.live)

        return hook

    def pack(self, tensor: torch.Tensor) -> Held:
        held = Held(tensor.detach())  # or a result would keep the node that keeps it
        key = self.key(tensor)
        if key not in self.before:
            size = tensor.untyped_storage().nbytes()
            self.live += 0 if self.counts.get(key) else size
            self.counts[key] = self.counts.get(key, 0) + 1
            weakref.finalize(held, self.gone, key, size)
        return held

    def gone(self, key: int, size: int) -> None:
        self.counts[key] -= 1
        self.live -= 0 if self.counts[key] else size


def captured(subject: Subject) -> tuple[GradGraph, Memory]:
    torch.manual_seed(0)
    program = subject_program(subject)
    graph = graphlens.trace(subject, backward=False).graph
    assert graph is not None
    persistent = set(persistent_storages(program, graph))
    # Saved-tensor hooks do not see the numbers of Python that are kept as tensors.
    numbers = {
        item.storage
        for item in graph.saved
        if (item.shape, item.role) == ((), "constant") and not item.slot.startswith("total_weight")
    }
    keys = [node.op for node in graph.nodes]
    return graph, memory_of(graph, keys, persistent={*persistent, *(n for n in numbers if n is not None)})


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_curve_is_that_of_what_autograd_holds(name: str) -> None:
    if name in ("gpt2", "vit", "llama"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    subject = SUBJECTS[name]()
    graph, memory = captured(subject)
    oracle = Oracle(subject)

    assert backward_order(graph) == oracle.order
    assert list(memory.backward) == oracle.curve
    assert memory.backward[0] == memory.kept == memory.forward[-1] > 0
    assert memory.backward[-1] == 0


@pytest.mark.parametrize("name", ["gpt2", "resnet", "lstm", "wasteful", "branches"])
def test_the_order_is_that_of_the_engine(name: str) -> None:
    if name == "gpt2":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    subject = SUBJECTS[name]()
    graph = graphlens.trace(subject).graph
    assert graph is not None

    assert backward_order(graph) == list(time_nodes(subject_program(subject), graph, 1).order)


def test_buffers_and_cached_constants_are_in_memory_anyway() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(4))
            self.register_buffer("scale", torch.rand(4))
            self.cached = torch.rand(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.weight * self.scale * self.cached).exp() * torch.rand(4)

    subject = Subject(Model(), (torch.rand(4, requires_grad=True),))
    _, memory = captured(subject)

    # weight and x; scale; cached. Kept: the result of exp, and the random numbers. 4 numbers of 4 bytes each
    assert memory.anyway == 4 * 16
    assert memory.kept == 2 * 16


def test_an_attribute_of_ctx_is_kept_until_the_graph_is_gone() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.kept = x * 2
            return x * 3

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return grad * 3

    _, memory = captured(Subject(lambda x: Own.apply(x).exp(), (torch.rand(8, requires_grad=True),)))

    assert memory.kept == 2 * 32
    assert memory.backward[-1] == 32


# What a process grows by

GROWTH = """
import torch

def big(*, n=20, size=250_000):
    x = torch.ones(size, requires_grad=True)
    def forward(x):
        for _ in range(n):
            x = x.sin()
        return x.sum()
    return forward, (x,)

def small():
    x = torch.ones(3, requires_grad=True)
    def forward(x):
        for _ in range(50):
            x = x.sin()
        return x.sum()
    return forward, (x,)

def finished():
    print("planted print")
    return torch.ones(1000, requires_grad=True).exp().sum()

def detached():
    return (lambda x: x * 2), (torch.ones(3),)
"""

has_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing is measured without /proc")


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grow.py").write_text(GROWTH)


@has_proc
@pytest.mark.usefixtures("targets")
def test_the_process_runs_beside_and_is_ended_where_nobody_waits_for_it() -> None:
    with Growing("grow.py:small", ()) as growing:
        process = growing.process
        assert process is not None
        assert process.poll() is None  # it has hardly begun to load torch

    assert process.poll() is not None
    assert process.returncode != 0


@has_proc
@pytest.mark.usefixtures("targets")
def test_large_tensors_explain_the_growth() -> None:
    growth = measure_growth("grow.py:big", ("n=10",))

    assert growth.pass_bytes is not None
    # cos(x) keeps each of the 9 results that sin was taken of; the first is the input.
    assert growth.pass_bytes == pytest.approx(9 * 1_000_000, rel=0.1)
    assert growth.low is not None
    assert growth.high is not None
    assert growth.low <= growth.pass_bytes <= growth.high
    assert (growth.reason, growth.makes_leaves) == ("", False)


@has_proc
@pytest.mark.usefixtures("targets")
def test_nodes_and_objects_are_most_of_a_small_graph() -> None:
    growth = measure_growth("grow.py:small", ())

    assert growth.pass_bytes is not None
    assert growth.passes > 10
    # 51 nodes, and 50 tensors of 12 bytes that the allocator gives 64 or more
    assert 51 * 200 < growth.pass_bytes < 51 * 5_000


@has_proc
@pytest.mark.usefixtures("targets")
def test_factories_of_finished_tensors_make_their_leaves_too() -> None:
    growth = measure_growth("grow.py:finished", ())

    assert growth.makes_leaves
    assert growth.pass_bytes is not None
    assert growth.pass_bytes >= 8000


@pytest.mark.usefixtures("targets")
def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if growing.resident() is not None:
        assert measure_growth("grow.py:detached", ()).reason == "there is no backward graph"
        assert "has no option 'm'" in measure_growth("grow.py:big", ("m=1",)).reason
        with monkeypatch.context() as patch:
            patch.setattr(growing.sys, "executable", "/nowhere/python")
            assert "no process could be started" in measure_growth("grow.py:small", ()).reason
    monkeypatch.setattr(growing, "resident", lambda: None)
    growth = measure_growth("grow.py:small", ())
    assert (growth.pass_bytes, growth.reason) == (None, "this system has no /proc")

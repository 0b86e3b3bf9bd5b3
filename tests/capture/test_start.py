"""The state that a run begins with, put back for further runs; and afterwards as one run left it."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import numpy
import pytest
import torch

import graphlens
from graphlens.capture.program import subject_program
from graphlens.capture.start import Start
from graphlens.subject import Subject


class Training(torch.nn.Module):
    """Trains its head inside forward, counts, keeps a history, and loses its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.5)
        self.steps, self.history, self.seen = 0, [], {"last": 0.0}
        self.state = torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.late = self.steps
        self.history.append(self.steps)
        self.seen["last"] = float(self.steps)
        self.head(x).mean().backward()
        self.optimizer.step()
        self.schedule.step()
        h = self.encoder(x)
        self.state += h.detach().mean(0)
        return self.head(x + self.state).mean() * h.mean().item()


def told(module: Training) -> dict[str, Any]:
    kept = module.optimizer.state[module.head.weight]
    return {
        "steps": module.steps, "late": module.late, "history": list(module.history), "seen": dict(module.seen),
        "state": module.state.tolist(), "head": module.head.weight.tolist(), "grad": module.head.bias.grad.tolist(),  # type: ignore[union-attr]
        "encoder": module.encoder.weight.grad, "average": kept["exp_avg"].tolist(), "taken": kept["step"].item(),
        "rate": module.optimizer.param_groups[0]["lr"], "last_epoch": module.schedule.last_epoch,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_a_forward_pass_that_trains_is_left_as_one_run_leaves_it() -> None:
    torch.manual_seed(0)
    module, bare = Training(), Training()
    bare.load_state_dict(module.state_dict())
    x = torch.randn(3, 4)
    bare(x)
    trace = graphlens.trace(module, x, diagnose=True)

    assert [item.code for item in trace.findings if item.level == "error"] == ["GL101", "GL101"]  # .detach(), .item()
    assert set(trace.observation.dependence) == {"encoder.weight", "encoder.bias"}
    assert told(module) == told(bare)


class Drawing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sources = [random.Random(1), numpy.random.default_rng(1), numpy.random.RandomState(1)]
        self.torch = torch.Generator().manual_seed(1)
        self.kept: Any = (deque([1]), Counter("a"), {1})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = [random.random(), numpy.random.rand(), torch.rand(()).item()]
        drawn += [self.sources[0].random(), self.sources[1].random(), self.sources[2].rand()]
        drawn.append(torch.rand((), generator=self.torch).item())
        return x * torch.tensor(drawn)


def test_all_generators_of_random_numbers_begin_anew() -> None:
    x = torch.ones((), requires_grad=True)
    program = subject_program(Subject(Drawing(), (x,)))
    start = Start.of(program)

    def drawn() -> list[float]:
        return program.forward().outputs["output"].tolist()

    first, second = drawn(), drawn()
    assert all(a != b for a, b in zip(first, second, strict=True))
    with start.again():
        assert drawn() == first
        assert drawn() == second
    third = drawn()
    with start.again():
        assert [drawn(), drawn(), drawn()] == [first, second, third]


def test_containers_of_every_kind_are_filled_as_they_were() -> None:
    class Keeps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[Any] = [deque([1]), Counter("a"), {1}, {"a": [1]}]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            line, count, numbers, words = self.kept
            line.append(2)
            count["b"] += 1
            numbers.add(len(line))
            words["a"].append(2)
            words["b"] = 1
            return x * len(line)

    module = Keeps()
    program = subject_program(Subject(module, (torch.ones((), requires_grad=True),)))
    start = Start.of(program)
    program.forward()
    with start.again():
        assert module.kept == [deque([1]), Counter("a"), {1}, {"a": [1]}]
        program.forward()
        program.forward()
    assert module.kept == [deque([1, 2]), Counter("ab"), {1, 2}, {"a": [1, 2], "b": 1}]


def test_a_gradient_that_was_written_to_is_the_same_object_with_the_same_numbers() -> None:
    w = torch.ones(2, requires_grad=True)
    w.grad = kept = torch.full((2,), 7.0)
    program = subject_program(Subject(lambda x: x * 2, (w,)))
    start = Start.of(program)
    w.grad.add_(1)
    with start.again():
        assert w.grad is kept
        assert kept.tolist() == [7, 7]
        w.grad = None
    assert w.grad is kept
    assert kept.tolist() == [8, 8]

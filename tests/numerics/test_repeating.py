"""Programs with hidden state, planted: the first op that makes a difference is found, and none where there is none."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphlens
from graphlens.accuracy import Accuracy, Difference, Repeat
from graphlens.analyses.findings import Finding
from graphlens.analyses.rounding.repeating import differences
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Call, Ref, Tape
from graphlens.capture.trace import observe
from graphlens.graph import GradGraph
from graphlens.numerics.repeating import held_together, measure_repeat, same_bits
from graphlens.subject import Subject
from tests.numerics import narrow_models as models

calls = itertools.count()


@torch.library.custom_op("graphlens_planted::drifting", mutates_args=())
def drifting(x: torch.Tensor) -> torch.Tensor:
    """The sine, a little off in the first entry, and every time by another amount."""
    made = x.sin()
    made[0] += 2.0**-20 * (next(calls) + 1)
    return made


drifting.register_autograd(
    lambda ctx, grad: grad * ctx.saved_tensors[0].cos(),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


def graph_and_repeat(run: Callable[..., Any], *args: torch.Tensor) -> tuple[GradGraph, Repeat]:
    program = subject_program(Subject(run, args))
    graph = observe(program).graph
    assert graph is not None
    return graph, measure_repeat(program, graph)


def numbers() -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 4, dtype=torch.float64).requires_grad_()


def finding_of(graph: GradGraph, repeat: Repeat) -> Finding:
    (found,) = differences(Accuracy(graph, "exact", 128, 2.0**-53, (), (), repeats=repeat))
    return found


def test_an_op_with_hidden_state_is_named_with_its_line() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y = drifting(y)  # the line
        return (y * y.exp()).sum()

    graph, repeat = graph_and_repeat(run, numbers())

    assert (repeat.kind, repeat.name) == ("result", "graphlens_planted::drifting")
    assert (repeat.entries, repeat.differing, repeat.origins) == (4, 1, 1)
    assert repeat.difference == 2.0**-20
    assert repeat.size == pytest.approx(math.sin(1.8), rel=1e-12)
    assert [item.label for item in repeat.results] == ["output", "gradient of x"]
    found = finding_of(graph, repeat)
    assert (found.code, found.level) == ("GL308", "warning")
    assert "drifting makes numbers of the same inputs that differ by up to 9.5e-07, in 1 of 4 entries" in found.claim
    assert "test_repeating.py" in found.where.source
    assert "the line" in found.where.text
    assert "deterministic_algorithms" in found.fix


def test_two_such_ops_are_counted() -> None:
    _, repeat = graph_and_repeat(lambda x: drifting(x) + drifting(x + 1) + drifting(drifting(x)), numbers())

    assert repeat.origins == 3  # the fourth one reads what differs already


def test_noise_from_outside_is_data_that_no_op_made() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        noise = np.frombuffer(os.urandom(4), dtype=np.uint8) / 256.0
        return (x * 2 + torch.from_numpy(noise)).sin().sum()  # reads the noise

    graph, repeat = graph_and_repeat(run, numbers())

    assert (repeat.kind, repeat.name) == ("source", "add")
    assert 0 < repeat.difference < 1
    found = finding_of(graph, repeat)
    assert "reads the noise" in found.where.text
    assert "add reads data that no op made and that differ by up to" in found.claim


def test_a_number_that_python_makes_is_told_with_both_of_its_values() -> None:
    changing = itertools.count(3)
    graph, repeat = graph_and_repeat(lambda x: (x * next(changing)).sum(), numbers())

    assert (repeat.kind, repeat.name) == ("argument", "mul")
    assert isinstance(repeat.first, int)
    assert repeat.second == repeat.first + 1
    assert f"one calls mul with {repeat.first} where the other has {repeat.second}" in finding_of(graph, repeat).claim


def test_another_op_is_told_with_its_name() -> None:
    turns: Iterator[int] = itertools.count()

    def run(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        return (y.sin() if next(turns) % 2 else y.cos()).sum()

    graph, repeat = graph_and_repeat(run, numbers())

    assert repeat.kind == "op"
    assert {repeat.first, repeat.second} == {"sin", "cos"}
    assert repeat.op == 1
    assert f"one calls {repeat.first} where the other calls {repeat.second}" in finding_of(graph, repeat).claim


def test_a_run_that_ends_early_is_told() -> None:
    turns = itertools.count()

    def run(x: torch.Tensor) -> torch.Tensor:
        y = (x * 2).sum()
        if next(turns) % 2:
            (x * 3).detach().sum()
        return y.detach()

    program = subject_program(Subject(run, (numbers(),)))
    repeat = measure_repeat(program, None)
    claim = finding_of(GradGraph([], []), repeat).claim

    assert repeat.kind == "op"
    assert repeat.results == ()
    assert "no output and no gradient differs" in claim
    assert finding_of(GradGraph([], []), repeat).level == "info"


def test_a_generator_that_nobody_puts_back_is_told_as_one() -> None:
    generator = {"held": (torch.Generator(),)}  # deeper than state is looked for

    class Holder:
        def __init__(self) -> None:
            self.inner = generator

    holder = Holder()
    graph, repeat = graph_and_repeat(
        lambda x: (x + torch.rand(4, generator=holder.inner["held"][0], dtype=torch.float64)).sum(), numbers()
    )

    assert (repeat.kind, repeat.random) == ("result", True)
    found = finding_of(graph, repeat)
    assert "draws random numbers that differ by up to" in found.claim
    assert found.fix.startswith("seed the generator")


SILENT: tuple[Callable[[], Subject], ...] = (
    models.gpt2_in_training, models.convolutions, models.lstm, models.normalisations, models.autocast, models.fourier,
)  # fmt: skip


@pytest.mark.parametrize("model", SILENT, ids=lambda model: model.__name__)
def test_models_are_the_same_twice_with_dropout_and_running_moments(model: Callable[[], Subject]) -> None:
    program = subject_program(models.made(model))
    graph = observe(program).graph
    assert graph is not None
    repeat = measure_repeat(program, graph)

    assert repeat.kind == "same", repeat
    assert repeat.results == ()
    assert repeat.ops > 10
    assert differences(Accuracy(graph, "exact", 128, 2.0**-53, (), (), repeats=repeat)) == []


def test_state_of_modules_is_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return (x * self.calls + np.random.rand()).sum()

    module = Counting()
    program = subject_program(Subject(module, (numbers(),)))
    module.calls = 5
    repeat = measure_repeat(program, None)

    assert repeat.kind == "same"
    assert module.calls == 5


def test_memory_that_nothing_was_written_to_is_not_compared() -> None:
    """Its bits are whatever was there before."""


    def tape(bits: float, function: Any) -> Tape:
        found = [torch.full((2,), bits), torch.full((2, 1), bits)]
        made = Call(function, ([2],), {}, (0,))
        return Tape([made, Call(torch.ops.aten.view.default, (Ref(0), [2, 1]), {}, (1,))], found)

    empty, full = torch.ops.aten.empty.memory_format, torch.ops.aten.rand.default

    assert held_together(tape(7.0, empty), tape(9.0, empty)).kind == "same"
    assert held_together(tape(7.0, full), tape(9.0, full)).kind == "result"


def test_bits_are_compared_and_not_numbers() -> None:
    nan, other = torch.tensor([math.nan]), torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)

    assert same_bits(nan, nan.clone())
    assert not same_bits(nan, other)
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(2), torch.zeros(1))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert same_bits(torch.zeros(0), torch.zeros(0))
    assert same_bits(torch.ones(2, 2).T, torch.ones(2, 2))


def test_a_gradient_that_one_run_alone_has_differs() -> None:
    one, two = (Tape(tensors=[torch.ones(2)], sources=[0], gradients=found) for found in ({"x": 0}, {}))

    assert held_together(one, two).results == (Difference("x", "gradient", math.inf, 0.0),)


def test_nothing_is_said_where_no_second_run_was_made() -> None:
    graph = graphlens.capture(numbers().sum())

    assert differences(Accuracy(graph, "exact", 128, 2.0**-53, (), ())) == []

"""What timing each node costs, and whether the nodes' times are the backward pass. Nothing here gates the tests."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.backward import NodeTimes, time_nodes
from graphlens.capture.program import cleared_gradients, run_backward, subject_program
from graphlens.collector import paused_collector
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject

MOST = 1.7  # times the plain backward pass, with hooks
OFF = 0.15  # of the plain backward pass


def times_of(subject: Subject, repeats: int) -> NodeTimes:
    graph = graphlens.trace(subject, backward=False).graph
    assert graph is not None
    return time_nodes(subject_program(subject), graph, repeats)


def plain_seconds(subject: Subject, repeats: int = 7) -> float:
    """Processor time of the backward pass, the median of some."""
    program = subject_program(subject)
    spent = []
    for _ in range(repeats):
        made = program.forward()
        with paused_collector(), cleared_gradients(program.leaves.values()):
            start = time.thread_time()
            run_backward(made.roots, program.leaves)
            spent.append(time.thread_time() - start)
    return statistics.median(spent)


def gpt2() -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens = torch.arange(64).reshape(1, 64)
    model = GPT2LMHeadModel(GPT2Config(n_layer=4, n_embd=256, n_head=4, vocab_size=1000)).eval()
    return Subject(model, (), {"input_ids": tokens, "labels": tokens})


def cells() -> Subject:
    cell = torch.nn.LSTMCell(32, 64)

    def forward(x: torch.Tensor) -> torch.Tensor:
        h = c = torch.zeros(4, 64)
        for step in x:
            h, c = cell(step, (h, c))
        return h

    return Subject(forward, (torch.randn(100, 4, 32, requires_grad=True),))


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "wasteful, n = 10,000": lambda: FACTORIES["wasteful"](n=10_000),
    "gpt2": gpt2,
    "lstm cells": cells,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine make the median of a sum another than the sum of medians."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_nodes_times_add_up_to_the_pass(benchmark: Any, name: str) -> None:
    times = benchmark.pedantic(times_of, setup=lambda: ((SUBJECTS[name](), 7), {}), rounds=1)
    processor = plain_seconds(SUBJECTS[name]())
    nodes = times.coverage * times.plain.median
    whole = nodes + (times.before + times.after) / 1e9
    benchmark.extra_info["nodes / plain backward"] = round(times.coverage, 3)
    benchmark.extra_info["nodes and engine / plain backward"] = round(whole / times.plain.median, 3)
    benchmark.extra_info["nodes and engine / plain backward, processor time"] = round(whole / processor, 3)
    benchmark.extra_info["× plain backward"] = round(times.hooked.median / times.plain.median, 2)
    benchmark.extra_info["ns a hook"] = round(times.hook_ns)
    # Where other programs run, the clock of a pass counts their turns too, and medians of single nodes do not.
    assert abs(whole / processor - 1) < OFF
    assert times.hooked.median < MOST * times.plain.median

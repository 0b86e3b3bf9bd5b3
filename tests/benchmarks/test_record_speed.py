"""What recording costs: a recorded forward pass against the plain one, in turns."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphlens.capture.program import Program, recorder_of, subject_program
from graphlens.capture.release import drain
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject

MOST = 2.5  # times the plain forward pass


def seconds(program: Program, recorder: Any) -> float:
    gc.collect()
    with recorder:
        start = time.perf_counter()
        made = program.forward()
        spent = time.perf_counter() - start
    del made
    drain()
    return spent


def ratio(program: Program, rounds: int) -> float:
    """Medians of several rounds; the passes take turns, so that a machine that slows down slows down both."""
    for recorder in (contextlib.nullcontext(), recorder_of(program)):
        seconds(program, recorder)
    plain, recorded = [], []
    for _ in range(rounds):
        plain.append(seconds(program, contextlib.nullcontext()))
        recorded.append(seconds(program, recorder_of(program)))
    return statistics.median(recorded) / statistics.median(plain)


def gpt2() -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=200, n_positions=64, n_embd=64, n_layer=6, n_head=4, bos_token_id=0, eos_token_id=1)
    tokens = torch.arange(128).reshape(2, 64)
    return Subject(GPT2LMHeadModel(config), kwargs={"input_ids": tokens, "labels": tokens})


def in_place() -> Subject:
    def forward(x: torch.Tensor) -> torch.Tensor:
        whole = x.clone()
        for k in range(5_000):
            whole[k % 5].mul_(0.5)
        return whole

    return Subject(forward, (torch.ones(5, 5, requires_grad=True),))


SUBJECTS: dict[str, tuple[Callable[[], Subject], int]] = {
    "wasteful, n = 10,000": (lambda: FACTORIES["wasteful"](n=10_000), 9),
    "wasteful, n = 100,000": (lambda: FACTORIES["wasteful"](n=100_000), 3),
    "gpt2": (gpt2, 15),
    "in place": (in_place, 9),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_recorded_forward_against_the_plain_one(benchmark: Any, name: str) -> None:
    make, rounds = SUBJECTS[name]
    program = subject_program(make())
    found = ratio(program, rounds)
    benchmark.extra_info["× plain forward"] = round(found, 2)
    benchmark.pedantic(seconds, setup=lambda: ((program, recorder_of(program)), {}), rounds=3)
    if name == "wasteful, n = 10,000":
        assert found < MOST


def test_attribution_of_many_nodes(benchmark: Any) -> None:
    program = subject_program(FACTORIES["wasteful"](n=100_000))
    with recorder_of(program) as recorder:
        made = program.forward()
    claims = benchmark.pedantic(recorder.attribution, rounds=3)
    assert len(claims.origins) >= 300_000
    del made
    drain()

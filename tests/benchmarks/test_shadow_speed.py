"""GPT-2 in its smallest published size with random weights: the shares of its errors; and samples of the exercise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.program import subject_program
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import observe
from graphlens.numerics.attribution import attribute
from graphlens.numerics.reference import ShadowReference
from graphlens.numerics.sampling import sample
from graphlens.numerics.shadow import in_float64
from graphlens.numerics.study import Study, targets_of
from graphlens.subject import Subject


def test_the_shares_of_gpt2(benchmark: Any) -> None:
    """124 million parameters, 32 tokens; takes 15 GB of memory."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    tokens = torch.randint(0, 50257, (1, 32))
    program = subject_program(Subject(model, (), {"input_ids": tokens, "labels": tokens}))
    graph = observe(program).graph
    assert graph is not None
    tape = record_tape(program, graph)

    def shares() -> list[float]:
        study = Study(tape, graph, targets_of(tape), ShadowReference(tape, in_float64(tape)), exactly=False)
        found = [attribute(study, target) for target in study.targets if target.kind == "output"]
        assert all(not item.unmeasured and item.total for item in found)
        return [item.net / item.total for item in found if item.total]

    assert benchmark.pedantic(shares, rounds=1) == pytest.approx([1.0, 1.0], rel=0.02)
    assert benchmark.stats.stats.max < 240


def test_20_samples_of_1000_rounds(benchmark: Any) -> None:
    tape = record_tape(subject_program(graphlens.lesson("wasteful", n=1000)))
    found = benchmark.pedantic(sample, (tape, targets_of(tape)), rounds=1)

    assert all(item.runs == 20 for item in found.values())
    assert benchmark.stats.stats.max < 30

"""The exercise at full length: its exact reference, and the rounding of each of its calls, in at most 25 s each."""

from __future__ import annotations

from typing import Any

import pytest

import graphlens
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.exact import local_error, replay


@pytest.fixture(scope="module")
def tape() -> Tape:
    return record_tape(subject_program(graphlens.lesson("wasteful", n=10_000)))


def test_the_exact_reference(benchmark: Any, tape: Tape) -> None:
    wanted = {*tape.outputs.values(), *tape.roots.values(), *tape.gradients.values()}
    exact = benchmark.pedantic(replay, (tape,), {"wanted": wanted}, rounds=1)

    assert exact.is_tight
    assert not exact.values[tape.gradients["A"]].midpoint().any()
    assert benchmark.stats.stats.max < 25


def test_every_local_error(benchmark: Any, tape: Tape) -> None:
    def all_errors() -> int:
        made = 0
        for call in tape.calls:
            inputs = [tape.tensors[value] for value in call.inputs]
            outputs = [None if value is None else tape.tensors[value] for value in call.outputs]
            made += local_error(call, inputs, outputs) is not None
        return made

    assert benchmark.pedantic(all_errors, rounds=1) == len(tape.calls) > 200_000
    assert benchmark.stats.stats.max < 25

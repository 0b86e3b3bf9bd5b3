"""Programs that are compared take turns, and only the runs against the clock count."""

from __future__ import annotations

import time

import pytest
import torch

from graphlens.capture import timing
from graphlens.capture.program import Program, subject_program
from graphlens.capture.timing import time_programs
from graphlens.subject import Subject


def program(name: str, calls: list[str], seconds: float = 0.0) -> Program:
    x = torch.ones(2, requires_grad=True)

    def double(value: torch.Tensor) -> torch.Tensor:
        calls.append(name)
        time.sleep(seconds)
        return value * 2

    return subject_program(Subject(double, (x,), name=name))


def test_programs_take_turns_and_short_ones_run_once_more_before_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_SHORT", 0.3)  # what a pass of microseconds does not take on a busy machine either
    calls: list[str] = []
    timings = time_programs([program("short", calls), program("long", calls, 0.35)], 2)
    assert calls == ["short", "long"] + ["short", "short", "long"] * 2
    assert [(found.forward.repeats, found.backward.repeats) for found in timings] == [(2, 2), (2, 2)]
    assert timings[1].forward.min >= 0.35


def test_one_program_warms_up_once_unless_it_is_warm() -> None:
    calls: list[str] = []
    time_programs([program("one", calls)], 3)
    assert len(calls) == 1 + 3
    calls.clear()
    warm = program("one", calls)
    time_programs([warm], 3, is_warm=True)
    assert len(calls) == 3


def test_no_repeats_run_nothing() -> None:
    calls: list[str] = []
    (timings,) = time_programs([program("one", calls)], 0)
    assert (calls, timings.forward, timings.backward) == ([], None, None)

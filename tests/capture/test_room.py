"""What a run may take of the memory that is free, and what is said where it is too much."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import graphlens
from graphlens.capture import room as rooms
from graphlens.capture import tape_values
from graphlens.capture.program import subject_program
from graphlens.capture.room import room
from graphlens.capture.taping import record_tape
from graphlens.errors import MeasureError
from graphlens.explaining import explain_program
from graphlens.numerics import shadow
from graphlens.numerics.rounding import measure_accuracy
from graphlens.subject import Subject

MB = 1 << 20


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal:  200 kB\nMemAvailable:     100 kB\n")
    monkeypatch.setattr(rooms, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(rooms, "_GROUP", tmp_path)
    return tmp_path


def test_nine_tenths_of_what_is_available(system: Path) -> None:
    assert room() == int(0.9 * 100 * 1024)


def test_a_group_may_have_less(system: Path) -> None:
    (system / "memory.max").write_text("50000\n")
    (system / "memory.current").write_text("30000\n")
    (system / "memory.stat").write_text("anon 7\nactive_file 3\ninactive_file 10000\nfile 9\n")
    assert room() == int(0.9 * (50_000 - 20_000))


def test_a_group_without_a_limit(system: Path) -> None:
    (system / "memory.max").write_text("max\n")
    assert room() == int(0.9 * 100 * 1024)


def test_a_system_that_does_not_tell(system: Path) -> None:
    (system / "meminfo").unlink()
    assert room() is None


def large() -> Subject:
    """Makes 10 results of 1 MB and keeps none of them itself, for a loss of no use."""

    def run(x: torch.Tensor) -> torch.Tensor:
        for _ in range(10):
            x = x + 1
        return x.sum()

    return Subject(run, (torch.zeros(MB // 4, requires_grad=True),), name="large")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is said to be free, to be set by a test."""
    said = [0]
    for place in (tape_values, shadow):
        monkeypatch.setattr(place, "room", lambda: said[0])
    return said


def test_the_tape_stops_before_the_memory_is_full(free: list[int]) -> None:
    program = subject_program(large())
    free[0] = 9 * MB
    with pytest.raises(MeasureError, match=r"take more than the 9\.44 MB that are free"):
        record_tape(program)
    free[0] = 20 * MB
    assert len(record_tape(program).calls) > 10


def test_copies_of_what_is_written_over_count(free: list[int]) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        for _ in range(10):
            y.add_(1)
        return y.sum()

    program = subject_program(Subject(run, (torch.zeros(MB // 4, requires_grad=True),)))
    free[0] = 9 * MB
    with pytest.raises(MeasureError, match="are free"):
        record_tape(program)


def test_explain_says_so_and_tells_the_rest(free: list[int]) -> None:
    free[0] = 9 * MB
    found = explain_program(subject_program(large()))

    assert found.verdicts
    assert found.accuracy is None
    assert any("9.44 MB that are free" in note for note in found.notes)


def test_derivatives_that_do_not_fit_are_left_out(free: list[int]) -> None:
    subject = large()
    graph = graphlens.trace(subject).graph
    assert graph is not None
    free[0] = 1000 * MB
    tape = record_tape(subject_program(subject), graph)
    free[0] = 26 * MB  # in float64 all values take 28, the results and what a loop hands on less
    found = measure_accuracy(subject_program(subject), graph, tape=tape)

    assert found.method == "float64"
    assert all(item.error is not None and item.attribution is None for item in found.quantities)
    assert any(note.startswith("Who made the errors is not told: the derivatives") for note in found.notes)


def test_a_float64_run_that_does_not_fit_is_not_begun(free: list[int]) -> None:
    subject = large()
    graph = graphlens.trace(subject).graph
    assert graph is not None
    free[0] = 1000 * MB
    tape = record_tape(subject_program(subject), graph)
    free[0] = MB
    found = measure_accuracy(subject_program(subject), graph, tape=tape, seconds=1)

    assert found.method == "sample"
    assert any("No reference in float64: its values would take" in note for note in found.notes)

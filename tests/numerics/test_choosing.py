"""Which reference is chosen, what it knows, and what is said where one cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.errors import TargetError
from graphlens.numerics.choosing import Choice, best_reference
from graphlens.numerics.reference import ExactReference, ShadowReference
from graphlens.numerics.study import targets_of
from graphlens.subject import Subject


def tape_of(run: Callable[..., Any], dtype: torch.dtype = torch.float64) -> Tape:
    x = torch.linspace(0.1, 0.9, 8, dtype=dtype).requires_grad_()
    return record_tape(subject_program(Subject(run, (x,))))


def chosen(tape: Tape, **options: Any) -> Choice:
    return best_reference(tape, targets_of(tape), **options)


def tenth(x: torch.Tensor) -> torch.Tensor:
    return (x * 0.1).sum()


def covered_by_float64_alone(x: torch.Tensor) -> torch.Tensor:
    return torch.fft.rfft(x).abs().sum()


def partly(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"plain": (x * 0.1).sum(), "transformed": covered_by_float64_alone(x)}


def at_random(x: torch.Tensor) -> torch.Tensor:
    return torch.native_dropout(x, 0.5, True)[0].sum()


def test_float64_is_held_against_exact_arithmetic() -> None:
    tape = tape_of(tenth)
    reference, exactly, notes = chosen(tape)

    assert isinstance(reference, ExactReference)
    assert exactly
    assert notes == ()
    assert all(reference.error(target.value) is not None for target in targets_of(tape))


def test_a_result_in_float64_is_held_against_exact_arithmetic_though_a_constant_is_narrower() -> None:
    tape = tape_of(lambda x: (x * torch.tensor([0.5] * 8) * 0.1).sum())

    assert isinstance(chosen(tape).reference, ExactReference)


def test_float32_is_held_against_float64() -> None:
    tape = tape_of(tenth, torch.float32)
    reference, exactly, notes = chosen(tape)

    assert isinstance(reference, ShadowReference)
    assert not exactly
    assert notes == ()
    (output,) = tape.outputs.values()
    truth = float((tape.tensors[0].double() * 0.1).sum())
    assert reference.error(output) == pytest.approx(float(tape.tensors[output]) - truth, rel=1e-6)


def test_float32_can_be_held_against_exact_arithmetic() -> None:
    reference, exactly, _ = chosen(tape_of(tenth, torch.float32), method="exact")

    assert isinstance(reference, ExactReference)
    assert exactly


def test_what_exact_arithmetic_does_not_cover_is_named_and_samples_are_used() -> None:
    reference, exactly, notes = chosen(tape_of(covered_by_float64_alone))

    assert reference is None
    assert exactly, "no wider format could measure its ops"
    assert len(notes) == 1
    assert notes[0].startswith("No exact reference: exact arithmetic does not cover ")
    assert "abs (1 call)" in notes[0]
    assert notes[0].endswith("; runs that are rounded at random are used instead.")


def test_float64_stands_in_for_exact_arithmetic_where_the_run_is_narrower() -> None:
    reference, exactly, notes = chosen(tape_of(covered_by_float64_alone, torch.float32), method="exact")

    assert isinstance(reference, ShadowReference)
    assert not exactly
    assert notes[0].endswith("; a run in float64 is the reference instead.")


def test_a_target_that_is_not_known_alone_is_named() -> None:
    tape = tape_of(partly)
    reference, exactly, notes = chosen(tape)
    values = {target.name: target.value for target in targets_of(tape) if target.kind == "output"}

    assert isinstance(reference, ExactReference)
    assert exactly
    assert reference.error(values["plain"]) is not None
    assert reference.error(values["transformed"]) is None
    assert any(note.startswith("The true value of transformed") and "abs (1 call)" in note for note in notes)


def test_float64_shows_nothing_of_a_run_in_float64() -> None:
    reference, _, notes = chosen(tape_of(tenth), method="float64")

    assert reference is None
    assert notes == (
        "The run is in float64 itself: another one in float64 shows nothing; runs that are rounded at random "
        "are used instead.",
    )


def test_what_float64_does_not_cover_is_named() -> None:
    reference, _, notes = chosen(tape_of(at_random, torch.float32))

    assert reference is None
    assert notes[0].startswith("No reference in float64: float64 does not cover native_dropout (1 call)")


def test_samples_can_be_asked_for() -> None:
    assert chosen(tape_of(tenth), method="sample") == (None, True, ())
    assert chosen(tape_of(tenth, torch.float32), method="sample") == (None, False, ())


def test_a_run_that_is_too_long_for_the_time_is_not_replayed() -> None:
    said: list[str] = []
    tape = tape_of(lambda x: (x.repeat(100_000) * 0.1).sum())
    reference, _, notes = chosen(tape, seconds=1.0, progress=said.append)

    assert reference is None
    assert "too many for the time limit of 1 s" in notes[0]
    assert said == ["replaying the run in exact arithmetic"]


def test_a_replay_that_is_broken_off_is_said() -> None:
    reference, _, notes = chosen(tape_of(lambda x: sum(x.sin().sum() for _ in range(100))), seconds=1e-2)

    assert reference is None
    assert notes[0].startswith("No exact reference")


def test_values_that_are_wanted_besides_are_kept() -> None:
    tape = tape_of(tenth)
    product = next(call.outputs[0] for call in tape.calls if "mul" in str(call.function))
    assert product is not None
    reference, _, _ = chosen(tape, wanted=[product])

    assert reference is not None
    assert reference.error(product) is not None


def test_departures_of_branches_stay_at_hand() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        total = x
        for _ in range(6):
            total = total + x
        return torch.where(total > x * 7, x, -x).sum()  # equal in exact arithmetic

    reference, _, _ = chosen(tape_of(run))

    assert isinstance(reference, ExactReference)
    assert sum(departure.otherwise for departure in reference.exact.departures) > 0


def test_what_is_opaque_is_said() -> None:
    tape = tape_of(lambda x: torch.nn.functional.rrelu(x, training=True).sum())

    assert any(note.startswith("What rrelu_with_noise (1 call) wrote is taken") for note in chosen(tape).notes)


def test_there_are_four_methods() -> None:
    with pytest.raises(TargetError, match="no reference 'best'; there are auto, exact, float64, sample"):
        chosen(tape_of(tenth), method="best")

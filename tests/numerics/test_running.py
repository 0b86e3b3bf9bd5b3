"""Sums added up term by term: which terms they have, what they leave of them, and which sums are none."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphlens
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.running import RunningSum, running_sums

DOUBLE = torch.float64


def taped(run: Callable[..., Any], *args: Any) -> Tape:
    return record_tape(subject_program(graphlens.Subject(run, args)))


def the_sum(tape: Tape) -> RunningSum:
    (running,) = running_sums(tape).values()
    return running


def total_of(tape: Tape, running: RunningSum) -> torch.Tensor:
    """Its terms summed: must be the sum."""
    total = torch.zeros((), dtype=DOUBLE)
    for term in running.terms:
        total = total + (term.factor if term.value is None else term.factor * tape.tensors[term.value])
    return total


def test_terms_with_factors_and_plain_numbers() -> None:
    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total = 5 - x  # rsub
        total = torch.sub(total, y, alpha=3)
        total = torch.add(x * y, total, alpha=2)
        return total + 0.25

    x, y = torch.tensor([2.0, 3.0], dtype=DOUBLE), torch.tensor([7.0, -1.0], dtype=DOUBLE)
    tape = taped(run, x, y)
    running = the_sum(tape)

    assert sorted(term.factor for term in running.terms) == [-6.0, -2.0, 0.25, 1.0, 10.0]
    assert torch.equal(total_of(tape, running), run(x, y))
    assert running.magnitude(tape).tolist() == [10.25 + 4 + 42 + 14, 10.25 + 6 + 6 + 3]
    assert running.factors(tape).tolist() == (running.magnitude(tape) / run(x, y).abs()).tolist()


def test_terms_that_are_spread_out() -> None:
    tape = taped(lambda x, y: (x.sum() - 4) + y, torch.ones(3), torch.tensor([1.0, 2.0]))
    running = the_sum(tape)

    assert running.magnitude(tape).tolist() == [8.0, 9.0]
    assert running.factors(tape).tolist() == [float("inf"), 9.0], "3 - 4 + 1 leaves nothing"


def test_added_up_in_place() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        for part in x:
            total += part
        return total

    tape = taped(run, torch.arange(5.0))

    assert the_sum(tape).magnitude(tape) == 10
    assert len(the_sum(tape).calls) == 5


def test_of_a_partial_sum_that_something_else_reads_another_sum_begins() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        half = x + x * 2 + x * 3
        return (half + x * 4 + x * 5) * half

    found = running_sums(taped(run, torch.ones(2)))

    assert sorted(len(running.terms) for running in found.values()) == [3, 3]


def test_the_backward_pass_goes_on_with_no_sum_of_the_forward_pass() -> None:
    class Shifted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.total = x + 2 + x * 3 + x * 4
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient + ctx.total + 5

    found = running_sums(taped(lambda x: Shifted.apply(x).sum(), torch.ones(2, requires_grad=True)))  # type: ignore[no-untyped-call]

    assert sorted(len(running.terms) for running in found.values()) == [3, 4]


def test_a_sum_of_two_is_no_running_sum() -> None:
    assert not running_sums(taped(lambda x: (x + 1) * (x - 2), torch.ones(2)))


def test_whole_numbers_and_nothing_are_no_sums() -> None:
    assert not running_sums(taped(lambda x, n: x * (n + n + n + n), torch.ones(2), torch.arange(2)))
    assert not running_sums(taped(lambda x: x + x + x + x, torch.ones(0)))


def test_whole_numbers_and_truths_may_be_terms() -> None:
    tape = taped(lambda x, n: x + n + (n > 1) + x, torch.ones(2), torch.tensor([1, 2]))

    assert the_sum(tape).magnitude(tape).tolist() == [3.0, 5.0]


def test_the_gradient_that_a_leaf_receives_in_many_parts() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        return sum((x * float((-1) ** k) for k in range(1, 7)), start=torch.zeros(()))

    tape = taped(run, torch.ones((), requires_grad=True))
    (gradient,) = tape.gradients.values()
    sums = {len(running.terms): running for running in running_sums(tape).values() if running.calls}

    assert tape.tensors[gradient] == 0
    assert float(sums[6].magnitude(tape)) == 6.0


def test_a_hundred_thousand_terms() -> None:
    def made() -> torch.Tensor:
        total = torch.ones((), dtype=DOUBLE, requires_grad=True) * 1
        for _ in range(100_000):
            total = total + 1
        return total

    tape = record_tape(tensors_program("made", lambda: (made(),)))
    running = the_sum(tape)

    assert len(running.terms) == 100_001
    assert float(running.magnitude(tape)) == 100_001
    assert len(running.largest(tape)) == 1


def test_of_many_terms_the_largest_are_known() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=DOUBLE)
        for part in x.unbind():
            total = total - part
        return total

    x = torch.arange(200.0, dtype=DOUBLE)
    tape = taped(run, x)

    assert sorted(tape.tensors[value].item() for value in the_sum(tape).largest(tape)) == list(range(136, 200))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("+-r"), st.integers(-9, 9), st.sampled_from([1, 2, -3])), min_size=2,
                max_size=12))  # fmt: skip
def test_the_terms_sum_to_the_sum(steps: list[tuple[str, int, int]]) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        total = x * 1
        for kind, number, alpha in steps:
            part = x * number
            if kind == "r":
                total = torch.rsub(total, part, alpha=alpha)
            else:
                total = (torch.add if kind == "+" else torch.sub)(total, part, alpha=alpha)
        return total

    magnitude = Fraction(1)
    for kind, number, alpha in steps:
        magnitude = magnitude * abs(alpha) + abs(number) if kind == "r" else magnitude + abs(alpha * number)
    tape = taped(run, torch.ones(1, dtype=DOUBLE))
    running = the_sum(tape)

    assert total_of(tape, running).item() == tape.tensors[next(iter(tape.outputs.values()))].item() == run(
        torch.ones(1, dtype=DOUBLE)
    )  # fmt: skip
    assert running.magnitude(tape).item() == float(magnitude)


@pytest.mark.parametrize("x", [-20.0, 5.0])
def test_what_is_left_of_the_series_of_the_exponential(x: float) -> None:
    """By rational numbers: Σ |xᵏ ÷ k!| is exp(|x|), and exp(x) is left."""

    def run(given: torch.Tensor) -> torch.Tensor:
        term = total = torch.ones((), dtype=DOUBLE)
        for k in range(1, 60):
            term = term * given / k
            total = total + term
        return total

    terms = [Fraction(1)]
    for k in range(1, 60):
        terms.append(terms[-1] * Fraction(x) / k)
    tape = taped(run, torch.tensor(x, dtype=DOUBLE))

    assert the_sum(tape).magnitude(tape).item() == pytest.approx(float(sum(map(abs, terms))), rel=1e-12)
    assert len(the_sum(tape).terms) == 60

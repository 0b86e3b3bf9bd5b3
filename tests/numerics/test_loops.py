"""What each round of a loop hands to the next, held against what a program keeps of its own rounds."""

from __future__ import annotations

import itertools

import pytest
import torch

import graphlens
from graphlens.capture.tape import Tape
from graphlens.numerics.loops import FEWEST_ROUNDS, Loop, carried_values, told_rounds
from graphlens.numerics.numbering import first_equal
from graphlens.subject import Subject
from tests.numerics.loop_programs import number, of, taped

ROUNDS = 20


def loops_of(subject: Subject) -> tuple[Tape, list[Loop]]:
    tape, graph = taped(subject)
    return tape, carried_values(tape, graphlens.fold(graph))


def one(loops: list[Loop], *, backward: bool) -> Loop:
    (found,) = [loop for loop in loops if loop.backward is backward]
    return found


def floats(tape: Tape, loop: Loop) -> list[list[torch.Tensor]]:
    return [[tape.tensors[value] for value in values] for values in loop.carried]


@pytest.mark.parametrize("name", ["wasteful", "hoisted"])
def test_forward_and_backward_chain_of_the_exercise(name: str) -> None:
    subject = graphlens.lesson(name, n=ROUNDS)
    tape, loops = loops_of(subject)
    x, A = (tensor.detach() for tensor in subject.args)
    M = subject.module.M.detach()
    X = torch.linalg.inv(A)
    states = [M @ x]
    for _ in range(ROUNDS):
        states.append(X @ (A @ states[-1]))
    found = floats(tape, one(loops, backward=False))
    assert len(found) == ROUNDS + 1
    assert all(len(values) == 1 and torch.equal(values[0], state) for values, state in zip(found, states, strict=True))
    gradients = floats(tape, one(loops, backward=True))
    # Autograd writes the first or last round of this chain otherwise where the inverse comes from outside.
    assert len(gradients) >= ROUNDS
    for (later,), (earlier,) in itertools.pairwise(gradients):
        assert torch.equal(earlier, A.T @ (X.T @ later))


def test_the_inverse_that_each_round_computes_anew_is_shared_and_no_part_of_the_body() -> None:
    tape, loops = loops_of(graphlens.lesson("wasteful", n=ROUNDS))
    loop = one(loops, backward=False)
    A = tape.leaves["A"]
    inverse = next(call.outputs[0] for call in tape.calls if "linalg_inv_ex" in str(call.function))
    assert loop.shared == {A, inverse}
    assert not loop.own
    assert {str(tape.calls[place].function) for row in loop.rounds for place in row} == {"aten.mv.default"}


def test_two_values_and_a_value_read_two_rounds_later() -> None:
    def recurrence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        for _ in range(ROUNDS):
            a, b = b, 108 - (815 - 1500 / a) / b
        return b

    a, b = number(4.0), number(4.25)
    tape, loops = loops_of(of(recurrence, a, b))
    loop = one(loops, backward=False)
    assert list(loop.lags) == [2]
    assert loop.begins == {tape.leaves[name] for name in tape.leaves}
    expected = [a.detach(), b.detach()]
    for _ in range(ROUNDS):
        expected.append(108 - (815 - 1500 / expected[-2]) / expected[-1])
    assert [values[0] for values in floats(tape, loop)] == expected[1:]


def test_a_cell_hands_on_both_of_its_states() -> None:
    cell = torch.nn.LSTMCell(3, 4)

    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = torch.zeros(1, 4), torch.zeros(1, 4)
            for t in range(ROUNDS):
                state = self.cell(x[t : t + 1], state)
            return state[0]

    x = torch.randn(ROUNDS, 3, generator=torch.Generator().manual_seed(1))
    tape, loops = loops_of(Subject(Steps(), (x,)))
    loop = one(loops, backward=False)
    assert len(loop.spots) == 2
    state = torch.zeros(1, 4), torch.zeros(1, 4)
    made = []
    with torch.no_grad():
        for t in range(ROUNDS):
            state = cell(x[t : t + 1], state)
            made.append(state)
    found = floats(tape, loop)
    last = {tuple(tensor.flatten().tolist()) for tensor in found[-1]}
    # The body may begin anywhere in the round: c is handed on as such, h as it is or as a product with the weights.
    assert tuple(made[-1][1].flatten().tolist()) in last or tuple(made[-2][1].flatten().tolist()) in last


def test_the_sum_of_a_leafs_gradient_is_beside_the_chain() -> None:
    tape, loops = loops_of(graphlens.lesson("hoisted", n=ROUNDS))
    for loop in loops:
        assert not any(tape.calls[place].accumulates for row in loop.rounds for place in row)


def test_values_written_in_place_are_followed() -> None:
    def steps(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        for _ in range(ROUNDS):
            y = y * 0.5
            y[0] += 1.0
        return y

    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    tape, loops = loops_of(of(steps, x))
    loop = one(loops, backward=False)
    y = x.detach() * 1
    states = []
    for _ in range(ROUNDS):
        y = y * 0.5
        states.append(y.clone())
        y[0] += 1.0
        states.append(y.clone())
    found = floats(tape, loop)
    assert len(found) >= ROUNDS
    assert all(any(torch.equal(values[0], state) for state in states) for values in found[1:])


@pytest.mark.parametrize("rounds", [FEWEST_ROUNDS - 1, FEWEST_ROUNDS])
def test_few_rounds_are_no_loop(rounds: int) -> None:
    def steps(x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(rounds):
            y = torch.sin(y)
        return y

    _, loops = loops_of(of(steps, number(1.0)))
    # The first round reads the leaf: it may stand outside of the fold.
    assert (len(loops) > 0) == (rounds >= FEWEST_ROUNDS)


def test_equal_layers_side_by_side_hand_nothing_on() -> None:
    def branches(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(part) for part in x]).sum()

    _, loops = loops_of(of(branches, torch.ones(30, dtype=torch.float64, requires_grad=True)))
    assert loops == []


def test_values_are_the_same_only_if_computed_alike_and_equal_to_the_last_bit() -> None:
    def work(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + x.sin() + x.cos() + (x * 1.0 + 0.0).sin() + torch.rand(2) + torch.rand(2)

    tape, _ = taped(of(work, torch.tensor([1.0, 2.0], requires_grad=True)))
    first = first_equal(tape)
    sines = [call.outputs[0] for call in tape.calls if str(call.function) == "aten.sin.default"]
    assert len(sines) == 4  # the derivative of the cosine is one
    assert [first[value] for value in sines if value is not None] == [sines[0], sines[0], sines[2], sines[0]]
    drawn = [call.outputs[0] for call in tape.calls if call.random]
    assert len(drawn) == 2
    assert all(first[value] == value for value in drawn if value is not None)
    tape.tensors[sines[1] or 0] = tape.tensors[sines[1] or 0] * (1 + 2.0**-20)  # a planted difference
    assert first_equal(tape)[sines[1] or 0] == sines[1]


def test_of_many_rounds_some_are_told() -> None:
    assert told_rounds(30) == list(range(31))
    told = told_rounds(10_000)
    assert {0, 1, 2, 10_000} <= set(told)
    assert len(told) < 410
    assert max(b - a for a, b in itertools.pairwise(told)) <= 50

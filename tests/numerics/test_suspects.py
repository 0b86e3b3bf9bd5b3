"""What suspects are made of, against sums, singular values and derivatives worked out by other means."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import Suspect
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.adjoint import Sensitivities
from graphlens.numerics.arguments import op_name
from graphlens.numerics.conditions import amplification, condition, condition_of
from graphlens.numerics.exact import replay
from graphlens.numerics.judging import judge
from graphlens.numerics.marks import MARKERS, Scan
from graphlens.numerics.reference import ExactReference
from graphlens.numerics.study import Study, targets_of
from graphlens.numerics.suspects import candidates, last_ones
from graphlens.numerics.terms import factors
from graphlens.numerics.truths import exponent, is_finite, is_not_zero
from graphlens.subject import Subject

DOUBLE = torch.float64
Numbers = Callable[..., Any]


def taped(run: Numbers, *args: torch.Tensor) -> Tape:
    return record_tape(tensors_program("run", lambda: (run(*args),)))


def leaf(*numbers: Any, dtype: torch.dtype = DOUBLE) -> torch.Tensor:
    return torch.tensor(numbers, dtype=dtype, requires_grad=True)


def places(tape: Tape, name: str) -> list[int]:
    return [place for place, call in enumerate(tape.calls) if op_name(call) == name and not call.backward]


# Cancellation factors


def fraction(entries: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(entries, dtype=np.float64))


A = torch.randn(3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
B = torch.randn(4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
V, W = B[:, 0].contiguous(), B[:, 1].contiguous()
PRODUCTS: list[tuple[str, Numbers, tuple[torch.Tensor, ...], Numbers, int]] = [
    ("add", lambda a, b: torch.add(a, b, alpha=-3), (V, W), lambda a, b: abs(a) + 3 * abs(b), 2),
    ("sub", lambda a, b: a - b, (V, W), lambda a, b: abs(a) + abs(b), 2),
    ("rsub", lambda a: 2 - a, (V,), lambda a: 2 + abs(a), 2),
    ("sum", lambda a: a.sum(), (A,), lambda a: abs(a).sum(), 12),
    ("sum", lambda a: a.sum(1), (A,), lambda a: abs(a).sum(1), 4),
    ("mean", lambda a: a.mean(), (A,), lambda a: abs(a).sum() / 12, 12),
    ("dot", torch.dot, (V, W), lambda a, b: abs(a) @ abs(b), 4),
    ("mv", torch.mv, (A, V), lambda a, b: abs(a) @ abs(b), 4),
    ("mm", torch.mm, (A, B), lambda a, b: abs(a) @ abs(b), 4),
    ("addmm", torch.addmm, (torch.ones(3, 2, dtype=DOUBLE), A, B), lambda c, a, b: abs(c) + abs(a) @ abs(b), 5),
]


@pytest.mark.parametrize(("name", "run", "args", "magnitudes", "terms"), PRODUCTS, ids=lambda item: str(item)[:12])
def test_the_factor_of_a_sum_is_that_of_fractions(
    name: str, run: Numbers, args: tuple[torch.Tensor, ...], magnitudes: Numbers, terms: int
) -> None:
    tape = taped(run, *(item.clone().requires_grad_() for item in args))
    call = tape.calls[places(tape, name)[0]]
    found = factors(call, tape)
    result = fraction(run(*args).numpy())
    truth = np.vectorize(float)(magnitudes(*map(fraction, (item.numpy() for item in args))) / abs(result))

    assert found is not None
    np.testing.assert_allclose(found[0].numpy(), truth, rtol=1e-12)
    assert found[1] == terms


def test_a_sum_of_which_nothing_is_left_has_no_finite_factor() -> None:
    tape = taped(lambda x: (x.exp() - x.exp()).sum(), leaf(0.3))
    found = factors(tape.calls[places(tape, "sub")[0]], tape)

    assert found is not None
    assert found[0].tolist() == [math.inf]


# Condition numbers


@pytest.mark.parametrize("kappa", [1.0, 1e3, 1e9])
def test_the_condition_number_is_the_one_that_the_matrix_was_made_with(kappa: float) -> None:
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(3)))
    found = condition(q @ torch.diag(torch.logspace(0, -math.log10(kappa), 5, dtype=DOUBLE)) @ q.T)

    assert found is not None
    assert found.kappa == pytest.approx(kappa, rel=kappa * 1e-15 + 1e-12)
    assert (found.at_least, found.rows, found.columns) == (False, 5, 5)


def test_beyond_the_reach_of_float64_it_is_a_lower_bound() -> None:
    found = condition(torch.ones(3, 3, dtype=DOUBLE))

    assert found is not None
    assert (found.kappa, found.at_least) == (2.0**53 / 3, True)
    assert condition(torch.full((2, 2), math.inf, dtype=DOUBLE)) is None


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("linalg_inv_ex", torch.linalg.inv),
        ("_linalg_solve_ex", lambda a: torch.linalg.solve(a, V[:2])),
        ("linalg_cholesky_ex", torch.linalg.cholesky),
        ("_linalg_det", torch.linalg.det),
        ("cholesky_solve", lambda a: torch.cholesky_solve(B[:2], torch.linalg.cholesky(a))),
    ],
)
def test_of_each_solver_it_is_that_of_its_matrix(name: str, run: Numbers) -> None:
    a = leaf([2.0, 1.9], [1.9, 2.0])  # eigenvalues 3.9 and 0.1
    tape = taped(lambda a: run(a).sum(), a)
    found = condition_of(tape.calls[places(tape, name)[0]], tape)

    assert found is not None
    assert found.kappa == pytest.approx(39, rel=1e-9)


def test_a_triangular_solve_reads_its_triangle_alone() -> None:
    a = leaf([1.0, 0.0], [7.0, 0.5])
    tape = taped(lambda a: torch.linalg.solve_triangular(a, B[:2], upper=True).sum(), a)
    found = condition_of(tape.calls[places(tape, "linalg_solve_triangular")[0]], tape)

    assert found is not None
    assert found.kappa == pytest.approx(2.0)


def test_amplification_is_the_condition_of_the_path() -> None:
    # y = x²: a relative error of x is doubled.
    assert amplification(np.array(2 * 3.0), np.array(3.0), 9.0) == pytest.approx(2.0)
    assert amplification(np.array(1.0), np.array(1.0), 0.0) == math.inf


# Marks


@pytest.mark.parametrize(
    ("kind", "run", "x", "marked"),
    [
        ("underflow", lambda x: x * x, [1e-200, 1e-160, 0.0, 1.0], [True, True, False, False]),
        ("underflow", lambda x: x.exp(), [-800.0, -math.inf, -1.0, -740.0], [True, False, False, True]),
        ("underflow", lambda x: x / 1e300, [1e-100, 0.0, 1.0, 1e-9], [True, False, False, True]),
        ("saturation", lambda x: x.tanh(), [30.0, -30.0, 1.0, math.inf], [True, True, False, False]),
        ("overflow", lambda x: x.exp(), [1000.0, 1.0, math.inf, 709.0], [True, False, False, False]),
        ("absorption", lambda x: x + 1, [1e-10, 1.0, 0.0, 1e12], [True, False, False, True]),
        ("cast", lambda x: x.float(), [1.0, 2.0, 3.0, 4.0], [True, True, True, True]),
    ],
)
def test_entries_are_marked_by_their_numbers(kind: str, run: Numbers, x: list[float], marked: list[bool]) -> None:
    tape = taped(lambda x: run(x).sum(), leaf(*x))
    found = MARKERS[kind](tape.calls[0], Scan(tape))

    (mask,) = found.values()
    assert mask.tolist() == marked


def test_the_zero_of_a_factor_that_is_zero_is_no_underflow() -> None:
    tape = taped(lambda x: (x * 0).sum(), leaf(1.0, 2.0))

    assert MARKERS["underflow"](tape.calls[0], Scan(tape)) == {}


def test_a_difference_of_given_numbers_is_not_marked_and_one_of_computed_numbers_is() -> None:
    x, y = leaf(1.0 + 1e-9), leaf(1.0)
    given, computed = taped(lambda: (x - y).sum()), taped(lambda: (x.exp() - y.exp()).sum())

    assert MARKERS["cancellation"](given.calls[places(given, "sub")[0]], Scan(given)) == {}
    assert MARKERS["cancellation"](computed.calls[places(computed, "sub")[0]], Scan(computed)) != {}


# What comes through some values


def test_of_a_chain_only_the_last_member_counts() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = x + 1.0
        return (x * 3).sum()

    tape = taped(run, leaf(0.1, 0.2))
    sums = places(tape, "add")
    scan = Scan(tape)
    values = [value for place in sums if (value := tape.calls[place].outputs[0]) is not None]
    end = next(iter(tape.outputs.values()))

    assert last_ones(scan, sums, set(values), [end]) == sums[-1:]
    assert last_ones(scan, sums, set(), [end]) == sums
    found = Sensitivities(tape).past(end, np.ones(()), {value: np.ones(2) for value in values})
    assert [found[value].tolist() if value in found else None for value in values][-1] == [3.0, 3.0]
    assert all(value not in found or not found[value].any() for value in values[:-1])


def test_entries_that_are_not_meant_let_the_derivative_pass() -> None:
    tape = taped(lambda x: ((x + 1.0) * 2 + 1.0).sum(), leaf(0.1, 0.2))
    first, second = (tape.calls[place].outputs[0] for place in places(tape, "add"))
    assert first is not None
    assert second is not None
    end = next(iter(tape.outputs.values()))
    masks = {first: np.ones(2), second: np.array([1.0, 0.0])}
    found = Sensitivities(tape).past(end, np.ones(()), masks)

    assert found[second].tolist() == [1.0, 0.0]
    assert found[first].tolist() == [0.0, 2.0]  # the first entry's way leads through the second sum
    again = Sensitivities(tape)
    assert again.of(end, np.ones(()))[first].tolist() == [2.0, 2.0]


def test_the_share_through_a_loop_is_that_of_its_end() -> None:
    """Each round's sum has the error of all rounds before it: adding up the rounds would count it many times."""

    def run(x: torch.Tensor) -> torch.Tensor:
        for _ in range(12):
            x = (x + 1e6) - 999999.5
        return x * 2

    (suspect,) = (suspect for suspect in judged(run, leaf(0.3)) if suspect.kind == "cancellation")

    assert len(suspect.ops) == 12
    assert suspect.shares["output"] == pytest.approx(1.0, rel=1e-6)


def judged(run: Numbers, *args: torch.Tensor) -> list[Suspect]:
    subject = Subject(run, args)
    graph = graphlens.trace(subject).graph
    assert graph is not None
    tape = record_tape(subject_program(subject), graph)
    found = candidates(tape, graph)
    targets = targets_of(tape)
    wanted = {target.value for target in targets}.union(*(candidate.values for candidate in found))
    study = Study(tape, graph, targets, ExactReference(tape, replay(tape, wanted=wanted)), True)
    return judge(study, found)


def test_of_a_sum_and_one_of_its_additions_the_addition_is_told_where_it_lost_as_much() -> None:
    """x + 1e8 + sin x − 1e8: the last of three additions cancels, and the sum of four terms no more than that."""
    found = [one for one in judged(lambda x: x + 1e8 + x.sin() - 1e8, leaf(0.3)) if one.kind == "cancellation"]

    assert [(one.evidence["op"], "additions" in one.evidence) for one in found] == [("sub", False)]


def test_of_a_sum_and_one_of_its_additions_the_sum_is_told_where_it_lost_more() -> None:
    """In exp(−20) by its series some additions cancel a little, and so do the sums of gradients: all of them a lot."""

    def run(x: torch.Tensor) -> torch.Tensor:
        term = total = torch.ones_like(x)
        for k in range(1, 90):
            term = term * x / k
            total = total + term
        return total

    found = [one for one in judged(run, leaf(-20.0)) if one.kind == "cancellation"]

    assert all("additions" in one.evidence for one in found)
    assert {(one.evidence["during"], one.evidence["additions"]) for one in found} == {
        ("forward", 89), ("sums of gradients", 88),
    }  # fmt: skip


def test_a_term_that_stands_for_a_true_zero_has_no_relative_error() -> None:
    x = next(number / 10 for number in range(1, 1000) if (number / 10) / 3 * 3 != number / 10)
    nothing = x / 3 * 3 - x  # 0 but for rounding
    other = torch.tensor([-0.999 * nothing], dtype=DOUBLE)

    assert judged(lambda x: (x / 3 * 3 - x) + other, leaf(x)) is not None


# Numbers that float64 does not hold


def test_what_is_known_of_numbers_out_of_range() -> None:
    tape = taped(lambda x: x.exp().sum(), leaf(1000.0, -1000.0, 1.0))
    reference = ExactReference(tape, replay(tape))
    value = tape.calls[0].outputs[0]
    assert value is not None
    finite, others = is_finite(reference, value), is_not_zero(reference, value)

    assert finite is not None
    assert others is not None
    assert finite.tolist() == others.tolist() == [True, True, True]
    for place, power in enumerate((1000, -1000, 1)):
        assert exponent(reference, value, (place,)) == pytest.approx(power / math.log(10), rel=1e-12)

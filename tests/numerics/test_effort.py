"""What takes too long in exact arithmetic is known before it is begun, and refused in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, ctx, fmpq

import graphlens
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics import effort
from graphlens.numerics import exact as exact_module
from graphlens.numerics.affine import evaluate
from graphlens.numerics.choosing import best_reference
from graphlens.numerics.effort import Work, bits_of, work_of
from graphlens.numerics.exact import replay
from graphlens.numerics.local import local_error
from graphlens.numerics.registry import Site
from graphlens.numerics.rounding import measure_accuracy
from graphlens.numerics.study import targets_of
from graphlens.subject import Subject


def numbers(*shape: int) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if len(shape) > 1 and shape[-1] == shape[-2]:
        made += 3 * shape[-1] ** 0.5 * torch.eye(shape[-1], dtype=torch.float64)
    return made


def tape_of(run: Callable[..., Any], *inputs: torch.Tensor) -> Tape:
    return record_tape(subject_program(Subject(run, tuple(value.clone().requires_grad_() for value in inputs))))


def work_in(tape: Tape) -> Work:
    work = Work()
    for call in tape.calls:
        work = work + work_of(call, tape.tensors.__getitem__)
    return work


def third(a: torch.Tensor) -> torch.Tensor:
    return a / 3


CASES = {
    "mm": (lambda a, b: (third(a) @ third(b)).sum(), numbers(90, 90), numbers(90, 90)),
    "bmm": (lambda a, b: (third(a) @ third(b)).sum(), numbers(20, 30, 30), numbers(20, 30, 30)),
    "inv": (lambda a: torch.linalg.inv(a).sum(), numbers(60, 60)),
    "solve": (lambda a, b: torch.linalg.solve(a, b).sum(), numbers(50, 50), numbers(50, 2)),
    "cholesky": (lambda a: torch.linalg.cholesky(a @ a.T).sum(), numbers(40, 40)),
    "exp": (lambda a: third(a).exp().sum(), numbers(120, 100)),
    "softmax": (lambda a: third(a).softmax(-1).square().sum(), numbers(80, 100)),
    "bilinear": (torch.nn.functional.bilinear, numbers(12, 20), numbers(12, 20), numbers(20, 20, 20)),
    "attention": (
        torch.nn.functional.scaled_dot_product_attention, numbers(2, 3, 30, 8), numbers(2, 3, 30, 8),
        numbers(2, 3, 30, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("precision", [128, 1024])
@pytest.mark.parametrize("name", CASES)
def test_an_estimate_is_of_the_order_of_what_a_replay_takes(name: str, precision: int) -> None:
    run, *inputs = CASES[name]
    tape = tape_of(run, *inputs)
    estimate = work_in(tape).seconds(precision, precision)
    began = time.process_time()
    replay(tape, precision=precision, highest=precision, seconds=600)
    taken = time.process_time() - began

    assert taken / 12 < estimate < 12 * taken


def test_multiply_adds_are_counted_from_the_shapes() -> None:
    (product,) = (call for call in tape_of(lambda a, b: a @ b, numbers(2, 3), numbers(3, 4)).calls[:1])
    tape = tape_of(lambda a, b: a @ b, numbers(2, 3), numbers(3, 4))
    bare = work_of(tape.calls[0], tape.tensors.__getitem__)

    assert "mm" in str(product.function)
    assert bare.products == 24  # 2 × 4 results of 3 multiply-adds each
    assert bare.entries == 6 * (6 + 12 + 8)  # each entry counts as six operations


def singular(size: int) -> torch.Tensor:
    """A matrix without an inverse, which elimination in float64 does not notice."""
    rows = torch.randint(-9, 10, (size - 1, size), generator=torch.Generator().manual_seed(1)).double()
    return torch.cat([rows, rows.sum(0, keepdim=True)])


# Both read fewer numbers than can be replayed in 2 s.
LONG = {
    # No number of bits shows that the matrix is regular, and each try takes longer.
    "linalg_inv_ex": (torch.linalg.inv, singular(100)),
    "_trilinear": (torch.nn.functional.bilinear, numbers(300, 50), numbers(300, 50), numbers(50, 50, 50)),
}


class Clock:
    """Time that stands still, on a machine whose speed is given: what is refused does not depend on this one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun: list[tuple[str, int]] = []
        patch.setattr(time, "perf_counter", lambda: 0.0)
        patch.setattr(effort, "_timed", lambda bits: (4e-9 * bits, 1e-8 * bits))
        patch.setattr(exact_module, "evaluate", self._evaluate)

    def _evaluate(self, kernel: Any, site: Site, *rest: Any) -> Any:
        self.begun.append((site.function._schema.name.removeprefix("aten::"), ctx.prec))
        return evaluate(kernel, site, *rest)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("op", LONG)
def test_a_call_that_takes_minutes_is_refused_before_it_is_begun_and_named(op: str, clock: Clock) -> None:
    run, *inputs = LONG[op]
    tape = tape_of(run, *inputs)
    reference, exactly, notes = best_reference(tape, targets_of(tape), seconds=2.0)

    assert {bits for name, bits in clock.begun if name == op} <= {128, 256}
    assert reference is None
    assert exactly
    assert notes[0].startswith(f"No exact reference: not within the time limit of 2 s, as {op} would take about ")
    assert notes[0].endswith(" s; runs that are rounded at random are used instead.")


def test_no_part_of_a_measurement_waits_for_a_call_that_takes_minutes(clock: Clock) -> None:
    run, *inputs = LONG["_trilinear"]
    subject = Subject(run, tuple(value.clone().requires_grad_() for value in inputs))
    found = measure_accuracy(subject_program(subject), graphlens.trace(subject).graph, seconds=2.0)

    assert "_trilinear" not in dict(clock.begun)
    assert found.method == "sample"
    assert "_trilinear would take about" in found.notes[0]
    assert all(item.attribution is not None and "_trilinear" in item.attribution.unmeasured
               for item in found.quantities if item.kind == "output")  # fmt: skip


def test_more_bits_are_refused_where_there_is_no_time_for_them(clock: Clock) -> None:
    tape = tape_of(lambda a: third(a).exp().sum(), numbers(300, 300))
    exact = replay(tape, wanted=set(tape.outputs.values()), precision=4096, highest=4096, seconds=0.5)

    assert exact.out_of_time
    assert exact.too_long is not None
    assert exact.too_long[0] in ("div", "exp")
    assert exact.too_long[1] > 0.25
    assert "exp" not in dict(clock.begun)


def test_the_rounding_of_a_call_is_not_measured_where_there_is_no_time_for_it(clock: Clock) -> None:
    tape = tape_of(lambda a: a.exp(), numbers(200, 200))
    call = tape.calls[0]
    tensors = [tape.tensors[value] for value in (*call.inputs, *call.outputs) if value is not None]

    assert local_error(call, tensors[:1], tensors[1:], seconds=1e-3) is None
    assert local_error(call, tensors[:1], tensors[1:], seconds=60.0) is not None
    assert ctx.prec == 53


def test_each_call_is_looked_at_again_when_its_operands_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the replay nothing is known of their length, nor of the symbols that each cost a call more."""
    tape = tape_of(lambda a: (a * 2) @ a, numbers(40, 40))
    assert not replay(tape, wanted=set(tape.outputs.values()), seconds=20.0).out_of_time

    monkeypatch.setattr("graphlens.numerics.exact.symbols_of", lambda operands: 10**7 if len(operands) == 2 else 0)
    exact = replay(tape, wanted=set(tape.outputs.values()), seconds=20.0)
    assert exact.out_of_time
    assert exact.too_long is not None
    assert exact.too_long[1] > 20
    assert set(tape.outputs.values()) <= exact.unknown


def test_the_length_of_operands_is_that_of_their_longest_entries() -> None:
    with ctx.workprec(500):
        long = (arb(1) / 3).mid()
    assert bits_of([np.array([arb(1), arb(3)], dtype=object)]) == 53  # of a double at least
    assert 490 <= bits_of([np.array([arb(1), long], dtype=object), 2.5, None]) <= 500
    assert bits_of([np.array([fmpq(1, 2**200)], dtype=object)]) == 201

"""Attributions meet the true error, and name the op that made it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import graphlens
from graphlens.accuracy import Accuracy
from graphlens.analyses.rounding.shares import node_errors, shares
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.attribution import _term, attribute
from graphlens.numerics.exact import local_error, replay
from graphlens.numerics.reference import ExactReference
from graphlens.numerics.rounding import measure_accuracy
from graphlens.numerics.study import Study, targets_of
from graphlens.subject import Subject


def measured(subject: Subject, **options: Any) -> Accuracy:
    program = subject_program(subject)
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return measure_accuracy(program, graph, **options)


@pytest.fixture(scope="module")
def wasteful() -> Accuracy:
    return measured(graphlens.lesson("wasteful", n=200))


@pytest.fixture(scope="module")
def study() -> Study:
    program = subject_program(graphlens.lesson("wasteful", n=200))
    tape = record_tape(program)
    targets = targets_of(tape)
    exact = replay(tape, wanted={target.value for target in targets})
    return Study(tape, None, targets, ExactReference(tape, exact), True)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["g", "x", "A", "M"])
def test_contributions_add_up_to_the_error_of_any_functional(study: Study, name: str, seed: int) -> None:
    target = next(target for target in study.targets if target.name == name)
    error = study.error(target.value)
    assert error is not None
    weights = np.random.RandomState(seed).randn(*error.shape)
    made = attribute(study, target, weights)

    assert made.total == pytest.approx(float((weights * error).sum()), rel=1e-12)
    assert made.net == pytest.approx(made.total, rel=1e-6)
    assert made.unmeasured == {}


def test_the_total_is_the_norm_of_the_error(wasteful: Accuracy) -> None:
    for item in wasteful.quantities:
        made = item.attribution
        assert made is not None
        assert made.total == item.norm
        assert made.net == pytest.approx(item.norm, rel=1e-6)
        assert made.magnitude >= abs(made.net)


def test_the_inverse_is_found_to_make_the_error(wasteful: Accuracy) -> None:
    for item in wasteful.quantities:
        assert item.attribution is not None
        rows = shares(wasteful, item.attribution)
        assert (rows[0].op, rows[0].during) == ("LinalgInvEx", "forward")
        assert rows[0].share is not None
        assert 0.9 < rows[0].share < 1.1
        assert math.fsum(row.net for row in rows) == pytest.approx(item.attribution.net, rel=1e-9)


def test_nodes_get_what_their_ops_contribute(wasteful: Accuracy) -> None:
    made = wasteful.quantities[0].attribution
    assert made is not None
    errors = node_errors(wasteful.graph, made, wasteful.ops)
    inverse = sum(e for node, e in errors.items() if wasteful.graph.nodes[node].op == "LinalgInvExBackward0")

    assert inverse == pytest.approx(sum(row.net for row in shares(wasteful, made) if row.op == "LinalgInvEx"))


def test_the_gradient_that_should_be_zero_is_known_to_be(wasteful: Accuracy) -> None:
    by_name = {(item.kind, item.name): item for item in wasteful.quantities}

    assert by_name["gradient", "A"].is_zero
    assert by_name["gradient", "A"].error == by_name["gradient", "A"].size > 0
    assert not any(item.is_zero for key, item in by_name.items() if key[1] != "A")


def test_errors_are_those_of_the_published_reference_values() -> None:
    accuracy = measured(graphlens.lesson("wasteful", n=50), parts=())
    trace = graphlens.trace(graphlens.lesson("wasteful", n=50))
    g = [-0.63275396618493594, 6.8930119416639228, -0.51796373375723684, 1.2437710649865224, -0.68157579585812585]
    off = np.abs(trace.outputs["g"].detach().numpy() - np.array(g)).max()

    assert accuracy.quantities[0].error == pytest.approx(off, rel=1e-3)
    assert all(item.attribution is None for item in accuracy.quantities)


def test_a_detached_value_carries_its_rounding_on() -> None:
    x = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)

    def make() -> tuple[torch.Tensor]:
        return (x * (x / 3).detach(),)

    tape = record_tape(tensors_program("made", make))
    targets = targets_of(tape)
    study = Study(tape, None, targets, ExactReference(tape, replay(tape)), True)  # type: ignore[arg-type]
    made = attribute(study, targets[0])
    division = [place for place, op in enumerate(study.ops) if op.name == "div" and not op.backward]

    assert made.net == pytest.approx(made.total, rel=1e-9)
    assert made.contributions[division[0]] != 0


def test_an_op_that_is_not_covered_is_named() -> None:
    class Bessel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.special.i1(x) * 3).sum()

    found = measured(Subject(Bessel(), (torch.rand(3, dtype=torch.float64, requires_grad=True),), {}), method="exact")
    output = found.quantities[0]

    assert output.error is None
    assert output.attribution is not None
    assert output.attribution.total is None
    assert output.attribution.unmeasured.keys() >= {"special_i1"}


def test_late_ops_stay_unmeasured(study: Study) -> None:
    late = Study(study.tape, None, study.targets, study.reference, True, deadline=0.0)  # type: ignore[arg-type]
    made = attribute(late, late.targets[0])

    assert sum(made.unmeasured.values()) > 0
    assert math.isclose(made.net, 0.0)


def test_contributions_are_derivative_times_rounding() -> None:
    # y = (a·b)·c: the first product's rounding goes through c.
    a, b, c = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, 0.7, 3.3))
    tape: Tape = record_tape(tensors_program("made", lambda: (a * b * c,)))
    targets = targets_of(tape)
    study = Study(tape, None, targets, ExactReference(tape, replay(tape)), True)  # type: ignore[arg-type]
    output = next(target for target in targets if target.kind == "output")
    made = attribute(study, output, np.ones(()))
    places = [place for place, call in enumerate(tape.calls) if not call.backward and study.ops[place].name == "mul"]
    call = tape.calls[places[0]]
    (local,) = local_error(call, [tape.tensors[v] for v in call.inputs], [tape.tensors[call.outputs[0] or 0]]) or ()

    assert len(places) == 2
    assert local is not None
    assert made.contributions[places[0]] == pytest.approx(float(local) * 3.3, rel=1e-12)


def test_what_a_result_does_not_depend_on_may_be_infinite_and_what_is_not_known_stays_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inf, nan = math.inf, math.nan
        assert _term(np.array([0.0, 2.0]), np.array([inf, 3.0])) == 6.0
        assert _term(np.array([0.0, 2.0]), np.array([nan, 3.0])) == 6.0
        assert math.isnan(_term(np.array([1.0, 2.0]), np.array([nan, 3.0])))
        assert math.isnan(_term(np.array([inf, 2.0]), np.array([0.0, 3.0])))
        assert _term(np.array([1.0, 2.0]), np.array([inf, 3.0])) == inf
        assert _term(np.array(0.0), np.array(inf)) == 0.0


def test_an_op_without_a_known_rounding_is_unmeasured_and_warns_of_nothing() -> None:
    """exp(800) is infinite: its entry is masked out of the first result, and all there is of the second."""

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        powers = torch.exp(x)
        return torch.where(x < 100, powers, 1.0).sum() * 0.1, powers.sum()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = graphlens.explain(
            Subject(
                run, [torch.tensor([1.0, 800.0], dtype=torch.float64, requires_grad=True)], output_names=["a", "b"]
            ),
            topics=["rounding"],
        ).accuracy
    assert found is not None
    known, infinite = found.quantities[:2]
    assert known.attribution is not None
    assert known.attribution.unmeasured == {}
    assert known.attribution.net == pytest.approx(known.attribution.total, rel=1e-6)
    assert infinite.attribution is None

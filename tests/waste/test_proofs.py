"""The shorter program has the nodes of the one written by hand, computes the same, and is told beforehand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphlens
from graphlens.analyses.proof import Proof
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.tape import Ref
from graphlens.capture.taping import record_tape
from graphlens.proof.prove import _by_hand, prove
from graphlens.proof.simplify import Simplified
from graphlens.views.proof_report import proof_parts
from graphlens.views.table import to_text
from tests.waste.cases import Case, Forward, look_into
from tests.waste.planted import PLANTED, SQUARE, TWO

BY_HAND = [name for name, planted in PLANTED.items() if planted.by_hand]


def proved(case: Case) -> Proof:
    looked = look_into(case.program())
    return prove(looked.program, looked.trace, looked.tape, looked.result.same, repeats=1)


@pytest.mark.parametrize("name", BY_HAND)
def test_planted_programs(name: str, tmp_path: Path) -> None:
    planted = PLANTED[name]
    assert planted.by_hand is not None
    proof = proved(planted)
    by_hand = look_into(Case(planted.by_hand, planted.shapes).program())

    assert proof.holds, proof.failures
    assert proof.comparison is not None
    assert proof.comparison.b.graph is not None
    assert proof.prediction is not None
    assert len(proof.comparison.b.graph) == by_hand.nodes == proof.prediction.nodes
    assert proof.comparison.stats_b is not None
    assert proof.comparison.stats_b.total.storage_bytes == proof.prediction.storage_bytes
    _assert_gradients(proof, planted, by_hand.trace)
    _assert_runs_by_itself(proof, tmp_path)


def _assert_gradients(proof: Proof, planted: Case, by_hand: graphlens.Trace) -> None:
    """Those of the program by hand, from the very same inputs; where that has none, it was rounding around 0."""
    assert proof.comparison is not None
    for name, gradient in by_hand.gradients.items():
        found = proof.comparison.b.gradients[name].value
        if gradient is None:
            assert found is None
            (gone,) = [item for item in proof.gathered if item.name == name]
            assert gone.largest <= proof.bound * gone.terms
        else:
            assert found is not None
            torch.testing.assert_close(torch.from_numpy(found.value), gradient, rtol=proof.bound, atol=1e-12)
    assert len(by_hand.gradients) == len(planted.shapes)


def _assert_runs_by_itself(proof: Proof, folder: Path) -> None:
    assert max(map(len, proof.code.splitlines())) <= 120
    (folder / "simplified.py").write_text(proof.code)
    subprocess.run(
        [sys.executable, "-c", "import ast; ast.parse(open('simplified.py').read())"], cwd=folder, check=True
    )


@pytest.mark.parametrize(("name", "nodes"), [("wasteful", 14), ("hoisted", 14)])
@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_lessons(name: str, nodes: int, form: str) -> None:
    efficient = graphlens.trace(graphlens.lesson("efficient", n=30, form=form))
    looked = look_into(subject_program(graphlens.lesson(name, n=30, form=form)))
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, repeats=1)

    assert proof.holds, proof.failures
    assert proof.comparison is not None
    assert proof.comparison.b.graph is not None
    assert efficient.graph is not None
    assert len(proof.comparison.b.graph) == len(efficient.graph)
    assert form == "vectorised" or len(efficient.graph) == nodes
    for leaf, gradient in efficient.gradients.items():
        found = proof.comparison.b.gradients[leaf].value
        if gradient is None:
            assert found is None
            (gone,) = proof.gathered
            assert (gone.name, gone.contributions) == (leaf, 60 if name == "wasteful" else 31)
            assert gone.largest <= proof.bound * gone.terms
        else:
            assert found is not None
            torch.testing.assert_close(torch.from_numpy(found.value), gradient, rtol=1e-12, atol=0)


def test_a_gradient_that_is_rounding_and_nothing_else() -> None:
    """The bias of a key in attention shifts all of a query's scores alike, which softmax does not see."""

    def forward(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        key = x.exp().log() + bias
        return ((x @ key.t()).softmax(-1) @ x.tanh()).square().sum()

    proof = proved(Case(forward, {"x": (5, 4), "bias": (4,)}))
    assert proof.comparison is not None
    row = next(row for row in proof.comparison.gradients if row.name == "bias")

    assert row.relative is not None
    assert row.relative > proof.bound
    assert proof.explained == ["gradient of bias"]
    assert proof.holds, proof.failures
    assert 0 < proof.noise["gradient of bias"] < 1e-12
    (trial,) = proof.trials
    assert trial.explained == ("gradient of bias",)
    assert trial.gradients is not None
    assert trial.gradients < 1e-12  # the other gradient's own difference
    told = " ".join(to_text(proof_parts(proof, 80), width=80).split())
    assert "moves by" in told
    assert "of their size, the gradient of bias apart." in told


def test_a_difference_within_the_bound_is_told_as_it_is() -> None:
    """However small it is, and though the last digit of the inputs would explain it."""
    looked = look_into(subject_program(graphlens.lesson("wasteful", n=200)))
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, repeats=1)
    (trial,) = proof.trials

    assert trial.explained == ()
    assert trial.outputs is not None
    assert 0 < trial.outputs < proof.bound


def test_noise_does_not_excuse_what_is_wrong() -> None:
    """A false equality stands out from the rounding of a badly conditioned program."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        return ((x * 1e8).sin() * (x - 1e-3).relu()).sum()

    program = subject_program(
        graphlens.Subject(forward, (torch.full((50,), 1.0, dtype=torch.float64).requires_grad_(),))
    )
    looked = look_into(program)
    (call,) = [call for call in looked.tape.calls if "relu" in str(call.function) and not call.backward]
    (shift,) = [call for call in looked.tape.calls if "sub" in str(call.function) and not call.backward]
    assert call.outputs[0] is not None
    proof = prove(looked.program, looked.trace, looked.tape, {call.outputs[0]: shift.inputs[0]}, repeats=1)

    assert not proof.holds


# What a finding names and equal values do not tell: as it is, and as a person would write it.
OTHERWISE: dict[str, tuple[Forward, Forward, dict[str, tuple[int, ...]]]] = {
    "two matrices, then a vector": (
        lambda A, B, v: ((A @ B) @ v).exp().sum(), lambda A, B, v: (A @ (B @ v)).exp().sum(),
        {"A": (6, 5), "B": (5, 7), "v": (7,)},
    ),
    "few rows, then two matrices": (
        lambda x, A, B: (x @ (A @ B)).sum(), lambda x, A, B: ((x @ A) @ B).sum(),
        {"x": (2, 8), "A": (8, 8), "B": (8, 8)},
    ),
    "two matrices, then few columns": (
        lambda A, B, x: ((A @ B) @ x).sum(), lambda A, B, x: (A @ (B @ x)).sum(),
        {"A": (8, 8), "B": (8, 8), "x": (8, 2)},
    ),
    "a value and its clone": (
        lambda x, w: ((y := x.exp()).clone().sin() + y).sum() + w.sum(),
        lambda x, w: ((y := x.exp()).sin() + y).sum() + w.sum(),
        TWO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERWISE)
def test_another_way_is_written_as_a_person_would(name: str, tmp_path: Path) -> None:
    wasteful, by_hand, shapes = OTHERWISE[name]
    case = Case(wasteful, shapes)
    looked = look_into(case.program())
    found = looked.result
    proof = prove(looked.program, looked.trace, looked.tape, found.same, found.otherwise, repeats=1)
    right = look_into(Case(by_hand, shapes).program())

    assert {finding.code for finding in found.findings} & {"GL204", "GL206"}
    assert proof.holds, proof.failures
    assert list(proof.by_hand) == []
    assert proof.comparison is not None
    assert proof.comparison.b.graph is not None
    assert proof.prediction is not None
    assert len(proof.comparison.b.graph) == right.nodes == proof.prediction.nodes
    assert right.trace.graph is not None
    assert proof.comparison.stats_b is not None
    kept = {record.storage: record.storage_bytes or 0 for record in right.trace.graph.saved}
    assert proof.comparison.stats_b.total.storage_bytes == sum(kept.values())
    assert proof.prediction.storage_bytes in (None, sum(kept.values()))
    _assert_gradients(proof, case, right.trace)
    _assert_runs_by_itself(proof, tmp_path)


def test_what_takes_a_person_is_not_called_left_out() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.tanh(entry) * 2 for entry in x]).sum()

    found = graphlens.explain(graphlens.Subject(forward, Case(forward, {"x": (6,)}).args()), topics=["waste"],
                              prove=True, repeats=1)  # fmt: skip
    assert found.proof is not None

    assert {finding.code for finding in found.waste} == {"GL205"}
    assert list(found.proof.by_hand) == ["GL205"]
    assert not found.proof.is_shown
    told = " ".join(to_text(proof_parts(found.proof, 80), width=80).split())
    assert "What GL205 names is not written anew" in told
    assert "without what the findings name" not in told


def test_an_inverse_is_left_to_a_person() -> None:
    """To solve takes fewer operations, and keeps more for backward."""

    def forward(A: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.linalg.inv(A) @ y.exp().log()).sum()

    looked = look_into(Case(forward, SQUARE).program())
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, looked.result.otherwise, repeats=1)

    assert {finding.code for finding in looked.result.findings} == {"GL202", "GL203"}
    assert list(proof.by_hand) == ["GL203"]
    assert "torch.linalg.inv(A)" in proof.code
    told = " ".join(to_text(proof_parts(proof, 80), width=80).split())
    assert "left without what the findings name; what GL203 names is left as it is." in told


def test_layers_that_a_factory_makes_keep_their_gradients() -> None:
    """Their initialisation makes them: they are no constants that random numbers are written into."""

    def make() -> list[torch.Tensor]:
        torch.manual_seed(3)
        layer = torch.nn.Conv2d(2, 3, 3)
        y = layer(torch.linspace(-1, 1, 100).reshape(2, 2, 5, 5)).sigmoid()
        return [(y.permute(0, 2, 3, 1).permute(0, 3, 1, 2) * y.cos()).sum()]

    looked = look_into(tensors_program("made", make))
    found = looked.result
    proof = prove(looked.program, looked.trace, looked.tape, found.same, found.otherwise, repeats=1)

    assert proof.holds, proof.failures
    assert proof.comparison is not None
    assert [(row.a, row.b) for row in proof.comparison.gradients] == [("value", "value")] * 2
    assert proof.prediction is not None
    assert proof.nodes == (looked.nodes, looked.nodes - 2)
    assert proof.prediction.nodes == looked.nodes - 2
    assert "uniform" not in proof.code


def test_data_that_a_target_draws_are_constants_of_the_shorter_program() -> None:
    """It may seed the generator in between, which is no op: drawn again, the numbers would be others."""

    def make() -> list[torch.Tensor]:
        torch.manual_seed(5)
        x = torch.randn(6, 40, dtype=torch.float64)
        layer = torch.nn.Linear(40, 3, dtype=torch.float64)
        return [(layer(x).exp().log() * torch.rand(6, 3, dtype=torch.float64)).square().sum()]

    looked = look_into(tensors_program("made", make))
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, looked.result.otherwise, repeats=1)

    assert proof.holds, proof.failures
    assert proof.nodes == (looked.nodes, looked.nodes - 2)
    assert "rand" not in proof.code
    assert "constant: float64[6, 40], constant" in proof.code


def test_random_numbers_that_read_what_has_a_gradient_are_drawn_again() -> None:
    def make() -> list[torch.Tensor]:
        x = torch.ones(6, dtype=torch.float64, requires_grad=True)
        return [(torch.dropout(x.exp().log(), 0.5, True) * torch.rand(6, dtype=torch.float64)).sum()]

    looked = look_into(tensors_program("made", make))
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, looked.result.otherwise, repeats=1)

    assert "rand" in proof.code


@pytest.mark.parametrize(
    ("otherwise", "codes"),
    [
        (Otherwise(), []),
        (Otherwise(orders={3: 2}), ["GL206"]),  # the inner product, which the other order makes no use of
        (Otherwise(copies={2: 0}), ["GL204"]),
        (Otherwise(orders={9: 8}, copies={9: 0}, by_hand={"GL205"}), ["GL205"]),
    ],
)
def test_what_is_read_after_all_was_not_written_anew(otherwise: Otherwise, codes: list[str]) -> None:
    """Values 0 and 1 multiplied make 2, which times 1 makes 3."""
    tape = record_tape(Case(lambda a, b: (a @ b) @ b, {"a": (3, 3), "b": (3, 3)}).program())
    products = [call for call in tape.calls if "mm" in call.function._schema.name and not call.backward]
    numbers = {value: number for number, value in enumerate(
        (*products[0].inputs, products[0].outputs[0], products[1].outputs[0]))}  # fmt: skip
    calls = tuple(call._replace(args=tuple(Ref(numbers[value]) for value in call.inputs)) for call in products)
    simplified = Simplified(tape, calls, {}, {}, {}, {}, frozenset(), lambda value: value)

    assert sorted(_by_hand(otherwise, simplified)) == codes

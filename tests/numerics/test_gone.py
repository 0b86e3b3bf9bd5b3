"""What the gradients that a shorter program does not have are in exact arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import graphlens
from graphlens.analyses.proof import Gathered, Proof
from graphlens.capture.program import Program, subject_program
from graphlens.numerics.gone import with_truths
from graphlens.numerics.rounding import measure_accuracy
from graphlens.proof.prove import prove
from graphlens.views.proof_report import proof_parts
from graphlens.views.table import to_text
from tests.waste.cases import Looked, look_into


def proved(program: Program, *, seconds: float = 30.0) -> Proof:
    looked = look_into(program)
    return with_true_values(looked, _proof(looked), seconds)


def _proof(looked: Looked, same: dict[int, int] | None = None) -> Proof:
    return prove(looked.program, looked.trace, looked.tape, looked.result.same if same is None else same, repeats=1)


def with_true_values(looked: Looked, proof: Proof, seconds: float = 30.0) -> Proof:
    assert looked.trace.graph is not None
    return with_truths(proof, looked.tape, looked.trace.graph, seconds=seconds)


def told(proof: Proof) -> str:
    return " ".join(to_text(proof_parts(proof, 80), width=80).split())


@pytest.mark.parametrize("name", ["wasteful", "hoisted"])
def test_the_gradient_that_is_gone_is_0(name: str) -> None:
    proof = proved(subject_program(graphlens.lesson(name, n=20)))
    (gone,) = proof.gathered

    assert (gone.name, gone.truth, gone.is_zero, gone.unknown) == ("A", 0.0, True, "")
    assert gone.precision == 128
    assert proof.holds, proof.failures
    assert "Its true value, computed in exact arithmetic (128 bits), is 0." in told(proof)


def test_of_a_program_by_somebody_else() -> None:
    class Whitening(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(4, 4, generator=generator, dtype=torch.float64)
            self.mixing = torch.nn.Parameter(noise + 4 * torch.eye(4, dtype=torch.float64))
            self.scale = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.scale * x
            return torch.linalg.solve(self.mixing, self.mixing @ y).square().sum()

    x = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    found = graphlens.explain(Whitening(), x, prove=True, topics=("waste",), repeats=1)
    assert found.proof is not None
    (gone,) = found.proof.gathered

    assert (gone.name, gone.truth, gone.is_zero) == ("mixing", 0.0, True)
    assert 0 < gone.largest < 1e-12
    assert found.proof.holds, found.proof.failures


def almost(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    y = x.exp()
    return (y + (w * 1e6 - w * (1e6 - 1e-6)) * y.detach()).sum()


def test_a_gradient_that_is_not_0_is_not_said_to_be() -> None:
    """A false equality, planted: w moves the sum by 10⁻¹² of what its parts do, far below the bound."""
    x = torch.tensor([0.5, -0.25], dtype=torch.float64).requires_grad_()
    w = torch.tensor([1.0, 2.0], dtype=torch.float64).requires_grad_()
    looked = look_into(subject_program(graphlens.Subject(almost, (x, w))))
    (total,) = [call for call in looked.tape.calls if "add" in str(call.function) and not call.backward]
    (exp,) = [call for call in looked.tape.calls if "exp" in str(call.function) and not call.backward]
    assert total.outputs[0] is not None
    assert exp.outputs[0] is not None
    before = _proof(looked, {total.outputs[0]: exp.outputs[0]})
    proof = with_true_values(looked, before)
    (gone,) = proof.gathered

    assert gone.name == "w"
    assert gone.ratio is not None
    assert gone.ratio < proof.bound  # by its size alone it would pass for rounding
    assert gone.is_zero is False
    # d/dw = (10⁶ − (10⁶ − 10⁻⁶)) eˣ, with the float that 10⁶ − 10⁻⁶ is
    assert gone.truth == pytest.approx(float((1e6 - (1e6 - 1e-6)) * x.detach().exp().max()), rel=1e-12)
    assert not proof.holds
    assert "the gradient of w is gone, and its true value is 1.6e-06" in "; ".join(proof.failures)
    assert ", is 0." not in told(proof)
    assert "exact arithmetic (128 bits), is 1.6" in told(proof)


def test_what_takes_too_long_is_not_claimed() -> None:
    proof = proved(subject_program(graphlens.lesson("wasteful", n=20)), seconds=0.0)
    (gone,) = proof.gathered

    assert (gone.truth, gone.is_zero, gone.precision) == (None, None, None)
    assert "is 0." not in told(proof)
    assert "its true value was not computed: no exact reference" in told(proof)
    assert proof.holds, proof.failures  # its size is that of rounding


def test_what_was_measured_already_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = look_into(subject_program(graphlens.lesson("wasteful", n=20)))
    graph = looked.trace.graph
    assert graph is not None
    accuracy = measure_accuracy(looked.program, graph, tape=looked.tape, parts=())
    monkeypatch.setattr("graphlens.numerics.gone.exact_reference", None)
    (gone,) = with_truths(_proof(looked), looked.tape, graph, accuracy).gathered

    assert (gone.truth, gone.is_zero, gone.precision) == (0.0, True, 128)


def test_without_true_values_only_what_stands_out_speaks_against_it() -> None:
    small, large = Gathered("A", 4, 1e-9, 1e3), Gathered("A", 4, 1.0, 1e3)
    proof = replace(proved(subject_program(graphlens.lesson("wasteful", n=3))), gathered=[small])

    assert proof.failures == []
    assert replace(proof, gathered=[large]).failures == ["the gradient of A is gone, and was 0.001 of what it adds up"]
    # Where it is known to be 0, rounding may be as large as it likes.
    assert replace(proof, gathered=[replace(large, truth=0.0, is_zero=True, precision=128)]).failures == []

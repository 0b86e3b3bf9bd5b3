"""A program that is written anew from its tape is the program: bit by bit, node by node."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphlens
from graphlens.analyses.proof import Proof
from graphlens.capture.program import Program, subject_program, tensors_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import Trace, observe
from graphlens.proof.code import write_code
from graphlens.proof.prove import prove
from graphlens.proof.simplify import simplify


def recorded(program: Program) -> tuple[Trace, Tape]:
    torch.manual_seed(0)
    trace = observe(program)
    torch.manual_seed(0)
    return trace, record_tape(program, trace.graph)


def proved(program: Program, same: Mapping[int, int] | None = None) -> Proof:
    trace, tape = recorded(program)
    return prove(program, trace, tape, same or {}, repeats=1)


def assert_is_the_program(proof: Proof) -> None:
    comparison = proof.comparison
    assert comparison is not None, proof.refusal
    assert comparison.a.graph is not None
    assert comparison.b.graph is not None
    assert len(comparison.a.graph) == len(comparison.b.graph)
    assert comparison.stats_a is not None
    assert comparison.stats_b is not None
    assert comparison.stats_a.total.storage_bytes == comparison.stats_b.total.storage_bytes
    for row in (*comparison.outputs, *comparison.gradients):
        assert row.a == row.b
        assert row.a == "none" or row.max_abs == 0.0, row
    assert proof.holds, proof.failures


def module(make: torch.nn.Module, *args: torch.Tensor, **kwargs: torch.Tensor) -> Program:
    return subject_program(graphlens.Subject(make, args, kwargs, name="model"))


def convolution() -> Program:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(36, 3),
    )  # fmt: skip
    return module(layers.eval(), torch.randn(2, 3, 8, 8))


def recurrent() -> Program:
    return module(torch.nn.LSTM(4, 5, batch_first=True), torch.randn(2, 6, 4))


def encoder() -> Program:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return module(torch.nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 8))  # in training: dropout


def gpt2() -> Program:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    ids = torch.randint(0, 20, (2, 8))
    return module(transformers.GPT2LMHeadModel(config), input_ids=ids, labels=ids)


def written_rows() -> Program:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[2] = y[1] * 3
        y[0].mul_(2)
        table = torch.zeros(4, dtype=x.dtype)
        for row in range(3):
            table[row] = y[:, row].sum() * row
        return (table.pow(2).sum() + y.sum()) * x.detach().mean()

    return subject_program(graphlens.Subject(forward, (torch.randn(4, 3, dtype=torch.float64, requires_grad=True),)))


def without_grad() -> Program:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        with torch.no_grad():
            scale = y.abs().max()
            scale = scale + 1
        return (y / scale + y.detach()).sum()

    return subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),)))


def several_outputs() -> Program:
    def forward(x: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        values, places = (x @ weights).topk(2)
        low, high = values.split(1, dim=-1)
        return {"low": low.squeeze(), "high": high[1:], "places": places.float().mean() * high.sum()}

    args = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    return subject_program(graphlens.Subject(forward, args))


MODELS = [convolution, recurrent, encoder, gpt2, without_grad, several_outputs]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_nothing_changed_is_the_same_program(make: Callable[[], Program]) -> None:
    torch.manual_seed(1)
    assert_is_the_program(proved(make()))


def test_writes_into_views_give_the_same_numbers() -> None:
    torch.manual_seed(1)
    proof = proved(written_rows())

    # As functions they make other nodes than CopySlices.
    assert proof.holds, proof.failures or proof.refusal


@pytest.mark.parametrize("name", ["wasteful", "hoisted", "efficient"])
@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_the_lessons_are_the_same_program(name: str, form: str) -> None:
    assert_is_the_program(proved(subject_program(graphlens.lesson(name, n=4, form=form))))


def test_equal_values_are_computed_once() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.exp().sum() + (x.exp() * 2).sum()

    program = subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),)))
    _, tape = recorded(program)
    first, second = (call.outputs[0] for call in tape.calls if str(call.function) == "aten.exp.default")
    assert first is not None
    assert second is not None
    proof = proved(program, {second: first})

    assert proof.holds, proof.failures
    assert proof.comparison is not None
    assert proof.comparison.a.graph is not None
    assert proof.comparison.b.graph is not None
    ops = [
        Counter(node.op for node in side.graph.nodes)["ExpBackward0"]
        for side in (proof.comparison.a, proof.comparison.b)
        if side.graph
    ]
    assert ops == [2, 1]
    assert proof.prediction is not None
    assert proof.prediction.nodes == len(proof.comparison.b.graph) == len(proof.comparison.a.graph) - 1
    assert proof.code.count(".exp()") == 1


def test_a_false_equality_is_not_proved() -> None:
    """relu(x) is x for these inputs, and for no others."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x.relu() * 3).sum()

    x = torch.full((50,), 1e-3).requires_grad_()
    program = subject_program(graphlens.Subject(forward, (x,)))
    _, tape = recorded(program)
    (call,) = [call for call in tape.calls if "relu" in str(call.function) and not call.backward]
    assert call.outputs[0] is not None
    right = proved(program, {call.outputs[0]: call.inputs[0]})
    assert right.holds

    def shifted(x: torch.Tensor) -> torch.Tensor:
        return ((x - 1).relu() * 3).sum()

    x = torch.full((50,), 1.001).requires_grad_()
    program = subject_program(graphlens.Subject(shifted, (x,)))
    _, tape = recorded(program)
    (call,) = [call for call in tape.calls if "relu" in str(call.function) and not call.backward]
    assert call.outputs[0] is not None
    wrong = proved(program, {call.outputs[0]: call.inputs[0]})

    assert not wrong.holds
    assert "on inputs changed by" in " ".join(wrong.failures)
    assert x.tolist() == torch.full((50,), 1.001).tolist()  # the inputs are put back


def test_a_gradient_that_is_lost_is_not_proved() -> None:
    """x·w − x·w + x is x, and the gradient of w is 0; x·w is not x, though it has the same value where w is 1."""

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (x * w).sum()

    program = subject_program(
        graphlens.Subject(forward, (torch.randn(4, requires_grad=True), torch.ones(4, requires_grad=True)))
    )
    _, tape = recorded(program)
    (call,) = [call for call in tape.calls if "mul" in str(call.function) and not call.backward]
    assert call.outputs[0] is not None
    proof = proved(program, {call.outputs[0]: call.inputs[0]})

    assert any("the gradient of w is gone" in failure for failure in proof.failures)


def test_what_was_cut_off_on_purpose_stays_cut_off() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            weights = x.exp()
        return (weights * x.exp()).sum()

    program = subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),)))
    _, tape = recorded(program)
    first, second = (call.outputs[0] for call in tape.calls if str(call.function) == "aten.exp.default")
    assert first is not None
    assert second is not None

    assert_is_the_program(proved(program, {second: first}))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def test_a_custom_function_is_refused() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return Square.apply(x).sum()

    proof = proved(subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),))))

    assert "SquareBackward" in proof.refusal
    assert "test_simplify_and_code.py" in proof.refusal
    assert not proof.holds


def test_state_that_outlives_the_run_is_refused() -> None:
    norm = torch.nn.BatchNorm1d(3)
    proof = proved(module(norm, torch.randn(4, 3, requires_grad=True)))
    assert "outlive" in proof.refusal

    state = torch.zeros(4)

    def forward(x: torch.Tensor) -> torch.Tensor:
        state.add_(1)
        return (x * state).sum()

    proof = proved(subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),))))
    assert "outlives the run" in proof.refusal


def test_a_number_that_left_the_graph_is_refused() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x / x.norm().item()).sum()

    proof = proved(subject_program(graphlens.Subject(forward, (torch.randn(4, requires_grad=True),))))

    assert "reads the number" in proof.refusal


def test_another_way_is_noticed() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x * 2 if x.sum() > 0 else x * 3).sum()

    program = subject_program(graphlens.Subject(forward, (torch.ones(3, requires_grad=True),)))
    trace, tape = recorded(program)
    assert trace.graph is not None
    code = write_code(simplify(tape, trace.graph, {}), trace.graph, "branch")
    names: dict[str, Any] = {}
    exec(code.text, names)

    assert names["simplified_branch"](torch.ones(3)) == 6.0
    with pytest.raises(ValueError, match="another way"):
        names["simplified_branch"](-torch.ones(3))


def test_finished_tensors_cannot_be_tried_with_others() -> None:
    def make() -> tuple[torch.Tensor, ...]:
        x = torch.randn(4, requires_grad=True)
        return ((x * x).sum(),)

    proof = proved(tensors_program("made", make))

    assert proof.holds, proof.failures or proof.refusal
    assert "makes its tensors itself" in proof.trials[0].failure


def test_the_code_stands_by_itself(tmp_path: Path) -> None:
    program = subject_program(graphlens.lesson("wasteful", n=3))
    trace, tape = recorded(program)
    assert trace.graph is not None
    code = write_code(simplify(tape, trace.graph, {}), trace.graph, "wasteful")
    (tmp_path / "simplified.py").write_text(code.text)
    torch.save({name: tape.tensors[value] for name, value in code.leaves.items()}, tmp_path / "leaves.pt")
    script = (
        "import torch; from simplified import simplified_wasteful as f; leaves = torch.load('leaves.pt');"
        "print(f(**leaves)[0].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(tape.tensors[tape.outputs["g"]].tolist())


NAMES = ["x", "torch", "class", "a.b.0", "0", "ü", "same_way", "product", "sum", "import", "a b", "__x"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
def test_any_name_becomes_one_of_pythons(names: list[str]) -> None:
    leaves = {name: torch.randn(3, requires_grad=True) for name in names}

    class Model(torch.nn.Module):
        def forward(self) -> torch.Tensor:
            total = torch.zeros(3)
            for leaf in leaves.values():
                total = total + leaf * leaf.sum()
            return total

    program = subject_program(graphlens.Subject(Model(), name="a model.py:1"))
    program = Program(program.name, program.forward, leaves)

    assert_is_the_program(proved(program))


def test_a_side_that_is_not_the_usual_one_is_written() -> None:
    """`left=False` is no default that could be left out."""
    b = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    a = (torch.randn(3, 3, dtype=torch.float64) + 4 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    run = graphlens.Subject(lambda a, b: torch.linalg.solve(a, b, left=False).square().sum(), (a, b))
    proof = proved(subject_program(run))

    assert_is_the_program(proof)
    assert "torch.linalg.solve(a, b, left=False)" in proof.code

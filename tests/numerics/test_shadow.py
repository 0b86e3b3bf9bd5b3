"""The shadow in float64 against the model itself in float64; shares of errors against the errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graphlens.capture.program import Program, subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import observe
from graphlens.graph import GradGraph
from graphlens.numerics.attribution import attribute
from graphlens.numerics.reference import ShadowReference
from graphlens.numerics.shadow import doubles_of, in_float64, is_number, wide, wide_call
from graphlens.numerics.study import Study, Target, targets_of, wide_local_error
from graphlens.subject import Subject
from tests.numerics import narrow_models as models

pytest.importorskip("transformers")
aten = torch.ops.aten


def recorded(subject: Subject) -> tuple[Program, GradGraph, Tape]:
    program = subject_program(subject)
    torch.manual_seed(1)
    graph = observe(program).graph
    assert graph is not None
    torch.manual_seed(1)
    return program, graph, record_tape(program, graph)


def study_of(subject: Subject) -> Study:
    _, graph, tape = recorded(subject)
    return Study(tape, graph, targets_of(tape), ShadowReference(tape, in_float64(tape)), exactly=False)


class InDouble(TorchFunctionMode):
    """Takes casts to float32 that stand in a model's code, as for a loss, for casts to float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()

        def wider(item: Any) -> Any:
            return torch.float64 if item is torch.float32 else item

        return func(*map(wider, args), **{key: wider(item) for key, item in (kwargs or {}).items()})


def some_of(targets: Sequence[Target]) -> list[Target]:
    """All outputs, and gradients from all over the model."""
    gradients = [target for target in targets if target.kind == "gradient"]
    return [target for target in targets if target.kind != "gradient"] + gradients[:: max(1, len(gradients) // 5)]


def plain_in_float64(subject: Subject) -> dict[tuple[str, str], torch.Tensor]:
    """Outputs and gradients of a copy of the model that was turned to float64 and run as it is."""

    def wider(item: Any) -> Any:
        if not isinstance(item, torch.Tensor) or not item.is_floating_point():
            return item
        return item.detach().double().requires_grad_(item.requires_grad)

    module = copy.deepcopy(subject.module).double() if isinstance(subject.module, nn.Module) else subject.module
    # One tensor that is handed in several times stays one.
    twins = {id(item): wider(item) for item in (*subject.args, *subject.kwargs.values())}
    args = [twins[id(item)] for item in subject.args]
    kwargs = {key: twins[id(item)] for key, item in subject.kwargs.items()}
    program = subject_program(Subject(module, args, kwargs, subject.loss))
    torch.manual_seed(1)
    with InDouble():
        made = program.forward()
    torch.autograd.backward(list(made.roots.values()))
    found = {("output", name): tensor.detach() for name, tensor in made.outputs.items()}
    return found | {("gradient", name): leaf.grad for name, leaf in program.leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("model", models.FLOAT32, ids=lambda model: model.__name__)
def test_the_shares_of_all_ops_sum_to_the_error_against_the_model_in_float64(model: Callable[[], Subject]) -> None:
    subject = models.made(model)
    study = study_of(subject)
    truth = plain_in_float64(subject)

    assert study.sensitivities.uncovered == {}
    checked = 0
    for target in some_of(study.targets):
        true = truth.get((target.kind, target.name))
        if true is None:
            continue
        words, weights, _ = study.along_error(target)
        error = doubles_of(study.tape.tensors[target.value]) - doubles_of(true)
        total = float((weights * error).sum())
        found = attribute(study, target)
        assert found.unmeasured == {}, target
        assert found.net == pytest.approx(total, rel=0.02, abs=0), (target, words)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("model", models.NARROWER, ids=lambda model: model.__name__)
def test_shares_sum_to_the_error_in_narrower_formats(model: Callable[[], Subject]) -> None:
    study = study_of(models.made(model))

    for target in some_of(study.targets):
        found = attribute(study, target)
        assert found.unmeasured == {}
        assert found.total is not None
        assert found.net == pytest.approx(found.total, rel=0.02), target


def test_the_shadow_of_random_draws_and_whole_numbers_is_the_run() -> None:
    _, _, tape = recorded(models.made(models.gpt2_in_training))
    shadow = in_float64(tape)

    drawn = [value for call in tape.calls if call.random for value in call.outputs]
    assert drawn
    for value in (*drawn, *(k for k, tensor in enumerate(tape.tensors) if not is_number(tensor))):
        assert torch.equal(shadow.values[value], wide(tape.tensors[value]))


def test_the_run_is_not_written_to() -> None:
    subject = models.made(models.convolutions)
    assert isinstance(subject.module, nn.Module)
    subject.module.double()
    _, _, tape = recorded(Subject(subject.module, (subject.args[0].double(),), loss=subject.loss))
    before = {name: tensor.clone() for name, tensor in subject.module.state_dict().items()}
    in_float64(tape)
    in_float64(tape, tracked=True)

    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.module.state_dict().items())


def test_the_same_infinity_in_run_and_truth_is_no_error() -> None:
    mask = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])

    def run(x: torch.Tensor) -> torch.Tensor:
        return (x + mask).softmax(-1).square().sum()

    study = study_of(Subject(run, (torch.randn(2, 2, requires_grad=True),)))
    (place,) = (k for k, call in enumerate(study.tape.calls) if call.function is aten.add.Tensor)
    call = study.tape.calls[place]
    (value,) = call.outputs
    assert value is not None
    made = wide_local_error(call, [study.tape.tensors[k] for k in call.inputs], [study.tape.tensors[value]])

    assert made is not None
    assert made[0] is not None
    assert made[0][0, 1] == 0
    error = study.error(value)
    assert error is not None
    assert error[0, 1] == 0
    assert np.isfinite(error).all()


def test_different_infinities_are_an_error() -> None:
    half = torch.tensor([6e4], dtype=torch.float16, requires_grad=True)
    study = study_of(Subject(lambda x: x * 2, (half,)))

    assert study.error(study.targets[0].value) == [math.inf]


def test_an_op_without_a_way_in_float64_is_named_and_what_follows_it_is_not_known() -> None:
    def run(x: torch.Tensor) -> dict[str, torch.Tensor]:
        kept, _ = torch.native_dropout(x, 0.5, True)
        return {"random": (kept * 3).sum(), "plain": (x * 3).sum()}

    study = study_of(Subject(run, (torch.randn(4, requires_grad=True),)))
    shadow = in_float64(study.tape)
    by_name = {target.name: target.value for target in study.targets if target.kind == "output"}

    assert list(shadow.uncovered) == ["native_dropout"]
    assert study.error(by_name["random"]) is None
    assert study.error(by_name["plain"]) is not None


def test_an_op_that_cannot_be_differentiated_is_named() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.multi_margin_loss(x, torch.tensor([1, 0])).exp()

    study = study_of(Subject(run, (torch.randn(2, 3, requires_grad=True),)))
    gradient = next(target for target in study.targets if target.kind == "gradient")

    assert dict(study.sensitivities.uncovered) == {"multi_margin_loss_backward": 1}
    assert attribute(study, gradient).unmeasured["multi_margin_loss_backward"]


def slopes(call: Any, given: list[torch.Tensor], along: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """The derivative of a call's results in a direction, by differentiating its gradient."""
    leaves = [tensor.detach().requires_grad_(is_number(tensor)) for tensor in given]
    with torch.enable_grad():
        made = wide_call(call, leaves, tracked=True)
    assert made is not None, call
    found: list[torch.Tensor | None] = []
    for result in made:
        if not isinstance(result, torch.Tensor) or not is_number(result):
            found.append(None)
        elif not result.requires_grad:
            found.append(torch.zeros_like(result))
        else:
            sent = torch.zeros_like(result, requires_grad=True)
            inputs = [leaf for leaf in leaves if leaf.requires_grad]
            grads = torch.autograd.grad(result, inputs, sent, create_graph=True, allow_unused=True)
            moves = [move for move in along if move is not None]
            pairs = [(g * m).sum() for g, m in zip(grads, moves, strict=True) if g is not None]
            found.append(torch.autograd.grad(sum(pairs), sent)[0] if pairs else torch.zeros_like(result))  # type: ignore[call-overload]
    return found


@pytest.mark.parametrize(
    "model", [models.gpt2, models.llama, models.convolutions, models.normalisations, models.lstm, models.attention],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_the_derivative_of_every_op_is_what_finite_differences_say(model: Callable[[], Subject]) -> None:
    """Finds ops that autograd follows in part alone, and says nothing of it."""
    _, _, tape = recorded(models.made(model))
    torch.manual_seed(2)
    step, seen = 1e-6, set()
    for call in tape.calls:
        key = (call.function, tuple(tape.tensors[value].shape for value in call.inputs))
        given = [wide(tape.tensors[value]) for value in call.inputs]
        if key in seen or not any(map(is_number, given)) or "empty" in str(call.function):
            continue
        seen.add(key)
        along = [torch.randn_like(item) * item.abs().mean() if is_number(item) else None for item in given]
        made = slopes(call, given, along)
        ends = []
        for sign in (1, -1):
            moved = [x if m is None else x + sign * step * m for x, m in zip(given, along, strict=True)]
            ends.append(wide_call(call, moved))
        above, below = ends
        assert above is not None
        assert below is not None
        for slope, high, low in zip(made, above, below, strict=True):
            if slope is None or high is None or not high.numel():
                continue
            difference = ((high - low) / (2 * step)).detach()
            size = max(float(difference.abs().max()), 1e-9)
            assert float((difference - slope).abs().max()) <= 1e-4 * size, call.function
    assert len(seen) > 10


def test_a_result_that_another_one_is_made_of_is_apart_from_it() -> None:
    """The mean that layer_norm hands on does not take part in the result once more."""
    study = study_of(Subject(nn.LayerNorm(6), (torch.randn(3, 6, requires_grad=True),)))
    call = next(call for call in study.tape.calls if call.function is aten.native_layer_norm.default)
    made, mean, rstd = call.outputs
    assert made is not None
    found = study.sensitivities.of(made, np.ones((3, 6)))

    assert made in found
    assert not {mean, rstd} & set(found)


def test_targets_are_found_once() -> None:
    study = study_of(models.made(models.attention))

    assert Target("output[0]", "output", study.targets[0].value) == study.targets[0]
    assert len({target.value for target in study.targets}) == len(study.targets)


def test_constants_are_those_of_the_text_and_not_of_the_format() -> None:
    _, _, tape = recorded(Subject(lambda x: x + torch.full((2,), 0.1), (torch.ones(2, requires_grad=True),)))
    (value,) = (call.outputs[0] for call in tape.calls if call.function is aten.full.default)
    assert value is not None

    assert torch.equal(in_float64(tape).values[value], torch.full((2,), 0.1, dtype=torch.float64))
    assert torch.get_default_dtype() is torch.float32


def test_whole_numbers_times_a_number_of_the_text_round_too() -> None:
    tenths = torch.arange(4) * 0.1
    study = study_of(Subject(lambda x: x + torch.arange(4) * 0.1, (torch.ones(4, requires_grad=True),)))
    (place,) = (k for k, call in enumerate(study.tape.calls) if call.function is aten.mul.Tensor)
    local = study.local[place]

    assert local is not None
    assert local[0] is not None
    np.testing.assert_array_equal(local[0], tenths.double().numpy() - np.arange(4) * 0.1)
    assert local[0].any()


def test_what_nobody_wants_is_forgotten_after_its_last_reader() -> None:
    x = torch.linspace(0.1, 0.9, 8, requires_grad=True)
    tape = record_tape(subject_program(Subject(lambda x: (x.exp() * x.sin()).sum(), (x,))))
    wanted = {target.value for target in targets_of(tape)}
    whole, part = in_float64(tape), in_float64(tape, wanted=wanted)

    assert whole.forgotten == set()
    assert all(torch.equal(part.values[value], whole.values[value]) for value in wanted)
    read = {value for call in tape.calls for value in (*call.inputs, *call.outputs) if value is not None}
    assert part.forgotten == read - wanted
    reference = ShadowReference(tape, part)
    assert all(reference.error(value) is not None for value in wanted)
    assert all(reference.error(value) is None and reference.truth(value) is None for value in part.forgotten)


def test_derivatives_are_kept_by_suspected_values_alone() -> None:
    x = torch.linspace(0.1, 0.9, 8, requires_grad=True)
    tape = record_tape(subject_program(Subject(lambda x: (x.exp() * x.sin()).sum(), (x,))))
    targets = targets_of(tape)
    shadow = in_float64(tape)
    (product,) = (call.outputs[0] for call in tape.calls if "mul" in str(call.function) and not call.backward)
    assert product is not None
    study = Study(tape, None, targets, ShadowReference(tape, shadow), False, suspected={product})  # type: ignore[arg-type]

    every = study.adjoint(targets[0])
    assert len(every) > 3
    assert set(study.suspected_adjoint(targets[0])) == {product}
    assert np.array_equal(study.suspected_adjoint(targets[0])[product], every[product])
    study.forget_derivatives()
    assert "sensitivities" not in vars(study)
    assert np.array_equal(study.adjoint(targets[0])[product], every[product]), "what is asked for again is made again"

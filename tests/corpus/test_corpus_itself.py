"""The corpus is what it says: each program is run in plain torch and its gradients are looked at."""

from __future__ import annotations

import inspect
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graphlens.subject import Subject
from tests.corpus import FAULTY, HEALTHY, MODULES, Case

CASES = [*FAULTY, *HEALTHY]
MESSAGES = {
    "no_grad throughout": "does not require grad",
    "all frozen": "does not require grad",
    "loss without the prediction": "does not require grad",
    "in-place": "modified by an inplace operation",
    "weights changed": "modified by an inplace operation",
    "freed": "a second time",
    "no derivative": "is not implemented",
}


# Sound programs of which a gradient is zero at these values, and not at others.
ZERO_FOR_NOW = {
    "rectifier_is_dead_for_this_batch": {"layer.weight", "layer.bias"},
    "low_rank_adapter_beside_a_frozen_layer": {"down"},
}


# Values are asked for their truth, and an error is raised on one answer: there is one graph all the same.
GUARDED = {
    "arguments_of_a_distribution_are_validated",
    "inputs_are_asserted_to_be_positive",
    "latent_is_drawn_by_rsample",
    "latent_is_drawn_by_sample_instead_of_rsample",
    "loss_that_diverges_stops_the_training",
    "policy_gradient_samples_and_scores",
    "target_policy_is_smoothed_by_samples",
}


class Run(NamedTuple):
    """What a program gave: its loss, and for each wanted leaf a gradient or None."""

    loss: torch.Tensor
    gradients: dict[str, torch.Tensor | None]
    strangers: int  # leaves in the graph that nobody asked for
    decisions: int  # times that a tensor was asked for its truth


class Decisions(TorchFunctionMode):
    """Counts how often Python asks a tensor whether it is true."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.Tensor.__bool__
        return func(*args, **(kwargs or {}))


def run(case: Case) -> Run:
    subject = case.build()
    leaves = wanted(subject)
    with warnings.catch_warnings(), Decisions() as decisions:
        warnings.simplefilter("ignore")
        loss = loss_of(subject)
    able = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    found: Mapping[str, torch.Tensor | None] = {}
    strangers = 0
    if loss.requires_grad and able:
        strangers = len(leaves_behind(loss) - set(leaves.values()))
        found = backward(case, loss, able)
    return Run(loss.detach(), {name: found.get(name) for name in leaves}, strangers, decisions.count)


def wanted(subject: Subject) -> dict[str, torch.Tensor]:
    """The arguments and parameters that require a gradient, by the names that the corpus uses."""
    function = subject.module.forward if isinstance(subject.module, nn.Module) else subject.module
    given = dict(inspect.signature(function).bind(*subject.args, **subject.kwargs).arguments)
    if isinstance(subject.module, nn.Module):
        given |= dict(subject.module.named_parameters())
    return {name: value for name, value in given.items() if isinstance(value, torch.Tensor) and value.requires_grad}


def loss_of(subject: Subject) -> torch.Tensor:
    output = subject.module(*subject.args, **subject.kwargs)
    if subject.loss is not None:
        return subject.loss(output)
    if hasattr(output, "loss"):
        return output.loss
    return sum((part.sum() for part in parts(output)), start=torch.zeros(()))


def parts(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from parts(part)


def backward(case: Case, loss: torch.Tensor, able: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    if case.code is None and case.mechanism == "reentrant checkpoint":  # It refuses `autograd.grad`.
        loss.backward()
        return {name: leaf.grad for name, leaf in able.items()}
    return dict(zip(able, torch.autograd.grad(loss, list(able.values()), allow_unused=True), strict=True))


def leaves_behind(loss: torch.Tensor) -> set[torch.Tensor]:
    waiting, seen, found = [loss.grad_fn], {loss.grad_fn}, set()
    if loss.grad_fn is None:
        return {loss}
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            found.add(node.variable)
        following = {following for following, _ in node.next_functions} - seen - {None}
        seen |= following
        waiting.extend(following)
    return found


def without_gradient(result: Run) -> set[str]:
    return {name for name, gradient in result.gradients.items() if gradient is None}


def of(*codes: str) -> Any:
    cases = [case for case in FAULTY if case.code in codes]
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
every_sound_case = pytest.mark.parametrize("case", HEALTHY, ids=[case.name for case in HEALTHY])


# The corpus as a whole


def test_there_are_enough_cases_under_their_own_names():
    assert len(FAULTY) >= 46
    assert len(HEALTHY) >= 46
    assert max(Counter(case.name for case in CASES).values()) == 1


def test_the_mechanisms_are_spread():
    assert len({case.mechanism for case in FAULTY if case.code == "GL101"}) >= 20
    assert len({case.mechanism for case in HEALTHY}) >= 40
    assert {case.code for case in FAULTY} == {f"GL10{k}" for k in range(1, 9)}
    assert all(case.mechanism for case in CASES)


def test_every_module_enters_its_cases():
    assert {case.build.__module__ for case in CASES} == {module.__name__ for module in MODULES}


# Each case


@of("GL101", "GL102", "GL103", "GL104")
def test_nothing_else_is_wrong_with_a_faulty_case(case):
    result = run(case)
    kept = {name: gradient for name, gradient in result.gradients.items() if gradient is not None}
    assert all(gradient.isfinite().all() for gradient in kept.values())
    assert all(gradient.any() for gradient in kept.values())


@every_case
def test_values_are_asked_for_their_truth_where_the_case_says_so(case):
    if case.code != "GL106":
        asked = "GL103" in {case.code, *case.allowed} or case.name in GUARDED
        assert (run(case).decisions > 0) == asked


@every_case
def test_names_are_those_of_wanted_leaves(case):
    leaves = wanted(case.build())
    assert case.lost <= set(leaves)
    assert case.zero <= set(leaves)
    assert not case.lost & case.zero
    assert case.code not in case.allowed


@every_case
def test_building_is_repeatable(case):
    first = case.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = loss_of(first).detach()
        second = case.build()
        assert second.module is not first.module
        torch.testing.assert_close(loss_of(second).detach(), loss, rtol=0, atol=0, equal_nan=True)
    assert first.name == case.name
    assert all(leaf.grad is None for leaf in wanted(first).values() if "inside forward" not in case.mechanism)


@every_case
def test_the_fault_is_marked_on_one_line(case):
    lines, first = inspect.getsourcelines(inspect.unwrap(case.build))
    marked = [first + k for k, line in enumerate(lines) if "# <- fault" in line]
    if case.code is None or case.code == "GL104" or case.mechanism == "all frozen":
        assert marked == []
        assert case.line is None
        assert not case.near
    else:
        assert [case.line] == marked
        assert case.near == {first + k for k, line in enumerate(lines) if "# <- near" in line}


@of("GL101")
def test_the_lost_leaves_of_a_cut_get_no_gradient(case):
    result = run(case)
    assert case.lost
    assert without_gradient(result) == case.lost
    assert math.isfinite(result.loss)
    assert (result.strangers > 0) == ("GL102" in case.allowed)
    assert ("GL106" in case.allowed) == (case.lost == set(result.gradients))


@of("GL102")
def test_a_leaf_of_its_own_is_in_the_graph(case):
    result = run(case)
    assert without_gradient(result) == case.lost == set()
    assert result.strangers > 0


@of("GL103")
def test_a_value_decides(case):
    result = run(case)
    assert without_gradient(result) == case.lost
    assert result.decisions > 0
    assert result.strangers == 0


@of("GL104")
def test_unused_parameters_get_no_gradient(case):
    result = run(case)
    assert case.lost
    assert without_gradient(result) == case.lost


@of("GL105")
def test_the_gradient_is_zero_throughout(case):
    result = run(case)
    assert without_gradient(result) == case.lost == set()
    assert case.zero == {name for name, gradient in result.gradients.items() if not gradient.any()}
    assert case.zero


@of("GL108")
def test_a_leaf_that_receives_a_gradient_is_not_listed(case):
    result = run(case)
    assert without_gradient(result) == case.lost == set()
    assert result.strangers > 0


@of("GL106")
def test_backward_fails(case):
    subject = case.build()
    leaves = wanted(subject)
    loss = loss_of(subject)
    (message,) = [text for word, text in MESSAGES.items() if case.mechanism.startswith(word)]
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(loss, [*leaves.values()], allow_unused=True) if leaves else loss.backward()
    assert loss.requires_grad == (message != "does not require grad")
    assert case.lost == (set() if loss.requires_grad else set(leaves))


@of("GL107")
def test_the_loss_or_a_gradient_is_not_finite(case):
    result = run(case)
    assert without_gradient(result) == case.lost == set()
    numbers = [result.loss, *result.gradients.values()]
    assert not all(number.isfinite().all() for number in numbers)


@every_sound_case
def test_a_sound_case_reaches_every_wanted_leaf(case):
    result = run(case)
    assert result.gradients
    assert without_gradient(result) == case.lost
    assert bool(case.lost) == (case.mechanism == "twin")
    assert math.isfinite(result.loss)
    assert all(gradient.isfinite().all() for gradient in result.gradients.values() if gradient is not None)
    assert result.strangers == (case.mechanism == "inner gradient")


@every_sound_case
def test_a_sound_case_has_a_zero_gradient_only_for_now(case):
    gradients = run(case).gradients
    still = {name for name, gradient in gradients.items() if gradient is not None and not gradient.any()}
    assert still == ZERO_FOR_NOW.get(case.name, set())

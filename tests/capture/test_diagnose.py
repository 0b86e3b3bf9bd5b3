"""Further runs: from the same state, and against autograd's own anomaly mode."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pytest
import torch

import graphlens
from graphlens.capture.diagnose import Start
from graphlens.capture.program import subject_program
from graphlens.subject import Subject


class Stateful(torch.nn.Module):
    """Changes its buffer, its parameter and its flags at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.w.data.mul_(2)
        self.w.requires_grad_(False)
        return (self.w * x * torch.rand(2) * self.calls).sum()


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_state_again_and_then_as_it_was(fails: bool) -> None:
    module = Stateful()
    x = torch.ones(2, requires_grad=True)
    program = subject_program(Subject(module, (x,)))
    start = Start.of(program)
    first = program.forward().loss
    random = torch.get_rng_state()

    with pytest.raises(RuntimeError) if fails else start.again():
        if fails:
            with start.again():
                program.forward()
                raise RuntimeError
        assert program.forward().loss == first

    assert (module.calls.item(), module.w.tolist(), module.w.requires_grad) == (1, [2, 2], False)
    assert torch.equal(torch.get_rng_state(), random)
    with start.again():
        assert (module.calls.item(), module.w.tolist(), module.w.requires_grad) == (0, [1, 1], True)


@pytest.mark.parametrize(
    ("forward", "value", "op"),
    [
        (lambda x: x.sqrt().mul(0.0).sum(), 0.0, "SqrtBackward0"),
        (lambda x: torch.where(x > 1, x.sqrt(), x * 2).mul(2).sum(), -1.0, "SqrtBackward0"),
        (lambda x: (x * 1).acos().mul(2).sum(), 1.0, None),
        (lambda x: (x.pow(0.5) * x).mul(3).sum(), 0.0, None),
    ],
    ids=["sqrt at 0 times 0", "where", "acos", "pow"],
)
def test_the_node_that_anomaly_mode_names(
    forward: Callable[[torch.Tensor], torch.Tensor], value: float, op: str | None
) -> None:
    trace = graphlens.trace(forward, torch.full((2,), value, requires_grad=True), diagnose=True)
    found = trace.observation.backward_fault

    x = torch.full((2,), value, requires_grad=True)
    message = ""
    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("ignore")
            forward(x).backward()
    except RuntimeError as error:
        message = str(error)
    named = re.search(r"Function '(\w+)' returned nan", message)
    assert found is not None
    assert found.node is not None
    assert trace.graph is not None
    if named is not None and found.what == "NaN":
        assert trace.graph.nodes[found.node].op == named[1]
    if op is not None:
        assert trace.graph.nodes[found.node].op == op


def test_ranges_of_the_call_that_made_nan() -> None:
    trace = graphlens.trace(lambda x: (x.log() * 2).sum(), torch.tensor([-1.0, 4.0], requires_grad=True), diagnose=True)
    fault = trace.observation.forward_fault

    assert fault is not None
    assert (fault.what, fault.inputs[0].low, fault.inputs[0].high, fault.outputs[0].nan) == ("NaN", -1.0, 4.0, 1)


def test_nothing_is_said_of_a_program_that_differs_from_run_to_run() -> None:
    counter = iter(range(100))
    x = torch.ones(2, requires_grad=True)
    w = torch.ones(1, requires_grad=True)
    # Python's own arithmetic leaves no trace, so that only changed runs could tell that w * … needs x.
    trace = graphlens.trace(lambda x, w: w * (float(x.sum()) + next(counter)), x, w, diagnose=True)

    assert trace.observation.dependence == {}
    assert [item.code for item in trace.findings if item.level == "error"] == []


def test_which_entries_depend_on_a_lost_leaf() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        numbers = w.tolist()
        return torch.stack([x * 2, x * numbers[0], x * (numbers[1] + 1)])

    ends = (torch.tensor(3.0, requires_grad=True), torch.ones(2, requires_grad=True))
    trace = graphlens.trace(forward, *ends, diagnose=True)

    assert trace.observation.dependence["w"]["output"] == [1, 2]
    assert [item.code for item in trace.findings if item.level == "error"] == ["GL101"]


def test_gradients_and_flags_are_left_alone() -> None:
    module = torch.nn.Linear(2, 1)
    module.weight.grad = torch.full((1, 2), 7.0)
    graphlens.trace(
        lambda x: module(x).detach().sum() + x.log().sum(), torch.zeros(2, requires_grad=True), diagnose=True
    )

    assert module.weight.grad.tolist() == [[7.0, 7.0]]
    assert module.bias.grad is None
    assert module.weight.requires_grad

"""Who switched gradients off: blocks in blocks, decorators, inference mode, custom Functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphlens.capture.record import Recorder
from graphlens.capture.switches import Switch, Switches
from graphlens.flow import BLOCKS, CHECKPOINT, GRAD, NO_GRAD, SAMPLE


def states(run: Callable[[], object]) -> list[tuple[str, str]]:
    """The switches of a run, as their function and the text of the line that is named."""
    recorder = Recorder({})
    with recorder:
        run()
    sources = recorder.sites.sources()
    steps = [step for step in recorder.steps if step.function in (GRAD, *BLOCKS)]
    return [(step.function, "" if step.source is None else sources[step.source].text) for step in steps]


def sampled() -> None:
    torch.distributions.Normal(torch.zeros(2), torch.ones(2)).sample()


def block_in_a_block() -> None:
    with torch.no_grad():
        with torch.no_grad():
            pass
        with torch.enable_grad():
            pass


def inference_in_a_block() -> None:
    with torch.no_grad(), torch.inference_mode():
        pass
    with torch.inference_mode():
        with torch.inference_mode(False):
            pass
        torch.zeros(1)


@torch.no_grad()
def decorated() -> None:
    pass


@torch.inference_mode()
def inferred() -> None:
    pass


def decorated_in_a_block() -> None:
    decorated()
    inferred()
    with torch.no_grad():
        decorated()


def switched_by_hand() -> None:
    torch.set_grad_enabled(False)
    with torch.no_grad():
        pass
    torch.set_grad_enabled(True)


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


def block_after_a_function() -> None:
    Exp.apply(torch.ones(2, requires_grad=True))
    with torch.no_grad():
        pass


def reentrant() -> None:
    checkpoint(torch.exp, torch.ones(2), use_reentrant=True)


OFF, ON = "with torch.no_grad():", (GRAD, "")


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        (block_in_a_block, [(NO_GRAD, OFF), (GRAD, "with torch.enable_grad():"), (NO_GRAD, OFF), ON]),
        (decorated_in_a_block, [(NO_GRAD, "@torch.no_grad()"), ON, (NO_GRAD, "@torch.inference_mode()"), ON,
                                (NO_GRAD, OFF), ON]),
        (switched_by_hand, [(NO_GRAD, "torch.set_grad_enabled(False)"), (GRAD, "torch.set_grad_enabled(True)")]),
    ],
)  # fmt: skip
def test_the_outermost_block_is_named(run: Callable[[], None], seen: list[tuple[str, str]]) -> None:
    assert states(run) == seen
    assert torch.is_grad_enabled()


def test_inference_mode_is_a_block() -> None:
    both, alone = "with torch.no_grad(), torch.inference_mode():", "with torch.inference_mode():"

    seen = states(inference_in_a_block)

    assert seen[:2] == [(NO_GRAD, both), ON]
    assert seen[2] == (NO_GRAD, alone)
    assert seen[-1] == ON
    assert torch.inference_mode.__enter__.__module__ == "torch.autograd.grad_mode"


def test_what_switches_unseen_leaves_nothing_behind() -> None:
    assert states(block_after_a_function)[-2:] == [(NO_GRAD, OFF), ON]
    assert (CHECKPOINT, "checkpoint(torch.exp, torch.ones(2), use_reentrant=True)") in states(reentrant)


def test_a_distribution_that_is_sampled_is_told_apart_from_a_block() -> None:
    seen = states(sampled)

    assert seen == [(SAMPLE, "torch.distributions.Normal(torch.zeros(2), torch.ones(2)).sample()"), ON]


def test_a_block_that_was_never_left() -> None:
    switches, off = Switches(), Switch(False, NO_GRAD, 1)

    assert switches.moved(True, off, leaving=False) == off
    assert switches.moved(False, Switch(False, NO_GRAD, 2), leaving=False) is None
    assert switches.moved(False, Switch(True), leaving=True) == Switch(True)  # by hand, inside
    assert switches.moved(True, Switch(True), leaving=True) is None
    assert switches.moved(True, Switch(True), leaving=True) is None  # of a block that was open before
    # Somebody else has switched gradients off since: it is not known who.
    assert switches.moved(False, Switch(False, NO_GRAD, 3), leaving=False) == Switch(False, NO_GRAD, 3)

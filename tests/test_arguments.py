"""Wrong arguments of the Python calls: one clear line where they are ours, the user's own error where it is theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

import graphlens
from graphlens.errors import TargetError

Call = Callable[..., object]


def times(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum()


@pytest.mark.parametrize("call", [graphlens.trace, graphlens.explain])
@pytest.mark.parametrize("wrong", [5, None, "wasteful", [torch.nn.Linear(2, 2)]])
def test_what_cannot_be_called(call: Call, wrong: object) -> None:
    with pytest.raises(TargetError, match=r"cannot be called; pass a torch\.nn\.Module, a function"):
        call(wrong)


def test_an_option_that_a_lesson_has_not() -> None:
    with pytest.raises(TargetError, match="wasteful has no option 'k'; it has n, d, T, seed_A"):
        graphlens.lesson("wasteful", k=3)


def test_sides_that_cannot_be_compared() -> None:
    good = graphlens.trace(graphlens.lesson("efficient", n=2))
    for pair in ((good, 3), (3, good), (good, torch.ones(2))):
        with pytest.raises(TargetError, match="is no trace and no graph; compare takes"):
            graphlens.compare(*pair)  # type: ignore[arg-type]
    assert graphlens.compare(good, good.graph)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [graphlens.trace, graphlens.explain])
@pytest.mark.parametrize("pack", [tuple, list])
def test_arguments_that_were_passed_as_one(call: Call, pack: Callable[[object], object]) -> None:
    inputs = pack([torch.ones(2, requires_grad=True), torch.ones(2)])
    with pytest.raises(TypeError, match="missing 1 required positional argument") as caught:
        call(times, inputs)

    if sys.version_info >= (3, 11):
        [note] = caught.value.__notes__
        assert f"pass them one by one: graphlens.{getattr(call, '__name__', '')}(model, *inputs)" in note
    assert call(times, *inputs)  # type: ignore[misc]


def test_other_errors_of_the_users_code_have_no_note() -> None:
    for args in ((torch.ones(2),), (torch.ones(2), torch.ones(2), torch.ones(2))):
        with pytest.raises(TypeError) as caught:
            graphlens.trace(times, *args)
        assert not getattr(caught.value, "__notes__", [])
    # A module may take one list: nothing is noted where it does.
    assert graphlens.trace(lambda pair: times(*pair), [torch.ones(2, requires_grad=True), torch.ones(2)]).graph

"""Small programs with loops, for the tests of what loops hand on and how their error grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

import graphlens
from graphlens.accuracy import LoopErrors
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.exact import replay
from graphlens.numerics.growth import loop_errors
from graphlens.numerics.loops import Loop, carried_values
from graphlens.numerics.reference import ExactReference, ShadowReference
from graphlens.numerics.shadow import in_float64
from graphlens.numerics.study import Study, targets_of
from graphlens.subject import Subject

Tensor = torch.Tensor


class Module(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


class Looked(NamedTuple):
    study: Study
    loops: list[Loop]
    errors: list[LoopErrors]
    notes: list[str]


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def of(function: Callable[..., Tensor], *args: Tensor) -> Subject:
    return Subject(Module(function), args, loss=torch.sum)


def taped(subject: Subject) -> tuple[Tape, graphlens.GradGraph]:
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return record_tape(subject_program(subject), graph), graph


def look(subject: Subject, *, exactly: bool = True, alters: Callable[[Tape], None] = lambda _: None) -> Looked:
    """The errors along the loops of a subject, against exact arithmetic or a run in float64."""
    tape, graph = taped(subject)
    alters(tape)
    targets = targets_of(tape)
    loops = carried_values(tape, graphlens.fold(graph))
    wanted = {target.value for target in targets}.union(*(loop.wanted for loop in loops))
    reference: ExactReference | ShadowReference
    if exactly:
        reference = ExactReference(tape, replay(tape, wanted=wanted))
    else:
        reference = ShadowReference(tape, in_float64(tape))
    study = Study(tape, graph, targets, reference, exactly)
    return Looked(study, loops, *loop_errors(study, loops))


def forward(looked: Looked) -> LoopErrors:
    (found,) = [errors for errors in looked.errors if not errors.backward]
    return found


@cache
def wasteful(n: int, name: str = "wasteful") -> Looked:
    return look(graphlens.lesson(name, n=n))

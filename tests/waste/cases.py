"""What a case is, and how it is looked into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

import graphlens
from graphlens.analyses.redundancy import Redundancy, redundancy
from graphlens.capture.listing import listing_of
from graphlens.capture.program import Program, subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import Trace, observe
from graphlens.capture.verifying import verifier

Forward = Callable[..., torch.Tensor]


@dataclass
class Case:
    """A function with its inputs, by name: shapes of float64 tensors that require a gradient."""

    forward: Forward
    shapes: Mapping[str, tuple[int, ...]]

    def args(self) -> list[torch.Tensor]:
        """Random, and square matrices A, B, C far from singular."""
        generator = torch.Generator().manual_seed(3)
        made = []
        for name, shape in self.shapes.items():
            tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
            if name in "ABC" and len(shape) == 2 and shape[0] == shape[1]:
                tensor = tensor + 4 * torch.eye(shape[0], dtype=torch.float64)
            made.append(tensor.requires_grad_())
        return made

    def program(self) -> Program:
        """The function on these inputs."""
        return subject_program(graphlens.Subject(self.forward, self.args(), name="case"))


@dataclass
class Planted(Case):
    """A program that wastes something.

    Attributes:
        code: of the one finding that it is there for.
        counts: what the finding's evidence says, to the last one.
        by_hand: the same program as a person would write it without what is repeated or undone.
        besides: codes of what else is true of it.
    """

    code: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    by_hand: Forward | None = None
    besides: frozenset[str] | set[str] = frozenset()


@dataclass
class Looked:
    """One run, and what was found in it."""

    program: Program
    trace: Trace
    tape: Tape
    result: Redundancy

    def evidence(self, code: str) -> list[Mapping[str, object]]:
        """Of the findings with a code."""
        return [finding.evidence for finding in self.result.findings if finding.code == code]

    @property
    def nodes(self) -> int:
        """Of the graph."""
        assert self.trace.graph is not None
        return len(self.trace.graph)


def look_into(program: Program) -> Looked:
    """Run a program for its graph, then for its tape, from the same random numbers."""
    torch.manual_seed(0)
    trace = observe(program, times=True)
    torch.manual_seed(0)
    tape = record_tape(program, trace.graph)
    assert trace.graph is not None
    return Looked(program, trace, tape, redundancy(listing_of(tape), trace.graph, verifier(tape)))

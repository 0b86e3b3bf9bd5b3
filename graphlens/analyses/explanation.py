"""Everything that was found out about one target, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphlens.accuracy import Accuracy
from graphlens.analyses.connectivity import Verdict
from graphlens.analyses.cost import CostTable
from graphlens.analyses.findings import Finding
from graphlens.analyses.proof import Proof
from graphlens.analyses.unrest import caution
from graphlens.graph import GradGraph
from graphlens.records import CostRun
from graphlens.shown import Report

TOPICS = ("gradients", "waste", "rounding")


@dataclass(frozen=True)
class Explanation(Report):
    """Why the gradients of a target are what they are, and cost what they cost.

    Attributes:
        topics: those of `TOPICS` that were looked into.
        gradients, waste, rounding: findings GL1xx, GL2xx and GL3xx.
        verdicts: per input and parameter whether it receives a gradient.
        costs, run: the time of the nodes, and how it was measured; None where it could not be.
        proof: the shorter program and its measurement, if that was asked for.
        accuracy: the errors of the results and who made them; None where they were not asked for.
        notes: what could not be found out, and why.
    """

    target: str
    graph: GradGraph | None
    threads: int
    topics: Sequence[str]
    verdicts: Sequence[Verdict] = ()
    gradients: Sequence[Finding] = ()
    waste: Sequence[Finding] = ()
    rounding: Sequence[Finding] = ()
    costs: CostTable | None = None
    run: CostRun | None = None
    proof: Proof | None = None
    accuracy: Accuracy | None = None
    notes: Sequence[str] = ()

    @property
    def caution(self) -> str:
        """What speaks against the times, if anything does."""
        timed = [] if self.run is None else [("the backward pass", self.run.plain)]
        if self.proof is not None and self.proof.comparison is not None and self.proof.is_shown:
            for when, run in (("before", self.proof.comparison.a), ("after", self.proof.comparison.b)):
                timed += [
                    (f"{name} {when}", timing)
                    for name, timing in (("forward", run.forward), ("backward", run.backward))
                    if timing is not None
                ]
        return caution(timed)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, by topic."""
        return (*self.gradients, *self.waste, *self.rounding)

"""Work that a forward pass could do without: findings GL201 to GL206, each checked on the run's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphlens.analyses.findings import Finding, most_serious_first
from graphlens.analyses.listing import Listing, Step, followed, leaf_names
from graphlens.analyses.redundancy.cancelling import cancelling_findings
from graphlens.analyses.redundancy.copies import copied_findings
from graphlens.analyses.redundancy.dearer import dearer_findings
from graphlens.analyses.redundancy.known import Undone
from graphlens.analyses.redundancy.loops import loop_findings
from graphlens.analyses.redundancy.numbering import Equalities, equalities
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.analyses.redundancy.repeated import repeated_findings
from graphlens.analyses.redundancy.saving import Saving, Savings
from graphlens.analyses.redundancy.telling import Telling
from graphlens.collector import paused_collector
from graphlens.graph import GradGraph


@dataclass(frozen=True)
class Redundancy:
    """What was found.

    Attributes:
        same: per value an earlier one that it is equal to.
        left: nodes of the graph that are left when equal values are computed once.
        saving: what goes with the others.
        otherwise: what can be done another way.
    """

    findings: tuple[Finding, ...]
    same: Mapping[int, int]
    left: int
    saving: Saving
    otherwise: Otherwise = field(default_factory=Otherwise)


def redundancy(listing: Listing, graph: GradGraph, holds: Callable[[int, int, Undone | None], bool]) -> Redundancy:
    """Look for values that are computed twice, work that is undone again, and dearer ways of doing the same.

    Args:
        graph: of the same run; what it knows of times is told with the findings.
        holds: says of two values whether they are equal in the run, see `equalities`.
    """
    with paused_collector(lasting=True):
        return _redundancy(listing, graph, holds)


def _redundancy(listing: Listing, graph: GradGraph, holds: Callable[[int, int, Undone | None], bool]) -> Redundancy:
    found = equalities(listing, holds)
    alive = needed(found, listing)
    savings = Savings(graph)
    telling = Telling(listing, found, savings)
    gone = _gone(listing, alive)
    otherwise = Otherwise()
    findings = [
        *repeated_findings(listing, found, telling),
        *cancelling_findings(found, gone, telling),
        *copied_findings(listing, found, telling, holds, otherwise),
        *dearer_findings(alive, listing, telling, otherwise),
        *loop_findings(alive, listing, telling),
    ]
    otherwise.by_hand.update(finding.code for finding in findings if finding.code == "GL205")
    left = _left(found, listing, alive, graph)
    return Redundancy(most_serious_first(findings), found.same, left, savings.of(gone), otherwise)


def needed(found: Equalities, listing: Listing) -> list[Step]:
    """The steps that the outputs still need, in order."""
    wanted = {found.first(value) for value in listing.ends}
    kept: list[Step] = []
    for step in reversed(found.steps):
        if step.op == "_local_scalar_dense" or any(
            value in wanted and found.made_by.get(value) is step for value in step.outputs if value is not None
        ):
            wanted.update(step.inputs)
            kept.append(step)
    kept.reverse()
    return kept


def _left(found: Equalities, listing: Listing, alive: Sequence[Step], graph: GradGraph) -> int:
    """Nodes of the graph that a gradient still comes to."""

    def carries(value: int) -> bool:
        return listing.values[value].dtype.startswith(("float", "bfloat", "complex"))

    roots = map(found.first, listing.roots)
    steps, values = followed(alive, roots, lambda step: step.is_tracked and step.op != "detach", carries)
    names = {listing.leaves[value] for value in values if value in listing.leaves}
    functions = {step.node for step in steps if step.node is not None}
    return len(functions) + sum(name in names for name in leaf_names(graph).values())


def _gone(listing: Listing, alive: Sequence[Step]) -> set[int]:
    def nodes(steps: Iterable[Step]) -> set[int]:
        return {step.node for step in steps if step.node is not None}

    return nodes(listing.steps) - nodes(alive)

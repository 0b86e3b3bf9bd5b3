"""Which inputs and parameters receive a gradient, and where the others lose it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphlens.analyses.connectivity.control import value_branches
from graphlens.analyses.connectivity.cuts import cut_findings, remaining_leaves
from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.failures import failing_backward, missing_graph, non_finite, stopping_nodes
from graphlens.analyses.connectivity.leaves import flat_gradients, fresh_leaves, unlisted_leaves, unused_leaves
from graphlens.analyses.findings import Finding, most_serious_first
from graphlens.observation import LeafFact, Observation

VERDICTS = (
    "receives a gradient",
    "frozen",
    "never used",
    "used, but nothing computed from it reaches what is differentiated",
    "used, but its value leaves the graph before the output",
    "receives a gradient that is 0 by an op's nature",
    "receives a gradient that is not finite",
    "used, but receives no gradient",
    "receives a gradient that is 0 for this data",
    "not measured",
    "ignored",
)
# Data was never meant to be trained: for a person it is another case than a frozen parameter.
NOT_ASKED = "no gradient asked for"
WORDS = (*VERDICTS[:2], NOT_ASKED, *VERDICTS[2:])


@dataclass(frozen=True)
class Verdict:
    """What became of the gradient of one input or parameter: one of VERDICTS."""

    name: str
    role: str
    verdict: str

    @property
    def words(self) -> str:
        """What a report says, one of WORDS: the verdict, with data told apart from frozen parameters."""
        return NOT_ASKED if self.verdict == VERDICTS[1] and self.role != "parameter" else self.verdict


@dataclass(frozen=True)
class Connectivity:
    """The verdict on every input and parameter, and the findings, the most serious first."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether a finding is of level error."""
        return any(finding.level == "error" for finding in self.findings)


def connectivity(seen: Observation, ignore: Iterable[str] = ()) -> Connectivity:
    """Read an observed run.

    Args:
        ignore: names of leaves that need no gradient, with wildcards: "teacher.*".

    An error is raised only where a leaf that requires a gradient gets none, or one that is useless:
    a detach in a model all of whose leaves have another path is not mentioned.
    """
    patterns = tuple(ignore)
    facts = Facts(seen, {leaf.name for leaf in seen.leaves if any(fits(leaf.name, pattern) for pattern in patterns)})
    cuts, explained = cut_findings(facts)
    stopped = list(stopping_nodes(facts))
    flat = list(flat_gradients(facts))
    cut = explained | {name for finding in stopped for name in _names(finding.evidence, "lost")}
    unused = list(unused_leaves(facts, explained))
    rest = remaining_leaves(facts, cut | {name for finding in unused for name in _names(finding.evidence, "leaves")})
    findings = [
        *cuts,
        *stopped,
        *rest,
        *fresh_leaves(facts),
        *value_branches(facts),
        *unused,
        *flat,
        *unlisted_leaves(facts),
        *failing_backward(facts),
        *missing_graph(facts, cuts[0].where if cuts else None),
        *non_finite(facts),
    ]
    by_nature = {name for finding in flat for name in _names(finding.evidence, "leaves")}
    verdicts = tuple(Verdict(leaf.name, leaf.role, _verdict(facts, leaf, by_nature, cut)) for leaf in seen.leaves)
    return Connectivity(verdicts, most_serious_first(findings))


def fits(name: str, pattern: str) -> bool:
    """Whether a leaf is meant by a pattern with wildcards; by its own name it is, whatever brackets are in it."""
    return name == pattern or fnmatchcase(name, pattern)


def _names(evidence: Mapping[str, object], key: str) -> list[str]:
    names = evidence.get(key, [])
    return list(names) if isinstance(names, list) else []


def _verdict(facts: Facts, leaf: LeafFact, by_nature: set[str], cut: set[str]) -> str:
    receives, frozen, unused, dead, leaves, zero, nonfinite, none, zero_now, unknown, ignored = VERDICTS
    if not (leaf.requires_grad and leaf.differentiable):
        return frozen
    if leaf.name in facts.ignored:
        return ignored
    if leaf.gradient == "nonfinite":
        return nonfinite
    if leaf.name in by_nature:
        return zero
    if leaf.gradient in ("value", "zero"):
        return receives if leaf.gradient == "value" else zero_now
    if leaf.name in cut or facts.matters(leaf):
        return leaves
    if leaf.gradient == "not run":
        return unknown
    if not facts.is_used(leaf):
        return unused
    if facts.is_without_effect(leaf):
        return dead
    return none if facts.seen.diagnosed else unknown

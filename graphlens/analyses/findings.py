"""What a finding is: a claim with its evidence, its place, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphlens.analyses.catalogue import PAGES

LEVELS = ("error", "warning", "info")


@dataclass(frozen=True)
class Place:
    """Where in the code, and where in the graph; what is not known is empty.

    `source` reads "model.py:12 (Encoder.forward)", `text` is that line of code. `callers` are the
    lines that called it, the innermost first, where whole stacks were recorded: of the first time
    that it was run, so that they do not make two places of one.
    """

    source: str = ""
    text: str = ""
    module: str = ""
    nodes: tuple[int, ...] = ()
    callers: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        code: stable, "GL101".
        level: "error" where a gradient that is wanted is missing or useless; "warning"; "info".
        claim: one sentence.
        evidence: what was measured, as plain values.
        fix: what to change.
    """

    code: str
    level: str
    claim: str
    where: Place = field(default_factory=Place)
    evidence: Mapping[str, object] = field(default_factory=dict)
    fix: str = ""

    @property
    def title(self) -> str:
        """What the code stands for."""
        return PAGES[self.code].title


def most_serious_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted by level, then code; findings of one code keep their order."""
    return tuple(sorted(findings, key=lambda finding: (LEVELS.index(finding.level), finding.code)))


def receive(names: Sequence[str]) -> str:
    """ "A receives", "A and M receive"."""
    return f"{listed(names)} {'receives' if len(names) == 1 else 'receive'}"


def listed(names: Iterable[str], most: int = 6) -> str:
    """ "A", "A and M", "A, M and x", "A, M, … and 12 more"."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"

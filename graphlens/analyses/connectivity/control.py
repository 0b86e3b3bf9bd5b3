"""GL103: where Python decides by a tensor's value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.findings import Finding, Place

_ASSERTION = re.compile(r"assert\b")


def value_branches(facts: Facts) -> Iterator[Finding]:
    """One finding per line that asks for the truth value of a tensor that was computed from a wanted leaf."""
    lineage = facts.lineage
    counts: dict[Place, int] = {}
    leaves: dict[Place, int] = {}
    for step in facts.flow.steps:
        if step.function != "Tensor.__bool__":
            continue
        mask = 0
        for value in step.inputs:
            mask |= lineage.carried[value]
        place = facts.place(step)
        # An assertion stops the program or does nothing: the graph is the same whenever there is one.
        if mask and not _ASSERTION.match(place.text):
            counts[place] = counts.get(place, 0) + 1
            leaves[place] = leaves.get(place, 0) | mask
    for place, count in counts.items():
        times = "once" if count == 1 else f"{count:,} times"
        yield Finding(
            "GL103", "info",
            f"Python asks {times} whether a tensor is true: other values can lead to another graph.",
            place,
            {"times": count, "computed_from": list(lineage.leaves(leaves[place]))},
            "nothing, if the branch is meant; else torch.where, which keeps one graph for all values",
        )  # fmt: skip

"""GL101: where a leaf's value leaves the graph before it reaches what is differentiated."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import FROM_PYTHON, TO_PYTHON, Mechanism, mechanism_of, shown
from graphlens.analyses.findings import Finding, Place, receive
from graphlens.flow import PYTHON
from graphlens.observation import LeafFact

# Names that networks have whose parameters follow those of another one, and are not trained. The
# short ones count as words of their own: "threshold" is not old.
_FOLLOWERS = re.compile(
    r"(?i:target|teacher|momentum|averaged?|frozen|reference|prior_policy)"
    r"|(?:(?<![A-Za-z])|(?<![A-Z])(?=[A-Z]))(?i:ema|moving|slow|old)(?![a-z])"
)


@dataclass
class _Scene:
    """All cuts that one function makes at one line."""

    mechanism: Mechanism
    place: Place
    steps: list[int] = field(default_factory=list)
    unseen: bool = False  # whether its value came back unseen
    lost: int = 0  # leaves that lose their last path here, or one of several that are all cut
    kept: int = 0  # leaves that lose a path here and receive a gradient by another


def cut_findings(facts: Facts) -> tuple[list[Finding], set[str]]:
    """The findings, and the names of the leaves that they explain."""
    lineage = facts.lineage
    missing = {leaf.name for leaf in facts.lost if leaf.value is not None}
    scenes: dict[tuple[str, str], _Scene] = {}
    lost_mask = sum(1 << bit for bit, name in enumerate(lineage.names) if name in missing)
    for cut in lineage.cuts():
        if not cut.lost & lost_mask:
            continue
        step = facts.flow.steps[cut.step]
        outputs = tuple(value for value in step.outputs if lineage.needed[value])
        mechanism, place = mechanism_of(facts.flow, step, outputs), facts.place(step)
        scene = scenes.setdefault((mechanism.name, place.source), _Scene(mechanism, place))
        scene.steps.append(cut.step)
        scene.lost |= cut.lost & lost_mask
        scene.kept |= cut.lost & ~lost_mask
    explained = {name for scene in scenes.values() for name in lineage.leaves(scene.lost)}
    found = [_finding(facts, scene) for scene in scenes.values()]
    unexplained = [leaf for leaf in facts.lost if leaf.name in missing - explained and facts.is_used(leaf)]
    for escape in _out_of_sight(facts, unexplained):
        found.append(_finding(facts, escape))
        explained.update(lineage.leaves(escape.lost))
    return found, explained


def _out_of_sight(facts: Facts, leaves: Sequence[LeafFact]) -> Iterator[_Scene]:
    """Cuts whose value came back unseen, through Python arithmetic for instance or another library.

    That the output depends on the leaf is known from runs with changed values, or else nothing is
    said. The calls that took its value out of the graph are where it left.
    """
    lineage, flow = facts.lineage, facts.flow
    candidates = {leaf.name for leaf in leaves if _depends(facts, leaf) or not facts.seen.outputs}
    mask = sum(1 << bit for bit, name in enumerate(lineage.names) if name in candidates)
    if not mask:
        return
    scenes: dict[tuple[str, str], _Scene] = {}
    for number, step in enumerate(flow.steps):
        kept = 0
        for value in step.outputs:
            kept |= lineage.live[value]
        leaving = lineage.entering(number) & mask & ~kept
        if not leaving or step.function == "Tensor.__bool__":
            continue
        mechanism, place = mechanism_of(flow, step, step.outputs), facts.place(step)
        if mechanism.says_so or step.function in TO_PYTHON:
            scene = scenes.setdefault((mechanism.name, place.source), _Scene(mechanism, place, unseen=True))
            scene.steps.append(number)
            scene.lost |= leaving
    yield from scenes.values()


def _depends(facts: Facts, leaf: LeafFact) -> bool:
    return bool(facts.seen.dependence.get(leaf.name))


def _finding(facts: Facts, scene: _Scene) -> Finding:
    lineage = facts.lineage
    lost, kept = lineage.leaves(scene.lost), lineage.leaves(scene.kept)
    blocks = [_opening(facts, number) for number in scene.steps] if not facts.flow.steps[scene.steps[0]].grad else []
    block = next(filter(None, blocks), None)
    through = f"{scene.mechanism.name}" if block is None else f"{scene.mechanism.name} (opened at {block.source})"
    count = f" (called {len(scene.steps):,} times)" if len(scene.steps) > 1 else ""
    claim = f"{receive(lost)} no gradient: {through}{count} {scene.mechanism.what}."
    evidence: dict[str, object] = {
        "lost": list(lost),
        "still_connected_by_other_paths": list(kept),
        "calls": len(scene.steps),
        "function": facts.flow.steps[scene.steps[0]].function,
    }
    if block is not None:
        evidence["block"] = block.source
    returns = _return_places(facts, scene)
    if returns:
        evidence["comes_back_at"] = returns
    entries = {name: facts.seen.dependence[name] for name in lost if facts.seen.dependence.get(name)}
    if entries:
        evidence["outputs_that_change_with_it"] = {
            name: {output: list(numbers) for output, numbers in found.items()} for name, found in entries.items()
        }
    level, fix = "error", scene.mechanism.fix
    twins = _twins(facts, lost) if scene.mechanism.says_so else {}
    if twins:
        level = "info"
        one, other = next(iter(twins.items()))
        evidence["follows"] = twins
        fix = f"nothing, if {one} is meant to follow {other}, whose parameters have the same shapes; else {fix}"
    return Finding("GL101", level, claim, scene.place, evidence, fix)


def _opening(facts: Facts, number: int) -> Place | None:
    """The line that switched gradients off for a step; None where that was not recorded."""
    steps = facts.flow.steps
    place = bisect_right(facts.openings, number) - 1
    while place >= 0:
        step = steps[facts.openings[place]]
        if step.thread == steps[number].thread:
            return facts.place(step)
        place -= 1
    return None


def _return_places(facts: Facts, scene: _Scene) -> list[str]:
    """The lines where values that left became tensors again, and the result was computed from these.

    A number that is the very object that Python was handed is followed. For what came back unseen
    it is the tensors that were made later from nothing that was recorded.
    """
    steps, needed = facts.flow.steps, facts.lineage.needed
    values = {value for number in scene.steps for value in steps[number].outputs}
    python = {value for value in values if facts.flow.values[value] & PYTHON}
    later = [step for step in steps[scene.steps[0] + 1 :] if any(needed[value] for value in step.outputs)]
    back = [step for step in later if python.intersection(step.inputs)]
    if not back and scene.unseen:
        back = [step for step in later if not step.inputs and step.function in FROM_PYTHON]
    return list(dict.fromkeys(f"{shown(step.function)} at {facts.place(step).source}" for step in back))[:6]


def _twins(facts: Facts, lost: Iterable[str]) -> dict[str, str]:
    """Modules all of whose parameters are lost, by the module that they follow; {} unless all are such."""
    shapes = {leaf.name: leaf.shape for leaf in facts.wanted}
    fed = {leaf.name for leaf in facts.wanted if leaf.gradient in ("value", "zero", "nonfinite")}
    found: dict[str, str] = {}
    heads = {name: _follower(name) for name in lost}
    for name, head in heads.items():
        if not head:
            return {}
        if head in found:
            continue
        tails = {other[len(head) :]: shape for other, shape in shapes.items() if other.startswith(f"{head}.")}
        others = {fed_name[: -len(name[len(head) :])] for fed_name in fed if fed_name.endswith(name[len(head) :])}
        match = next(
            (
                other
                for other in sorted(others)
                if other != head
                and all(shapes.get(other + tail) == shape and other + tail in fed for tail, shape in tails.items())
            ),
            None,
        )
        if match is None:
            return {}
        found[head] = match
    return found


def _follower(name: str) -> str:
    """The part of a parameter's name up to the module that is called a follower; "" if none is."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if _FOLLOWERS.search(parts[count - 1]):
            return ".".join(parts[:count])
    return ""

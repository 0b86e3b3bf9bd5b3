"""GL101: where a leaf's value leaves the graph before it reaches what is differentiated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.followers import Still, standing_still, thawing
from graphlens.analyses.connectivity.mechanisms import (
    BLOCK,
    CUTS_BY_NAME,
    DECORATED,
    FROM_PYTHON,
    REENTRANT,
    SAMPLED,
    TORCH_ALL_THE_WAY,
    Mechanism,
    shown,
)
from graphlens.analyses.connectivity.purpose import Purposes
from graphlens.analyses.connectivity.scenes import Scene, seen_scenes, unexplained, unseen_scenes
from graphlens.analyses.findings import Finding, Place, listed, receive
from graphlens.flow import CHECKPOINT, GRAD, PYTHON, SAMPLE, UNSEEN, Step
from graphlens.observation import LeafFact


def cut_findings(facts: Facts) -> tuple[list[Finding], set[str]]:
    """The findings, and the names of the leaves that they explain."""
    scenes = seen_scenes(facts)
    sure = [leaf for leaf in unexplained(facts, scenes) if facts.matters(leaf) or not facts.seen.outputs]
    scenes += unseen_scenes(facts, sure)
    purposes = Purposes(facts)
    found = [_finding(facts, scene, purposes) for scene in scenes]
    explained = {name for scene in scenes for name in facts.lineage.leaves(scene.lost)}
    return found, explained


def remaining_leaves(facts: Facts, named: Collection[str]) -> list[Finding]:
    """A finding for every leaf that receives no gradient though it is used, and that no other finding names."""
    seen = facts.seen
    if not seen.diagnosed:
        return []
    own = {leaf.name for leaf in seen.leaves}
    rest = [leaf for leaf in unexplained(facts, ()) if leaf.name in own and leaf.name not in named]
    stuck = [leaf for leaf in rest if leaf.name in seen.reached]
    sure = [leaf for leaf in rest if leaf not in stuck and facts.matters(leaf)]
    unsure = [leaf for leaf in rest if leaf not in stuck and leaf.name not in seen.dependence]
    found = []
    if stuck:
        found.append(_stuck(stuck))
    if unsure and seen.graph is not None:
        scenes = unseen_scenes(facts, unsure)
        purposes = Purposes(facts)
        found += [_finding(facts, scene, purposes, measured=False) for scene in scenes]
        told = {name for scene in scenes for name in facts.lineage.leaves(scene.lost)}
        found += _out_of_sight(facts, [leaf for leaf in unsure if leaf.name not in told], measured=False)
    return found + _out_of_sight(facts, sure, measured=True)


def _stuck(leaves: Sequence[LeafFact]) -> Finding:
    names = [leaf.name for leaf in leaves]
    them = "it" if len(names) == 1 else "them"
    return Finding(
        "GL101", "error",
        f"{receive(names)} no gradient though the backward graph leads to {them}: a node on the way passes None on; "
        "which one was not measured, as another run did not give the same graph.",
        Place(), {"lost": names},
        "let backward() of every custom Function return a gradient for each input that requires one",
    )  # fmt: skip


def _out_of_sight(facts: Facts, leaves: Sequence[LeafFact], *, measured: bool) -> list[Finding]:
    """Leaves whose value leaves the graph by no call that was recorded, by the last call that it is known from."""
    lineage, steps = facts.lineage, facts.flow.steps
    bits = {name: 1 << bit for bit, name in enumerate(lineage.names)}
    last: dict[int, list[str]] = {}
    missing = {bits[leaf.name]: leaf.name for leaf in leaves if leaf.name in bits}
    waiting = sum(missing)
    for number in range(len(steps) - 1, -1, -1):
        carried = 0
        for value in (*steps[number].outputs, *steps[number].inputs):
            carried |= lineage.carried[value]
        if carried & waiting:
            for bit in [bit for bit in missing if bit & carried]:
                last.setdefault(number, []).append(missing.pop(bit))
            waiting &= ~carried
    nowhere = [leaf.name for leaf in leaves if leaf.name not in bits or bits[leaf.name] in missing]
    found = [_unseen_finding(facts, names, steps[number], None, measured) for number, names in last.items()]
    return found + ([_unseen_finding(facts, nowhere, None, _stranger(facts), measured)] if nowhere else [])


def _stranger(facts: Facts) -> Step | None:
    """The first step on the way to the result that reads a tensor which no step made and which is new."""
    known = facts.seen.existing.union(leaf.value for leaf in facts.seen.leaves if leaf.value is not None)
    needed, flags = facts.lineage.needed, facts.flow.values
    for step in facts.flow.steps:
        strange = any(flags[value] & UNSEEN and value not in known for value in step.inputs)
        if strange and any(needed[value] for value in step.outputs):
            return step
    return None


def _unseen_finding(facts: Facts, names: list[str], last: Step | None, back: Step | None, measured: bool) -> Finding:
    one = len(names) == 1
    if measured:
        why = (
            f"though the output changes with {'it' if one else 'them'}: "
            f"{'its value leaves' if one else 'their values leave'} the graph where the recorder does not see it"
        )
    else:
        why = f"though the forward pass uses {'it' if one else 'them'}: {_not_measured(facts)}"
    after, where = "", Place()
    if last is not None:
        after, where = f"; the last recorded call on the way is {shown(last.function)}", facts.place(last)
    elif back is not None:
        after = f"; {shown(back.function)} is the first call that reads a tensor of unknown origin"
        where = facts.place(back)
    evidence = {"lost": names, **_changes(facts, names)}
    return Finding(
        "GL101", "error", f"{receive(names)} no gradient {why}{after}.", where, evidence,
        "look between here and the loss for what takes the value out of the graph unseen (a detach or a comparison in "
        "TorchScript or under vmap, a storage, a file), and stay with torch's differentiable functions there",
    )  # fmt: skip


def _not_measured(facts: Facts) -> str:
    why = f", because {facts.seen.untried}" if facts.seen.untried else ""
    return f"whether the output depends on the value was not measured{why}"


def _changes(facts: Facts, lost: Sequence[str]) -> dict[str, object]:
    """What changed in runs with other values of the leaves; those of a group were changed at once."""
    seen = facts.seen
    entries = {name: seen.dependence[name] for name in lost if seen.dependence.get(name)}
    if not entries:
        return {}
    told: dict[str, object] = {
        "outputs_that_change_with_it": {
            name: {output: list(numbers) for output, numbers in found.items()} for name, found in entries.items()
        }
    }
    together = [list(group) for group in seen.together if len(group) > 1 and not entries.keys().isdisjoint(group)]
    return {**told, "changed_together": together} if together else told


def _finding(facts: Facts, scene: Scene, purposes: Purposes, *, measured: bool = True) -> Finding:
    lineage, steps = facts.lineage, facts.flow.steps
    lost, kept = lineage.leaves(scene.lost), lineage.leaves(scene.kept)
    openings = [_opening(facts, number) for number in scene.steps] if not steps[scene.steps[0]].grad else []
    opening = next(filter(None, openings), None)
    mechanism, through = _told(facts, scene, opening)
    doubt = "" if measured else f"; {_not_measured(facts)}"
    claim = f"{receive(lost)} no gradient: {through} {mechanism.what}{doubt}."
    evidence: dict[str, object] = {
        "lost": list(lost),
        "still_connected_by_other_paths": list(kept),
        "calls": len(scene.steps),
        "function": steps[scene.steps[0]].function,
    }
    if mechanism.flat:
        evidence["derivative_is_0"] = True
    if opening is not None:
        evidence["block"] = facts.place(opening).source
    returns = _return_places(facts, scene)
    if returns:
        evidence["comes_back_at"] = returns
    evidence.update(_changes(facts, lost))
    level, fix = "error", TORCH_ALL_THE_WAY if returns and mechanism.name in CUTS_BY_NAME else mechanism.fix
    if opening is not None and scene.mechanism.name != BLOCK:
        fix += f"; and move this line out of the block without gradients (opened at {facts.place(opening).source})"
    thawed = thawing(facts, scene.steps)
    still = _still(facts, scene, lost, purposes) if mechanism.says_so else None
    if thawed is not None:
        level, evidence["thawed_at"] = "info", facts.place(thawed).source
        fix = f"nothing, if this pass is not meant to train {'it' if len(lost) == 1 else 'them'}; else {fix}"
    elif still is not None:
        level = still.level
        if level != "error" and still.follows:
            evidence["follows"] = dict(still.follows)
        fix = _unless(still, fix)
    return Finding("GL101", level, claim, scene.place, evidence, fix)


def _told(facts: Facts, scene: Scene, opening: Step | None) -> tuple[Mechanism, str]:
    """By what a scene's values leave the graph, and how it is called; `opening` switched gradients off."""
    mechanism, calls = scene.mechanism, len(scene.steps)
    if opening is None or mechanism.name != BLOCK:
        return mechanism, f"{mechanism.name} (called {calls:,} times)" if calls > 1 else mechanism.name
    block = facts.place(opening)
    if opening.function == SAMPLE and block.source == scene.place.source:
        return SAMPLED, SAMPLED.name
    decorated = block.text.startswith("@")
    mechanism = REENTRANT if opening.function == CHECKPOINT else DECORATED if decorated else mechanism
    inside = f"; {calls:,} calls in it" if calls > 1 else ""
    return mechanism, f"{mechanism.name} ({'decorated' if decorated else 'opened'} at {block.source}{inside})"


def _still(facts: Facts, scene: Scene, lost: Sequence[str], purposes: Purposes) -> Still | None:
    values = {leaf.value for leaf in facts.wanted if leaf.name in lost and leaf.value is not None}
    return standing_still(facts, lost, purposes.updated, purposes.of(scene.steps, values, apart=not scene.kept))


def _unless(still: Still, fix: str) -> str:
    """The fix, and what the modules are meant to do if nothing is to be mended; how to say so is told of the first."""
    one = still.first
    say = f"{one}.requires_grad_(False), or --ignore-leaf '{one}.*', says so"
    if still.level == "error":
        return f"{fix}; if {_meant(still)}, {say}" if still.hinted else fix
    return f"nothing, if {_meant(still)} ({say}); else {fix}"


def _meant(still: Still) -> str:
    """What the modules are meant to do if all is well: told of the first of them."""
    if still.level == "error" or not still.follows:
        meant = f"{listed(still.modules)} {'is' if len(still.modules) == 1 else 'are'} meant to stand still"
        return f"{meant}, {still.like}" if still.like else meant
    one, other = next(iter(still.follows.items()))
    values = "" if one in still.alike or still.level == "info" else " but other values"
    return f"{one} is meant to follow {other}, whose parameters have the same shapes{values}"


def _opening(facts: Facts, number: int) -> Step | None:
    """The call that switched gradients off for a step; None where that was not recorded."""
    steps = facts.flow.steps
    place = bisect_right(facts.openings, number) - 1
    while place >= 0:
        step = steps[facts.openings[place]]
        if step.thread == steps[number].thread:
            return None if step.function == GRAD or step.source is None else step
        place -= 1
    return None


def _return_places(facts: Facts, scene: Scene) -> list[str]:
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

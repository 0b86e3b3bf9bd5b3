"""GL101, where: the calls by which leaves lose their way to what is differentiated, by line and function."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import TO_PYTHON, Mechanism, mechanism_of
from graphlens.analyses.findings import Place
from graphlens.analyses.lineage import values_read
from graphlens.observation import LeafFact


@dataclass
class Scene:
    """All cuts that one function makes at one line."""

    mechanism: Mechanism
    place: Place
    steps: list[int] = field(default_factory=list)
    unseen: bool = False  # whether its value came back unseen
    lost: int = 0  # leaves that lose their last path here, or one of several that are all cut
    kept: int = 0  # leaves that lose a path here and receive a gradient by another


def seen_scenes(facts: Facts) -> list[Scene]:
    """Cuts on the way to what is differentiated, all of which was recorded."""
    lineage = facts.lineage
    scenes: dict[tuple[str, str], Scene] = {}
    known = [leaf for leaf in facts.lost if leaf.value is not None]
    lost_mask = _mask(facts, {leaf.name for leaf in known})
    idle = _mask(facts, {leaf.name for leaf in known if facts.is_without_effect(leaf)})
    for cut in lineage.cuts():
        step = facts.flow.steps[cut.step]
        # A gradient need not depend on all that it was computed through: on a bias, for instance.
        lost = cut.lost & lost_mask & ~(idle if step.function == "torch.autograd.grad" else 0)
        if not lost:
            continue
        outputs = tuple(value for value in step.outputs if lineage.needed[value])
        mechanism, place = mechanism_of(facts.flow, step, outputs), facts.place(step)
        scene = scenes.setdefault((mechanism.name, place.source), Scene(mechanism, place))
        scene.steps.append(cut.step)
        scene.lost |= lost
        scene.kept |= cut.lost & ~lost_mask
    return _to_mend(facts, scenes.values()) if len(scenes) > 1 else list(scenes.values())


def _to_mend(facts: Facts, scenes: Collection[Scene]) -> list[Scene]:
    """Less the leaves that go on from a scene to nothing but other cuts of theirs."""
    last = facts.lineage.last_cuts(facts.ends)
    by_scene = [(scene, _union(last.get(number, 0) for number in scene.steps)) for scene in scenes]
    known = _union(mask for _, mask in by_scene)
    for scene, mask in by_scene:
        scene.lost &= mask | ~known
    return [scene for scene in scenes if scene.lost]


def unseen_scenes(facts: Facts, leaves: Sequence[LeafFact]) -> list[Scene]:
    """Calls that took the leaves' values out of the graph, to come back unseen.

    They come back through Python arithmetic for instance, or another library. Where a change of what
    some calls handed on was seen to change the outputs, those that tell of no other leaf are left out.
    """
    flow = facts.flow
    mask = _mask(facts, {leaf.name for leaf in leaves})
    scenes: dict[tuple[str, str], Scene] = {}
    read_by_python = _read_by_python(facts)
    for number, leaving in _leaving(facts, mask):
        step = flow.steps[number]
        mechanism, place = mechanism_of(flow, step, step.outputs), facts.place(step)
        # A whole number is cut off first, and handed to Python then.
        whole = mechanism.flat and any(read_by_python[value] for value in step.outputs)
        if step.function != "Tensor.__bool__" and (mechanism.says_so or step.function in TO_PYTHON or whole):
            scene = scenes.setdefault((mechanism.name, place.source), Scene(mechanism, place, unseen=True))
            scene.steps.append(number)
            scene.lost |= leaving
    effects = facts.seen.effects
    at_work = [scene for scene in scenes.values() if any(effects.get(number) for number in scene.steps)]
    explained = 0
    for scene in at_work:
        explained |= scene.lost
    return [scene for scene in scenes.values() if scene in at_work or scene.lost & ~explained]


def _read_by_python(facts: Facts) -> bytearray:
    """Per value whether it, or something that was computed from it, is handed to Python as a number or a list."""
    found = bytearray(len(facts.flow.values))
    for step in reversed(facts.flow.steps):
        python = step.function in TO_PYTHON and step.function != "Tensor.__bool__"
        if python or any(found[value] for value in step.outputs):
            for value in (*values_read(step), *step.written):
                found[value] = True
    return found


def unexplained(facts: Facts, scenes: Collection[Scene]) -> list[LeafFact]:
    """The lost leaves that some call read, or whose value is known to matter, and that no scene tells of."""
    explained = {name for scene in scenes for name in facts.lineage.leaves(scene.lost)}
    return [leaf for leaf in facts.lost if leaf.name not in explained and (facts.is_used(leaf) or facts.matters(leaf))]


def scenes_to_try(facts: Facts) -> list[list[int]]:
    """Where several calls may be the one by which a value left: the steps of each, for `Observation.effects`."""
    leaves = [leaf for leaf in unexplained(facts, seen_scenes(facts)) if facts.matters(leaf)]
    scenes = unseen_scenes(facts, leaves) if leaves else []
    return [scene.steps for scene in scenes] if len(scenes) > 1 else []


def ways(facts: Facts, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The leaves in groups that leave the graph in the same way.

    Those that a cut on the way to the result tells of go by its scene, the others by the very calls
    that make nothing that is connected to them.
    """
    bits = {name: 1 << bit for bit, name in enumerate(facts.lineage.names)}
    numbered = [name for name in names if name in bits]
    whole = sum(bits[name] for name in numbered)
    masks = {scene.lost & whole for scene in seen_scenes(facts)}
    explained = 0
    for mask in masks:
        explained |= mask
    masks |= {leaving for _, leaving in _leaving(facts, whole & ~explained)}
    classes = [part for part in (whole & explained, whole & ~explained) if part]
    for mask in masks:
        classes = [part for old in classes for part in (old & mask, old & ~mask) if part]
    groups: dict[int, list[str]] = {}
    of_bit = {bits[name]: number for number, part in enumerate(classes) for name in numbered if bits[name] & part}
    for name in names:
        groups.setdefault(of_bit[bits[name]] if name in bits else -1, []).append(name)
    return [tuple(group) for group in groups.values()]


def _leaving(facts: Facts, mask: int) -> Iterator[tuple[int, int]]:
    """The steps that read leaves of a mask through autograd and made nothing that is connected to them."""
    lineage = facts.lineage
    for number, step in enumerate(facts.flow.steps):
        entering = lineage.entering(number) & mask
        if not entering:
            continue
        for value in step.outputs:
            entering &= ~lineage.live[value]
        if entering:
            yield number, entering


def _union(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def _mask(facts: Facts, names: Collection[str]) -> int:
    return sum(1 << bit for bit, name in enumerate(facts.lineage.names) if name in names)

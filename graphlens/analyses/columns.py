"""Which column each box of a picture stands in, where a page is wide and not tall."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from graphlens.analyses.scene import Frame, Key, Scene
from graphlens.analyses.stacks import Stack, stacks

# Heights in lines of text, roughly.
_GAP = 2.0
_FRAME = 3.0
_LEEWAY = 0.3  # how far, in parts of a column, a cut may be moved to where fewer arrows cross it


def columns(scene: Scene) -> dict[Key, int]:
    """The column of every box, from 0, in forward order: about equally tall, and cut where few arrows cross.

    Boxes that touch stay together, and a leaf stands where it is read first.
    """
    units = _units(scene)
    unit_of = {key: number for number, unit in enumerate(units) for key in unit}
    crossed = [0] * (len(units) + 1)  # per place between two units
    for arrow in scene.arrows:
        if not arrow.carried:
            for place in range(unit_of[arrow.earlier] + 1, unit_of[arrow.later] + 1):
                crossed[place] += 1
    cuts = _cuts(_ends(scene, units), crossed, scene.columns)
    return {key: sum(cut <= number for cut in cuts) for key, number in unit_of.items()}


def cut_arrows(scene: Scene, place: Mapping[Key, int]) -> frozenset[tuple[Key, Key, bool]]:
    """The arrows, given by their ends, that start at a copy of their box: those that lead to another column.

    With one of a leaf's arrows all of them do: its copies look alike, wherever they stand.
    """
    cut = {arrow.ends for arrow in scene.arrows if place[arrow.earlier] != place[arrow.later]}
    leaves = {box.key for box in scene.boxes if box.kind == "leaf"} & {earlier for earlier, _, _ in cut}
    return frozenset(cut.union(arrow.ends for arrow in scene.arrows if arrow.earlier in leaves))


def _units(scene: Scene) -> list[tuple[Key, ...]]:
    """What is not taken apart, in forward order: a stack with what stands beside it, a box with its leaves."""
    place = {box.key: number for number, box in enumerate(scene.boxes)}
    owner = {key: stack.chain[0] for stack in stacks(scene) for key in stack.chain}
    leaves = {box.key for box in scene.boxes if box.kind == "leaf"}
    for arrow in sorted(scene.arrows, key=lambda arrow: place[arrow.later]):
        if arrow.earlier in leaves:
            owner.setdefault(arrow.earlier, owner.get(arrow.later, arrow.later))
    units: dict[Key, list[Key]] = {}
    for box in scene.boxes:
        units.setdefault(owner.get(box.key, box.key), []).append(box.key)
    return [tuple(units[first]) for first in sorted(units, key=place.__getitem__)]


def _ends(scene: Scene, units: list[tuple[Key, ...]]) -> list[float]:
    """How far down each unit would end if one stood below the other."""
    stack_of = {stack.chain[0]: stack for stack in stacks(scene)}
    known: set[tuple[Frame, ...]] = set()
    heights = []
    for unit in units:
        [*frames] = {key.frames[:depth] for key in unit for depth in range(1, len(key.frames) + 1)}
        new = [frame for frame in frames if frame not in known]
        known.update(new)
        touching = next((stack_of[key] for key in unit if key in stack_of), None)
        heights.append(_FRAME * len(new) + _GAP + (2.0 if touching is None else _lines(touching)))
    return list(accumulate(heights))


def _lines(stack: Stack) -> float:
    return float(sum(max(1, len(stack.beside.get(key, ()))) for key in stack.chain))


def _cuts(ends: list[float], crossed: list[int], count: int) -> list[int]:
    """The units that begin a column, but for the first one."""
    cuts: list[int] = []
    tall = ends[-1] / count if ends else 0.0
    for number in range(1, count):
        ideal = number * tall
        first = cuts[-1] + 1 if cuts else 1
        near = [cut for cut in range(first, len(ends)) if abs(ends[cut - 1] - ideal) <= _LEEWAY * tall]
        if near:
            cuts.append(min(near, key=lambda cut: (crossed[cut], abs(ends[cut - 1] - ideal))))
    return cuts

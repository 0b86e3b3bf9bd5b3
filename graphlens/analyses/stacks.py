"""Which boxes of a large picture touch one another instead of standing apart, with arrows between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import NamedTuple

from graphlens.analyses.layout_cost import long_arrows
from graphlens.analyses.scene import Key, Scene, SceneArrow, SceneBox

# A picture of so few boxes fits on a page or a slide as it is, and arrows say more than touching.
MOST_BOXES_APART = 40

_FUNCTIONS = ("function", "custom")


class Stack(NamedTuple):
    """Boxes that touch, in forward order.

    `beside` holds, for some of them, the arrows that are not drawn because where they come from
    stands to the right: a leaf that nothing else reads, a copy of a leaf that is used all over the
    page, or a copy of what an earlier iteration carries on.
    """

    chain: tuple[Key, ...]
    beside: Mapping[Key, tuple[SceneArrow, ...]]


def stacks(scene: Scene) -> tuple[Stack, ...]:
    """Chains in which each box reads the one before it and what stands beside it, and nothing else reads that.

    An arrow within such a chain tells nothing that the order does not, and one arrow above the
    other makes the picture of a transformer's layer a strip that no page can hold; parameters in
    ellipses around it make the strip three times as wide.
    """
    if len(scene.boxes) <= MOST_BOXES_APART and not scene.dense:
        return ()
    boxes = {box.key: box for box in scene.boxes}
    read = Counter(arrow.earlier for arrow in scene.arrows)
    long = long_arrows(scene)
    beside: dict[Key, list[SceneArrow]] = {}
    apart: list[SceneArrow] = []
    for arrow in scene.arrows:
        alone = boxes[arrow.earlier].kind == "leaf" and read[arrow.earlier] == 1 and not arrow.carried
        touches = alone and arrow.earlier.frames == arrow.later.frames
        if (touches or _has_copy_there(arrow, long)) and _may_touch(scene, boxes, arrow):
            beside.setdefault(arrow.later, []).append(arrow)
        else:
            apart.append(arrow)
    chains = _chains(scene, boxes, read, apart)
    _note_carried(apart, chains, beside)
    return tuple(
        Stack(chain, {key: tuple(beside[key]) for key in chain if key in beside})
        for chain in chains
        if len(chain) > 1 or chain[0] in beside
    )


def _chains(
    scene: Scene, boxes: Mapping[Key, SceneBox], read: Mapping[Key, int], arrows: list[SceneArrow]
) -> list[tuple[Key, ...]]:
    """Every function, in chains of one or more."""
    reading = Counter(arrow.later for arrow in arrows)
    after = {
        arrow.earlier: arrow.later
        for arrow in arrows
        if read[arrow.earlier] == reading[arrow.later] == 1
        and boxes[arrow.earlier].kind in _FUNCTIONS
        and not arrow.carried
        and arrow.earlier.frames == arrow.later.frames
        and _may_touch(scene, boxes, arrow)
    }
    inner = set(after.values())
    chains = []
    for box in scene.boxes:
        if box.kind in _FUNCTIONS and box.key not in inner:
            chain = [box.key]
            while chain[-1] in after:
                chain.append(after[chain[-1]])
            chains.append(tuple(chain))
    return chains


def _note_carried(
    arrows: list[SceneArrow], chains: list[tuple[Key, ...]], beside: dict[Key, list[SceneArrow]]
) -> None:
    """What is carried to the first box of a stack stands beside it: an arrow would have to go around all of it."""
    place = {key: number for number, chain in enumerate(chains) for key in chain}
    for arrow in arrows:
        number = place.get(arrow.later)
        if not arrow.carried or number in (None, place.get(arrow.earlier)) or arrow.around != arrow.later.frames:
            continue
        if len(chains[place[arrow.later]]) > 1 or arrow.later in beside:
            beside.setdefault(arrow.later, []).append(arrow)


def _has_copy_there(arrow: SceneArrow, long: Container[tuple[Key, Key, bool]]) -> bool:
    return arrow.ends in long and arrow.around == arrow.later.frames


def _may_touch(scene: Scene, boxes: Mapping[Key, SceneBox], arrow: SceneArrow) -> bool:
    """Whether an arrow leads to a function; a box that was asked for stands alone."""
    return scene.focus not in (arrow.earlier, arrow.later) and boxes[arrow.later].kind in _FUNCTIONS

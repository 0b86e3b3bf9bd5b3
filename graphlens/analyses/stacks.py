"""Which boxes of a large picture are drawn touching one another instead of apart, with arrows between them."""

from __future__ import annotations

from collections import Counter

from graphlens.analyses.scene import Key, Scene, SceneArrow, SceneBox

# A picture of so few boxes fits on a page or a slide as it is, and arrows say more than touching.
MOST_BOXES_APART = 40


def stacks(scene: Scene) -> tuple[tuple[Key, ...], ...]:
    """Chains of boxes in forward order: each reads nothing but the one before it, and nothing else reads that.

    An arrow within such a chain tells nothing that the order does not, and one arrow above the
    other makes the picture of a transformer's layer a strip that no page can hold.
    """
    if len(scene.boxes) <= MOST_BOXES_APART:
        return ()
    boxes = {box.key: box for box in scene.boxes}
    read = Counter(arrow.earlier for arrow in scene.arrows)
    reading = Counter(arrow.later for arrow in scene.arrows)
    after = {
        arrow.earlier: arrow.later
        for arrow in scene.arrows
        if read[arrow.earlier] == reading[arrow.later] == 1 and _joins(scene, boxes, arrow)
    }
    inner = set(after.values())
    chains = []
    for box in scene.boxes:
        if box.key in after and box.key not in inner:
            chain = [box.key]
            while chain[-1] in after:
                chain.append(after[chain[-1]])
            chains.append(tuple(chain))
    return tuple(chains)


def _joins(scene: Scene, boxes: dict[Key, SceneBox], arrow: SceneArrow) -> bool:
    """Whether both ends are functions in one frame; a box that was asked for keeps standing by itself."""
    if arrow.carried or arrow.earlier.frames != arrow.later.frames:
        return False
    return all(boxes[key].kind in ("function", "custom") and key != scene.focus for key in (arrow.earlier, arrow.later))

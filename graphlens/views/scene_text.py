"""A scene in words: an indented list for terminals and screen readers, and a short description."""

from __future__ import annotations

from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text


def scene_text(scene: Scene, title: str = "") -> str:
    """The scene as an indented list in forward order; each box names the boxes that it reads."""
    boxes = _nested(scene)
    numbers = {box.key: place + 1 for place, box in enumerate(boxes)}
    reads: dict[Key, list[SceneArrow]] = {}
    for arrow in scene.arrows:
        reads.setdefault(arrow.later, []).append(arrow)
    lines = [f"{title}: {_size(scene)}" if title else _size(scene), ""]
    opened: tuple[Frame, ...] = ()
    frames = {frame.frames: frame for frame in scene.frames}
    for box in boxes:
        around = box.key.frames
        shared = _common(opened, around)
        for depth in range(shared, len(around)):
            lines.append(f"{'  ' * depth}{_frame_line(frames[around[: depth + 1]])}")
        opened = around
        lines.append(f"{'  ' * len(around)}{_box_line(box, numbers, reads.get(box.key, []), scene)}")
    return "\n".join(lines) + "\n"


def describe(scene: Scene, title: str) -> str:
    """What the picture shows, in a few sentences."""
    sentences = [f"Backward graph of {title}: {_size(scene)}."]
    leaves = [box.title or "an unnamed leaf" for box in scene.boxes if box.kind == "leaf"]
    if leaves:
        more = f" and {count_text(len(leaves) - 12)} more" if len(leaves) > 12 else ""
        sentences.append(f"Leaves: {', '.join(leaves[:12])}{more}.")
    for frame in scene.frames:
        if frame.frames[-1].iteration is None:
            sentences.append(
                f"A frame stands for {count_text(frame.count)} repeats of {frame.label}, "
                f"{nodes_text(frame.nodes)} in all."
            )
    carried = [arrow for arrow in scene.arrows if arrow.carried]
    if carried:
        sentences.append(f"{count_text(len(carried))} arrows lead from one repeat to the next.")
    outputs = [box.title for box in scene.boxes if box.kind == "output"]
    sentences.append(f"Output: {', '.join(outputs)}.")
    return " ".join(sentences)


def _nested(scene: Scene) -> list[SceneBox]:
    """The boxes so ordered that each frame is one stretch, and each leaf stands before its first use."""
    place = {box.key: (number, 0) for number, box in enumerate(scene.boxes)}
    uses: dict[Key, int] = {}
    for arrow in scene.arrows:
        uses[arrow.earlier] = min(uses.get(arrow.earlier, len(place)), place[arrow.later][0])
    for box in scene.boxes:
        if box.kind == "leaf" and box.key in uses:
            place[box.key] = (uses[box.key], place[box.key][0] - len(place))
    first: dict[tuple[Frame, ...], tuple[int, int]] = {}
    for box in scene.boxes:
        for depth in range(1, len(box.key.frames) + 1):
            around = box.key.frames[:depth]
            first[around] = min(first.get(around, place[box.key]), place[box.key])

    def order(box: SceneBox) -> tuple[tuple[int, int], ...]:
        around = box.key.frames
        return (*(first[around[:depth]] for depth in range(1, len(around) + 1)), place[box.key])

    return sorted(scene.boxes, key=order)


def _common(a: tuple[Frame, ...], b: tuple[Frame, ...]) -> int:
    """How many frames, from the outside, two boxes share."""
    shared = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        shared += 1
    return shared


def _size(scene: Scene) -> str:
    total = sum(box.storage_bytes for box in scene.boxes)
    at_least = "at least " if any(box.unknown for box in scene.boxes) else ""
    boxes = count_text(len(scene.boxes))
    return f"{nodes_text(len(scene.graph))}, {at_least}{bytes_text(total)} saved, drawn as {boxes} boxes"


def _frame_line(frame: SceneFrame) -> str:
    iteration = frame.frames[-1].iteration
    name = f"× {count_text(frame.count)}" if iteration is None else f"iteration {count_text(iteration + 1)} of"
    return f"{name} {frame.label}  ({nodes_text(frame.nodes)}, {bytes_text(frame.storage_bytes)})"


def _box_line(box: SceneBox, numbers: dict[Key, int], reads: list[SceneArrow], scene: Scene) -> str:
    titles = {other.key: other.title for other in scene.boxes}
    parts = [f"{numbers[box.key]}. {'… ' if box.kind == 'middle' else ''}{box.title or '(unnamed)'}"]
    if box.shape is not None:
        parts.append(shape_text(box.shape))
    if box.kind in ("closed", "middle"):
        parts.append(f"({nodes_text(box.nodes)})")
    if box.role:
        parts.append(box.role)
    if reads:
        sources = [
            f"{numbers[arrow.earlier]} {titles[arrow.earlier] or '(unnamed)'}{' (carried)' if arrow.carried else ''}"
            for arrow in reads
        ]
        parts.append(f"← {', '.join(sources)}")
    return " ".join(parts)

"""The boxes of a scene and the frames around them, with the totals of the nodes that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphlens.analyses.fold import FoldedGraph, Group
from graphlens.analyses.fold.labels import compact_label, short_op
from graphlens.analyses.scene.names import Names
from graphlens.analyses.scene.records import Frame, Key, SceneBox, SceneFrame, sum_of_known
from graphlens.graph import Node


def boxes_of(folded: FoldedGraph, keys: list[Key], names: Names, heats: Sequence[float | None]) -> dict[Key, SceneBox]:
    """The boxes by their place, in forward order; `keys` and `heats` tell the place and the heat of each node."""
    graph = folded.graph
    sums = graph.saved_by_node()
    roles = {item.node: item.role for item in graph.inputs if item.node is not None}
    labels = {item.node: item.label for _, item in folded.walk() if not isinstance(item, Group)}
    boxes: dict[Key, SceneBox] = {}
    begins: dict[Key, int] = {}  # a closed box does not begin with its leaves, which come before everything
    lines: dict[Key, dict[int, None]] = {}
    for number, key in enumerate(keys):
        node = graph.nodes[number]
        box = boxes.get(key)
        if box is None:
            if key.what != "node":
                box = _closed(folded, key, number, names)
            elif node.kind == "leaf":
                whole = all(frame.iteration is None for frame in key.frames)
                title = compact_label(labels[key.number]) if whole else node.name
                box = SceneBox(key, "leaf", title, node.shape, number, roles.get(number, ""))
            else:
                path, kind, _ = names.of(key)
                box = SceneBox(key, node.kind, short_op(node.op), node.shape, number, module=f"{path}  {kind}".strip())
            boxes[key] = box
        box.add(sums[number], _spent(node), heats[number], ran=node.kind != "leaf")
        if box.kind == "leaf" or node.kind != "leaf":
            begins.setdefault(key, number)
        if node.source is not None:
            lines.setdefault(key, {})[node.source] = None
    for key, some in lines.items():
        # With whole stacks one line is there once for each way to it.
        boxes[key].lines = tuple({str(graph.sources[place]): graph.sources[place] for place in some}.values())
    return {key: boxes[key] for key in sorted(boxes, key=begins.__getitem__)}


def _closed(folded: FoldedGraph, key: Key, first: int, names: Names) -> SceneBox:
    if key.number >= len(folded.groups):
        path, kind, _ = names.of(key)
        return SceneBox(key, "closed", path, None, first, module=kind)
    group = folded.groups[key.number]
    skipped = 1 if key.what == "middle" else 0
    count = group.count - 2 * skipped
    module = names.kind(group.number)
    return SceneBox(key, key.what, group.label, None, first, count=count, skipped=skipped, module=module)


def frames_of(folded: FoldedGraph, boxes: Iterable[SceneBox], names: Names) -> tuple[SceneFrame, ...]:
    """The frames that stand around these boxes."""
    frames: dict[tuple[Frame, ...], SceneFrame] = {}
    for box in boxes:
        for depth in range(1, len(box.key.frames) + 1):
            around = box.key.frames[:depth]
            frame = frames.get(around)
            if frame is None:
                frame = frames[around] = _frame(folded, around, names)
            frame.nodes += box.nodes
            frame.storage_bytes += box.storage_bytes
            frame.unknown += box.unknown
            frame.spent_ns = sum_of_known(frame.spent_ns, box.spent_ns)
            frame.untimed += box.untimed
            frame.heat = sum_of_known(frame.heat, box.heat)
            frame.net += box.net
    return tuple(frames.values())


def _frame(folded: FoldedGraph, around: tuple[Frame, ...], names: Names) -> SceneFrame:
    number, iteration = around[-1]
    if number >= len(folded.groups):
        path, kind, calls = names.of(around)
        return SceneFrame(around, 1, path, module=kind, calls=calls)
    group = folded.groups[number]
    return SceneFrame(around, group.count if iteration is None else 1, group.label, module=names.kind(number))


def _spent(node: Node) -> int | None:
    """Of both passes, as far as they were timed."""
    return sum_of_known(node.forward_ns, node.backward_ns)

"""A scene in words: an indented list for terminals and screen readers, and a short description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from graphlens.analyses.scene import Extract, Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame, compact_label
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text
from graphlens.views.heat import amount_text, cold_text, share_text


def scene_text(scene: Scene, title: str = "", *, lines: bool = False) -> str:
    """The scene as an indented list in forward order; each box names the boxes that it reads.

    With `lines` it names the line of code that it comes from too.
    """
    boxes = _nested(scene)
    frames = {frame.frames: frame for frame in scene.frames}
    called = {box.key: f"{place} {box_title(box, frames) or '(unnamed)'}" for place, box in enumerate(boxes, start=1)}
    reads: dict[Key, list[SceneArrow]] = {}
    for arrow in scene.arrows:
        reads.setdefault(arrow.later, []).append(arrow)
    told = [f"{title}: {_size(scene)}" if title else _size(scene), *_shares_of(scene), ""]
    whole = _whole(scene)
    opened: tuple[Frame, ...] = ()
    for box in boxes:
        around = box.key.frames
        shared = _common(opened, around)
        for depth in range(shared, len(around)):
            told.append(f"{'  ' * depth}{_frame_line(frames[around[: depth + 1]], frames)}")
        opened = around
        line = _box_line(box, called, reads.get(box.key, []), made_by(box, frames))
        heat = ", ".join(part for part in (share_text(box, scene, whole), cold_text(box)) if part)
        behind = [heat, lines_text(box) if lines else ""]
        told.append("  ".join([f"{'  ' * len(around)}{line}", *(part for part in behind if part)]))
    return "\n".join(told) + "\n"


def describe(scene: Scene, title: str) -> str:
    """What the picture shows, in a few sentences."""
    sentences = [f"Backward graph of {title}: {_size(scene)}."]
    leaves = [box.title for box in scene.boxes if box.kind == "leaf"]
    named = [title for title in leaves if title]
    if leaves:
        others = [f"{count_text(len(named) - 12)} more"] if len(named) > 12 else []
        others += [f"{count_text(len(leaves) - len(named))} unnamed"] if len(named) < len(leaves) else []
        sentences.append(f"Leaves: {', '.join([*named[:12], *others])}.")
    for frame in scene.frames:
        if frame.frames[-1].iteration is None and not frame.is_module:
            sentences.append(
                f"A frame stands for {count_text(frame.count)} repeats of {frame.label}, "
                f"{nodes_text(frame.nodes)} in all."
            )
    modules = sum(frame.is_module for frame in scene.frames)
    if modules:
        frames = "1 frame stands" if modules == 1 else f"{count_text(modules)} frames stand"
        sentences.append(f"{frames} for the calls of a module.")
    carried = [arrow for arrow in scene.arrows if arrow.carried]
    if carried:
        arrows = "1 arrow leads" if len(carried) == 1 else f"{count_text(len(carried))} arrows lead"
        sentences.append(f"{arrows} from one repeat to the next.")
    if closed := closed_text(scene):
        sentences.append(closed)
    if scene.heat is not None:
        sentences.append(f"Shaded by the share of all {scene.heat.title}.")
    outputs = [box.title for box in scene.boxes if box.kind == "output"]
    if outputs:
        sentences.append(f"Output: {', '.join(outputs)}.")
    return " ".join(sentences)


_MOST_CLOSED = 6  # names of closed groups in a sentence


def closed_text(scene: Scene) -> str:
    """Which groups are closed though that was not asked for, and how to open them; nothing if there are none."""
    if scene.deeper is None:
        return ""
    frames = {frame.frames: frame for frame in scene.frames}
    names = [
        f"{iterations_text(box)} {compact_label(box_title(box, frames))}".lstrip()
        for box in scene.boxes
        if box.kind == "closed"
    ]
    if not names:
        return ""
    more = [f"{count_text(len(names) - _MOST_CLOSED)} more"] if len(names) > _MOST_CLOSED else []
    said = ", ".join([*names[:_MOST_CLOSED], *more])
    boxes = count_text(scene.deeper.boxes)
    if scene.deeper.is_feasible:
        return f"Closed, as open it takes {boxes} boxes: {said}; --max-nodes {scene.deeper.boxes} opens them."
    return f"Closed, as open it is too entangled to lay out: {said}; --focus NODE or --path INPUT shows a part."


def part_text(extract: Extract) -> str:
    """ "7 of 30,015 nodes, at most 2 edges from node 15000"."""
    return f"{count_text(len(extract.nodes))} of {nodes_text(extract.whole)}, {extract.what}"


def iterations_text(box: SceneBox) -> str:
    """Which iterations a closed box stands for: "× 10,000", "iterations 2 … 9,999"; nothing for that of a module."""
    if _is_call(box):
        return ""
    if not box.skipped:
        return f"× {count_text(box.count)}"
    first, last = box.skipped + 1, box.skipped + box.count
    span = count_text(first) if first == last else f"{count_text(first)} … {count_text(last)}"
    return f"iteration{'' if first == last else 's'} {span}"


def frame_title(frame: SceneFrame, frames: Mapping[tuple[Frame, ...], SceneFrame]) -> str:
    """A frame's label, and the class of its module; "…" stands for what a frame around it says.

    Args:
        frames: every frame by its place.
    """
    label = frame.label
    if frame.module:
        short = _without_prefix(compact_label(label), frame.frames[:-1], frames)
        label = short if frame.is_module or short.startswith("…") else label
    return _with_class(label, frame.module)


def box_title(box: SceneBox, frames: Mapping[tuple[Frame, ...], SceneFrame]) -> str:
    """A box's title; that of a closed one with the class of its module."""
    if not (box.kind in ("closed", "middle") and box.module):
        return box.title
    label = _without_prefix(box.title, box.key.frames, frames) if _is_call(box) else box.title
    return _with_class(label, box.module)


def _is_call(box: SceneBox) -> bool:
    """Whether a box stands for calls of a module, and not for iterations of a group."""
    return box.kind == "closed" and box.count == 1 and not box.skipped


def _with_class(path: str, kind: str) -> str:
    # What has no name of its own is called by its class.
    return path if not kind or path.endswith(f"({kind})") else f"{path}  {kind}"


def made_by(box: SceneBox, frames: Mapping[tuple[Frame, ...], SceneFrame]) -> str:
    """The path and the class of the module that made just the node of a box, or nothing."""
    return "" if box.kind in ("closed", "middle") else _without_prefix(box.module, box.key.frames, frames)


def _without_prefix(path: str, around: tuple[Frame, ...], frames: Mapping[tuple[Frame, ...], SceneFrame]) -> str:
    for depth in range(len(around), 0, -1):
        prefix = f"{compact_label(frames[around[:depth]].label)}."
        if path.startswith(prefix):
            return f"…{path.removeprefix(prefix)}"
    return path


def lines_text(box: SceneBox) -> str:
    """The line of code that a box comes from: "chain.py:59", "chain.py:59 and 2 more lines", or nothing."""
    if not box.lines:
        return ""
    first, more = box.lines[0], len(box.lines) - 1
    file = PurePosixPath(first.file)
    name = "/".join(file.parts[-2:]) if file.stem == "__init__" else file.name  # each package has one
    place = f"{name}:{first.line}" if first.line else str(first)
    return f"{place} and {count_text(more)} more line{'s' if more > 1 else ''}" if more else place


def arrow_remark(arrow: SceneArrow) -> str:
    """Which iterations an arrow into or out of a frame stands for, where one would not guess it.

    One guesses that the first iteration is entered and the last one left, and that all read the
    same.
    """
    parts = []
    if arrow.left and arrow.left != {arrow.left_count - 1}:
        parts.append(f"from {_iterations(arrow.left, arrow.left_count)}")
    if len(arrow.entered) == arrow.entered_count > 1:
        parts.append("one each" if arrow.one_each else "")
    elif arrow.entered and arrow.entered != {0}:
        parts.append(f"to {_iterations(arrow.entered, arrow.entered_count)}")
    return ", ".join(part for part in parts if part)


def _iterations(some: set[int], count: int) -> str:
    if len(some) == count:
        return f"all {count_text(count)}"
    first, last = min(some) + 1, max(some) + 1
    if first == last:
        return f"iteration {count_text(first)}"
    if len(some) == 2:
        return f"iterations {count_text(first)} and {count_text(last)}"
    if len(some) == last - first + 1:
        return f"iterations {count_text(first)} … {count_text(last)}"
    return f"{count_text(len(some))} of {count_text(count)} iterations"


def _nested(scene: Scene) -> list[SceneBox]:
    """The boxes so ordered that each frame is one stretch, and each leaf stands before its first use."""
    place = {box.key: (number, 0) for number, box in enumerate(scene.boxes)}
    first: dict[tuple[Frame, ...], tuple[int, int]] = {}
    for box in scene.boxes:
        if box.kind != "leaf":
            _note_first(first, box, place[box.key])
    uses: dict[Key, int] = {}
    for arrow in scene.arrows:
        # Before the whole frame that a use is in, unless the leaf is in it too.
        around = arrow.later.frames[: len(arrow.earlier.frames) + 1]
        begins = first[around] if len(around) > len(arrow.earlier.frames) else place[arrow.later]
        uses[arrow.earlier] = min(uses.get(arrow.earlier, len(place)), begins[0])
    for box in scene.boxes:
        if box.kind == "leaf":
            if box.key in uses:
                place[box.key] = (uses[box.key], place[box.key][0] - len(place))
            _note_first(first, box, place[box.key])

    def order(box: SceneBox) -> tuple[tuple[int, int], ...]:
        around = box.key.frames
        return (*(first[around[:depth]] for depth in range(1, len(around) + 1)), place[box.key])

    return sorted(scene.boxes, key=order)


def _note_first(first: dict[tuple[Frame, ...], tuple[int, int]], box: SceneBox, place: tuple[int, int]) -> None:
    for depth in range(1, len(box.key.frames) + 1):
        around = box.key.frames[:depth]
        first[around] = min(first.get(around, place), place)


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
    nodes = nodes_text(len(scene.graph)) if scene.extract is None else part_text(scene.extract)
    return f"{nodes}, {at_least}{bytes_text(total)} saved, drawn as {boxes} boxes"


def _frame_line(frame: SceneFrame, frames: Mapping[tuple[Frame, ...], SceneFrame]) -> str:
    iteration = frame.frames[-1].iteration
    name = f"× {count_text(frame.count)} " if iteration is None else f"iteration {count_text(iteration + 1)} of "
    calls = ""
    if frame.is_module:
        name, calls = "", f"{count_text(frame.calls)} calls, " if frame.calls > 1 else ""
    at_least = "at least " if frame.unknown else ""
    sizes = f"{calls}{nodes_text(frame.nodes)}, {at_least}{bytes_text(frame.storage_bytes)}"
    return f"{name}{frame_title(frame, frames)}  ({sizes})"


def _whole(scene: Scene) -> float:
    return sum(box.heat or 0 for box in scene.boxes)


def _shares_of(scene: Scene) -> list[str]:
    if scene.heat is None:
        return []
    if scene.heat.total is not None:
        total = amount_text(scene.heat.total, scene.heat)
        return [f"In percent: {scene.heat.title}, with their signs; 100 % are {total}"]
    return [f"Shown is the share of all {scene.heat.title}, in percent; all: {amount_text(_whole(scene), scene.heat)}"]


def _in_brackets(arrow: SceneArrow) -> str:
    remark = "carried" if arrow.carried else arrow_remark(arrow)
    return f" ({remark})" if remark else ""


def _box_line(box: SceneBox, called: dict[Key, str], reads: list[SceneArrow], module: str) -> str:
    parts = [called[box.key].replace(" ", ". ", 1)]
    if box.shape is not None:
        parts.append(shape_text(box.shape))
    if box.kind in ("closed", "middle"):
        parts.insert(1, f"{iterations_text(box)}  ({nodes_text(box.nodes)})".lstrip())
    if module:
        parts.append(f"({module})")
    if box.role:
        parts.append(box.role)
    if reads:
        parts.append(f"← {', '.join(called[arrow.earlier] + _in_brackets(arrow) for arrow in reads)}")
    return " ".join(parts)

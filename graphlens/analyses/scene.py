"""What a picture of a folded graph shows: boxes, frames and arrows, before any drawing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from graphlens.analyses.fold import FoldedGraph, Group
from graphlens.analyses.fold.labels import short_op
from graphlens.graph import GradGraph, SavedSums

Path = tuple[tuple[int, int], ...]  # (group, iteration), outer before inner


class Frame(NamedTuple):
    """A frame around an iteration of a group; None stands for every iteration at once."""

    group: int
    iteration: int | None


class Key(NamedTuple):
    """Where a box stands: the frames around it, outer before inner, and what is drawn there.

    `what` is "node", "closed" (a whole group), "middle" (the iterations that are left out) or
    "output"; `number` is the drawn node, the group, or the output.
    """

    frames: tuple[Frame, ...]
    what: str
    number: int


@dataclass(frozen=True)
class Expansion:
    """How much of a folded graph is drawn.

    Attributes:
        unrolled: groups that are drawn iteration by iteration.
        ends: groups of which the first and the last iteration are drawn.
        depth: how many frames may stand inside one another; what lies deeper is one closed box.
    """

    unrolled: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    depth: int | None = None


@dataclass
class SceneBox:
    """A box; it stands for `nodes` nodes, of which `first` is the first.

    `each_bytes` is what every one of them adds to the storage bytes, None if they differ. A closed
    box stands for `count` iterations, which come after `skipped` others.
    """

    key: Key
    kind: str  # "function", "custom", "leaf", "closed", "middle" or "output"
    title: str
    shape: tuple[int, ...] | None
    first: int
    role: str = ""
    count: int = 1
    skipped: int = 0
    nodes: int = 0
    storage_bytes: int = 0
    each_bytes: int | None = None
    unknown: int = 0

    def add(self, saved: SavedSums) -> None:
        """Count one more node."""
        each = saved.storage_bytes
        self.each_bytes = each if self.nodes == 0 or self.each_bytes == each else None
        self.nodes += 1
        self.storage_bytes += each
        self.unknown += saved.unknown


@dataclass
class SceneFrame:
    """A frame with the totals of what it stands for, all iterations included."""

    frames: tuple[Frame, ...]
    count: int
    label: str
    nodes: int = 0
    storage_bytes: int = 0
    unknown: int = 0


@dataclass
class SceneArrow:
    """An arrow from an earlier box to a later one, for `edges` edges of the graph.

    `carried` says that it leads to the next iteration. `entered` and `left` hold, where it crosses
    the frame of a group that is drawn once, which of its iterations the edges end or start in, and
    `entered_count` and `left_count` how many there are. `one_each` says that different
    outputs are read within one iteration of the frames around, as by a loop over the entries of a
    tensor; `read` holds the first (node, port) that is read in each of those iterations.
    """

    earlier: Key
    later: Key
    carried: bool
    shape: tuple[int, ...] | None
    edges: int = 0
    entered: set[int] = field(default_factory=set)
    entered_count: int = 0
    left: set[int] = field(default_factory=set)
    left_count: int = 0
    read: dict[Path, tuple[int, int]] = field(default_factory=dict)
    one_each: bool = False

    @property
    def ends(self) -> tuple[Key, Key, bool]:
        """What tells an arrow from all others."""
        return self.earlier, self.later, self.carried

    @property
    def around(self) -> tuple[Frame, ...]:
        """The frames that both ends lie in."""
        depth = 0
        for one, other in zip(self.earlier.frames, self.later.frames, strict=False):
            if one != other:
                break
            depth += 1
        return self.earlier.frames[:depth]


@dataclass(frozen=True)
class Extract:
    """Which part of a graph a scene shows.

    Attributes:
        what: the part in words, "on the paths from x".
        whole: nodes of the whole graph.
        nodes: for each node of the part its number in the whole graph.
        outputs: how many outputs of the part are outputs of the whole graph; only those are drawn.
        focus: the node of the part that was asked for.
    """

    what: str
    whole: int
    nodes: tuple[int, ...]
    outputs: int
    focus: int | None = None


@dataclass(frozen=True)
class Scene:
    """Everything that a drawing needs, in forward order; `focus` is the box that was asked for."""

    graph: GradGraph
    boxes: tuple[SceneBox, ...]
    frames: tuple[SceneFrame, ...]
    arrows: tuple[SceneArrow, ...]
    extract: Extract | None = None
    focus: Key | None = None

    def number(self, box: SceneBox) -> int:
        """The number of a box's first node in the whole graph."""
        return box.first if self.extract is None else self.extract.nodes[box.first]


FOLDED = Expansion()


def build_scene(folded: FoldedGraph, expansion: Expansion = FOLDED, extract: Extract | None = None) -> Scene:
    """Which boxes a picture shows, in which frames, with which arrows between them."""
    graph = folded.graph
    paths = _paths(folded)
    keys = [_key(folded, expansion, path, number) for number, path in enumerate(paths)]
    boxes = _boxes(folded, keys)
    arrows: dict[tuple[Key, Key, bool], SceneArrow] = {}
    for source, target, _, ports in graph.edges:
        earlier, later = keys[target], keys[source]
        drawn = min(_levels(earlier), _levels(later))
        carried = _is_carried(paths[target][:drawn], paths[source][:drawn], expansion)
        if earlier == later and not carried:
            continue  # inside a closed box
        arrow = arrows.get((earlier, later, carried))
        if arrow is None:
            arrow = SceneArrow(earlier, later, carried, graph.nodes[target].shape)
            arrows[earlier, later, carried] = arrow
        arrow.edges += 1
        if not carried:
            _cross(arrow, folded, paths[target], paths[source])
            output = (target, ports[0])
            arrow.one_each |= output != arrow.read.setdefault(paths[target][: len(arrow.around)], output)
    for place, end in enumerate(graph.outputs if extract is None else graph.outputs[: extract.outputs]):
        key = Key((), "output", place)
        boxes[key] = SceneBox(key, "output", end.name, end.shape, end.node)
        arrows[keys[end.node], key, False] = SceneArrow(keys[end.node], key, False, end.shape, 1)
    focus = None if extract is None or extract.focus is None else keys[extract.focus]
    frames = _frames(folded, boxes.values())
    return Scene(graph, tuple(boxes.values()), frames, tuple(arrows.values()), extract, focus)


def without_frames(scene: Scene) -> Scene:
    """A scene in which every group is unrolled, without the frames around the iterations."""
    keys = {box.key: box.key if box.kind == "output" else Key((), "node", box.first) for box in scene.boxes}
    boxes = tuple(replace(box, key=keys[box.key]) for box in scene.boxes)
    arrows = tuple(replace(arrow, earlier=keys[arrow.earlier], later=keys[arrow.later]) for arrow in scene.arrows)
    return replace(scene, boxes=boxes, frames=(), arrows=arrows)


def compact_label(label: str) -> str:
    """ "h.0…11.ln.weight" for "h.0.ln.weight … h.11.ln.weight"."""
    first, dots, last = label.partition(" … ")
    parts, others = first.split("."), last.split(".")
    if not dots or len(parts) != len(others):
        return label
    return ".".join(a if a == b else f"{a}…{b}" for a, b in zip(parts, others, strict=True))


def group_names(folded: FoldedGraph) -> dict[str, frozenset[int]]:
    """The names by which groups can be asked for: their labels, whole or compact, and "1", "2", … in order."""
    names: dict[str, frozenset[int]] = {}
    for group in folded.groups:
        for name in {group.label, compact_label(group.label), str(group.number + 1)}:
            names[name] = names.get(name, frozenset()) | {group.number}
    return names


def _paths(folded: FoldedGraph) -> list[Path]:
    """The iterations that each node is drawn in."""
    chains = _leaf_chains(folded)
    consumers: dict[int, int] = {}
    for source, target, _, _ in folded.graph.edges:
        consumers.setdefault(target, source)
    paths: list[Path] = []
    for number, node in enumerate(folded.graph.nodes):
        if node.kind != "leaf":
            paths.append(folded.path(number))
            continue
        # A leaf lies in the frames of its box, in the iteration of its first consumer.
        chain = chains[folded.box_of[number]]
        path = folded.path(consumers[number]) if chain else ()
        paths.append(tuple(step for step in path if step[0] in chain))
    return paths


def _leaf_chains(folded: FoldedGraph) -> dict[int, frozenset[int]]:
    """For each drawn node the groups around it."""
    chains: dict[int, frozenset[int]] = {}
    around: list[int] = []
    for depth, item in folded.walk():
        del around[depth:]
        if isinstance(item, Group):
            around.append(item.number)
        else:
            chains[item.node] = frozenset(around)
    return chains


def _key(folded: FoldedGraph, expansion: Expansion, path: Path, number: int) -> Key:
    frames: list[Frame] = []
    for group, iteration in path:
        if expansion.depth is not None and len(frames) >= expansion.depth:
            return Key(tuple(frames), "closed", group)
        if group in expansion.unrolled:
            frames.append(Frame(group, iteration))
        elif group in expansion.ends:
            if 0 < iteration < folded.groups[group].count - 1:
                return Key(tuple(frames), "middle", group)
            frames.append(Frame(group, iteration))
        else:
            frames.append(Frame(group, None))
    return Key(tuple(frames), "node", folded.box_of[number])


def _levels(key: Key) -> int:
    """How many of the groups around a node the picture tells of; what happens inside a closed box it does not."""
    return len(key.frames) + (key.what == "closed")


def _is_carried(earlier: Path, later: Path, expansion: Expansion) -> bool:
    """Whether an edge leads from one iteration to another of a group that is drawn once."""
    for (group, iteration), (other, next_iteration) in zip(earlier, later, strict=False):
        if group != other:
            return False
        if iteration != next_iteration:
            return group not in expansion.unrolled and group not in expansion.ends
    return False


def _cross(arrow: SceneArrow, folded: FoldedGraph, earlier: Path, later: Path) -> None:
    """Note which iterations the frames that an edge crosses are in; the outermost ones tell."""
    out, into, depth = arrow.earlier.frames, arrow.later.frames, len(arrow.around)
    if depth < len(out) and out[depth].iteration is None:
        arrow.left.add(earlier[depth][1])
        arrow.left_count = folded.groups[out[depth].group].count
    if depth < len(into) and into[depth].iteration is None:
        arrow.entered.add(later[depth][1])
        arrow.entered_count = folded.groups[into[depth].group].count


def _boxes(folded: FoldedGraph, keys: list[Key]) -> dict[Key, SceneBox]:
    sums = folded.graph.saved_by_node()
    roles = {item.node: item.role for item in folded.graph.inputs if item.node is not None}
    labels = {item.node: item.label for _, item in folded.walk() if not isinstance(item, Group)}
    boxes: dict[Key, SceneBox] = {}
    for number, key in enumerate(keys):
        box = boxes.get(key)
        if box is None:
            node = folded.graph.nodes[number]
            if key.what != "node":
                group = folded.groups[key.number]
                skipped = 1 if key.what == "middle" else 0
                count = group.count - 2 * skipped
                box = SceneBox(key, key.what, group.label, None, number, count=count, skipped=skipped)
            elif node.kind == "leaf":
                whole = all(frame.iteration is None for frame in key.frames)
                title = compact_label(labels[key.number]) if whole else node.name
                box = SceneBox(key, "leaf", title, node.shape, number, roles.get(number, ""))
            else:
                box = SceneBox(key, node.kind, short_op(node.op), node.shape, number)
            boxes[key] = box
        box.add(sums[number])
    return boxes


def _frames(folded: FoldedGraph, boxes: Iterable[SceneBox]) -> tuple[SceneFrame, ...]:
    frames: dict[tuple[Frame, ...], SceneFrame] = {}
    for box in boxes:
        for depth in range(1, len(box.key.frames) + 1):
            around = box.key.frames[:depth]
            frame = frames.get(around)
            if frame is None:
                group = folded.groups[around[-1].group]
                count = group.count if around[-1].iteration is None else 1
                frame = frames[around] = SceneFrame(around, count, group.label)
            frame.nodes += box.nodes
            frame.storage_bytes += box.storage_bytes
            frame.unknown += box.unknown
    return tuple(frames.values())

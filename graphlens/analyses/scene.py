"""What a picture of a folded graph shows: boxes, frames and arrows, before any drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from graphlens.analyses.fold import FoldedGraph, Group
from graphlens.analyses.fold.labels import compact_label as compact_label
from graphlens.analyses.fold.labels import short_op
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.module_frames import ModuleFrames
from graphlens.graph import GradGraph, Node, SavedSums, Source

Path = tuple[tuple[int, int], ...]  # (group, iteration), outer before inner
_Number = TypeVar("_Number", int, float)


class Frame(NamedTuple):
    """A frame around an iteration of a group, None for every iteration at once; or around a module's calls.

    The numbers of modules follow those of the groups; their `iteration` is None.
    """

    group: int
    iteration: int | None


class Key(NamedTuple):
    """Where a box stands: the frames around it, outer before inner, and what is drawn there.

    `what` is "node", "closed" (a whole group, or the call of a module), "middle" (the iterations
    that are left out) or "output"; `number` is the drawn node, the group, or the output.
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

    `each_bytes` is what every one of them adds to the storage bytes, None if they differ.
    `spent_ns` is what the passes of the nodes that were timed took, None if none was; `untimed` counts
    the others. `heat` is the sum of the magnitudes in the scene's column, None if it has none of the
    nodes, and `net` the sum with the signs; `cold` counts those that it does not have, leaves aside.
    A closed box stands for `count` iterations, which come after `skipped` others, or for a module's
    calls, and then `count` is 1.

    `lines` are the lines of code that its nodes come from, in the order of their first use.
    `module` is the class of a module where each iteration, or the closed box, is a call of it; on
    another box the path and the class of a module that made just this node.
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
    spent_ns: int | None = None
    untimed: int = 0
    heat: float | None = None
    net: float = 0.0
    cold: int = 0
    lines: tuple[Source, ...] = ()
    module: str = ""

    def add(
        self, saved: SavedSums, spent_ns: int | None = None, heat: float | None = None, *, ran: bool = True
    ) -> None:
        """Count one more node; `ran` says whether an op ran for it, which for a leaf none does."""
        each = saved.storage_bytes
        self.each_bytes = each if self.nodes == 0 or self.each_bytes == each else None
        self.nodes += 1
        self.storage_bytes += each
        self.unknown += saved.unknown
        self.spent_ns = _sum_of_known(self.spent_ns, spent_ns)
        self.untimed += ran and spent_ns is None
        self.heat = _sum_of_known(self.heat, None if heat is None else abs(heat))
        self.net += heat or 0.0
        self.cold += ran and heat is None


@dataclass
class SceneFrame:
    """A frame with the totals of what it stands for, all iterations included.

    `module` is the class of the module that it shows `calls` calls of: one in each iteration of a
    group; or the frame is the module's own, and then `count` is 1 and `label` the module's path.
    """

    frames: tuple[Frame, ...]
    count: int
    label: str
    nodes: int = 0
    storage_bytes: int = 0
    unknown: int = 0
    spent_ns: int | None = None
    untimed: int = 0
    heat: float | None = None
    net: float = 0.0
    module: str = ""
    calls: int = 0

    @property
    def is_module(self) -> bool:
        """Whether it is a module's own frame, and not that of a group."""
        return self.count == 1 and self.frames[-1].iteration is None


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
    """Everything that a drawing needs, in forward order.

    `focus` is the box that was asked for, `heat` the column by which boxes are shaded. A `dense` one
    has boxes that touch even if they are few; and it may be laid out in several `columns` side by side.
    """

    graph: GradGraph
    boxes: tuple[SceneBox, ...]
    frames: tuple[SceneFrame, ...]
    arrows: tuple[SceneArrow, ...]
    extract: Extract | None = None
    focus: Key | None = None
    heat: NodeColumn | None = None
    dense: bool = False
    columns: int = 1

    def number(self, box: SceneBox) -> int:
        """The number of a box's first node in the whole graph."""
        return box.first if self.extract is None else self.extract.nodes[box.first]


FOLDED = Expansion()


def build_scene(
    folded: FoldedGraph,
    expansion: Expansion = FOLDED,
    extract: Extract | None = None,
    modules: ModuleFrames | None = None,
    heat: NodeColumn | None = None,
) -> Scene:
    """Which boxes a picture shows, in which frames, with which arrows between them; with `modules` in their frames.

    `heat` goes by the numbers of the whole graph.
    """
    graph = folded.graph
    paths = _paths(folded, modules)
    keys = [_key(folded, expansion, path, number) for number, path in enumerate(paths)]
    names = _Names(folded, modules, keys, paths)
    boxes = _boxes(folded, keys, names, _heats(len(graph), heat, extract))
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
    frames = _frames(folded, boxes.values(), names)
    return Scene(graph, tuple(boxes.values()), frames, tuple(arrows.values()), extract, focus, heat)


def without_frames(scene: Scene) -> Scene:
    """A scene in which every group is unrolled, without the frames around the iterations."""
    keys = {box.key: box.key if box.kind == "output" else Key((), "node", box.first) for box in scene.boxes}
    boxes = tuple(replace(box, key=keys[box.key]) for box in scene.boxes)
    arrows = tuple(replace(arrow, earlier=keys[arrow.earlier], later=keys[arrow.later]) for arrow in scene.arrows)
    return replace(scene, boxes=boxes, frames=(), arrows=arrows)


def group_names(folded: FoldedGraph) -> dict[str, frozenset[int]]:
    """The names by which groups can be asked for: their labels, whole or compact, and "1", "2", … in order."""
    names: dict[str, frozenset[int]] = {}
    for group in folded.groups:
        for name in {group.label, compact_label(group.label), str(group.number + 1)}:
            names[name] = names.get(name, frozenset()) | {group.number}
    return names


def _spent(node: Node) -> int | None:
    """Of both passes, as far as they were timed."""
    return _sum_of_known(node.forward_ns, node.backward_ns)


def _sum_of_known(one: _Number | None, other: _Number | None) -> _Number | None:
    """The sum of two measurements, either of which may not have been made."""
    return other if one is None else one if other is None else one + other


def _paths(folded: FoldedGraph, modules: ModuleFrames | None) -> list[Path]:
    """The iterations, and the calls of modules in frames, that each node is drawn in."""
    chains = _leaf_chains(folded)
    nodes = folded.graph.nodes
    # What is an output too, or an input, belongs to no module.
    apart = {output.node for output in folded.graph.outputs}
    apart |= {item.node for item in folded.graph.inputs if item.role == "input" and item.node is not None}
    consumers: dict[int, list[int]] = {}
    for source, target, _, _ in folded.graph.edges:
        if nodes[target].kind == "leaf":
            consumers.setdefault(target, []).append(source)
    paths: list[Path] = []
    for number, node in enumerate(nodes):
        if node.kind != "leaf":
            paths.append(folded.path(number) if modules is None else modules.paths[number])
            continue
        readers = consumers.get(number, [])
        if modules is None:
            readers = readers[:1]
        ways = [folded.path(reader) if modules is None else modules.paths[reader] for reader in readers]
        paths.append(_leaf_path(ways, chains[folded.box_of[number]], len(folded.groups), number in apart))
    return paths


def _leaf_path(ways: Sequence[Path], chain: frozenset[int], groups: int, apart: bool) -> Path:
    """The frames that a leaf lies in: those of its box, in the iteration of its first reader, and of modules.

    Args:
        ways: the path of each node that reads it.
        chain: the groups around its box.
        groups: how many groups there are; higher numbers are those of modules.
        apart: whether it lies in no module, but for one around its groups.
    """
    if not ways:
        return ()
    innermost = max((depth for depth, (number, _) in enumerate(ways[0]) if number in chain), default=-1)
    length = 0
    for depth, step in enumerate(ways[0]):
        if step[0] < groups:
            inside = step[0] in chain
        else:
            inside = (depth < innermost or not apart) and all(way[depth : depth + 1] == (step,) for way in ways)
        if not inside:
            break
        length += 1
    return ways[0][:length]


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
    out, into = (_outermost(folded, key.frames, len(arrow.around)) for key in (arrow.earlier, arrow.later))
    if out is not None and arrow.earlier.frames[out].iteration is None:
        arrow.left.add(earlier[out][1])
        arrow.left_count = folded.groups[earlier[out][0]].count
    if into is not None and arrow.later.frames[into].iteration is None:
        arrow.entered.add(later[into][1])
        arrow.entered_count = folded.groups[later[into][0]].count


def _outermost(folded: FoldedGraph, frames: tuple[Frame, ...], depth: int) -> int | None:
    """Which of the frames, from a depth on, is the first of a group; those of modules stand for no iteration."""
    return next((k for k in range(depth, len(frames)) if frames[k].group < len(folded.groups)), None)


class _Names:
    """What the modules in a scene are called, by what they stand for in it."""

    def __init__(
        self, folded: FoldedGraph, modules: ModuleFrames | None, keys: Sequence[Key], paths: Sequence[Path]
    ) -> None:
        self.modules = modules
        self.calls: dict[tuple[Frame, ...] | Key, set[int]] = {}
        if modules is None:
            return
        for number, (key, path) in enumerate(zip(keys, paths, strict=True)):
            for depth, frame in enumerate(key.frames):
                if frame.group >= modules.first:
                    self.calls.setdefault(key.frames[: depth + 1], set()).add(path[depth][1])
            if key.what == "closed" and key.number >= modules.first:
                self.calls.setdefault(key, set()).add(path[len(key.frames)][1])
            elif key.what == "node" and number in modules.singles:
                self.calls.setdefault(key, set()).add(modules.singles[number])

    def of(self, place: tuple[Frame, ...] | Key) -> tuple[str, str, int]:
        """The path and the class of the module that a frame or a box shows, and how many calls of it; or nothing."""
        calls = sorted(self.calls.get(place, ()))
        return (*self.modules.named(calls), len(calls)) if self.modules is not None and calls else ("", "", 0)

    def kind(self, group: int) -> str:
        """The class of the module that each iteration of a group is a call of."""
        return "" if self.modules is None else self.modules.kinds.get(group, "")


def _heats(size: int, heat: NodeColumn | None, extract: Extract | None) -> Sequence[float | None]:
    """The column's value of each node of the part that is shown."""
    if heat is None:
        return [None] * size
    return [heat.values.get(number) for number in (range(size) if extract is None else extract.nodes)]


def _boxes(
    folded: FoldedGraph, keys: list[Key], names: _Names, heats: Sequence[float | None]
) -> dict[Key, SceneBox]:
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


def _closed(folded: FoldedGraph, key: Key, first: int, names: _Names) -> SceneBox:
    if key.number >= len(folded.groups):
        path, kind, _ = names.of(key)
        return SceneBox(key, "closed", path, None, first, module=kind)
    group = folded.groups[key.number]
    skipped = 1 if key.what == "middle" else 0
    count = group.count - 2 * skipped
    module = names.kind(group.number)
    return SceneBox(key, key.what, group.label, None, first, count=count, skipped=skipped, module=module)


def _frames(folded: FoldedGraph, boxes: Iterable[SceneBox], names: _Names) -> tuple[SceneFrame, ...]:
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
            frame.spent_ns = _sum_of_known(frame.spent_ns, box.spent_ns)
            frame.untimed += box.untimed
            frame.heat = _sum_of_known(frame.heat, box.heat)
            frame.net += box.net
    return tuple(frames.values())


def _frame(folded: FoldedGraph, around: tuple[Frame, ...], names: _Names) -> SceneFrame:
    number, iteration = around[-1]
    if number >= len(folded.groups):
        path, kind, calls = names.of(around)
        return SceneFrame(around, 1, path, module=kind, calls=calls)
    group = folded.groups[number]
    return SceneFrame(around, group.count if iteration is None else 1, group.label, module=names.kind(number))

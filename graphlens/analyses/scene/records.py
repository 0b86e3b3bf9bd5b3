"""What a picture of a folded graph shows: boxes, frames and arrows, before any drawing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from graphlens.analyses.heat import NodeColumn
from graphlens.graph import GradGraph, SavedSums, Source

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
        self.spent_ns = sum_of_known(self.spent_ns, spent_ns)
        self.untimed += ran and spent_ns is None
        self.heat = sum_of_known(self.heat, None if heat is None else abs(heat))
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
        leaf: the name of the leaf that the paths begin at.
    """

    what: str
    whole: int
    nodes: tuple[int, ...]
    outputs: int
    focus: int | None = None
    leaf: str | None = None


class Deeper(NamedTuple):
    """What one more level of frames would have taken: how many boxes, and whether those could be laid out."""

    boxes: int
    is_feasible: bool


@dataclass(frozen=True)
class Scene:
    """Everything that a drawing needs, in forward order.

    `focus` is the box that was asked for, `heat` the column by which boxes are shaded. A `dense` one
    has boxes that touch even if they are few; and it may be laid out in several `columns` side by side.
    `deeper` tells why groups are closed that the wish would have open; None if there are none.
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
    deeper: Deeper | None = None

    def number(self, box: SceneBox) -> int:
        """The number of a box's first node in the whole graph."""
        return box.first if self.extract is None else self.extract.nodes[box.first]


def without_frames(scene: Scene) -> Scene:
    """A scene in which every group is unrolled, without the frames around the iterations."""
    keys = {box.key: box.key if box.kind == "output" else Key((), "node", box.first) for box in scene.boxes}
    boxes = tuple(replace(box, key=keys[box.key]) for box in scene.boxes)
    arrows = tuple(replace(arrow, earlier=keys[arrow.earlier], later=keys[arrow.later]) for arrow in scene.arrows)
    return replace(scene, boxes=boxes, frames=(), arrows=arrows)


def sum_of_known(one: _Number | None, other: _Number | None) -> _Number | None:
    """The sum of two measurements, either of which may not have been made."""
    return other if one is None else one if other is None else one + other

"""A scene as DOT text: rounded boxes, ellipses for leaves and outputs, frames around repeats."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from graphlens.analyses.columns import columns, cut_arrows
from graphlens.analyses.layout_cost import long_arrows
from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame
from graphlens.analyses.stacks import stacks
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text
from graphlens.views.box_dot import BoxWriter, is_doubled
from graphlens.views.heat import heat_legend
from graphlens.views.look import Look as Look
from graphlens.views.markup import bold, label, small, text
from graphlens.views.scene_text import arrow_remark, part_text

_Item = TypeVar("_Item")
_KEY = 11  # points
_WIDEST_KEY = 66  # letters: what is said about a picture does not make it wider
_FONT = "Arial"  # every layout program finds it, or one as wide; `finish_svg` names fonts like it


def scene_dot(scene: Scene, look: Look, background: str = "transparent") -> str:
    """The scene as DOT text; equal scenes give equal text."""
    return "\n".join(_Writer(scene, look).lines(background)) + "\n"


def box_tips(scene: Scene) -> dict[str, str]:
    """What a reader may want to know of a box that is pointed at, by the box's name in the DOT text."""
    names = _names(scene)
    lines: dict[str, list[str]] = defaultdict(list)
    for box in scene.boxes:
        lines[names[box.key]].append(_tip(scene, box))
    tips = {name: "\n".join(told) for name, told in lines.items()}
    own = {box.key: _tip(scene, box) for box in scene.boxes}
    for arrow in scene.arrows:
        tips[_copy(names, arrow)] = own[arrow.earlier]
    return tips


def box_columns(scene: Scene) -> dict[str, int]:
    """The column of each box, by the box's name in the DOT text."""
    names = _names(scene)
    return {names[key]: number for key, number in columns(scene).items()}


def _names(scene: Scene) -> dict[Key, str]:
    """How each box is called in the DOT text; a stack is called like the first box in it."""
    names = {box.key: f"b{number}" for number, box in enumerate(scene.boxes)}
    long = long_arrows(scene)
    for chain, beside in stacks(scene):
        arrows = (arrow for some in beside.values() for arrow in some)
        alone = [arrow.earlier for arrow in arrows if not arrow.carried and arrow.ends not in long]
        names.update(dict.fromkeys([*chain, *alone], names[chain[0]]))
    return names


def _copy(names: Mapping[Key, str], arrow: SceneArrow) -> str:
    return f"{names[arrow.earlier]}_{names[arrow.later]}{'_carried' if arrow.carried else ''}"


def _tip(scene: Scene, box: SceneBox) -> str:
    """Node numbers stand without separators, ready for `--focus`."""
    number = scene.number(box)
    if box.kind == "output":
        return f"{box.title}: output of node {number}"
    title = box.title if box.kind in ("leaf", "closed", "middle") else scene.graph.nodes[box.first].op
    where = f"node {number}" if box.nodes == 1 else f"{nodes_text(box.nodes)}, the first is node {number}"
    return "\n".join([f"{title or '(unnamed)'}: {where}", *_made_at(box)])


def _made_at(box: SceneBox) -> Iterator[str]:
    """The module and the line of code that a box comes from, and what stands there."""
    if box.module and box.kind not in ("closed", "middle"):
        yield box.module
    if box.lines:
        more = len(box.lines) - 1
        yield f"{box.lines[0]}{f' and {count_text(more)} more line' if more else ''}{'s' if more > 1 else ''}"
        if box.lines[0].text and not more:
            yield box.lines[0].text


class _Writer:
    def __init__(self, scene: Scene, look: Look) -> None:
        self.scene = scene
        self.look = look
        self.names = _names(scene)
        self.stacks = {stack.chain[0]: stack for stack in stacks(scene)}
        self.stacked = {key for stack in self.stacks.values() for key in stack.chain[1:]}
        self.wide = {self.names[key]: stack for key, stack in self.stacks.items() if stack.beside}
        beside = [arrow for stack in self.stacks.values() for some in stack.beside.values() for arrow in some]
        self.beside = {arrow.ends for arrow in beside}
        self.column = columns(scene) if scene.columns > 1 else {}
        self.cut = cut = cut_arrows(scene, self.column) - self.beside if self.column else frozenset()
        long = long_arrows(scene) | cut
        self.long = long - self.beside
        copied = long.union(arrow.ends for arrow in beside if arrow.carried)
        copies = Counter(arrow.earlier for arrow in scene.arrows if arrow.ends in copied)
        # The leaf that was asked for is drawn as such once, however many copies of it there are.
        leaf = scene.extract.leaf if scene.extract else None
        asked = {box.key for box in scene.boxes if box.kind == "leaf" and box.title == leaf}
        self.original = next((one.ends for one in scene.arrows if one.earlier in asked and one.ends in self.long), None)
        self.leaves = {box.key for box in scene.boxes if box.kind == "leaf"}
        # Drawn as copies, or touching another box.
        self.elsewhere = self.stacked | {arrow.earlier for arrow in beside if arrow.ends not in copied}
        self.elsewhere |= copies.keys() & self.leaves
        carried_on = {arrow.earlier: "" for arrow in scene.arrows if arrow.carried and arrow.ends in copied}
        # An arrow from a box to itself has no label: another arrow that comes from that side would strike it through.
        carried_on.update({arrow.earlier: shape_text(arrow.shape) for arrow in scene.arrows if self._is_loop(arrow)})
        read_on = {arrow.earlier for arrow in scene.arrows if arrow.ends in cut and not arrow.carried} - self.leaves
        self.draw = BoxWriter(scene, look, copies, carried_on, read_on)
        self.palette = self.draw.palette
        # Per frame what is in it, at any depth: looking through all of it for each frame would be slow.
        self.boxes_in = _by_frame((box.key.frames, box) for box in scene.boxes)
        self.place = {box.key: number for number, box in enumerate(scene.boxes)}
        self.remarks = {
            arrow.ends: f"r{number}"
            for number, arrow in enumerate(scene.arrows)
            if self._remark(arrow) and self.names[arrow.earlier] != self.names[arrow.later]
        }
        self.arrows_in = _by_frame((self._place_of(arrow), arrow) for arrow in scene.arrows)
        self.frames_in = _by_frame((frame.frames[:-1], (k, frame)) for k, frame in enumerate(scene.frames))

    @property
    def margin(self) -> str:
        """Between a box and its text, in inches: less where every text is of the larger size, so that more fits."""
        return "0.1,0.05" if self.look.least >= 11 else "0.16,0.06"

    def lines(self, background: str) -> Iterator[str]:
        palette = self.palette
        backward = " dir=back" if self.look.direction == "backward" else ""
        gaps = "nodesep=0.15 ranksep=0.2 pad=0.08" if self.scene.dense else "nodesep=0.3 ranksep=0.5 pad=0.2"
        yield "digraph graphlens {"
        yield (
            f'  graph [id="graph" rankdir=TB bgcolor={background} fontname="{_FONT}" fontsize=12 {gaps} '
            f'fontcolor="{palette.text}" labelloc=t label={self._heading()}]'
        )
        yield (
            f'  node [shape=box style="filled,rounded" fontname="{_FONT}" fontsize=11 margin="{self.margin}" '
            f'height=0.3 penwidth=0.9 fontcolor="{palette.text}"]'
        )
        yield (
            f'  edge [fontname="{_FONT}" fontsize={self.look.least} arrowsize=0.6 penwidth=0.9 class="gl-arrow" '
            f'color="{palette.arrow}" fontcolor="{palette.text}"{backward}]'
        )
        if self.look.caption:
            # The graph has one label, which is the heading; the label of a frame around all is the caption.
            yield "  subgraph cluster_all {"
            yield f'    graph [id="whole" peripheries=0 labelloc=b label={label([self.draw.small(self.look.caption)])}]'
            yield from self._inside(())
            yield "  }"
        else:
            yield from self._inside(())
        for arrow in self.scene.arrows:
            if arrow.ends not in self.beside and not (arrow.later in self.stacked and not arrow.carried):
                yield from self._arrow(arrow)
        if self.column:
            yield from self._order_of_columns()
        yield "}"

    def _inside(self, around: tuple[Frame, ...]) -> Iterator[str]:
        """The boxes of one frame, then the frames in it; frames are few levels deep."""
        indent = "  " * (len(around) + 1)
        for box in self.boxes_in[around]:
            if box.key.frames == around and box.key not in self.elsewhere:
                drawn = self.draw.stack(self.stacks[box.key]) if box.key in self.stacks else self.draw.box(box)
                yield f"{indent}{self.names[box.key]} {drawn}"
        for arrow in self.arrows_in[around]:
            if self._place_of(arrow) == around and arrow.ends in self.long:
                drawn = self.draw.copy_of(arrow, is_dashed=arrow.ends != self.original)
                yield f"{indent}{_copy(self.names, arrow)} {drawn}"
        for arrow in self.arrows_in[around]:
            if self._place_of(arrow) == around and arrow.ends in self.remarks:
                yield f"{indent}{self.remarks[arrow.ends]} {self._remark_box(arrow)}"
        for number, frame in self.frames_in[around]:
            if frame.frames[:-1] == around:
                fill, line = self.palette.frame
                yield f"{indent}subgraph cluster_{number} {{"
                yield (
                    f'{indent}  graph [id="frame{number}" class="gl-frame" label="" style="rounded,filled" '
                    f'fillcolor="{fill}" color="{line}" penwidth=1.4 peripheries=1]'
                )
                yield from self._frame_heading(frame, f"t{number}", f"{indent}  ")
                yield from self._inside(frame.frames)
                yield f"{indent}}}"

    def _place_of(self, arrow: SceneArrow) -> tuple[Frame, ...]:
        """The frames around an arrow; one from another column begins at a copy in the innermost of them."""
        return arrow.later.frames if arrow.ends in self.cut else arrow.around

    def _order_of_columns(self) -> Iterator[str]:
        """A row of points above the columns, in order, each held to what comes first in its column."""
        count = max(self.column.values()) + 1
        points = " -> ".join(f"c{number}" for number in range(count))
        yield "  node [shape=point style=invis width=0.01 height=0.01]"
        yield f"  {{ rank=same; {points} [style=invis] }}"
        apart = self.long | self.beside
        fed = {arrow.later for arrow in self.scene.arrows if not arrow.carried and arrow.ends not in apart}
        for box in self.scene.boxes:
            if box.key not in fed and box.key not in self.elsewhere:
                yield f"  c{self.column[box.key]} -> {self.names[box.key]} [style=invis]"

    def _heading(self) -> str:
        graph = self.scene.graph
        facts = [] if self.scene.extract else [nodes_text(len(graph))]
        total = sum(box.storage_bytes for box in self.scene.boxes)
        unknown = sum(box.unknown for box in self.scene.boxes)
        facts.append(f"{'≥ ' if unknown else ''}{bytes_text(total)} saved (storage)")
        facts.append(f"drawn as {count_text(len(self.scene.boxes))} boxes")
        lines = [bold(self.look.title)] if self.look.title else []
        if self.scene.extract:
            lines.append(text(part_text(self.scene.extract)))
        lines.append(text(" · ".join(facts)))
        points = max(_KEY, self.look.least)
        lines += [small(line, points) for sign in self._key() for line in textwrap.wrap(sign, _WIDEST_KEY)]
        return label(lines)

    def _key(self) -> Iterator[str]:
        """What shades and signs of this picture mean, those that it has; on a slide, where room is dear, no more signs
        than one.
        """
        if self.scene.heat is not None:
            missing = any(box.heat is None for box in self.scene.boxes if box.kind not in ("leaf", "output"))
            yield from heat_legend(self.scene.heat, self.draw.whole, missing)
        if self.stacks:
            right = ", what stands to its right," if self.beside else ""
            yield f"Boxes that touch: a lower one reads the one above it{right} and nothing else"
        if self.scene.dense:
            return
        if any(is_doubled(box) and box.key not in self.elsewhere for box in self.scene.boxes):
            yield "Double border: several nodes"
        if any(ends != self.original for ends in self.long):
            yield "Dashed outline: drawn again where it is read"
        if any(arrow.carried and arrow.ends not in self.beside for arrow in self.scene.arrows):
            yield "Bold arrow: to a later iteration"

    def _frame_heading(self, frame: SceneFrame, name: str, indent: str) -> Iterator[str]:
        # A node rather than the cluster's own label: arrows are led around nodes, not around labels.
        yield f'{indent}{name} [class="gl-heading" shape=plaintext style="" label={self.draw.frame_label(frame)}]'
        tops = self._tops(frame)
        for key in tops:
            # Without weight, so that it pulls nothing up; into an inner frame dot heeds the weight alone.
            weight = "" if len(key.frames) > len(frame.frames) else " weight=0"
            yield f"{indent}{name} -> {self.names[key]} [style=invis{weight}]"
        for arrow in self.arrows_in[frame.frames]:
            if self._place_of(arrow) == frame.frames and arrow.ends in self.long and arrow.later in tops:
                yield f"{indent}{name} -> {_copy(self.names, arrow)} [style=invis weight=0]"
        for number, inner in self.frames_in[frame.frames]:
            if inner.frames[:-1] == frame.frames:
                yield f"{indent}{name} -> t{number} [style=invis]"

    def _tops(self, frame: SceneFrame) -> list[Key]:
        """The boxes of a frame that only leaves lead to, and those leaves: its heading goes above them."""
        inside = [arrow for arrow in self.arrows_in[frame.frames] if not arrow.carried]
        fed = {arrow.later for arrow in inside if arrow.earlier not in self.leaves}
        leaves = {arrow.earlier for arrow in inside if arrow.earlier in self.leaves and arrow.later not in fed}
        boxes = [box.key for box in self.boxes_in[frame.frames]]
        tops = [key for key in boxes if (key in leaves if key in self.leaves else key not in fed)]
        return [key for key in tops if key not in self.elsewhere]

    def _remark(self, arrow: SceneArrow) -> str:
        if not arrow.carried:
            return arrow_remark(arrow)
        shown = arrow.ends in self.long or arrow.ends in self.beside
        return "" if shown else f"carried {shape_text(arrow.shape)}".rstrip()

    def _is_loop(self, arrow: SceneArrow) -> bool:
        """Whether it leads from a box, or from boxes that touch, to the same, and is drawn as an arrow."""
        drawn = arrow.ends not in self.long and arrow.ends not in self.beside
        return arrow.carried and drawn and self.names[arrow.earlier] == self.names[arrow.later]

    def _remark_box(self, arrow: SceneArrow) -> str:
        # A node rather than the arrow's own label: dot lays labels across the borders of frames.
        colour, name = (self.palette.carried, "carried") if arrow.carried else (self.palette.text, "remark")
        return (
            f'[label={label([self.draw.small(self._remark(arrow))])} class="gl-{name}" fontcolor="{colour}" '
            'shape=plaintext style="" margin="0.03,0.01" width=0 height=0]'
        )

    def _ends(self, arrow: SceneArrow) -> tuple[str, str]:
        """Where an arrow begins and ends: at a box of a stack, not at what stands beside it."""
        start = _copy(self.names, arrow) if arrow.ends in self.long else self.names[arrow.earlier]
        end = self.names[arrow.later]
        if start != end and not arrow.carried and start in self.wide:
            start += ":end" if len(self.wide[start].chain) > 1 else ":top"
        return start, f"{end}:top" if start != end and end in self.wide else end

    def _arrow(self, arrow: SceneArrow) -> Iterator[str]:
        (start, end), remark = self._ends(arrow), self.remarks.get(arrow.ends)
        parts: list[str] = []
        if arrow.carried:
            colour = self.palette.carried
            parts.append(f'class="gl-carried" color="{colour}" fontcolor="{colour}" penwidth=1.6')
        elif arrow.earlier not in self.leaves:
            parts.append("weight=2")  # what functions read is kept close; a leaf may stand further away
        if not arrow.carried and not remark and len(arrow.earlier.frames) > len(arrow.around):
            # Else the leaves of what comes after a frame stand beside the frame, and what comes after with them.
            parts.append("minlen=2")
        if remark is None:
            if arrow.carried and start == end:
                parts.append('label=" "')  # room for the loop, which without a label gets none
            yield _edge(start, end, parts)
            return
        # Two halves, one of them with the head. An arrow to the next iteration mostly leads up to
        # what comes first in this one: it is laid out downwards, and then given the other direction.
        up = arrow.carried and self.place[arrow.later] < self.place[arrow.earlier]
        head_last = self.look.direction == "forward"
        halves = [(start, remark, not head_last), (remark, end, head_last)]
        for tail, head, pointed in halves:
            ways = ("none", "back" if up == head_last else "forward")
            edge = (head, tail) if up else (tail, head)
            yield _edge(*edge, [*parts, f"dir={ways[pointed]}", *(["weight=0"] if arrow.carried else [])])


def _edge(tail: str, head: str, parts: list[str]) -> str:
    return f"  {tail} -> {head}" + (f" [{' '.join(parts)}]" if parts else "")


def _by_frame(items: Iterable[tuple[tuple[Frame, ...], _Item]]) -> dict[tuple[Frame, ...], list[_Item]]:
    """The items of each frame and of the frames in it; () stands for the whole picture."""
    by_frame: dict[tuple[Frame, ...], list[_Item]] = defaultdict(list)
    for frames, item in items:
        for depth in range(len(frames) + 1):
            by_frame[frames[:depth]].append(item)
    return by_frame

"""A scene as DOT text: rounded boxes, ellipses for leaves and outputs, frames around repeats."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from graphlens.analyses.layout_cost import long_arrows
from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame, compact_label
from graphlens.analyses.stacks import stacks
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text, seconds_text
from graphlens.views.heat import cold_text, heat_legend, heat_step, share_text, warmth
from graphlens.views.markup import bold, label, small, stack, text, wrapped
from graphlens.views.palette import DARK, LIGHT, Palette
from graphlens.views.scene_text import (
    arrow_remark,
    box_title,
    frame_title,
    iterations_text,
    lines_text,
    made_by,
    part_text,
)

_Item = TypeVar("_Item")
_FONT = "Arial"  # every layout program finds it, or one as wide; `finish_svg` names fonts like it


@dataclass(frozen=True)
class Look:
    """How a scene is drawn; `theme` is "light", "dark" or "auto" (as the page around it).

    `lines` says whether the boxes name their line of code.
    """

    title: str = ""
    caption: str = ""
    direction: str = "forward"
    theme: str = "auto"
    lines: bool = False


def scene_dot(scene: Scene, look: Look) -> str:
    """The scene as DOT text; equal scenes give equal text."""
    return "\n".join(_Writer(scene, look).lines()) + "\n"


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


def _names(scene: Scene) -> dict[Key, str]:
    """How each box is called in the DOT text; a stack is called like the first box in it."""
    names = {box.key: f"b{number}" for number, box in enumerate(scene.boxes)}
    return {**names, **{key: names[chain[0]] for chain in stacks(scene) for key in chain}}


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
        self.palette: Palette = DARK if look.theme == "dark" else LIGHT
        self.names = _names(scene)
        self.most = max((warmth(box, scene.heat) for box in scene.boxes), default=0)
        self.whole = sum(box.heat or 0 for box in scene.boxes)
        self.stacks = {chain[0]: chain for chain in stacks(scene)}
        self.stacked = {key for chain in self.stacks.values() for key in chain[1:]}
        self.boxes = {box.key: box for box in scene.boxes}
        self.long = long_arrows(scene)
        self.copied = [arrow for arrow in scene.arrows if arrow.ends in self.long]
        self.carried_on = {arrow.earlier for arrow in self.copied if arrow.carried}
        self.frames = {frame.frames: frame for frame in scene.frames}
        self.leaves = {box.key for box in scene.boxes if box.kind == "leaf"}
        self.copies = Counter(arrow.earlier for arrow in self.copied)
        self.repeated = self.copies.keys() & self.leaves
        self.elsewhere = self.repeated | self.stacked  # drawn as copies, or below another box
        # Per frame what is in it, at any depth: looking through all of it for each frame would be slow.
        self.boxes_in = _by_frame((box.key.frames, box) for box in scene.boxes)
        self.place = {box.key: number for number, box in enumerate(scene.boxes)}
        self.remarks = {
            arrow.ends: f"r{number}"
            for number, arrow in enumerate(scene.arrows)
            if self._remark(arrow) and self.names[arrow.earlier] != self.names[arrow.later]
        }
        self.arrows_in = _by_frame((arrow.around, arrow) for arrow in scene.arrows)
        self.frames_in = _by_frame((frame.frames[:-1], (k, frame)) for k, frame in enumerate(scene.frames))

    def lines(self) -> Iterator[str]:
        palette = self.palette
        backward = " dir=back" if self.look.direction == "backward" else ""
        yield "digraph graphlens {"
        yield (
            f'  graph [id="graph" rankdir=TB bgcolor=transparent fontname="{_FONT}" fontsize=12 nodesep=0.25 '
            f'ranksep=0.35 pad=0.2 fontcolor="{palette.text}" labelloc=t label={self._heading()}]'
        )
        yield (
            f'  node [shape=box style="filled,rounded" fontname="{_FONT}" fontsize=11 margin="0.16,0.06" height=0.3 '
            f'penwidth=0.9 fontcolor="{palette.text}"]'
        )
        yield (
            f'  edge [fontname="{_FONT}" fontsize=9 arrowsize=0.6 penwidth=0.9 class="gl-arrow" '
            f'color="{palette.arrow}" fontcolor="{palette.text}"{backward}]'
        )
        if self.look.caption:
            # The graph has one label, which is the heading; the label of a frame around all is the caption.
            yield "  subgraph cluster_all {"
            yield f'    graph [id="whole" peripheries=0 labelloc=b label={label([small(self.look.caption)])}]'
            yield from self._inside(())
            yield "  }"
        else:
            yield from self._inside(())
        for arrow in self.scene.arrows:
            if arrow.later not in self.stacked:
                yield from self._arrow(arrow)
        yield "}"

    def _inside(self, around: tuple[Frame, ...]) -> Iterator[str]:
        """The boxes of one frame, then the frames in it; frames are few levels deep."""
        indent = "  " * (len(around) + 1)
        for box in self.boxes_in[around]:
            if box.key.frames == around and box.key not in self.elsewhere:
                drawn = self._stack(self.stacks[box.key]) if box.key in self.stacks else self._box(box)
                yield f"{indent}{self.names[box.key]} {drawn}"
        for arrow in self.arrows_in[around]:
            if arrow.around == around and arrow.ends in self.long:
                yield f"{indent}{_copy(self.names, arrow)} {self._copy_of(self.boxes[arrow.earlier], arrow)}"
        for arrow in self.arrows_in[around]:
            if arrow.around == around and arrow.ends in self.remarks:
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
        if self.scene.heat is not None:
            missing = any(box.heat is None for box in self.scene.boxes if box.kind not in ("leaf", "output"))
            lines += map(small, heat_legend(self.scene.heat, self.whole, missing))
        if self.stacks:
            lines.append(small("of boxes that touch, each reads the one above it and nothing else"))
        return label(lines)

    def _box(self, box: SceneBox) -> str:
        fill, line, classes = self._colours(box)
        attributes = [f"label={self._box_label(box)}", f'class="{classes}"', f'fillcolor="{fill}"', f'color="{line}"']
        if box.kind in ("leaf", "output"):
            attributes.append("shape=ellipse style=filled")
        if box.kind in ("leaf", "closed", "middle") and box.nodes > 1:
            attributes.append("peripheries=2")  # not on functions: the frame around them says it
        if box.key == self.scene.focus:
            attributes.append("penwidth=3")
        return f"[{' '.join(attributes)}]"

    def _colours(self, box: SceneBox) -> tuple[str, str, str]:
        """Fill, line, and the classes that give both their dark tones."""
        fill, line = self.palette.boxes[box.kind]
        if box.heat is None:
            return fill, line, f"gl-{box.kind}"
        step = heat_step(warmth(box, self.scene.heat), self.most)
        return self.palette.heat[step], line, f"gl-{box.kind} gl-heat{step}"

    def _stack(self, chain: tuple[Key, ...]) -> str:
        """Boxes that touch: one node for the layout program, with a cell for each."""
        cells = []
        for key in chain:
            box = self.boxes[key]
            fill, line, _ = self._colours(box)
            details = " · ".join(part for part in (self._details(box), *self._place_of(box)) if part)
            words = text(f"{_function(box)}  ") + small(details) if details else text(_function(box))
            cells.append((words, fill, line))
        return f'[label={stack(cells)} class="gl-stack" shape=plain style=""]'

    def _box_label(self, box: SceneBox) -> str:
        # The gap belongs to the bold part: a leading gap would be lost between two pieces of text.
        if box.kind in ("closed", "middle"):
            count = iterations_text(box)
            title = compact_label(box_title(box, self.frames))
            path, _, kind = title.partition("  ")
            lines = [bold(f"{count}  ") + text(title) if count else bold(f"{path}  ") + text(kind)]
        elif box.kind in ("leaf", "output"):
            *lines, last = wrapped(self._name(box) or "(unnamed)")
            lines = [*map(bold, lines), bold(f"{last}  ") + text(shape_text(box.shape))]
        else:
            lines = [text(_function(box))]
        if (details := self._details(box)) != "":
            lines.append(small(details))
        lines += [small(place) for place in self._place_of(box)]
        return label(lines)

    def _place_of(self, box: SceneBox) -> list[str]:
        """The module that made just this box, and the line of code where that is asked for."""
        line = lines_text(box) if self.look.lines else ""
        return [place for place in (made_by(box, self.frames), line) if place]

    def _details(self, box: SceneBox) -> str:
        carried = "carried on" if box.key in self.carried_on else ""
        parts = (self._count(box), self._saves(box), _time(box), self._share(box), cold_text(box), carried)
        return " · ".join(part for part in parts if part)

    def _name(self, box: SceneBox) -> str:
        """A leaf's name; "…" stands for what the label of the frame around it says."""
        around = self.frames.get(box.key.frames)
        prefix = "" if around is None else f"{compact_label(around.label)}."
        return f"…{box.title.removeprefix(prefix)}" if prefix and box.title.startswith(prefix) else box.title

    def _count(self, box: SceneBox) -> str:
        if box.kind in ("closed", "middle"):
            return nodes_text(box.nodes)
        if box.kind == "leaf":
            return f"{count_text(box.nodes)} {box.role or 'leave'}s" if box.nodes > 1 else box.role
        return ""

    def _saves(self, box: SceneBox) -> str:
        if box.kind in ("leaf", "output"):
            return ""
        if box.unknown:
            return "saves: not available"
        if not box.storage_bytes:
            return ""
        if box.nodes > 1 and box.each_bytes is not None:
            return f"saves {bytes_text(box.each_bytes)} each"
        return f"saves {bytes_text(box.storage_bytes)}{' in all' if box.nodes > 1 else ''}"

    def _share(self, item: SceneBox | SceneFrame) -> str:
        return share_text(item, self.scene, self.whole)

    def _frame_heading(self, frame: SceneFrame, name: str, indent: str) -> Iterator[str]:
        # A node rather than the cluster's own label: arrows are led around nodes, not around labels.
        yield f'{indent}{name} [class="gl-heading" shape=plaintext style="" label={self._frame_label(frame)}]'
        tops = self._tops(frame)
        for key in tops:
            # Without weight, so that it pulls nothing up; into an inner frame dot heeds the weight alone.
            weight = "" if len(key.frames) > len(frame.frames) else " weight=0"
            yield f"{indent}{name} -> {self.names[key]} [style=invis{weight}]"
        for arrow in self.arrows_in[frame.frames]:
            if arrow.around == frame.frames and arrow.ends in self.long and arrow.later in tops:
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
        return [key for key in tops if key not in self.repeated]

    def _frame_label(self, frame: SceneFrame) -> str:
        iteration = frame.frames[-1].iteration
        name = f"× {count_text(frame.count)}" if iteration is None else f"iteration {count_text(iteration + 1)}"
        sizes = nodes_text(frame.nodes)
        if frame.storage_bytes or frame.unknown:
            sizes += f" · {'≥ ' if frame.unknown else ''}{bytes_text(frame.storage_bytes)}"
        if (time := _time(frame)) != "":
            sizes += f" · {time}"
        if (share := self._share(frame)) != "":
            sizes += f" · {share}"
        if any(self.frames[frame.frames[:depth]].count > 1 for depth in range(1, len(frame.frames))):
            sizes += " in all"  # its count is that of one iteration around it
        if frame.is_module:
            if frame.calls > 1:
                sizes = f"{count_text(frame.calls)} calls · {sizes}"
            path, _, kind = frame_title(frame, self.frames).partition("  ")
            lines = [bold(f"{path}  ") + text(kind), small(sizes)]
        else:
            lines = [bold(f"{name}  ") + text(frame_title(frame, self.frames)), small(sizes)]
        return "<" + "".join(f'{line}<br align="left"/>' for line in lines) + ">"

    def _copy_of(self, box: SceneBox, arrow: SceneArrow) -> str:
        lines = wrapped(box.title or "(unnamed)")
        lines[-1] += f"  {shape_text(box.shape)}"
        fill, line, classes = *self.palette.boxes[box.kind], f"gl-{box.kind}"
        if arrow.carried:
            lines.append("carried on by an earlier iteration")
        elif (share := self._share(box)) != "":
            # The share is the leaf's, and the same one at each of its copies.
            fill, line, classes = self._colours(box)
            lines.append(f"{share} · drawn {count_text(self.copies[box.key])} times")
        shape = "shape=ellipse style" if box.kind == "leaf" else "style"
        rounded = "" if box.kind == "leaf" else ",rounded"
        return (
            f'[label={label([small(line) for line in lines])} class="{classes}" {shape}="filled,dashed{rounded}" '
            f'fillcolor="{fill}" color="{line}" margin="0.05,0.02" height=0.2]'
        )

    def _remark(self, arrow: SceneArrow) -> str:
        if not arrow.carried:
            return arrow_remark(arrow)
        return "" if arrow.ends in self.long else f"carried {shape_text(arrow.shape)}".rstrip()

    def _remark_box(self, arrow: SceneArrow) -> str:
        # A node rather than the arrow's own label: dot lays labels across the borders of frames.
        colour, name = (self.palette.carried, "carried") if arrow.carried else (self.palette.text, "remark")
        return (
            f'[label={label([small(self._remark(arrow))])} class="gl-{name}" fontcolor="{colour}" '
            'shape=plaintext style="" margin="0.03,0.01" width=0 height=0]'
        )

    def _arrow(self, arrow: SceneArrow) -> Iterator[str]:
        start = _copy(self.names, arrow) if arrow.ends in self.long else self.names[arrow.earlier]
        end, remark = self.names[arrow.later], self.remarks.get(arrow.ends)
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
            if arrow.carried and arrow.ends not in self.long:
                parts.append(f'label="  {self._remark(arrow)}"')  # around one box, and so inside its frame
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


def _function(box: SceneBox) -> str:
    return f"{box.title}  {shape_text(box.shape)}"


def _time(item: SceneBox | SceneFrame) -> str:
    """How long the forward ops took, "" where none of them was measured."""
    if item.forward_ns is None:
        return ""
    at_least = "≥ " if item.untimed else ""
    in_all = " in all" if isinstance(item, SceneBox) and item.nodes > 1 else ""
    return f"{at_least}{seconds_text(item.forward_ns / 1e9)}{in_all}"


def _by_frame(items: Iterable[tuple[tuple[Frame, ...], _Item]]) -> dict[tuple[Frame, ...], list[_Item]]:
    """The items of each frame and of the frames in it; () stands for the whole picture."""
    by_frame: dict[tuple[Frame, ...], list[_Item]] = defaultdict(list)
    for frames, item in items:
        for depth in range(len(frames) + 1):
            by_frame[frames[:depth]].append(item)
    return by_frame

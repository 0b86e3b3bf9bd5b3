"""A scene as DOT text: rounded boxes, ellipses for leaves and outputs, frames around repeats."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from graphlens.analyses.layout_cost import long_arrows
from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame, compact_label
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text, percent_text
from graphlens.views.palette import DARK, LIGHT, Palette
from graphlens.views.scene_text import arrow_remark, iterations_text, part_text

HEATS: Mapping[str, Callable[[SceneBox], int]] = {
    "count": lambda box: box.nodes,
    "bytes": lambda box: box.storage_bytes,
}
# Names of leaves are broken at dots into lines of about so many characters, and shortened beyond
# so many: an ellipse around one long line would make the picture several screens wide.
_LINE = 24
_MOST_OF_A_NAME = 96
_Item = TypeVar("_Item")
_FONT = "Helvetica"  # every layout program knows its widths; `finish_svg` names fonts like it


@dataclass(frozen=True)
class Look:
    """How a scene is drawn; `theme` is "light", "dark" or "auto" (by the reader's setting)."""

    title: str = ""
    caption: str = ""
    direction: str = "forward"
    theme: str = "auto"
    heat: str | None = None


def scene_dot(scene: Scene, look: Look) -> str:
    """The scene as DOT text; equal scenes give equal text."""
    return "\n".join(_Writer(scene, look).lines()) + "\n"


def heat_step(value: int, most: int) -> int:
    """The shade of a box: 0 for nothing, 5 for the most."""
    share = value / most if most else 0.0
    # Rounded up, so that only nothing looks like nothing; but a share just above a fifth is a fifth.
    return max(math.ceil(round(share * 5, 1)), 1 if value else 0)


def box_tips(scene: Scene) -> dict[str, str]:
    """What a reader may want to know of a box that is pointed at, by the box's name in the DOT text."""
    names = _names(scene)
    tips = {names[box.key]: _tip(scene, box) for box in scene.boxes}
    for arrow in scene.arrows:
        tips[_copy(names, arrow)] = tips[names[arrow.earlier]]
    return tips


def _names(scene: Scene) -> dict[Key, str]:
    return {box.key: f"b{number}" for number, box in enumerate(scene.boxes)}


def _copy(names: Mapping[Key, str], arrow: SceneArrow) -> str:
    return f"{names[arrow.earlier]}_{names[arrow.later]}{'_carried' if arrow.carried else ''}"


def _tip(scene: Scene, box: SceneBox) -> str:
    """Node numbers stand without separators, ready for `--focus`."""
    number = scene.number(box)
    if box.kind == "output":
        return f"{box.title}: output of node {number}"
    title = box.title if box.kind in ("leaf", "closed", "middle") else scene.graph.nodes[box.first].op
    where = f"node {number}" if box.nodes == 1 else f"{nodes_text(box.nodes)}, the first is node {number}"
    return f"{title or '(unnamed)'}: {where}"


class _Writer:
    def __init__(self, scene: Scene, look: Look) -> None:
        self.scene = scene
        self.look = look
        self.palette: Palette = DARK if look.theme == "dark" else LIGHT
        self.names = _names(scene)
        values = [HEATS[look.heat](box) for box in scene.boxes] if look.heat else []
        self.most, self.whole = max(values, default=0), sum(values)
        self.boxes = {box.key: box for box in scene.boxes}
        self.long = long_arrows(scene)
        self.copied = [arrow for arrow in scene.arrows if arrow.ends in self.long]
        self.carried_on = {arrow.earlier for arrow in self.copied if arrow.carried}
        self.frames = {frame.frames: frame for frame in scene.frames}
        self.leaves = {box.key for box in scene.boxes if box.kind == "leaf"}
        self.repeated = {arrow.earlier for arrow in self.copied} & self.leaves
        # Per frame what is in it, at any depth: looking through all of it for each frame would be slow.
        self.boxes_in = _by_frame((box.key.frames, box) for box in scene.boxes)
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
            yield f'    graph [id="whole" peripheries=0 labelloc=b label={_html([_small(self.look.caption)])}]'
            yield from self._inside(())
            yield "  }"
        else:
            yield from self._inside(())
        for arrow in self.scene.arrows:
            yield self._arrow(arrow)
        yield "}"

    def _inside(self, around: tuple[Frame, ...]) -> Iterator[str]:
        """The boxes of one frame, then the frames in it; frames are few levels deep."""
        indent = "  " * (len(around) + 1)
        for box in self.boxes_in[around]:
            if box.key.frames == around and box.key not in self.repeated:
                yield f"{indent}{self.names[box.key]} {self._box(box)}"
        for arrow in self.arrows_in[around]:
            if arrow.around == around and arrow.ends in self.long:
                yield f"{indent}{_copy(self.names, arrow)} {self._copy_of(self.boxes[arrow.earlier], arrow)}"
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
        lines = [_bold(self.look.title)] if self.look.title else []
        if self.scene.extract:
            lines.append(_text(part_text(self.scene.extract)))
        lines.append(_text(" · ".join(facts)))
        if self.look.heat:
            unit = "nodes" if self.look.heat == "count" else "saved bytes (storage)"
            lines.append(_small(f"the stronger the orange, the larger the share of all {unit}, in percent"))
        return _html(lines)

    def _box(self, box: SceneBox) -> str:
        fill, line = self.palette.boxes[box.kind]
        classes = f"gl-{box.kind}"
        if self.look.heat and box.kind != "output":
            step = heat_step(HEATS[self.look.heat](box), self.most)
            fill, classes = self.palette.heat[step], f"{classes} gl-heat{step}"
        attributes = [f"label={self._box_label(box)}", f'class="{classes}"', f'fillcolor="{fill}"', f'color="{line}"']
        if box.kind in ("leaf", "output"):
            attributes.append("shape=ellipse style=filled")
        if box.kind in ("leaf", "closed", "middle") and box.nodes > 1:
            attributes.append("peripheries=2")  # not on functions: the frame around them says it
        if box.key == self.scene.focus:
            attributes.append("penwidth=3")
        return f"[{' '.join(attributes)}]"

    def _box_label(self, box: SceneBox) -> str:
        shape = "" if box.shape is None else shape_text(box.shape)
        # The gap belongs to the bold part: a leading gap would be lost between two pieces of text.
        if box.kind in ("closed", "middle"):
            lines = [_bold(f"{iterations_text(box)}  ") + _text(compact_label(box.title))]
        elif box.kind in ("leaf", "output"):
            *lines, last = _wrapped(self._name(box) or "(unnamed)")
            lines = [*map(_bold, lines), _bold(f"{last}  ") + _text(shape)]
        else:
            lines = [_text(f"{box.title}  {shape}")]
        carried = "carried on" if box.key in self.carried_on else ""
        details = [part for part in (self._count(box), self._saves(box), self._share(box), carried) if part]
        if details:
            lines.append(_small(" · ".join(details)))
        return _html(lines)

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

    def _share(self, box: SceneBox) -> str:
        if not self.look.heat or box.kind == "output":
            return ""
        value = HEATS[self.look.heat](box)
        return percent_text(value, self.whole) if value else ""

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
        if len(frame.frames) > 1 and iteration is None:
            sizes += " in all"  # its count is that of one iteration around it
        lines = [_bold(f"{name}  ") + _text(frame.label), _small(sizes)]
        return "<" + "".join(f'{line}<br align="left"/>' for line in lines) + ">"

    def _copy_of(self, box: SceneBox, arrow: SceneArrow) -> str:
        lines = _wrapped(box.title or "(unnamed)")
        lines[-1] += f"  {shape_text(box.shape)}"
        if arrow.carried:
            lines.append("carried on by an earlier iteration")
        shape = "shape=ellipse style" if box.kind == "leaf" else "style"
        rounded = "" if box.kind == "leaf" else ",rounded"
        fill, line = self.palette.boxes[box.kind]
        return (
            f'[label={_html([_small(text) for text in lines])} class="gl-{box.kind}" {shape}="filled,dashed{rounded}" '
            f'fillcolor="{fill}" color="{line}" margin="0.05,0.02" height=0.2]'
        )

    def _arrow(self, arrow: SceneArrow) -> str:
        start = _copy(self.names, arrow) if arrow.ends in self.long else self.names[arrow.earlier]
        return f"  {start} -> {self.names[arrow.later]}{self._arrow_attributes(arrow)}"

    def _arrow_attributes(self, arrow: SceneArrow) -> str:
        # What functions read is kept close; a leaf may stand further away.
        parts = [] if arrow.earlier in self.leaves or arrow.carried else ["weight=2"]
        if arrow.carried:
            colour = self.palette.carried
            parts.append(f'class="gl-carried" color="{colour}" fontcolor="{colour}" penwidth=1.6')
            if arrow.ends not in self.long:
                label = f"  carried {shape_text(arrow.shape)}".rstrip()
                parts.append(f'constraint=false label="{label}"')
        elif (label := arrow_remark(arrow)) != "":
            parts.append(f'label="  {label}"')
        return f" [{' '.join(parts)}]" if parts else ""


def _by_frame(items: Iterable[tuple[tuple[Frame, ...], _Item]]) -> dict[tuple[Frame, ...], list[_Item]]:
    """The items of each frame and of the frames in it; () stands for the whole picture."""
    by_frame: dict[tuple[Frame, ...], list[_Item]] = defaultdict(list)
    for frames, item in items:
        for depth in range(len(frames) + 1):
            by_frame[frames[:depth]].append(item)
    return by_frame


def _wrapped(name: str) -> list[str]:
    """A name in lines, broken after dots."""
    if len(name) > _MOST_OF_A_NAME:
        name = f"{name[: _MOST_OF_A_NAME // 2]}…{name[-_MOST_OF_A_NAME // 2 :]}"
    lines = [""]
    for piece in re.findall(r"[^.]*\.+|[^.]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > _LINE:
            lines.append("")
        lines[-1] += piece
    return lines


def _text(text: str) -> str:
    # dot would put names of its own in the place of \N and \G: an invisible joiner keeps the two apart.
    return escape(text, quote=True).replace("\\", "\\&#8288;").replace("  ", "&#160;&#160;")


def _bold(text: str) -> str:
    return f"<b>{_text(text)}</b>"


def _small(text: str) -> str:
    return f'<font point-size="9">{_text(text)}</font>'


def _html(lines: list[str]) -> str:
    return f"<{'<br/>'.join(lines)}>"

"""A scene as DOT text: rounded boxes, ellipses for leaves and outputs, frames around repeats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text, percent_text
from graphlens.views.palette import DARK, LIGHT, Palette

HEATS: Mapping[str, Callable[[SceneBox], int]] = {
    "count": lambda box: box.nodes,
    "bytes": lambda box: box.storage_bytes,
}
# A leaf with more arrows than this gets a small copy at each use, so that no arrow crosses the page.
_MOST_ARROWS_OF_A_LEAF = 3
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


class _Writer:
    def __init__(self, scene: Scene, look: Look) -> None:
        self.scene = scene
        self.look = look
        self.palette: Palette = DARK if look.theme == "dark" else LIGHT
        self.names = {box.key: f"b{number}" for number, box in enumerate(scene.boxes)}
        values = [HEATS[look.heat](box) for box in scene.boxes] if look.heat else []
        self.most, self.whole = max(values, default=0), sum(values)
        self.hubs = self._hubs()

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
        yield from self._inside(())
        yield from self._caption()
        for arrow in self.scene.arrows:
            yield from self._arrow(arrow)
        yield "}"

    def _inside(self, around: tuple[Frame, ...]) -> Iterator[str]:
        """The boxes of one frame, then the frames in it; frames are few levels deep."""
        indent = "  " * (len(around) + 1)
        for box in self.scene.boxes:
            if box.key.frames == around and box.key not in self.hubs:
                yield f"{indent}{self.names[box.key]} {self._box(box)}"
        for number, frame in enumerate(self.scene.frames):
            if frame.frames[:-1] == around:
                fill, line = self.palette.frame
                yield f"{indent}subgraph cluster_{number} {{"
                yield (
                    f'{indent}  graph [id="frame{number}" class="gl-frame" label="" style="rounded,filled" '
                    f'fillcolor="{fill}" color="{line}" penwidth=1.4]'
                )
                yield from self._frame_heading(frame, f"t{number}", f"{indent}  ")
                yield from self._inside(frame.frames)
                yield f"{indent}}}"

    def _heading(self) -> str:
        graph = self.scene.graph
        facts = [nodes_text(len(graph))]
        total = sum(box.storage_bytes for box in self.scene.boxes)
        unknown = sum(box.unknown for box in self.scene.boxes)
        facts.append(f"{'≥ ' if unknown else ''}{bytes_text(total)} saved (storage)")
        facts.append(f"drawn as {count_text(len(self.scene.boxes))} boxes")
        lines = [_bold(self.look.title)] if self.look.title else []
        lines.append(_text(" · ".join(facts)))
        if self.look.heat:
            unit = "nodes" if self.look.heat == "count" else "saved bytes (storage)"
            lines.append(_small(f"the stronger the orange, the larger the share of all {unit}, in percent"))
        return _html(lines)

    def _caption(self) -> Iterator[str]:
        if self.look.caption:
            yield f'  caption [class="gl-heading" shape=plaintext style="" label={_html([_small(self.look.caption)])}]'
            for box in self.scene.boxes:
                if box.kind == "output":
                    yield f"  {self.names[box.key]} -> caption [style=invis]"

    def _box(self, box: SceneBox) -> str:
        fill, line = self.palette.boxes[box.kind]
        classes = f"gl-{box.kind}"
        if self.look.heat and box.kind != "output":
            step = self._heat_step(box)
            fill, classes = self.palette.heat[step], f"{classes} gl-heat{step}"
        attributes = [f"label={self._box_label(box)}", f'class="{classes}"', f'fillcolor="{fill}"', f'color="{line}"']
        if box.kind in ("leaf", "output"):
            attributes.append("shape=ellipse style=filled")
        if box.nodes > 1:
            attributes.append("peripheries=2")
        return f"[{' '.join(attributes)}]"

    def _box_label(self, box: SceneBox) -> str:
        shape = "" if box.shape is None else shape_text(box.shape)
        # The gap belongs to the bold part: a leading gap would be lost between two pieces of text.
        if box.kind == "middle":
            lines = [_text(f"… {box.title}")]
        elif box.kind in ("leaf", "output", "closed"):
            lines = [_bold(f"{box.title or '(unnamed)'}  ") + _text(shape)]
        else:
            lines = [_text(f"{box.title}  {shape}")]
        details = [part for part in (self._count(box), self._saves(box), self._share(box)) if part]
        if details:
            lines.append(_small(" · ".join(details)))
        return _html(lines)

    def _count(self, box: SceneBox) -> str:
        if box.kind in ("closed", "middle"):
            return nodes_text(box.nodes)
        if box.kind == "leaf":
            many = f"× {count_text(box.nodes)} " if box.nodes > 1 else ""
            return f"{many}{box.role}".strip()
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

    def _heat_step(self, box: SceneBox) -> int:
        assert self.look.heat is not None
        share = HEATS[self.look.heat](box) / self.most if self.most else 0.0
        # Rounded up, so that only nothing looks like nothing.
        return math.ceil(share * (len(self.palette.heat) - 1))

    def _frame_heading(self, frame: SceneFrame, name: str, indent: str) -> Iterator[str]:
        # A node rather than the cluster's own label: arrows are led around nodes, not around labels.
        yield f'{indent}{name} [class="gl-heading" shape=plaintext style="" label={self._frame_label(frame)}]'
        depth = len(frame.frames)
        leaves = {box.key for box in self.scene.boxes if box.kind == "leaf"}
        fed = {
            arrow.later
            for arrow in self.scene.arrows
            if not arrow.carried
            and arrow.earlier.frames[:depth] == arrow.later.frames[:depth] == frame.frames
            and arrow.earlier not in leaves
        }
        for box in self.scene.boxes:
            if box.key.frames[:depth] == frame.frames and box.key not in fed | leaves:
                yield f"{indent}{name} -> {self.names[box.key]} [style=invis]"
        for number, inner in enumerate(self.scene.frames):
            if inner.frames[:-1] == frame.frames:
                yield f"{indent}{name} -> t{number} [style=invis]"

    def _frame_label(self, frame: SceneFrame) -> str:
        iteration = frame.frames[-1].iteration
        name = f"× {count_text(frame.count)}" if iteration is None else f"iteration {count_text(iteration + 1)}"
        sizes = nodes_text(frame.nodes)
        if frame.storage_bytes or frame.unknown:
            sizes += f" · {'≥ ' if frame.unknown else ''}{bytes_text(frame.storage_bytes)}"
        lines = [_bold(f"{name}  ") + _text(frame.label), _small(sizes)]
        return "<" + "".join(f'{line}<br align="left"/>' for line in lines) + ">"

    def _arrow(self, arrow: SceneArrow) -> Iterator[str]:
        later = self.names[arrow.later]
        attributes = self._arrow_attributes(arrow)
        hub = self.hubs.get(arrow.earlier)
        if hub is None:
            yield f"  {self.names[arrow.earlier]} -> {later}{attributes}"
            return
        copy = f"{self.names[arrow.earlier]}_{later}"
        fill, line = self.palette.boxes["leaf"]
        label = _html([_small(f"{hub.title or '(unnamed)'}  {shape_text(hub.shape)}")])
        yield (
            f'  {copy} [label={label} class="gl-leaf" shape=ellipse style="filled,dashed" fillcolor="{fill}" '
            f'color="{line}" margin="0.05,0.02" height=0.2]'
        )
        yield f"  {copy} -> {later}{attributes}"

    def _arrow_attributes(self, arrow: SceneArrow) -> str:
        parts = []
        if arrow.carried:
            colour = self.palette.carried
            label = f"  carried {shape_text(arrow.shape)}".rstrip()
            parts.append(
                f'constraint=false class="gl-carried" color="{colour}" fontcolor="{colour}" penwidth=1.6 '
                f'label="{label}"'
            )
        elif (label := _remark(arrow)) != "":
            parts.append(f'label="  {label}"')
        return f" [{' '.join(parts)}]" if parts else ""

    def _hubs(self) -> dict[Key, SceneBox]:
        """Leaves with so many arrows that a copy is drawn at each use instead."""
        uses: dict[Key, int] = {}
        for arrow in self.scene.arrows:
            uses[arrow.earlier] = uses.get(arrow.earlier, 0) + 1
        return {
            box.key: box
            for box in self.scene.boxes
            if box.kind == "leaf" and uses.get(box.key, 0) > _MOST_ARROWS_OF_A_LEAF
        }


def _remark(arrow: SceneArrow) -> str:
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
    return " ".join(part for part in parts if part)


def _iterations(some: set[int], count: int) -> str:
    if len(some) == count:
        return f"all {count_text(count)}"
    if len(some) == 1:
        return f"iteration {count_text(min(some) + 1)}"
    return f"{count_text(len(some))} of {count_text(count)}"


def _text(text: str) -> str:
    return escape(text, quote=True).replace("  ", "&#160;&#160;")


def _bold(text: str) -> str:
    return f"<b>{_text(text)}</b>"


def _small(text: str) -> str:
    return f'<font point-size="9">{_text(text)}</font>'


def _html(lines: list[str]) -> str:
    return f"<{'<br/>'.join(lines)}>"

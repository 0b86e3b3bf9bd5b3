"""The boxes of a picture in DOT: their labels and colours, and stacks of them."""

from __future__ import annotations

from collections.abc import Mapping

from graphlens.analyses.scene import Frame, Key, Scene, SceneArrow, SceneBox, SceneFrame, compact_label
from graphlens.analyses.stacks import Stack
from graphlens.graph import shape_text
from graphlens.units import bytes_text, count_text, nodes_text, seconds_text
from graphlens.views.heat import cold_text, heat_step, share_text, warmth
from graphlens.views.look import Look
from graphlens.views.markup import Cell, bold, label, small, stack, text, wrapped
from graphlens.views.palette import DARK, LIGHT, Palette
from graphlens.views.scene_text import box_title, frame_title, iterations_text, lines_text, made_by

_CARRIED = "carried on by an earlier iteration"
_READ_ON, _READ_THERE = "read in another column", "from another column"


class BoxWriter:
    """Draws boxes, as attributes of a node in DOT.

    Args:
        copies: how often each box is drawn again where it is read.
        carried_on: the boxes that later iterations read where no arrow says so, or one without words; with the
            shape of what they read, for closed boxes.
        read_on: the boxes of which there is a copy in another column.
    """

    def __init__(
        self, scene: Scene, look: Look, copies: Mapping[Key, int], carried_on: Mapping[Key, str], read_on: set[Key]
    ) -> None:
        self.scene = scene
        self.look = look
        self.palette: Palette = DARK if look.theme == "dark" else LIGHT
        self.most = max((warmth(box, scene.heat) for box in scene.boxes), default=0)
        self.whole = sum(box.heat or 0 for box in scene.boxes)
        self.boxes = {box.key: box for box in scene.boxes}
        self.frames: Mapping[tuple[Frame, ...], SceneFrame] = {frame.frames: frame for frame in scene.frames}
        self.copies = copies
        self.carried_on = carried_on
        self.read_on = read_on

    def small(self, words: str) -> str:
        """Words in the smallest type of the picture."""
        return small(words, self.look.least)

    def box(self, box: SceneBox) -> str:
        """A box that stands by itself."""
        fill, line, classes = self._colours(box)
        attributes = [f"label={self._box_label(box)}", f'class="{classes}"', f'fillcolor="{fill}"', f'color="{line}"']
        if box.kind in ("leaf", "output"):
            attributes.append("shape=ellipse style=filled")
        if is_doubled(box):
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

    def stack(self, touching: Stack) -> str:
        """Boxes that touch: one node for the layout program, with a cell for each."""
        rows = []
        for key in touching.chain:
            box = self.boxes[key]
            details = " · ".join(part for part in (self._details(box), *self._place_of(box)) if part)
            cell = self._cell(box, text(_function(box)), details)
            rows.append((cell, [self._beside(arrow) for arrow in touching.beside.get(key, ())]))
        return f'[label={stack(rows)} class="gl-stack" shape=plain style=""]'

    def _cell(self, box: SceneBox, words: str, details: str) -> Cell:
        fill, line, _ = self._colours(box)
        return Cell(f"{words}{text('  ')}{self.small(details)}" if details else words, fill, line)

    def _beside(self, arrow: SceneArrow) -> Cell:
        """What stands to the right of a box that reads it, in place of an arrow."""
        box = self.boxes[arrow.earlier]
        if arrow.carried:
            fill, line = self.palette.boxes[box.kind][0], self.palette.carried
            return Cell(f"{text(_function(box))}{text('  ')}{self.small(_CARRIED)}", fill, line)
        words = self._leaf_name(box) if box.kind == "leaf" else text(_function(box))
        return self._cell(box, words, self._copied(box) if self.copies[box.key] else self._details(box))

    def _copied(self, box: SceneBox) -> str:
        """What a copy of a leaf says. The share is the leaf's, and the same one at each of its copies."""
        share = self.share(box)
        often = f"{share} · drawn {count_text(self.copies[box.key])} times" if share else ""
        return " · ".join(part for part in (self._count(box), often) if part)

    def _leaf_name(self, box: SceneBox) -> str:
        *lines, last = wrapped(self._name(box) or "(unnamed)")
        return "<br/>".join([*map(bold, lines), bold(f"{last}  ") + text(shape_text(box.shape))])

    def _box_label(self, box: SceneBox) -> str:
        # The gap belongs to the bold part: a leading gap would be lost between two pieces of text.
        if box.kind in ("closed", "middle"):
            count = iterations_text(box)
            title = compact_label(box_title(box, self.frames))
            path, _, kind = title.partition("  ")
            lines = [bold(f"{count}  ") + text(title) if count else bold(f"{path}  ") + text(kind)]
        elif box.kind in ("leaf", "output"):
            lines = [self._leaf_name(box)]
        else:
            lines = [text(_function(box))]
        if (details := self._details(box)) != "":
            lines.append(self.small(details))
        if box.shape is None and box.key in self.carried_on:
            lines.append(self.small(f"carried on {self.carried_on[box.key]}".rstrip()))
        lines += [self.small(place) for place in self._place_of(box)]
        return label(lines)

    def _place_of(self, box: SceneBox) -> list[str]:
        """The module that made just this box, and the line of code where that is asked for."""
        line = lines_text(box) if self.look.lines else ""
        return [place for place in (made_by(box, self.frames), line) if place]

    def _details(self, box: SceneBox) -> str:
        # A closed box has no shape of its own: what it carries on stands in a line below.
        carried = "carried on" if box.key in self.carried_on and box.shape is not None else ""
        on = _READ_ON if box.key in self.read_on else ""
        parts = (self._count(box), self._saves(box), _time(box), self.share(box), cold_text(box), carried, on)
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

    def share(self, item: SceneBox | SceneFrame) -> str:
        """What part of the whole heat an item has, in percent."""
        return share_text(item, self.scene, self.whole)

    def frame_label(self, frame: SceneFrame) -> str:
        """What a frame stands for, and the totals of it."""
        iteration = frame.frames[-1].iteration
        name = f"× {count_text(frame.count)}" if iteration is None else f"iteration {count_text(iteration + 1)}"
        sizes = nodes_text(frame.nodes)
        if frame.storage_bytes or frame.unknown:
            sizes += f" · {'≥ ' if frame.unknown else ''}{bytes_text(frame.storage_bytes)}"
        if (time := _time(frame)) != "":
            sizes += f" · {time}"
        if (share := self.share(frame)) != "":
            sizes += f" · {share}"
        if any(self.frames[frame.frames[:depth]].count > 1 for depth in range(1, len(frame.frames))):
            sizes += " in all"  # its count is that of one iteration around it
        if frame.is_module:
            if frame.calls > 1:
                sizes = f"{count_text(frame.calls)} calls · {sizes}"
            path, _, kind = frame_title(frame, self.frames).partition("  ")
            lines = [bold(f"{path}  ") + text(kind), self.small(sizes)]
        else:
            lines = [bold(f"{name}  ") + text(frame_title(frame, self.frames)), self.small(sizes)]
        return "<" + "".join(f'{line}<br align="left"/>' for line in lines) + ">"

    def copy_of(self, arrow: SceneArrow, *, is_dashed: bool = True) -> str:
        """A small copy of where an arrow starts, to be drawn beside its end; dashed, unless it is the only original."""
        box = self.boxes[arrow.earlier]
        lines = wrapped(box.title or "(unnamed)")
        lines[-1] += f"  {shape_text(box.shape)}"
        fill, line, classes = *self.palette.boxes[box.kind], f"gl-{box.kind}"
        if arrow.carried:
            lines.append(_CARRIED)
        elif box.key in self.read_on:
            lines.append(_READ_THERE)
        else:
            fill, line, classes = self._colours(box)  # as at its other copies, beside boxes that touch
            if (copied := self._copied(box)) and box.heat:
                lines.append(copied)
            elif copied and not self.scene.dense:  # on a slide room is dear
                lines[-1] += f"  {copied}"
        shape = "shape=ellipse style" if box.kind == "leaf" else "style"
        rounded = "" if box.kind == "leaf" else ",rounded"
        dashes = ",dashed" if is_dashed else ""
        return (
            f'[label={label([self.small(line) for line in lines])} class="{classes}" {shape}="filled{dashes}{rounded}" '
            f'fillcolor="{fill}" color="{line}" margin="0.05,0.02" height=0.2]'
        )


def is_doubled(box: SceneBox) -> bool:
    """Whether a box that stands by itself has a double border: it stands for several nodes, and is no function."""
    return box.kind in ("leaf", "closed", "middle") and box.nodes > 1


def _function(box: SceneBox) -> str:
    return f"{box.title}  {shape_text(box.shape)}"


def _time(item: SceneBox | SceneFrame) -> str:
    """How long it took, as far as it was timed: both passes or the forward ops; "" where nothing was."""
    if item.spent_ns is None:
        return ""
    at_least = "≥ " if item.untimed else ""
    in_all = " in all" if isinstance(item, SceneBox) and item.nodes > 1 else ""
    return f"{at_least}{seconds_text(item.spent_ns / 1e9)}{in_all}"

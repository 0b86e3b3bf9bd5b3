"""Picture: a drawn graph that shows itself in a notebook and saves itself to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from graphlens.analyses.compose import Wish, compose
from graphlens.analyses.fold import FoldedGraph
from graphlens.analyses.heat import NodeColumn, heat_of
from graphlens.analyses.places import require_recording
from graphlens.analyses.scene import Scene
from graphlens.errors import DrawError
from graphlens.files import check_writable, write_bytes
from graphlens.graph import GradGraph
from graphlens.views import layout
from graphlens.views.palette import DARK, LIGHT
from graphlens.views.scene_dot import Look, box_tips, scene_dot
from graphlens.views.scene_text import describe, scene_text
from graphlens.views.slide import fit_slide, slide_dpi
from graphlens.views.svg import finish_svg, id_prefix

SUFFIXES = (".svg", ".png", ".pdf", ".dot", ".txt")


class Picture:
    """A picture of a backward graph; it is laid out when it is first looked at.

    Attributes:
        scene: the boxes, frames and arrows.
        points: how large the smallest text is on a slide, for a picture that was made for one.
        dot, text, svg: the picture as DOT text, as an indented list, and as SVG.
    """

    def __init__(self, scene: Scene, look: Look, name: str, points: float | None = None) -> None:
        self.scene = scene
        self.look = look
        self.name = name
        self.points = points

    @property
    def dot(self) -> str:
        """DOT text for Graphviz."""
        return scene_dot(self.scene, self.look)

    @property
    def text(self) -> str:
        """An indented list, for terminals and screen readers."""
        return scene_text(self.scene, self.look.title or self.name, lines=self.look.lines)

    @cached_property
    def svg(self) -> str:
        """SVG with title, description and ids of its own."""
        title = self.look.title or f"Backward graph of {self.name}"
        dot = self.dot
        return finish_svg(
            layout.lay_out(dot, "svg"),
            title=title,
            description=describe(self.scene, self.name),
            prefix=id_prefix(self.name, f"{self.look} {dot}"),
            adapts=self.look.theme == "auto",
            tips=box_tips(self.scene),
        ).decode()

    def encode(self, suffix: str, *, dpi: int | None = None) -> bytes:
        """The picture in the format of a file's ending: .svg, .png, .pdf, .dot or .txt.

        A .png for a slide is as large as 1920 × 1080 pixels allow, unless `dpi` is given.
        """
        kind = suffix.lower()
        if kind == ".svg":
            return self.svg.encode()
        if kind == ".dot":
            return self.dot.encode()
        if kind == ".txt":
            return self.text.encode()
        if kind == ".png" and dpi is None and self.points is not None:
            dpi = slide_dpi(self.points)
        # What shows a .png may be dark or light, and the picture cannot ask: it brings its own paper.
        paper = (DARK if self.look.theme == "dark" else LIGHT).paper
        dot = scene_dot(self.scene, self.look, f'"{paper}"') if kind == ".png" else self.dot
        return layout.lay_out(dot, kind.removeprefix("."), dpi=dpi)

    def save(self, path: str | os.PathLike[str], *, force: bool = False, dpi: int | None = None) -> Path:
        """Write the picture in the format of the path's ending, whole or not at all.

        Raises:
            DrawError: an unknown ending, or a format that cannot be made here.
            OutputError: an unwritable path, or an existing file without `force`.
        """
        target = Path(path)
        check_suffix(target.suffix)
        check_writable(target, force=force)
        return write_bytes(target, self.encode(target.suffix, dpi=dpi), force=force)

    def __repr__(self) -> str:
        return f"<Picture of {self.name}: {len(self.scene.graph):,} nodes as {len(self.scene.boxes):,} boxes>"

    def __str__(self) -> str:
        return self.text

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": self.text}
        try:
            bundle["image/svg+xml"] = self.svg
        except DrawError as error:
            bundle["text/plain"] += f"\n(not drawn: {error})\n"
        return bundle


def draw(
    graph: GradGraph | FoldedGraph,
    wish: Wish,
    look: Look,
    name: str = "",
    heat: str | NodeColumn | None = None,
    *,
    slide: bool = False,
) -> Picture:
    """Compose and draw a picture of a graph; `name` is how the picture calls it.

    Args:
        heat: what to shade the boxes by; see `graphlens.analyses.heat`.
        slide: whether to show only as much as can be read on a slide.

    Raises:
        DrawError: it cannot be drawn so.
        MeasureError: the look or the wish asks for times, lines of code or modules that the graph does not tell.
    """
    whole = graph.graph if isinstance(graph, FoldedGraph) else graph
    if look.lines:
        require_recording(whole, "naming lines of code")
    name = name or str(whole.meta.get("target") or "graph")
    column = heat_of(whole, heat)
    if slide:
        fit = fit_slide(graph, wish, look, column)
        return Picture(fit.scene, fit.look, name, fit.points)
    return Picture(compose(graph, wish, column), look, name)


def check_suffix(suffix: str) -> None:
    """Raise `DrawError` unless pictures of this ending can be made here."""
    kind = suffix.lower()
    if kind not in SUFFIXES:
        raise DrawError(f"a picture is written as one of {', '.join(SUFFIXES)}, not {suffix or 'without an ending'}")
    if kind not in (".dot", ".txt"):
        layout.check_format(kind)

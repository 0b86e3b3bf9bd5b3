"""graphlens render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphlens.cli.common import build_program, force_option, load_saved, progressing, target_options
from graphlens.errors import DrawError, NoGraphError
from graphlens.files import check_writable, write_bytes
from graphlens.targets import Target, parse_target

if TYPE_CHECKING:
    from graphlens.analyses.compose import Wish
    from graphlens.capture.program import Pass, Program
    from graphlens.graph import GradGraph
    from graphlens.views.scene_dot import Look

# A graph of so few nodes is as easy to read raw as folded.
_FEW_NODES = 25


@click.command()
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .svg, .png, .pdf, .dot or .txt file, or -.")
@target_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "graphlens", "torchviz"]),
    default="auto",
    show_default=True,
    help="torchviz draws every node; graphlens folds what repeats; auto takes torchviz for a few nodes.",
)
@click.option("--expand", default="none", show_default=True, metavar="all|none|first,last|GROUP", help="To unroll.")
@click.option("--depth", type=click.IntRange(min=0), help="Frames that may stand inside one another.")
@click.option("--max-nodes", type=click.IntRange(min=1), default=400, show_default=True, help="Boxes at the most.")
@click.option("--heat", type=click.Choice(["count", "bytes"]), help="Shade the boxes by nodes or saved bytes.")
@click.option("--direction", type=click.Choice(["forward", "backward"]), default="forward", show_default=True)
@click.option("--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True)
@click.option("--title", help="A heading instead of the target's name.")
@click.option("--caption", default="", help="A line below the picture.")
@click.option("--focus", type=int, metavar="NODE", help="Show the neighbourhood of one node, by its number.")
@click.option("--radius", type=click.IntRange(min=0), default=2, show_default=True, help="How far --focus looks.")
@click.option("--path", "through", metavar="INPUT", help="Show only what lies between this leaf and the outputs.")
@click.option("--dpi", type=click.IntRange(20, 1200), help="Resolution of a .png.")
@click.option("--show-saved", is_flag=True, help="With torchviz: draw the saved tensors too.")
@force_option
def render(target: str, output: str, force: bool, **options: Any) -> None:
    """Draw TARGET's backward graph.

    What repeats is drawn once, in a frame that says how often. Colours are torchviz's: leaves
    blue, functions grey, outputs green.
    """
    from graphlens.views.picture import check_suffix

    parsed = parse_target(target)
    suffix = ".txt" if output == "-" else Path(output).suffix.lower()
    check_suffix(suffix)
    if output != "-":
        check_writable(output, force=force)
    quiet = options["quiet"]
    with progressing(quiet) as progress:
        progress(f"{target}: running")
        program, made, graph = _capture(parsed, options["settings"])
        engine = _engine(parsed, suffix, graph, options)
        progress(f"{target}: drawing {len(graph):,} nodes")
        if engine == "torchviz":
            assert program is not None
            assert made is not None
            data, boxes = _draw_raw(target, suffix, program, made, graph, options), len(graph)
        else:
            data, boxes = _draw_folded(target, suffix, graph, options)
    if output == "-":
        click.echo(data.decode(), nl=False)
        return
    write_bytes(output, data, force=force)
    if options["as_json"]:
        from graphlens.views.documents import to_json

        facts = {"target": target, "file": output, "engine": engine, "nodes": len(graph), "edges": len(graph.edges)}
        click.echo(to_json({**facts, "boxes": boxes}))
    elif not quiet:
        how = "raw by torchviz" if engine == "torchviz" else f"by graphlens as {boxes:,} boxes"
        click.echo(f"Wrote {output}: {len(graph):,} nodes, drawn {how}")


def _capture(target: Target, settings: tuple[str, ...]) -> tuple[Program | None, Pass | None, GradGraph]:
    if target.kind == "saved":
        return None, None, load_saved(target, settings)
    program = build_program(target, settings)
    made = program.forward()
    if not made.roots:
        raise NoGraphError(f"{target.text}: no output has a backward graph to draw; try `graphlens run {target.text}`")
    from graphlens.capture.build import capture

    return program, made, capture(made.roots, program.leaves, meta=program.meta)


def _engine(target: Target, suffix: str, graph: GradGraph, options: dict[str, Any]) -> str:
    if options["engine"] == "torchviz":
        if target.kind == "saved":
            raise DrawError(f"{target.text} is a saved graph, and torchviz draws live ones; use --engine graphlens")
        if suffix == ".txt":
            raise DrawError("torchviz writes no text; use --engine graphlens")
        return "torchviz"
    ours = options["expand"] != "none" or any(
        options[name] is not None for name in ("depth", "heat", "focus", "through", "title")
    )
    ours = ours or bool(options["caption"]) or (options["direction"], options["theme"]) != ("forward", "auto")
    small = len(graph) <= _FEW_NODES and target.kind != "saved" and suffix != ".txt"
    return "torchviz" if options["engine"] == "auto" and small and not ours else "graphlens"


def _draw_raw(
    target: str, suffix: str, program: Program, made: Pass, graph: GradGraph, options: dict[str, Any]
) -> bytes:
    from graphlens.capture.torchviz_dot import check_drawable, torchviz_dot
    from graphlens.views import layout
    from graphlens.views.svg import finish_svg, id_prefix

    check_drawable(target, graph, lays_out=suffix != ".dot")
    dot = torchviz_dot(made.roots, program.leaves, show_saved=options["show_saved"])
    if suffix == ".dot":
        return dot.encode()
    data = layout.lay_out(dot, suffix.removeprefix("."), dpi=options["dpi"])
    if suffix != ".svg":
        return data
    title = options["title"] or f"Backward graph of {target}"
    description = f"{len(graph):,} nodes and {len(graph.edges):,} edges, drawn one box per node."
    return finish_svg(data, title=title, description=description, prefix=id_prefix(target, title + dot))


def _draw_folded(target: str, suffix: str, graph: GradGraph, options: dict[str, Any]) -> tuple[bytes, int]:
    from graphlens.views.picture import draw

    picture = draw(graph, _wish(options), _look(target, options), target)
    return picture.encode(suffix, dpi=options["dpi"]), len(picture.scene.boxes)


def _wish(options: dict[str, Any]) -> Wish:
    from graphlens.analyses.compose import Wish

    return Wish(
        expand=options["expand"],
        depth=options["depth"],
        max_boxes=options["max_nodes"],
        focus=options["focus"],
        radius=options["radius"],
        path=options["through"],
    )


def _look(target: str, options: dict[str, Any]) -> Look:
    from graphlens.views.scene_dot import Look

    return Look(
        title=options["title"] or target,
        caption=options["caption"],
        direction=options["direction"],
        theme=options["theme"],
        heat=options["heat"],
    )

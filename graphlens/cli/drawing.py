"""graphlens render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphlens.analyses.compose import MOST_BOXES
from graphlens.analyses.heat import HEATS
from graphlens.cli.common import Progress, build_program, force_option, load_saved, progressing, target_options, wrote
from graphlens.cli.steps import Steps
from graphlens.errors import DrawError, MeasureError, NoGraphError
from graphlens.files import check_writable, write_bytes
from graphlens.targets import Target, parse_target

if TYPE_CHECKING:
    from graphlens.analyses.compose import Wish
    from graphlens.analyses.heat import NodeColumn
    from graphlens.capture.program import Pass, Program
    from graphlens.graph import GradGraph
    from graphlens.views.picture import Picture
    from graphlens.views.scene_dot import Look

# A graph of so few nodes is as easy to read raw as folded.
_FEW_NODES = 25
_TIMED_RUNS = 3
_HOW = ("what repeats drawn once", "nothing folded")


@click.command()
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .svg, .png, .pdf, .dot or .txt file, or -.")
@target_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "graphlens", "torchviz"]),
    default="auto",
    show_default=True,
    help="graphlens folds what repeats, torchviz draws every node; auto folds unless there are few nodes.",
)
@click.option("--expand", default="none", show_default=True, metavar="all|raw|none|first,last|GROUP", help="To unroll.")
@click.option("--depth", type=click.IntRange(min=0), help="Frames that may stand inside one another.")
@click.option(
    "--max-nodes",
    type=click.IntRange(min=1),
    default=MOST_BOXES,
    show_default=True,
    help="Most boxes; on a slide, however small they get.",
)
@click.option(
    "--heat",
    type=click.Choice([*HEATS, "error"]),
    help="Shade by nodes, saved bytes, time of both passes, or rounding: who made the error of the first output.",
)
@click.option(
    "--group",
    type=click.Choice(["repeats", "module"]),
    default="repeats",
    show_default=True,
    help="What gets a frame: what repeats; with module, the calls of modules too.",
)
@click.option("--slide", is_flag=True, help="Show only as much as can be read on a slide, in columns side by side.")
@click.option("--lines", is_flag=True, help="Name the line of code on each box.")
@click.option("--direction", type=click.Choice(["forward", "backward"]), default="forward", show_default=True)
@click.option("--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True)
@click.option("--title", help="A heading instead of the target's name.")
@click.option("--caption", default="", help="A line below the picture.")
@click.option("--focus", type=int, metavar="NODE", help="Show the neighbourhood of one node, by its number.")
@click.option("--radius", type=click.IntRange(min=0), help="How far --focus looks; 2 unless told.")
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
    elif options["as_json"]:
        raise click.UsageError("--json says what was written; it does not go with -o -")
    _check_options(parsed, suffix, options)
    quiet, engine = options["quiet"], options["engine"]
    with progressing(quiet) as progress:
        progress(f"{target}: running")
        program, made, graph = _capture(parsed, options)
        heat = options["heat"]
        if heat == "error":
            heat = _errors(parsed, program, graph, progress)
        elif heat == "time" and program is not None:
            graph = _timed(parsed, program, graph, progress)
        wants_frames = any(options[name] != _OF_GRAPHLENS[name] for name in _FOLDS)
        if engine == "auto" and len(graph) <= _FEW_NODES and not wants_frames:
            options["expand"] = "raw"
        progress(f"{target}: drawing {len(graph):,} nodes")
        picture = None
        if engine == "torchviz":
            assert program is not None
            assert made is not None
            data = _draw_raw(target, suffix, program, made, graph, options)
        else:
            picture = _draw_folded(target, graph, options, heat)
            data = picture.encode(suffix, dpi=options["dpi"])
    if output == "-":
        click.echo(data.decode(), nl=False)
        return
    write_bytes(output, data, force=force)
    _report(target, output, graph, picture, options)


def _report(target: str, output: str, graph: GradGraph, picture: Picture | None, options: dict[str, Any]) -> None:
    """Say what was written; without a picture of our own torchviz has drawn every node."""
    boxes, points = (len(graph), None) if picture is None else (len(picture.scene.boxes), picture.points)
    if picture is not None and output.lower().endswith(".png"):
        _say_missing_letters(output, picture)
    if options["as_json"]:
        from graphlens.views.documents import to_json

        made_by = "torchviz" if picture is None else "graphlens"
        facts = {"nodes": len(graph), "edges": len(graph.edges), "boxes": boxes}
        slide = {} if points is None else {"text_points": points}
        click.echo(to_json({"target": target, "file": output, "engine": made_by, **facts, **slide}))
    elif not options["quiet"]:
        how = "raw by torchviz" if picture is None else f"by graphlens as {boxes:,} boxes"
        if picture is not None:
            how += f", {_HOW[options['expand'] in ('all', 'raw')]}"
        wrote(output, f"{len(graph):,} nodes, drawn {how}")
        if picture is not None and points is None:
            from graphlens.views.scene_text import closed_text

            if closed := closed_text(picture.scene):
                click.echo(click.wrap_text(closed, 80, "", "  "))
        if points is not None:
            click.echo(click.wrap_text(_on_a_slide(points), 80, "", "  "))


def _say_missing_letters(output: str, picture: Picture) -> None:
    from graphlens.views.layout import missing_letters

    if missing := missing_letters(picture.dot):
        said = f"graphlens: {output} shows empty boxes in place of {' '.join(missing)}"
        click.echo(f"{said}: its renderer has no such letters; write a .svg", err=True)


def _on_a_slide(points: float) -> str:
    from graphlens.views.slide import LEAST

    size = f"On a slide of 1920 × 1080 pixels its smallest text is {points:.1f} pt"
    return size if points >= LEAST else f"{size}: too small to read from afar, show a part (--focus NODE, --path INPUT)"


def _capture(target: Target, options: dict[str, Any]) -> tuple[Program | None, Pass | None, GradGraph]:
    if target.kind == "saved":
        return None, None, load_saved(target, options["settings"])
    program = build_program(target, options["settings"])
    from graphlens.capture.build import capture
    from graphlens.capture.program import recorder_of

    if options["lines"] or options["heat"] in ("time", "error") or options["group"] == "module" or options["slide"]:
        program.anew()
    with recorder_of(program) as recorder:
        made = program.forward()
    if not made.roots:
        why = f"`{Steps(target.text, options['settings'])('check')}`"
        raise NoGraphError(f"{target.text}: no output has a backward graph to draw; {why} says why")
    times, seen = options["heat"] == "time", recorder.attribution()
    return program, made, capture(made.roots, program.leaves, meta=program.meta, attribution=seen, times=times)


# What only one engine can do, with the value that stands for "not asked for".
_OF_GRAPHLENS: dict[str, object] = {
    "expand": "none",
    "depth": None,
    "max_nodes": MOST_BOXES,
    "heat": None,
    "group": "repeats",
    "slide": False,
    "lines": False,
    "direction": "forward",
    "theme": "auto",
    "caption": "",
    "focus": None,
    "radius": None,
    "through": None,
}


# Who asks for one of these wants to see frames.
_FOLDS = ("expand", "depth", "group", "slide")


def _check_options(target: Target, suffix: str, options: dict[str, Any]) -> None:
    """Refuse options that would have no effect."""
    if options["engine"] == "torchviz":
        for name, unset in _OF_GRAPHLENS.items():
            if options[name] != unset:
                flag = {"through": "path"}.get(name, name.replace("_", "-"))
                raise click.UsageError(f"--{flag} goes with --engine graphlens; torchviz draws every node as it is")
        if target.kind == "saved":
            raise DrawError(f"{target.text} is a saved graph, and torchviz draws live ones; use --engine graphlens")
        if suffix == ".txt":
            raise DrawError("torchviz writes no text; use --engine graphlens")
    elif options["show_saved"]:
        raise click.UsageError("--show-saved goes with --engine torchviz")
    if options["radius"] is not None and options["focus"] is None:
        raise click.UsageError("--radius goes with --focus")
    if options["dpi"] is not None and suffix != ".png":
        raise click.UsageError("--dpi goes with a .png file")


def _draw_raw(
    target: str, suffix: str, program: Program, made: Pass, graph: GradGraph, options: dict[str, Any]
) -> bytes:
    from graphlens.capture.torchviz_dot import check_drawable, torchviz_dot
    from graphlens.views import layout
    from graphlens.views.svg import finish_svg, id_prefix

    saving = Steps(target, options["settings"])("save", output="graph.graphml")
    check_drawable(target, graph, lays_out=suffix != ".dot", saving=saving)
    dot = torchviz_dot(made.roots, program.leaves, show_saved=options["show_saved"])
    if suffix == ".dot":
        return dot.encode()
    data = layout.lay_out(dot, suffix.removeprefix("."), dpi=options["dpi"])
    if suffix != ".svg":
        return data
    title = options["title"] or f"Backward graph of {target}"
    description = f"{len(graph):,} nodes and {len(graph.edges):,} edges, drawn one box per node."
    return finish_svg(data, title=title, description=description, prefix=id_prefix(target, title + dot))


def _errors(target: Target, program: Program | None, graph: GradGraph, progress: Progress) -> NodeColumn:
    """What each node contributes to the rounding error of a result."""
    from graphlens.analyses.rounding.shares import error_column
    from graphlens.capture.resolve import user_code
    from graphlens.numerics.rounding import measure_accuracy

    if program is None:
        raise DrawError(f"{target.text} is a saved graph, which tells no values; name the target it was captured from")
    with user_code(target, "a repeated run"):
        return error_column(measure_accuracy(program, graph, progress=progress))


def _timed(target: Target, program: Program, graph: GradGraph, progress: Progress) -> GradGraph:
    """The graph with the times of both passes; with those it has where the backward pass of a node cannot be timed."""
    from graphlens.capture.costing import measure_times
    from graphlens.capture.resolve import user_code

    try:
        with user_code(target, "a repeated run"):
            return measure_times(program, graph, _TIMED_RUNS, progress=progress)[0]
    except MeasureError:
        return graph


def _draw_folded(
    target: str, graph: GradGraph, options: dict[str, Any], heat: str | NodeColumn | None
) -> Picture:
    from graphlens.views.picture import draw

    return draw(graph, _wish(options), _look(target, options), target, heat, slide=options["slide"])


def _wish(options: dict[str, Any]) -> Wish:
    from graphlens.analyses.compose import Wish

    return Wish(
        expand=options["expand"],
        depth=options["depth"],
        max_boxes=options["max_nodes"],
        focus=options["focus"],
        radius=2 if options["radius"] is None else options["radius"],
        path=options["through"],
        group=options["group"],
    )


def _look(target: str, options: dict[str, Any]) -> Look:
    from graphlens.views.scene_dot import Look

    return Look(
        title=options["title"] or target,
        caption=options["caption"],
        direction=options["direction"],
        theme=options["theme"],
        lines=options["lines"],
    )

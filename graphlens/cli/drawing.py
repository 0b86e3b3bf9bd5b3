"""graphlens render."""

from __future__ import annotations

from pathlib import Path

import click

from graphlens.cli.common import build_program, force_option, progressing, target_options
from graphlens.errors import DrawError, NoGraphError
from graphlens.files import check_writable, write_bytes
from graphlens.targets import parse_target


@click.command()
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .svg, .png, .pdf or .dot file.")
@target_options
@click.option(
    "--engine", type=click.Choice(["torchviz"]), default="torchviz", show_default=True, help="What draws the graph."
)
@click.option("--show-saved", is_flag=True, help="Draw the saved tensors too.")
@force_option
def render(
    target: str,
    output: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    engine: str,
    show_saved: bool,
    force: bool,
) -> None:
    """Draw TARGET's raw backward graph, one box per node, as torchviz does."""
    from graphlens.views import layout

    suffix = Path(output).suffix.lower()
    if suffix != ".dot":
        layout.check_format(suffix)
    check_writable(output, force=force)
    parsed = parse_target(target)
    if parsed.kind == "saved":
        raise DrawError(
            f"{target} is a saved graph, and torchviz draws live ones only; name the target it was captured from, "
            "or `graphlens save` it as .dot"
        )
    with progressing(quiet) as progress:
        progress(f"{target}: running")
        program = build_program(parsed, settings)
        made = program.forward()
        if not made.roots:
            raise NoGraphError(f"{target}: no output has a backward graph to draw; try `graphlens run {target}`")
        from graphlens.capture.build import capture
        from graphlens.capture.torchviz_dot import check_drawable, torchviz_dot

        graph = capture(made.roots, program.leaves)
        check_drawable(target, graph, lays_out=suffix != ".dot")
        progress(f"{target}: drawing {len(graph):,} nodes")
        dot = torchviz_dot(made.roots, program.leaves, show_saved=show_saved)
        data = dot.encode()
        if suffix != ".dot":
            data = layout.lay_out(dot, suffix.removeprefix("."))
        if suffix == ".svg":
            from graphlens.views.svg import finish_svg, id_prefix

            title = f"Backward graph of {target}"
            description = f"{len(graph):,} nodes and {len(graph.edges):,} edges, drawn one box per node."
            data = finish_svg(data, title=title, description=description, prefix=id_prefix(target))
        write_bytes(output, data, force=force)
    if as_json:
        from graphlens.views.documents import to_json

        document = {"target": target, "file": output, "engine": engine, "nodes": len(graph), "edges": len(graph.edges)}
        click.echo(to_json(document))
    elif not quiet:
        click.echo(f"Wrote {output}: {len(graph):,} nodes, {len(graph.edges):,} edges")

"""graphlens timeline."""

from __future__ import annotations

from pathlib import Path

import click

from graphlens.cli.common import force_option, page, target_options, wrote
from graphlens.files import check_writable, write_bytes


@click.command()
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FILE", help="A trace (.json), or a chart (.svg, .png).")
@target_options
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="Runs of each kind.")
@force_option
def timeline(
    target: str,
    output: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    repeats: int,
    force: bool,
) -> None:
    """Measure every node of TARGET's graph, and write a trace of both passes or a chart of backward.

    A .json file opens in Perfetto (ui.perfetto.dev) and in chrome://tracing: one event for each
    node and each call of a module. A .svg or .png file is a flame chart of the backward pass:
    the modules, and below them the ops, as wide as their time.
    """
    kind = Path(output).suffix.lower().removeprefix(".")
    if kind not in ("json", "svg", "png"):
        raise click.UsageError(f"a timeline is written as one of .json, .svg, .png, not {output}")
    check_writable(output, force=force)
    from graphlens.cli.costing import measured

    graph, run, times = measured(target, settings, repeats=repeats, quiet=quiet)
    from graphlens.analyses.timeline import flame
    from graphlens.analyses.unrest import caution
    from graphlens.units import nodes_text, seconds_text
    from graphlens.views.cost_document import timeline_document
    from graphlens.views.documents import to_json
    from graphlens.views.flame_chart import Chart, flame_png, flame_svg
    from graphlens.views.table import paragraph, to_text
    from graphlens.views.timeline_trace import trace_json

    chart = Chart(graph, flame(graph, times.order, run), run, target)
    if kind == "json":
        data = trace_json(graph, times.order, run, target)
    else:
        data = flame_svg(chart) if kind == "svg" else flame_png(chart)
    write_bytes(output, data, force=force)
    if as_json:
        click.echo(to_json(timeline_document(target, output, graph, chart.flame, run)))
    elif not quiet:
        spent = f"{seconds_text(chart.flame.total / 1e9)} of backward"
        wrote(output, f"{nodes_text(len(graph))}, {spent}, which takes {seconds_text(run.plain.median)} by itself")
        if text := caution({"the backward pass": run.plain}):
            click.echo(to_text([paragraph(text, width=page()["width"])], **page()), nl=False)
        if kind == "json":
            click.echo("Open it at ui.perfetto.dev or in chrome://tracing.")

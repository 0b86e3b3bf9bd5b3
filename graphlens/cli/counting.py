"""graphlens stats."""

from __future__ import annotations

import click

from graphlens.cli.common import device_option, graph_and_notes, page, target_options, why_no_times
from graphlens.cli.steps import Steps
from graphlens.errors import MeasureError
from graphlens.targets import parse_target


@click.command()
@click.argument("target")
@target_options
@click.option("--csv", "as_csv", is_flag=True, help="The rows as CSV on stdout.")
@click.option(
    "--by",
    type=click.Choice(["op", "module", "source"]),
    default="op",
    show_default=True,
    help="What a row stands for: an op, a module, or a line of code.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="With modules: cut their paths to N parts.")
@click.option("--tensors", is_flag=True, help="Sum up the saved tensors too, by dtype, shape and row.")
@click.option("--time", is_flag=True, help="Measure the forward ops, once.")
@click.option("--cost", is_flag=True, help="Measure time, FLOPs and bytes moved of both passes instead.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="Runs with --cost.")
@click.option(
    "--sort",
    type=click.Choice(["storage", "nodes", "saved", "time", "key"]),
    default="storage",
    show_default=True,
    help="Order of the rows; time measures as --time does.",
)
@device_option
def stats(
    target: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    as_csv: bool,
    by: str,
    depth: int | None,
    tensors: bool,
    time: bool,
    cost: bool,
    repeats: int,
    sort: str,
    device: str | None,
) -> None:
    """Count the nodes of TARGET's backward graph, and what they keep for backward.

    Saved tensors are counted as references. Views are elements times element size; storages are
    what is really held, each counted once, at the first node that saves it.

    With --by module a row holds what was made while the module was the innermost one open, and
    the leaves of its own parameters; (Class) is the outermost one. With --depth 2 a.b holds what
    a.b.c and a.b.d made too. Inputs, and what no module made, have rows of their own.

    With --cost each node is timed in both passes, and its floating-point operations and the bytes
    that it reads and writes are counted; rows are sorted by time.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; choose one")
    if depth is not None and by != "module":
        raise click.UsageError("--depth goes with --by module")
    if cost and (tensors or time):
        raise click.UsageError("--cost has a table of its own; leave out --tensors and --time")
    if cost and device is not None:
        raise click.UsageError("--cost runs the target; leave out --device")
    if cost:
        from graphlens.cli.costing import print_costs

        print_costs(target, settings, by, depth, repeats=repeats, as_json=as_json, as_csv=as_csv, quiet=quiet)
        return
    times = time or sort == "time"
    if device is not None and times:
        raise click.UsageError("--device meta runs nothing that could be timed; leave out --time and --sort time")
    seen = times or by != "op"
    graph, notes = graph_and_notes(target, settings, quiet=quiet, times=times, lines=seen, device=device)
    from graphlens.analyses import counts
    from graphlens.views.documents import stats_document, to_json
    from graphlens.views.stats_report import stats_csv, stats_report

    table = counts.stats(graph, by, sort, depth=depth, tensors=tensors)
    if times and table.total.forward_ns is None:
        raise MeasureError(f"{target} tells no times: {why_no_times(target)}")
    if as_json:
        click.echo(to_json(stats_document(target, table, notes)))
    elif as_csv:
        click.echo(stats_csv(table), nl=False)
    else:
        steps = _steps(target, settings, device, tensors=tensors)
        click.echo(stats_report(target, graph, table, notes=notes, steps=steps, **page()), nl=False)


def _steps(target: str, settings: tuple[str, ...], device: str | None, *, tensors: bool) -> list[str]:
    if device is not None:  # what is only predicted cannot be drawn or saved
        return [Steps(target, settings, ("--device", device))("memory")]
    follow = Steps(target, settings)
    if parse_target(target).kind != "saved":
        return [follow("render", output="graph.svg"), follow("save", output="graph.json")]
    return [follow("render", output="graph.svg"), *([] if tensors else [follow("stats", "--tensors")])]

"""graphlens stats."""

from __future__ import annotations

import click

from graphlens.cli.common import page, target_graph, target_options


@click.command()
@click.argument("target")
@target_options
@click.option("--csv", "as_csv", is_flag=True, help="The rows as CSV on stdout.")
@click.option("--by", type=click.Choice(["op"]), default="op", show_default=True, help="What a row stands for.")
@click.option(
    "--sort",
    type=click.Choice(["storage", "nodes", "saved", "key"]),
    default="storage",
    show_default=True,
    help="Order of the rows.",
)
def stats(
    target: str, settings: tuple[str, ...], as_json: bool, quiet: bool, as_csv: bool, by: str, sort: str
) -> None:
    """Count the nodes of TARGET's backward graph, and what they keep for backward.

    Saved tensors are counted as references. Views are elements times element size; storages are
    what is really held, each counted once, at the first node that saves it.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; choose one")
    graph = target_graph(target, settings, quiet=quiet)
    from graphlens.analyses import counts
    from graphlens.views.documents import stats_document, to_json
    from graphlens.views.stats_report import stats_csv, stats_report

    table = counts.stats(graph, by, sort)
    if as_json:
        click.echo(to_json(stats_document(target, table)))
    elif as_csv:
        click.echo(stats_csv(table), nl=False)
    else:
        click.echo(stats_report(target, graph, table, **page()), nl=False)

"""graphlens save."""

from __future__ import annotations

import click

from graphlens.cli.common import force_option, target_graph, target_options, wrote
from graphlens.files import check_writable


@click.command()
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .json, .graphml, .gexf or .dot file.")
@target_options
@force_option
def save(target: str, output: str, settings: tuple[str, ...], as_json: bool, quiet: bool, force: bool) -> None:
    """Save TARGET's backward graph.

    A .json file is a target by itself: every verb that need not run anything works on it.
    """
    from graphlens import storage

    storage.check_format(output)
    check_writable(output, force=force)
    graph = target_graph(target, settings, quiet=quiet)
    storage.save(graph, output, force=force)
    if as_json:
        from graphlens.views.documents import to_json

        click.echo(to_json({"target": target, "file": output, "nodes": len(graph.nodes), "edges": len(graph.edges)}))
    elif not quiet:
        wrote(output, f"{len(graph.nodes):,} nodes, {len(graph.edges):,} edges")

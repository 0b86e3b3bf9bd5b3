"""graphlens compare."""

from __future__ import annotations

import click

from graphlens.cli.common import page, repeats_option, run_target, target_options


@click.command()
@click.argument("a")
@click.argument("b")
@target_options
@repeats_option
def compare(a: str, b: str, settings: tuple[str, ...], as_json: bool, quiet: bool, repeats: int) -> None:
    """Compare targets A and B: counts, sizes, times, outputs, gradients, and why they differ.

    --set applies to both; a saved graph takes no part in it.
    """
    from graphlens.analyses.comparison import compare_records
    from graphlens.targets import parse_target
    from graphlens.views.comparison_report import comparison_report
    from graphlens.views.documents import comparison_document, to_json

    kinds = [parse_target(text).kind for text in (a, b)]
    records = [
        run_target(text, () if kind == "saved" and kinds != ["saved"] * 2 else settings, repeats=repeats,
                   backward=True, quiet=quiet)
        for text, kind in zip((a, b), kinds, strict=True)
    ]  # fmt: skip
    comparison = compare_records(*records)
    text = to_json(comparison_document(comparison)) if as_json else comparison_report(comparison, **page())
    click.echo(text, nl=as_json)

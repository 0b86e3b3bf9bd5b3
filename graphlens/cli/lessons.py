"""graphlens lessons."""

from __future__ import annotations

import inspect

import click

from graphlens.cli.common import json_option, quiet_option
from graphlens.cli.steps import Steps


@click.command()
@json_option
@quiet_option
def lessons(as_json: bool, quiet: bool) -> None:
    """List the built-in lessons with their options and defaults."""
    from graphlens.lessons import FACTORIES

    rows = [
        (name, (inspect.getdoc(factory) or "").split("\n")[0], inspect.signature(factory).parameters)
        for name, factory in FACTORIES.items()
    ]
    if as_json:
        from graphlens.views.documents import to_json

        listed = [
            {"name": name, "summary": summary, "options": {key: p.default for key, p in options.items()}}
            for name, summary, options in rows
        ]
        click.echo(to_json({"lessons": listed}))
        return
    for name, summary, options in rows:
        defaults = "  ".join(f"{key}={p.default}" for key, p in options.items())
        click.echo(f"{name}\n{_indented(summary)}\n{_indented(defaults)}\n")
    steps = [Steps("soft-threshold")("run", output="plot.svg"), "graphlens compare wasteful efficient"]
    click.echo("Next: " + "\n      ".join(steps))


def _indented(text: str) -> str:
    return click.wrap_text(text, 80, "    ", "    ")

"""graphlens memory."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphlens.cli.common import build_program, device_option, force_option, page, progressing, target_options
from graphlens.cli.steps import Steps
from graphlens.errors import MeasureError, NoGraphError
from graphlens.files import check_writable, write_bytes
from graphlens.targets import parse_target

if TYPE_CHECKING:
    from graphlens.analyses.memory import Growth
    from graphlens.graph import GradGraph


@click.command()
@click.argument("target")
@target_options
@click.option("-o", "--output", metavar="FILE", help="Plot the curve of both passes too: .svg or .png.")
@click.option(
    "--by",
    type=click.Choice(["op", "module", "source"]),
    default="op",
    show_default=True,
    help="What a row of the table stands for: an op, a module, or a line of code.",
)
@device_option
@force_option
def memory(
    target: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    output: str | None,
    by: str,
    device: str | None,
    force: bool,
) -> None:
    """What TARGET keeps in memory for its backward pass, and when it is freed again.

    The ledger as views and as distinct storages; what a fresh process really grows by; and the
    peak of both passes, with what is alive there. With --device meta nothing is allocated, so
    that a model may be larger than the machine.
    """
    if output is not None:
        if Path(output).suffix.lower() not in (".svg", ".png"):
            raise click.UsageError(f"a curve is written as one of .svg, .png, not {output}")
        check_writable(output, force=force)
    graph, persistent, growth, notes = _measured(target, settings, device, quiet=quiet)
    from graphlens.analyses.counts import row_keys
    from graphlens.analyses.memory import memory_of
    from graphlens.views.cost_document import memory_document
    from graphlens.views.documents import to_json
    from graphlens.views.memory_plot import plot_memory
    from graphlens.views.memory_report import memory_report

    found = memory_of(graph, row_keys(graph, by, None), by, persistent=persistent)
    if output is not None:
        kind = Path(output).suffix.lower().removeprefix(".")
        write_bytes(output, plot_memory(found, kind, title=f"Kept for backward by {target}"), force=force)
    if as_json:
        click.echo(to_json(memory_document(target, found, growth)))
        return
    follow = Steps(target, settings, () if device is None else ("--device", device))
    steps = [follow("memory", "--by", "source" if by == "op" else "op")]
    if output is None:
        steps.append(follow("memory", *(() if by == "op" else ("--by", by)), output="memory.svg"))
    click.echo(memory_report(target, graph, found, growth, notes=notes, steps=steps, **page()), nl=False)
    if output is not None and not quiet:
        click.echo(f"Wrote {output}")


def _measured(
    text: str, settings: tuple[str, ...], device: str | None, *, quiet: bool
) -> tuple[GradGraph, frozenset[int], Growth, Sequence[str]]:
    target = parse_target(text)
    if target.kind == "saved":
        raise MeasureError(f"{text} is a saved graph, which cannot be run; name the target it was captured from")
    from graphlens.analyses.memory import Growth
    from graphlens.capture.growing import Growing

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(progressing(quiet))
        # Begun first: it takes the longest, and needs nothing of what is found out here.
        growing = stack.enter_context(Growing(text, settings)) if device is None else None
        progress(f"{text}: loading torch")
        program = build_program(target, settings, device)
        from graphlens.capture.memory import persistent_storages
        from graphlens.capture.trace import observe

        program.anew()
        trace = observe(program, backward=False, progress=progress)
        graph, notes = trace.graph, trace.notes
        if graph is None:
            why = Steps(text, settings)("check")
            raise NoGraphError(f"{text}: no output has a backward graph; `{why}` says why")
        persistent = persistent_storages(program, graph)
        if growing is None:
            from graphlens.capture.meta import NOTE, without_workspaces

            growth = Growth(reason="nothing is allocated with --device meta")
            return *without_workspaces(graph, persistent), growth, (NOTE, *notes)
        progress(f"{text}: measuring what a process grows by")
        return graph, persistent, growing.result(), notes

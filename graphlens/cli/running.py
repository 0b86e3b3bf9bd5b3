"""graphlens run."""

from __future__ import annotations

import math
from pathlib import Path

import click

from graphlens.cli.common import (
    build_program,
    force_option,
    page,
    progressing,
    repeats_option,
    run_target,
    target_options,
)
from graphlens.cli.steps import Steps
from graphlens.errors import TargetError
from graphlens.files import check_writable, write_bytes
from graphlens.targets import parse_target


@click.command()
@click.argument("target")
@target_options
@repeats_option
@click.option("-o", "--output", metavar="FILE", help="Plot a function of one number: .svg, .png or .pdf.")
@click.option("--range", "ends", type=float, nargs=2, default=(-10.0, 10.0), show_default=True, help="Of the plot.")
@click.option("--points", type=click.IntRange(2, 100_000), default=2001, show_default=True, help="Of the plot.")
@force_option
def run(
    target: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    repeats: int,
    output: str | None,
    ends: tuple[float, float],
    points: int,
    force: bool,
) -> None:
    """Run TARGET: outputs, gradients, and the time of each pass.

    With -o the target must map one number to one number, as soft-threshold does; its values and
    derivative are plotted over --range, with None shown where autograd returns None.
    """
    if parse_target(target).kind == "saved":
        raise TargetError(f"{target} is a saved graph, which cannot be run; name the target it was captured from")
    if output is not None:
        _plot(target, settings, output, ends, points, force=force, quiet=quiet)
    from graphlens.views.documents import run_document, to_json
    from graphlens.views.run_report import run_report

    record = run_target(target, settings, repeats=repeats, backward=True, quiet=quiet)
    follow = Steps(target, settings)
    steps = [follow("stats"), follow("render", output="graph.svg")] if record.graph is not None else [follow("check")]
    click.echo(to_json(run_document(record)) if as_json else run_report(record, steps=steps, **page()), nl=as_json)
    if output is not None and not as_json:
        click.echo(f"Wrote {output}")


def _plot(
    text: str,
    settings: tuple[str, ...],
    output: str,
    ends: tuple[float, float],
    points: int,
    *,
    force: bool,
    quiet: bool,
) -> None:
    target = parse_target(text)
    kind = Path(output).suffix.lower().removeprefix(".")
    if kind not in ("svg", "png", "pdf"):
        raise click.UsageError(f"a plot is written as one of .svg, .png, .pdf, not {output}")
    if not -math.inf < ends[0] < ends[1] < math.inf:
        raise click.UsageError(f"--range must go from a lower to a higher number, got {ends[0]:g} {ends[1]:g}")
    check_writable(output, force=force)
    with progressing(quiet) as progress:
        progress(f"{text}: sampling")
        program = build_program(target, settings)
        from graphlens.capture.curve import sample_curve
        from graphlens.capture.resolve import user_code
        from graphlens.errors import MeasureError
        from graphlens.views.curve_plot import plot_curve

        if program.subject is None:
            raise MeasureError(f"{text} returns finished tensors, so that its curve cannot be drawn")
        with user_code(target, "the forward pass"):
            curve = sample_curve(program.subject, *ends, points)
        # The option that sets the one point to run at says nothing about the curve.
        options = [f"{key} = {value}" for key, value in program.options.items() if key != curve.argument]
        write_bytes(output, plot_curve(curve, kind, title=f"{text}   {', '.join(options)}".strip()), force=force)

"""graphlens explain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from graphlens.cli.common import build_program, page, progressing, reference_option, target_options
from graphlens.errors import ProofError, TargetError
from graphlens.targets import parse_target


@click.command()
@click.argument("target")
@target_options
@click.option(
    "--only",
    "topics",
    multiple=True,
    type=click.Choice(["gradients", "waste", "rounding"]),
    help="Only this topic; repeatable.  [default: all]",
)
@click.option("--prove", "proves", is_flag=True, help="Write the shorter program, run it, and compare.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the shorter program (.py); implies --prove.",
)
@reference_option("sample", "for the topic rounding")
@click.option("--plot", metavar="FILE", help="Plot the error along the rounds of loops: .svg, .png or .pdf.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="Timed runs of each kind.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def explain(
    target: str,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    topics: tuple[str, ...],
    proves: bool,
    output: Path | None,
    reference: str,
    plot: str | None,
    repeats: int,
    force: bool,
) -> None:
    """Say why the gradients of TARGET are as they are: which are there, why they are slow, how exact they are.

    The target is run a few times: to see its ops, to time them, and with --prove against a
    shorter program that is written without what was found to be wasted.
    """
    from graphlens.files import check_writable, write_bytes

    parsed = parse_target(target)
    if parsed.kind == "saved":
        raise TargetError(f"{target} is a saved graph, which cannot be run; name the target it was captured from")
    chosen = [topic for topic in ("gradients", "waste", "rounding") if not topics or topic in topics]
    if (proves or output is not None) and "waste" not in chosen:
        raise click.UsageError("--prove goes with the topic waste; name it with --only, or leave --only out")
    kind = _plot_kind(plot, chosen, force=force)
    if output is not None:
        if output.suffix != ".py":
            raise click.UsageError(f"the shorter program is written as .py, not {output.suffix or output.name}")
        check_writable(output, force=force)
    with progressing(quiet) as progress:
        progress(f"{target}: loading torch")
        program = build_program(parsed, settings)
        from graphlens.capture.resolve import user_code
        from graphlens.explaining import explain_program
        from graphlens.views.documents import explain_document, to_json
        from graphlens.views.explain_report import explain_report

        with user_code(parsed, "the backward pass"):
            explanation = explain_program(
                program, topics=chosen, proves=proves or output is not None, repeats=repeats, reference=reference,
                progress=progress,
            )  # fmt: skip
    if output is not None:
        proof = explanation.proof
        if proof is None or not proof.code:
            raise ProofError(f"{target}: no shorter program can be written: {proof.refusal if proof else 'no graph'}")
        write_bytes(output, proof.code.encode(), force=force)
    if plot is not None and explanation.accuracy is not None:
        from graphlens.views.error_plot import plot_errors

        title = f"{target}: the error of what each round hands on"
        write_bytes(plot, plot_errors(explanation.accuracy, kind, title=title), force=force)
    if as_json:
        click.echo(to_json(explain_document(explanation)))
    else:
        click.echo(explain_report(explanation, steps=_steps(target, explanation.proof is not None), **page()), nl=False)


def _plot_kind(plot: str | None, topics: Sequence[str], *, force: bool) -> str:
    """The format of the plot; what cannot be plotted is refused before anything runs."""
    from graphlens.files import check_writable

    if plot is None:
        return ""
    if "rounding" not in topics:
        raise click.UsageError("--plot goes with the topic rounding; name it with --only, or leave --only out")
    kind = Path(plot).suffix.lower().removeprefix(".")
    if kind not in ("svg", "png", "pdf"):
        raise click.UsageError(f"a plot is written as one of .svg, .png, .pdf, not {plot}")
    check_writable(plot, force=force)
    return kind


def _steps(target: str, is_proved: bool) -> list[str]:
    steps = [] if is_proved else [f"graphlens explain {target} --prove"]
    return [*steps, f"graphlens stats {target} --cost --by source"]

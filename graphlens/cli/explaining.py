"""graphlens explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphlens.cli.common import build_program, page, progressing, reference_option, target_options, time_limit_option
from graphlens.cli.steps import Steps
from graphlens.errors import ProofError, TargetError
from graphlens.limits import DEFAULT_SECONDS
from graphlens.targets import parse_target

if TYPE_CHECKING:
    from graphlens.analyses.explanation import Explanation

_TOPICS = ("gradients", "waste", "rounding")


@click.command()
@click.argument("target")
@target_options
@click.option(
    "--only",
    "topics",
    multiple=True,
    type=click.Choice(_TOPICS),
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
@time_limit_option
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
    time_limit: float,
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
    chosen = [topic for topic in _TOPICS if not topics or topic in topics]
    if (proves or output is not None) and "waste" not in chosen:
        raise click.UsageError("--prove goes with the topic waste; name it with --only, or leave --only out")
    if "rounding" not in chosen and (reference != "auto" or time_limit != DEFAULT_SECONDS):
        option = "--time-limit" if reference == "auto" else "--reference"
        raise click.UsageError(f"{option} goes with the topic rounding; name it with --only, or leave --only out")
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
                time_limit=time_limit, progress=progress,
            )  # fmt: skip
    lacks = _why_no_program(explanation) if output is not None else ""
    if output is not None and explanation.proof is not None and not lacks:
        write_bytes(output, explanation.proof.code.encode(), force=force)
    if plot is not None and explanation.accuracy is not None:
        from graphlens.views.error_plot import plot_errors

        title = f"{target}: the error of what each round hands on"
        write_bytes(plot, plot_errors(explanation.accuracy, kind, title=title), force=force)
    if as_json:
        click.echo(to_json(explain_document(explanation)))
    else:
        follow = Steps(target, settings)
        click.echo(explain_report(explanation, steps=list(_steps(follow, explanation, topics)), **page()), nl=False)
    if lacks:
        raise ProofError(f"{target}: {output} was not written: {lacks}")


def _why_no_program(explanation: Explanation) -> str:
    """Why there is no shorter program to be written; nothing where there is one."""
    proof = explanation.proof
    if proof is None:
        return "no output has a backward graph"
    if proof.is_longer and proof.nodes is not None:
        before, after = proof.nodes
        return f"written anew the program has {after:,} nodes, more than the {before:,} of the original"
    return "" if proof.code else proof.refusal


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


def _steps(follow: Steps, explanation: Explanation, topics: Sequence[str]) -> Iterator[str]:
    """What can be looked into further: a shorter program, the topics left out, the cost of each line."""
    if explanation.graph is None:
        yield follow("check")
        return
    if explanation.waste and explanation.proof is None:
        only = [word for topic in topics for word in ("--only", topic)]
        yield follow("explain", *only, "--prove")
    elif set(explanation.topics) != set(_TOPICS):
        yield follow("explain")
    if explanation.costs is not None or "waste" not in explanation.topics:
        yield follow("stats", "--cost", "--by", "source")

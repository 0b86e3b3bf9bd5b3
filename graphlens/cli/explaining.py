"""graphlens explain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    time_limit: float | None,
    plot: str | None,
    repeats: int,
    force: bool,
) -> None:
    """Say why the gradients of TARGET are as they are: which are there, why they are slow, how exact they are.

    The target is run a few times: to see its ops, to time them, and with --prove against a
    shorter program that is written without what was found to be wasted.
    """
    from graphlens.files import check_writable

    parsed = parse_target(target)
    if parsed.kind == "saved":
        raise TargetError(f"{target} is a saved graph, which cannot be run; name the target it was captured from")
    chosen = [topic for topic in _TOPICS if not topics or topic in topics]
    _check_topics(chosen, {
        "--prove": ("waste", proves or output is not None),
        "--reference": ("rounding", reference != "auto"),
        "--time-limit": ("rounding", time_limit is not None),
        "--plot": ("rounding", plot is not None),
    })  # fmt: skip
    _check_plot(plot, force=force)
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
                time_limit=time_limit or DEFAULT_SECONDS, progress=progress,
            )  # fmt: skip
    lacks = [*_write_program(explanation, output, force=force), *_write_plot(explanation, target, plot, force=force)]
    if as_json:
        click.echo(to_json(explain_document(explanation)))
    else:
        follow = Steps(target, settings)
        click.echo(explain_report(explanation, steps=list(_steps(follow, explanation, topics)), **page()), nl=False)
    if lacks:
        raise ProofError(f"{target}: {'; '.join(lacks)}")


def _write_program(explanation: Explanation, path: Path | None, *, force: bool) -> Iterator[str]:
    """Write the shorter program, if that is asked for; or say why there is none."""
    from graphlens.files import write_bytes

    if path is None:
        return
    why = _why_no_program(explanation)
    if why:
        yield f"{path} was not written: {why}"
    elif explanation.proof is not None:
        write_bytes(path, explanation.proof.code.encode(), force=force)


def _write_plot(explanation: Explanation, target: str, path: str | None, *, force: bool) -> Iterator[str]:
    """Draw the errors along the loops, if that is asked for; or say why none are known."""
    from graphlens.files import write_bytes
    from graphlens.views.error_plot import plot_errors

    if path is None:
        return
    if explanation.accuracy is None:
        why = "no output has a backward graph" if explanation.graph is None else " ".join(explanation.notes)
        yield f"{path} was not written: {why}"
        return
    title = f"{target}: the error of what each round hands on"
    data = plot_errors(explanation.accuracy, Path(path).suffix.lower().removeprefix("."), title=title)
    write_bytes(path, data, force=force)


def _why_no_program(explanation: Explanation) -> str:
    """Why there is no shorter program to be written; nothing where there is one."""
    proof = explanation.proof
    if proof is None:
        return "no output has a backward graph"
    if proof.is_longer and proof.nodes is not None:
        before, after = proof.nodes
        return f"written anew the program has {after:,} nodes, more than the {before:,} of the original"
    return "" if proof.code else proof.refusal


def _check_topics(topics: Sequence[str], options: Mapping[str, tuple[str, bool]]) -> None:
    """Refuse an option that belongs to a topic which is left out; each with its topic, and whether it is there."""
    for option, (topic, is_there) in options.items():
        if is_there and topic not in topics:
            raise click.UsageError(f"{option} goes with the topic {topic}; name it with --only, or leave --only out")


def _check_plot(plot: str | None, *, force: bool) -> None:
    """What cannot be plotted is refused before anything runs."""
    from graphlens.files import check_writable

    if plot is None:
        return
    if Path(plot).suffix.lower() not in (".svg", ".png", ".pdf"):
        raise click.UsageError(f"a plot is written as one of .svg, .png, .pdf, not {plot}")
    check_writable(plot, force=force)


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

"""graphlens check."""

from __future__ import annotations

from dataclasses import replace

import click

from graphlens.cli.common import build_program, page, progressing, target_options
from graphlens.errors import TargetError
from graphlens.targets import parse_target


@click.command()
@click.argument("target", required=False)
@target_options
@click.option("--select", multiple=True, metavar="CODE", help="Only these findings, e.g. GL101 or GL1; repeatable.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Not these findings; repeatable.")
@click.option(
    "--ignore-leaf",
    "leaves",
    multiple=True,
    metavar="NAME",
    help="A leaf that needs no gradient, with wildcards, e.g. 'teacher.*'; repeatable.",
)
@click.option("--stack", "stacks", is_flag=True, help="Tell the lines that called the line of each finding.")
@click.option("--explain", metavar="CODE", help="Print the page on one code.")
@click.pass_context
def check(
    context: click.Context,
    target: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    leaves: tuple[str, ...],
    stacks: bool,
    explain: str | None,
) -> None:
    """Find out which inputs and parameters of TARGET receive no gradient, and why.

    The target is run once. Where a gradient is missing, 0 throughout or not finite, it is run
    again from the same state, at most 29 times; after that everything is as one run leaves it.
    Exit code 1 if there is a finding of level error.
    """
    from graphlens.analyses.catalogue import PAGES, matches, page_of
    from graphlens.views.check_report import check_report, page_report

    own = [code for code in PAGES if matches(code, ("GL1",))]
    for code in (*select, *ignore):
        if not code or not any(matches(page, (code,)) for page in own):
            raise click.UsageError(f"there is no finding {code!r} of check; there are {', '.join(own)}")
    if explain is not None and explain.upper() not in PAGES:
        raise click.UsageError(f"there is no finding {explain!r}; there are {', '.join(PAGES)}")
    if explain is not None:
        if target is not None:
            raise click.UsageError("--explain takes no TARGET; it prints the page on one code")
        click.echo(page_report(explain.upper(), page_of(explain.upper()), **page()), nl=False)
        return
    if target is None:
        raise click.UsageError("Missing argument 'TARGET'.")
    parsed = parse_target(target)
    if parsed.kind == "saved":
        raise TargetError(f"{target} is a saved graph, which cannot be run; name the target it was captured from")
    with progressing(quiet) as progress:
        progress(f"{target}: loading torch")
        program = build_program(parsed, settings)
        from graphlens.analyses.connectivity import connectivity, fits
        from graphlens.capture.resolve import user_code
        from graphlens.capture.trace import observe
        from graphlens.views.documents import check_document, to_json

        with user_code(parsed, "the backward pass"):
            trace = observe(program, diagnose=True, stacks=stacks, progress=progress)
    for pattern in leaves:
        if not any(fits(leaf.name, pattern) for leaf in trace.observation.leaves):
            raise click.UsageError(f"--ignore-leaf {pattern}: no input or parameter has such a name")
    found = connectivity(trace.observation, leaves)
    found = replace(found, findings=tuple(item for item in found.findings if _is_asked(item.code, select, ignore)))
    if as_json:
        click.echo(to_json(check_document(target, found, trace.notes)))
    else:
        steps = [f"graphlens check --explain {found.findings[0].code}"] if found.findings else []
        click.echo(check_report(target, trace.graph, found, notes=trace.notes, steps=steps, **page()), nl=False)
    if found.has_errors:
        context.exit(1)


def _is_asked(code: str, select: tuple[str, ...], ignore: tuple[str, ...]) -> bool:
    from graphlens.analyses.catalogue import matches

    return (not select or matches(code, select)) and not (ignore and matches(code, ignore))

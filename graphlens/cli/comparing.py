"""graphlens compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from graphlens.cli.common import (
    FiniteRange,
    Progress,
    build_program,
    load_saved,
    page,
    progressing,
    reference_option,
    repeats_option,
    target_options,
    time_limit_option,
)
from graphlens.cli.comparing_sides import Side, look_into
from graphlens.cli.steps import Steps
from graphlens.errors import TargetError
from graphlens.limits import DEFAULT_SECONDS, Truths
from graphlens.records import RunRecord
from graphlens.targets import Target, parse_target

if TYPE_CHECKING:
    from graphlens.analyses.comparison import Comparison


_RATIO = FiniteRange(min=0)
_TIME_HELP = (
    "The same for the time of both passes, medians of forward plus backward; exceeded only where A's shortest passes "
    "take more than R times B's longest."
)


@click.command()
@click.argument("a")
@click.argument("b")
@target_options
@click.option("--set-a", multiple=True, metavar="KEY=VALUE", help="An option of A alone; repeatable.")
@click.option("--set-b", multiple=True, metavar="KEY=VALUE", help="An option of B alone; repeatable.")
@repeats_option
@reference_option("none", "to say which side is nearer to them")
@time_limit_option
@click.option(
    "--waste/--no-waste",
    default=None,
    help="Whether to look for work done in vain.  [default: yes, unless a target keeps more than 1 GB]",
)
@click.option("--max-nodes-ratio", type=_RATIO, metavar="R", help="Exit 1 if A has more than R times B's nodes.")
@click.option("--max-saved-ratio", type=_RATIO, metavar="R", help="The same for the storage kept for backward.")
@click.option("--max-time-ratio", type=_RATIO, metavar="R", help=_TIME_HELP)
@click.pass_context
def compare(
    context: click.Context,
    a: str,
    b: str,
    settings: tuple[str, ...],
    set_a: tuple[str, ...],
    set_b: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    repeats: int,
    reference: str,
    time_limit: float | None,
    waste: bool | None,
    max_nodes_ratio: float | None,
    max_saved_ratio: float | None,
    max_time_ratio: float | None,
) -> None:
    """Compare targets A and B: counts, sizes, times, outputs, gradients, and why they differ.

    --set applies to both; a saved graph takes no part in it. Work that is repeated or undone is
    looked for in each, which takes a few runs more. With a budget, --max-…-ratio, the
    exit code is 1 where A takes more than so many times what B takes.
    """
    from graphlens.analyses.budgets import check_budgets
    from graphlens.analyses.comparison import compare_records
    from graphlens.views.comparison_report import comparison_report
    from graphlens.views.documents import comparison_document, to_json

    if max_time_ratio is not None and repeats == 0:
        raise click.UsageError("--max-time-ratio needs times; leave out --repeats 0")
    targets = [parse_target(text) for text in (a, b)]
    live = [
        (target, (*settings, *own))
        for target, own in zip(targets, (set_a, set_b), strict=True)
        if target.kind != "saved"
    ]
    if settings and not live:
        raise TargetError("two saved graphs take no --set; name the targets that they were captured from")
    with progressing(quiet) as progress:
        runs = iter(_run(live, repeats, Truths(reference, time_limit or DEFAULT_SECONDS), waste, progress))
        sides = [
            Side(RunRecord(target.text, load_saved(target, own))) if target.kind == "saved" else next(runs)
            for target, own in zip(targets, (set_a, set_b), strict=True)
        ]
    records = [side.record for side in sides]
    if a == b:
        records = [replace(record, target=f"{a} ({side})") for record, side in zip(records, "ab", strict=True)]
    comparison = compare_records(*records, exact_a=sides[0].exact, exact_b=sides[1].exact)
    comparison = replace(comparison, waste_a=sides[0].waste, waste_b=sides[1].waste)
    limits = {"nodes": max_nodes_ratio, "saved": max_saved_ratio, "time": max_time_ratio}
    budgets = check_budgets(comparison, {name: limit for name, limit in limits.items() if limit is not None})
    if as_json:
        click.echo(to_json(comparison_document(comparison, budgets)))
    else:
        steps = _steps(comparison, [(a, (*settings, *set_a)), (b, (*settings, *set_b))])
        click.echo(comparison_report(comparison, steps=steps, budgets=budgets, **page()), nl=False)
    if any(budget.is_exceeded for budget in budgets):
        context.exit(1)


def _steps(comparison: Comparison, sides: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Go on with the side that wastes something, or else with the first one that has a graph."""
    if comparison.waste_a or comparison.waste_b:
        follow = Steps(*sides[0 if comparison.waste_a else 1])
        return [follow("explain"), follow("render", output="graph.svg")]
    for record, (target, settings) in zip((comparison.a, comparison.b), sides, strict=True):
        if record.graph is not None:
            follow = Steps(target, () if parse_target(target).kind == "saved" else settings)
            return [follow("stats"), follow("render", output="graph.svg")]
    return []


def _run(
    targets: list[tuple[Target, tuple[str, ...]]], repeats: int, truths: Truths, waste: bool | None, progress: Progress
) -> list[Side]:
    """Run the targets for their values one after the other, time them in turns, then look into each."""
    if not targets:
        return []
    progress("loading torch")
    programs, records = [], []
    from graphlens.capture.resolve import user_code
    from graphlens.capture.timing import time_programs
    from graphlens.capture.trace import observe

    for target, settings in targets:
        # Run right after it is built, so that equal programs meet equal random numbers.
        programs.append(build_program(target, settings))
        programs[-1].anew()  # what is found names lines
        with user_code(target, "the backward pass"):
            records.append(observe(programs[-1], progress=progress).record())
    with user_code(targets[-1][0], "a repeated run"):
        timings = time_programs(programs, repeats, progress=progress)
    records = [
        replace(record, forward=timing.forward, backward=timing.backward)
        for record, timing in zip(records, timings, strict=True)
    ]
    seeks = truths if len(targets) > 1 else Truths("none")
    return [
        look_into(target, program, record, seeks, waste, progress)
        for (target, _), program, record in zip(targets, programs, records, strict=True)
    ]

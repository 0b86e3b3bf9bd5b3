"""graphlens sweep."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from graphlens.cli.common import (
    Progress,
    force_option,
    page,
    progressing,
    reference_option,
    target_options,
    time_limit_option,
)
from graphlens.errors import GraphlensError, OutputError, TargetError
from graphlens.files import check_writable, write_bytes
from graphlens.limits import DEFAULT_SECONDS, Truths
from graphlens.targets import Target, parse_options, parse_target

if TYPE_CHECKING:
    from graphlens.analyses.sweep_points import Point, Sweep
    from graphlens.cli.sweep_state import State
    from graphlens.sweeping import Work


@click.command()
@click.argument("target")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="KEY=V1,V2,…",
    help="An option and its values, or a range LOW..HIGH; two of them make a grid.",
)
@click.option("--against", metavar="TARGET", help="Another target, run beside it at each point.")
@click.option(
    "--what",
    type=click.Choice(["cost", "error"]),
    default="cost",
    show_default=True,
    help="Counts, sizes and times; or how far results are from their true values.",
)
@reference_option("sample", "for --what error")
@time_limit_option
@target_options
@click.option("--set-a", multiple=True, metavar="KEY=VALUE", help="An option of TARGET alone; repeatable.")
@click.option("--set-b", multiple=True, metavar="KEY=VALUE", help="An option of the other target alone; repeatable.")
@click.option(
    "--repeats",
    type=click.IntRange(0, 1000),
    help="Timed runs after the warm-up, at each point; 0 measures no time.  [default: 3; 0 for --what error]",
)
@click.option("--csv", "as_csv", is_flag=True, help="The points as CSV on stdout.")
@click.option("-o", "--output", metavar="FILE", help="Plot the growth: .svg, .png or .pdf.")
@click.option("--keep", metavar="FILE.jsonl", help="Keep finished points in this file, and take over those it has.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Points to run at a time, each in a process of its own; times are taken afterwards, one by one.",
)
@force_option
def sweep(
    target: str,
    over: tuple[str, ...],
    against: str | None,
    what: str,
    reference: str,
    time_limit: float | None,
    settings: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    set_a: tuple[str, ...],
    set_b: tuple[str, ...],
    repeats: int | None,
    as_csv: bool,
    output: str | None,
    keep: str | None,
    jobs: int,
    force: bool,
) -> None:
    """Run TARGET at many values of an option: counts, sizes and times, or errors, and how they grow.

    Values are Python literals. LOW..HIGH stands for both ends, and between them for 1 and 3 times
    each power of ten: 10..1000 is 10, 30, 100, 300, 1000. To numbers of at least 3 values a power
    law y = a·n^p is fitted, on the larger half of the points, and a straight line on all of them.

    A point that fails is reported with its reason, and the others go on. --set applies to both
    targets. --force replaces the file of -o; the file of --keep is only ever added to.
    """
    from graphlens.cli.sweep_grid import parse_over
    from graphlens.cli.sweep_state import State

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; choose one")
    if set_b and against is None:
        raise click.UsageError("--set-b goes with --against")
    if what == "error" and repeats:
        raise click.UsageError("--repeats goes with --what cost: errors are measured without times")
    if what == "cost" and reference != "auto":
        raise click.UsageError("--reference goes with --what error")
    if what == "cost" and time_limit is not None:
        raise click.UsageError("--time-limit goes with --what error")
    targets = tuple(parse_target(text) for text in (target, against) if text is not None)
    values, notes = parse_over(over)
    options = tuple(parse_options((*settings, *own)) for own in (set_a, set_b)[: len(targets)])
    _check(targets, options, values)
    kind = _plot_kind(output, keep, force=force)
    state = State(None if keep is None else Path(keep))
    if state.damaged:
        lines = ", ".join(map(str, state.damaged[:5])) + (", …" if len(state.damaged) > 5 else "")
        click.echo(f"graphlens: warning: {keep}: damaged lines are ignored: {lines}", err=True)
    with progressing(quiet) as progress:
        truths = Truths(reference, time_limit or DEFAULT_SECONDS)
        asked = _Asked(0, truths) if what == "error" else _Asked(3 if repeats is None else repeats, None)
        found = _Sweeper(targets, options, values, asked, jobs, state, progress).run()
    if not found.done:
        first = found.points[0]
        raise TargetError(f"no point succeeded; at {point_text(first.options)}: {first.failure}")
    _show(replace(found, notes=(*notes, *found.notes)), output, kind, as_json=as_json, as_csv=as_csv, force=force)


def _check(targets: Sequence[Target], options: Sequence[Mapping[str, Any]], over: Mapping[str, Sequence[Any]]) -> None:
    """Refuse what no point could be run with, or what would run one thing twice."""
    for target in targets:
        if target.kind == "saved":
            raise TargetError(
                f"{target.text} is a saved graph, which cannot be run; name the target it was captured from"
            )
    for key in over:
        if any(key in chosen for chosen in options):
            raise TargetError(f"--over and --set both name {key}; leave one of them out")
    places = {(target.kind, os.path.realpath(target.place), target.factory) for target in targets}
    if len(targets) == 2 and len(places) == 1 and repr(options[0]) == repr(options[1]):
        raise TargetError(
            f"--against {targets[1].text} is the target itself; name another, or give one of them other options "
            "with --set-a or --set-b"
        )


def _plot_kind(output: str | None, keep: str | None, *, force: bool) -> str:
    if output is None:
        return ""
    kind = Path(output).suffix.lower().removeprefix(".")
    if kind not in ("svg", "png", "pdf"):
        raise click.UsageError(f"a plot is written as one of .svg, .png, .pdf, not {output}")
    if keep is not None and os.path.realpath(output) == os.path.realpath(keep):
        raise OutputError(f"-o and --keep name the same file, {output}; name two")
    check_writable(output, force=force)
    return kind


class _Asked(NamedTuple):
    """What is measured at each point: runs to time, and where true values come from if errors are wanted."""

    repeats: int
    truths: Truths | None


@dataclass(frozen=True)
class _Sweeper:
    """Runs the points that are not there yet."""

    targets: tuple[Target, ...]
    options: tuple[dict[str, Any], ...]
    over: Mapping[str, Sequence[Any]]
    asked: _Asked
    jobs: int
    state: State
    progress: Progress

    def run(self) -> Sweep:
        """All points, in the order of the grid."""
        from graphlens.analyses.sweep_points import Sweep
        from graphlens.cli.sweep_grid import grid

        self.progress("loading torch")
        import torch

        import graphlens
        from graphlens.sweeping import Work

        versions = {"graphlens": graphlens.__version__, "torch": str(torch.__version__)}
        works = [
            Work(swept, self.targets, tuple({**chosen, **swept} for chosen in self.options), *self.asked)
            for swept in grid(self.over)
        ]
        machine = {**versions, "threads": torch.get_num_threads()}
        try:
            points = self._points(works, machine)
        except KeyboardInterrupt:
            self.progress.done()
            kept = sum(self._kept(work, machine) for work in works)
            if kept and self.state.path is not None:
                told = f"{kept} of {len(works)} points are kept in {self.state.path}"
                click.echo(f"graphlens: {told}; the same command goes on from there", err=True)
            raise
        made = tuple(points[number] for number in range(len(works)))
        return Sweep(
            _names(self.targets), self.over, made, self.options, self.asked.repeats, self.jobs, versions,
            self._notes(made), "cost" if self.asked.truths is None else "error",
        )  # fmt: skip

    def _kept(self, work: Work, machine: Mapping[str, Any]) -> bool:
        """Whether the point, with or without its times, need not be run again."""
        keys = (self._key(work, repeats, machine) for repeats in {self.asked.repeats, 0})
        return any(self.state.find(key, work.swept) is not None for key in keys)

    def _key(self, work: Work, repeats: int, machine: Mapping[str, Any]) -> dict[str, Any]:
        """What the file of kept points knows a point by."""
        from graphlens.cli.sweep_state import key_of

        return key_of(work.targets, work.options, repeats, machine, work.truths)

    def _points(self, works: Sequence[Work], machine: Mapping[str, Any]) -> dict[int, Point]:
        """All points by their numbers; what the file of kept points does not have is measured."""
        from graphlens.sweeping import add_times, measure

        def key(work: Work, repeats: int) -> dict[str, Any]:
            return self._key(work, repeats, machine)

        points: dict[int, Point] = {}
        # Without times, because others ran beside it; a sweep that was interrupted may have left some.
        untimed: dict[int, Point] = {}
        for number, work in enumerate(works):
            finished = self.state.find(key(work, self.asked.repeats), work.swept)
            if finished is not None:
                points[number] = finished
                continue
            counted = self.state.find(key(work, 0), work.swept)
            if counted is not None:
                untimed[number] = counted
        missing = [number for number in range(len(works)) if number not in points]
        self._refuse([works[number] for number in missing if number not in untimed])
        if self.jobs > 1:
            alone = [number for number in missing if number not in untimed]
            for number, point in self._in_processes([works[number] for number in alone], alone, machine["threads"]):
                if point.failure:
                    points[number] = point
                    continue
                self.state.add(key(works[number], 0), point)
                (untimed if self.asked.repeats else points)[number] = point
        for number in missing:
            if number in points:
                continue
            work, progress = works[number], self._told(works[number], number, len(works))
            point = add_times(untimed[number], work, progress) if number in untimed else measure(work, progress)
            if not point.failure:
                self.state.add(key(work, self.asked.repeats), point)
            points[number] = point
        return points

    def _refuse(self, works: Sequence[Work]) -> None:
        """Build each point once before any is run: what the factory refuses is a mistake to be told at once.

        Any other failure is that of its point, which will meet it again.
        """
        from graphlens.sweeping import check

        for work in works:
            self.progress(f"checking {point_text(work.swept)}")
            try:
                if not check(work):
                    return
            except GraphlensError as error:
                if error.__cause__ is None:
                    raise
                if type(error.__cause__) in (ValueError, TypeError):
                    raise TargetError(f"{error} (at {point_text(work.swept)})") from error
            except Exception:
                continue

    def _in_processes(self, works: Sequence[Work], numbers: Sequence[int], threads: int) -> Any:
        from graphlens.cli.sweep_jobs import measure_all

        self.progress(f"{len(works)} points, {self.jobs} at a time")
        with closing(measure_all([replace(work, repeats=0) for work in works], self.jobs, threads)) as arriving:
            for count, (place, point) in enumerate(arriving, 1):
                self.progress(f"{count} of {len(works)} points, {self.jobs} at a time")
                yield numbers[place], point

    def _told(self, work: Work, number: int, of: int) -> Any:
        lead = f"{number + 1} of {of}, {point_text(work.swept)}"
        return lambda message: self.progress(f"{lead}: {message}")

    def _notes(self, points: Sequence[Point]) -> tuple[str, ...]:
        notes = []
        kept = sum(point.is_kept for point in points)
        if kept:
            notes.append(f"{kept} of {len(points)} points were taken over from {self.state.path}")
        if self.jobs > 1 and self.asked.repeats:
            notes.append("Times were taken afterwards, one point at a time, so that no other point disturbed them")
        from graphlens.analyses.unrest import caution

        names = _names(self.targets)
        timed = [
            (f"{name} of {names[place]} at {point_text(point.options)}", timing)
            for point in points
            for place, side in enumerate(point.sides)
            for name, timing in (("forward", side.forward), ("backward", side.backward))
        ]
        return (*notes, *filter(None, [caution(timed).removesuffix(".")]))


def _names(targets: Sequence[Target]) -> tuple[str, ...]:
    texts = [target.text for target in targets]
    if len(texts) == 2 and texts[0] == texts[1]:
        return (f"{texts[0]} (a)", f"{texts[1]} (b)")
    return tuple(texts)


def point_text(options: Mapping[str, Any]) -> str:
    """ "n=100 d=5"."""
    return " ".join(f"{key}={value}" for key, value in options.items())


def _show(found: Sweep, output: str | None, kind: str, *, as_json: bool, as_csv: bool, force: bool) -> None:
    from graphlens.analyses.growth import laws
    from graphlens.views.documents import to_json
    from graphlens.views.sweep_document import sweep_document

    if as_json:
        click.echo(to_json(sweep_document(found, laws(found))))
    elif as_csv:
        for note in found.notes:
            click.echo(f"graphlens: {note}", err=True)
        click.echo(_csv(found), nl=False)
    else:
        click.echo(_report(found), nl=False)
    if output is not None:
        write_bytes(output, _plot(found, kind), force=force)
        if not (as_json or as_csv):
            click.echo(f"Wrote {output}")


def _plot(found: Sweep, kind: str) -> bytes:
    if found.what == "error":
        from graphlens.views.exactness_plot import plot_exactness

        return plot_exactness(found, kind)
    from graphlens.views.growth_plot import plot_growth

    return plot_growth(found, kind)


def _csv(found: Sweep) -> str:
    if found.what == "error":
        from graphlens.views.exactness_report import exactness_csv

        return exactness_csv(found)
    from graphlens.views.growth_report import growth_csv

    return growth_csv(found)


def _report(found: Sweep) -> str:
    from graphlens.analyses.growth import laws
    from graphlens.views.growth_report import growth_report

    return growth_report(found, laws(found), **page())

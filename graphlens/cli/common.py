"""What the verbs share: options, targets, progress and output."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from graphlens.errors import NoGraphError, TargetError
from graphlens.limits import DEFAULT_SECONDS
from graphlens.targets import Target, parse_options, parse_target

if TYPE_CHECKING:
    from graphlens.capture.program import Program
    from graphlens.graph import GradGraph
    from graphlens.records import RunRecord

Command = TypeVar("Command", bound=Callable[..., Any])

set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the target's factory; repeatable."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")
repeats_option = click.option(
    "--repeats",
    type=click.IntRange(0, 1000),
    default=5,
    show_default=True,
    help="Timed runs after the warm-up; 0 measures no time.",
)


def reference_option(last: str, purpose: str) -> Callable[[Command], Command]:
    """--reference: where true values come from; `last` is the choice that stands beside exact and float64."""
    choices = click.Choice(["auto", "exact", "float64", last])
    text = f"Where true values come from, {purpose}."
    return click.option("--reference", type=choices, default="auto", show_default=True, help=text)



class FiniteRange(click.FloatRange):
    """A finite number within a range: NaN is in none, and of JSON neither is infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


time_limit_option = click.option(
    "--time-limit",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help=f"How long the true values may take, and then the rounding of single ops.  [default: {DEFAULT_SECONDS:g}]",
)

device_option = click.option(
    "--device",
    type=click.Choice(["meta"]),
    help="meta: predict the graph from shapes alone; nothing is allocated or computed.",
)


def target_options(command: Command) -> Command:
    """--set, --json and --quiet, which every verb takes."""
    for option in (quiet_option, json_option, set_option):
        command = option(command)
    return command


class Progress:
    """One line on stderr that says what is going on; silent without a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._live = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, message: str) -> None:
        """Replace the line."""
        if self._live:
            click.echo(f"\r\x1b[2K{message[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)

    def done(self) -> None:
        """Clear the line."""
        if self._live:
            click.echo("\r\x1b[2K", nl=False, err=True)


@contextmanager
def progressing(quiet: bool) -> Iterator[Progress]:
    """Progress for the length of the block; the line is cleared whatever happens."""
    progress = Progress(quiet=quiet)
    try:
        yield progress
    finally:
        progress.done()


def build_program(target: Target, settings: tuple[str, ...], device: str | None = None) -> Program:
    """Resolve a target that is to be run. Random numbers start from seed 0, so that it repeats."""
    options = parse_options(settings)
    import torch

    if device == "meta":
        from graphlens.capture.meta import predicted_program

        return predicted_program(target, options)

    from graphlens.capture.resolve import resolve

    torch.manual_seed(0)
    return resolve(target, options)


def run_target(
    text: str, settings: tuple[str, ...], *, repeats: int, backward: bool, quiet: bool, times: bool = False,
    lines: bool = False, device: str | None = None,
) -> RunRecord:  # fmt: skip
    """Run or load a target; a saved graph gives a record with a graph and nothing else.

    Args:
        times: whether the nodes tell the time of their forward op; those of a saved graph do if it was saved so.
        lines: whether all nodes must know their line; a factory of finished tensors is then called once more.
        device: "meta" predicts the run from shapes alone.
    """
    from graphlens.records import RunRecord

    target = parse_target(text)
    if target.kind == "saved":
        if device is not None:
            raise TargetError(f"{text} is a saved graph, which is not run; --device goes with what can be run")
        return RunRecord(target.text, load_saved(target, settings))
    with progressing(quiet) as progress:
        progress(f"{text}: loading torch")
        program = build_program(target, settings, device)
        if lines:
            program.anew()
        from graphlens.capture.resolve import user_code
        from graphlens.capture.trace import observe

        with user_code(target, "the backward pass"):
            run = observe(program, repeats=repeats, backward=backward, times=times, progress=progress).record()
        if device is None or run.graph is None:
            return run
        from graphlens.capture.meta import without_workspaces

        return replace(run, graph=without_workspaces(run.graph)[0])


def target_graph(
    text: str, settings: tuple[str, ...], *, quiet: bool, times: bool = False, lines: bool = False,
    device: str | None = None,
) -> GradGraph:  # fmt: skip
    """The backward graph of a target, run once, or loaded; `times`, `lines` and `device` as in `run_target`."""
    return graph_and_notes(text, settings, quiet=quiet, times=times, lines=lines, device=device)[0]


def graph_and_notes(
    text: str, settings: tuple[str, ...], *, quiet: bool, times: bool = False, lines: bool = False,
    device: str | None = None,
) -> tuple[GradGraph, Sequence[str]]:  # fmt: skip
    """The same with what is to be said about the run, such as how its outputs were reduced."""
    run = run_target(
        text, settings, repeats=0, backward=False, quiet=quiet, times=times, lines=lines, device=device
    )  # fmt: skip
    if run.graph is None:
        raise NoGraphError(
            f"{text}: no output has a backward graph; the value left the graph on its way (detach, no_grad, "
            "torch.tensor), or no input requires a gradient"
        )
    return run.graph, run.notes


def why_no_times(text: str) -> str:
    """Why the nodes of a target tell no times, and what to do."""
    if parse_target(text).kind == "saved":
        return (
            "it is a saved graph of a run that was not timed; name the target it was captured from, or save what "
            "graphlens.trace(model, inputs, times=True) captures"
        )
    return "its forward pass was not seen; let the factory return (module, args), not finished tensors"


def load_saved(target: Target, settings: tuple[str, ...]) -> GradGraph:
    """Load a saved graph; it takes no options."""
    from graphlens.storage import load

    if settings:
        raise TargetError(f"{target.text} is a saved graph and takes no --set; name the target it was captured from")
    return load(Path(target.place))


def wrote(output: str, facts: str) -> None:
    """Say what was written, in lines of at most 80; the file's name is never broken, so that it can be copied."""
    lines = [f"Wrote {output}:"]
    for word in facts.split(" "):
        if len(lines[-1]) + 1 + len(word) <= 80:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}")
    click.echo("\n".join(lines))


def page() -> dict[str, Any]:
    """Width and colour for a report: the terminal's; 80 columns and plain where there is none."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size((80, 24)).columns if is_terminal else 80
    return {"width": max(60, min(width, 110)), "colour": is_terminal}

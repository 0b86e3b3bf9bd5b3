"""The report that `graphlens run` prints."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from graphlens.graph import shape_text
from graphlens.records import RunRecord, TensorValue, Timing
from graphlens.units import seconds_text
from graphlens.views.opening import NOT_MEASURED, next_steps, opening
from graphlens.views.table import heading, paragraph, table, to_text


def run_report(run: RunRecord, *, width: int = 80, colour: bool = False, steps: bool = True) -> str:
    """Outputs, loss, gradients and times of one run; `steps` adds the commands to type next."""
    parts = list(_run_parts(run, width))
    if steps and run.graph is not None:
        parts.append(next_steps(f"graphlens stats {run.target}", f"graphlens render {run.target} -o graph.svg"))
    return to_text(parts, width=width, colour=colour)


def _run_parts(run: RunRecord, width: int) -> Iterator[RenderableType]:
    yield from opening(run.target, run.graph, run.threads, width)
    for note in run.notes:
        yield paragraph(note, width=width)
    for name, value in run.outputs.items():
        yield Text(f"\n{name}  {shape_text(value.shape)}")
        yield Text(_values(value, width))
    if run.loss is not None:
        yield Text(f"\n{run.loss_name} = {run.loss:.12g}")
    if run.gradients:
        yield heading(f"\nGradient of {run.loss_name} with respect to")
    for name, gradient in run.gradients.items():
        if gradient.value is None:
            yield paragraph(f"None: {gradient.reason}", width=width, indent="    ", first=f"{name}  ")
        else:
            yield Text(f"{name}  {shape_text(gradient.value.shape)}")
            yield Text(_values(gradient.value, width))
    yield Text("")
    times = [_time_row("forward", run.forward), _time_row("backward", run.backward)]
    yield table(("time", "median", "range", ""), times)


def _time_row(name: str, timing: Timing | None) -> tuple[str, str, str, str]:
    if timing is None:
        return (name, NOT_MEASURED, "", "")
    spread = f"{seconds_text(timing.min)} to {seconds_text(timing.max)}"
    return (name, seconds_text(timing.median), spread, f"{timing.repeats} runs after a warm-up")


def _values(tensor: TensorValue, width: int) -> str:
    if tensor.value is None:
        return "  values not available"
    import numpy

    text = numpy.array2string(tensor.value, precision=8, max_line_width=width - 2, threshold=64, edgeitems=3)
    return "\n".join(f"  {line}" for line in text.split("\n"))

"""The report that `graphlens run` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.differences import largest
from graphlens.analyses.unrest import caution
from graphlens.graph import shape_text
from graphlens.records import RunRecord, TensorValue, Timing
from graphlens.units import count_text, counted, seconds_text, significant
from graphlens.views.opening import NOT_MEASURED, next_steps, opening
from graphlens.views.table import heading, paragraph, table, to_text


def run_report(run: RunRecord, *, width: int = 80, colour: bool = False, steps: Sequence[str] = ()) -> str:
    """Outputs, loss, gradients and times of one run; `steps` are the commands to type next."""
    parts = [*_run_parts(run, width), *next_steps(steps, width)]
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
        yield from _gradient_table(run) if len(run.gradients) > _FEW_GRADIENTS else _gradient_values(run, width)
    yield Text("")
    times = [_time_row("forward", run.forward), _time_row("backward", run.backward)]
    yield table(("time", "median", "range", ""), times)
    if text := caution({"forward": run.forward, "backward": run.backward}):
        yield paragraph(text, width=width)


_FEW_GRADIENTS = 12
_MOST_GRADIENTS = 60


def _gradient_values(run: RunRecord, width: int) -> Iterator[RenderableType]:
    for name, gradient in run.gradients.items():
        if gradient.value is None:
            yield paragraph(f"None: {gradient.reason}", width=width, indent="    ", first=f"{name}  ")
        else:
            yield Text(f"{name}  {shape_text(gradient.value.shape)}")
            yield Text(_values(gradient.value, width))


def _gradient_table(run: RunRecord) -> Iterator[RenderableType]:
    """One line each; those that are None come first, because they are what one looks for."""
    rows = sorted(run.gradients.items(), key=lambda item: item[1].value is not None)
    shown = []
    for name, gradient in rows[:_MOST_GRADIENTS]:
        if gradient.value is None:
            shown.append((name, "", f"None: {gradient.reason}"))
        else:
            most = largest(gradient.value)
            size = "values not available" if most is None else f"up to {significant(most, 3)}"
            shown.append((name, shape_text(gradient.value.shape), size))
    yield table(("", "shape", "value"), shown, left=3)
    rest = rows[_MOST_GRADIENTS:]
    if rest:
        missing = sum(gradient.value is None for _, gradient in rest)
        which = f"{count_text(missing)} of them None" if missing else "each with a value"
        yield Text(f"… and {count_text(len(rest))} more, {which} (--json lists them all)")


def _time_row(name: str, timing: Timing | None) -> tuple[str, str, str, str]:
    if timing is None:
        return (name, NOT_MEASURED, "", "")
    spread = f"{seconds_text(timing.min)} to {seconds_text(timing.max)}"
    return (name, seconds_text(timing.median), spread, f"{counted(timing.repeats, 'run')} after a warm-up")


_MOST_ENTRIES = 100


def _values(tensor: TensorValue, width: int) -> str:
    if tensor.value is None:
        return "  values not available"
    if tensor.value.size > _MOST_ENTRIES:
        return f"  {count_text(tensor.value.size)} entries up to {significant(largest(tensor) or 0.0, 3)} in magnitude"
    import numpy

    text = numpy.array2string(tensor.value, precision=8, max_line_width=width - 2, threshold=_MOST_ENTRIES)
    return "\n".join(f"  {line}" for line in text.split("\n"))

"""What `graphlens memory` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.memory import Growth, Memory
from graphlens.graph import GradGraph, printable
from graphlens.units import bytes_text, count_text, counted, nodes_text, percent_text, significant
from graphlens.views.opening import NOT_MEASURED, next_steps, opening
from graphlens.views.table import paragraph, table, to_text

_MOST_ROWS = 20


def memory_report(
    title: str,
    graph: GradGraph,
    memory: Memory,
    growth: Growth,
    *,
    notes: Sequence[str] = (),
    width: int = 80,
    colour: bool = False,
    steps: Sequence[str] = (),
) -> str:
    """The ledger as three numbers, the peak of both passes, and what is alive there; then what to type next."""
    parts = (*_parts(title, graph, memory, growth, notes, width), *next_steps(steps, width))
    return to_text(parts, width=width, colour=colour)


def _parts(
    title: str, graph: GradGraph, memory: Memory, growth: Growth, notes: Sequence[str], width: int
) -> Iterator[RenderableType]:
    yield from opening(title, graph, graph.meta.get("threads"), width)
    for note in notes:
        yield paragraph(printable(note), width=width)
    yield Text("")
    yield table(("", ""), list(_numbers(graph, memory, growth)))
    yield Text("")
    for sentence in _sentences(graph, memory, growth):
        yield paragraph(sentence, width=width)
    if memory.rows:
        yield Text("")
    rows = [
        (row.key, count_text(row.storages), _size(memory, row.bytes), percent_text(row.bytes, memory.kept))
        for row in memory.rows[:_MOST_ROWS]
    ]
    total = ("total", count_text(sum(row.storages for row in memory.rows)), _size(memory, memory.kept), "100.0 %")
    if rows:
        yield table((memory.by, "storages", "kept", "share"), rows, total=total if memory.kept else ())
    if len(memory.rows) > _MOST_ROWS:
        yield Text(f"… and {len(memory.rows) - _MOST_ROWS:,} more rows (--json lists them all)")


def _numbers(graph: GradGraph, memory: Memory, growth: Growth) -> Iterator[tuple[str, str]]:
    yield "saved for backward, as views", _size(memory, memory.views)
    yield f"as {counted(memory.storage_count, 'distinct storage')}", _size(memory, memory.storages)
    yield "  in memory anyway (parameters, inputs, buffers)", bytes_text(memory.anyway)
    yield "  kept for backward alone (activations)", _size(memory, memory.kept)
    if growth.pass_bytes is None:
        yield "the process grew by", NOT_MEASURED
        return
    yield "the process grew by", bytes_text(round(growth.pass_bytes))
    rest = objects_bytes(memory, growth)
    if rest is not None:
        yield "  nodes, tensor objects, the allocator's rounding", bytes_text(rest)
        yield "    for each node", bytes_text(round(rest / max(len(graph), 1)))


def objects_bytes(memory: Memory, growth: Growth) -> int | None:
    """What the process grew by besides the storages; None where that was not measured or means nothing."""
    if growth.pass_bytes is None or growth.makes_leaves or memory.unknown:
        return None
    rest = round(growth.pass_bytes) - memory.kept
    return rest if rest >= 0 else None


def _sentences(graph: GradGraph, memory: Memory, growth: Growth) -> Iterator[str]:
    if memory.unknown:
        yield (
            f"The sizes are lower bounds: what {count_text(memory.unknown)} of the nodes and tensors "
            f"keep has no size that can be seen."
        )
    if growth.pass_bytes is None:
        yield f"What the process grows by was not measured: {growth.reason}."
    else:
        yield _measured(memory, growth)
    yield (
        f"What is kept for backward alone is at its peak of {_size(memory, memory.kept)} when the forward pass ends; "
        "backward frees a storage once the last node that saves it has run. The table says which nodes save it first."
    )
    if memory.gradients is not None:
        yield (
            f"With the gradients that have reached their leaves it is at most {_size(memory, memory.peak)}, "
            f"{_when(graph, memory)}. Gradients on their way are not counted."
        )


def _when(graph: GradGraph, memory: Memory) -> str:
    if memory.peak_step == 0:
        return "before any has"
    if memory.peak_step == len(memory.backward) - 1:
        return "when the backward pass ends"
    return f"after {count_text(memory.peak_step)} of {nodes_text(len(graph))} of the backward pass"


def _measured(memory: Memory, growth: Growth) -> str:
    assert growth.low is not None
    assert growth.high is not None
    sentence = (
        f"The growth of a fresh process for each forward pass, its graph kept: median of {growth.rounds} times "
        f"{count_text(growth.passes)} pass{'' if growth.passes == 1 else 'es'}, {_rounded(growth.low)} to "
        f"{_rounded(growth.high)}."
    )
    if growth.makes_leaves:
        return f"{sentence} It holds the parameters and inputs too, which the factory makes each time."
    if not memory.unknown and objects_bytes(memory, growth) is None:
        return f"{sentence} That is less than the storages together; why was not measured."
    return sentence


def _rounded(size: float) -> str:
    return bytes_text(round(size)) if size >= 1 else f"{significant(size, 2)} B"


def _size(memory: Memory, size: int) -> str:
    return ("≥ " if memory.unknown else "") + bytes_text(size)

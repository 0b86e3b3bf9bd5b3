"""The report that `graphlens explain` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.connectivity import WORDS
from graphlens.analyses.explanation import Explanation
from graphlens.analyses.findings import Finding, listed
from graphlens.graph import printable
from graphlens.units import count_text, percent_text, seconds_text
from graphlens.views.check_report import findings_text
from graphlens.views.opening import next_steps, opening
from graphlens.views.proof_report import proof_parts
from graphlens.views.rounding_report import rounding_parts
from graphlens.views.table import heading, paragraph, table, to_text

_MOST_ROWS = 5


def explain_report(
    explanation: Explanation, *, width: int = 80, colour: bool = False, steps: Sequence[str] = ()
) -> str:
    """What was found, topic by topic; `steps` are the commands to type next."""
    parts = list(_parts(explanation, width))
    parts += next_steps(steps, width)
    return to_text(parts, width=width, colour=colour)


def _parts(explanation: Explanation, width: int) -> Iterator[RenderableType]:
    yield from opening(explanation.target, explanation.graph, explanation.threads, width)
    if "gradients" in explanation.topics:
        yield heading("\nWhich gradients are there")
        for sentence in _gradients(explanation):
            yield paragraph(sentence, width=width)
        yield from _findings(explanation.gradients, width)
    if "waste" in explanation.topics and explanation.graph is not None:
        yield heading("\nWhere the time and the memory go")
        yield from _costs(explanation, width)
        yield from _findings(explanation.waste, width)
        if not explanation.waste:
            yield Text("\nNothing found that is computed twice, undone again, or done in a dearer way.")
        if explanation.proof is not None:
            yield from proof_parts(explanation.proof, width)
    if "rounding" in explanation.topics and explanation.graph is not None:
        yield heading("\nHow exact the numbers are")
        if explanation.accuracy is not None:
            yield from rounding_parts(explanation.accuracy, width)
        yield from _findings(explanation.rounding, width)
    notes = [*explanation.notes, *([explanation.caution] if explanation.caution else [])]
    if notes:
        yield Text("")
    for note in notes:
        yield paragraph(printable(note), width=width)


def _findings(findings: Sequence[Finding], width: int) -> Iterator[RenderableType]:
    if findings:
        yield Text("")
        yield Text(findings_text(findings, width=width))


def _gradients(explanation: Explanation) -> Iterator[str]:
    if not explanation.verdicts:
        yield "No input and no parameter to receive a gradient."
        return
    counts = Counter(verdict.words for verdict in explanation.verdicts)
    for kind in WORDS:
        names = [printable(verdict.name) for verdict in explanation.verdicts if verdict.words == kind]
        if names:
            yield f"{kind}: {listed(names)}" + (f" ({count_text(counts[kind])})" if counts[kind] > 1 else "") + "."


def _costs(explanation: Explanation, width: int) -> Iterator[RenderableType]:
    costs, run, graph = explanation.costs, explanation.run, explanation.graph
    if costs is None or run is None or graph is None:
        return
    nodes = len(graph)
    yield paragraph(
        f"The backward pass takes {seconds_text(run.plain.median)} for {count_text(nodes)} nodes, "
        f"{seconds_text(run.plain.median / nodes)} a node (median of {run.repeats}; "
        f"{seconds_text(run.plain.min)} to {seconds_text(run.plain.max)}).",
        width=width,
    )
    yield Text("")
    whole = costs.total.spent_ns or 0
    rows = [
        (
            row.key,
            count_text(row.nodes),
            "" if row.forward_ns is None else seconds_text(row.forward_ns / 1e9),
            "" if row.backward_ns is None else seconds_text(row.backward_ns / 1e9),
            "" if row.spent_ns is None else percent_text(row.spent_ns, whole),
            "" if row.bound == "unknown" else row.bound,
        )
        for row in costs.rows[:_MOST_ROWS]
    ]
    yield table((costs.by, "nodes", "forward", "backward", "share", "bound by"), rows, texts=(5,))
    if len(costs.rows) > _MOST_ROWS:
        yield Text(f"… and {len(costs.rows) - _MOST_ROWS:,} more (graphlens stats --cost lists them)")

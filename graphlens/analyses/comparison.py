"""Two runs side by side: what differs, by how much, and the reasons that the numbers give."""

from __future__ import annotations

from dataclasses import dataclass

from graphlens.accuracy import Accuracy
from graphlens.analyses.counts import Stats, stats
from graphlens.analyses.differences import Difference, gradient_differences, number_difference, output_differences
from graphlens.analyses.findings import Finding
from graphlens.analyses.nearness import Nearness, nearness, nearness_reasons
from graphlens.analyses.reasons import Reason, structure_reasons, time_reasons, value_reasons
from graphlens.analyses.unrest import caution
from graphlens.records import RunRecord
from graphlens.shown import Report


@dataclass(frozen=True)
class Comparison(Report):
    """Two runs side by side; `stats_a` or `stats_b` is None where a run has no backward graph.

    `loss` is what was differentiated, where that is no output itself.
    `nearness` says which result is nearer to the truth; empty where the true values were not asked for.
    `waste_a` and `waste_b` are findings about what each could do without, where that was looked for.
    """

    a: RunRecord
    b: RunRecord
    stats_a: Stats | None
    stats_b: Stats | None
    outputs: tuple[Difference, ...]
    gradients: tuple[Difference, ...]
    reasons: tuple[Reason, ...]
    nearness: tuple[Nearness, ...] = ()
    waste_a: tuple[Finding, ...] = ()
    waste_b: tuple[Finding, ...] = ()
    loss: Difference | None = None

    @property
    def caution(self) -> str:
        """What speaks against the times, if anything does."""
        return caution(
            (f"{name} of {run.target}", timing)
            for run in (self.a, self.b)
            for name, timing in (("forward", run.forward), ("backward", run.backward))
        )


def compare_records(
    a: RunRecord, b: RunRecord, *, exact_a: Accuracy | None = None, exact_b: Accuracy | None = None
) -> Comparison:
    """Compare any two runs; a saved graph is a run with a graph and nothing else.

    Args:
        exact_a, exact_b: how exact each run is, where that was measured.
    """
    stats_a = None if a.graph is None else stats(a.graph)
    stats_b = None if b.graph is None else stats(b.graph)
    outputs = output_differences(a.outputs, b.outputs) if a.outputs and b.outputs else ()
    gradients = gradient_differences(a.gradients, b.gradients) if a.gradients and b.gradients else ()
    reasons: list[Reason] = []
    if stats_a is not None and stats_b is not None:
        reasons += structure_reasons(a, b, stats_a, stats_b)
    reasons += time_reasons(a, b, stats_a, stats_b)
    reasons += value_reasons(a, b, outputs, gradients)
    near = nearness(exact_a, exact_b, [row.name for row in gradients if {row.a, row.b} == {"value", "none"}])
    reasons += nearness_reasons(a, b, near)
    return Comparison(a, b, stats_a, stats_b, outputs, gradients, tuple(reasons), near, loss=_loss(a, b))


def _loss(a: RunRecord, b: RunRecord) -> Difference | None:
    if a.loss is None or b.loss is None or a.loss_name in a.outputs or b.loss_name in b.outputs:
        return None
    return number_difference(" / ".join(dict.fromkeys((a.loss_name, b.loss_name))), a.loss, b.loss)

"""What was measured of a program and of the shorter one that was written in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphlens.analyses.comparison import Comparison
from graphlens.graph import GradGraph


@dataclass(frozen=True)
class Prediction:
    """What the shorter program should have and take, told before it is run. Bytes and seconds.

    The nodes that stay and the storages that they save are those of the original's graph; the times
    are sums over ops that were timed one by one. None where that cannot be known.
    """

    nodes: int
    storage_bytes: int | None
    forward: float | None
    backward: float | None


@dataclass(frozen=True)
class Gathered:
    """A gradient that the shorter program does not have: what the original adds up for it.

    `largest` is the largest entry of the sum, `terms` the sum of the largest entries of the
    `contributions`: a sum that is 0 in exact arithmetic is as large as the rounding of its terms.
    """

    name: str
    contributions: int
    largest: float
    terms: float

    @property
    def ratio(self) -> float | None:
        """The gradient as a share of what was added up; None where nothing was."""
        return self.largest / self.terms if self.terms else None


@dataclass(frozen=True)
class Trial:
    """Both programs on other inputs: each floating-point leaf changed by a random relative amount.

    `outputs` and `gradients` are the largest relative differences; `failure` says why the inputs
    could not be tried.
    """

    amount: float
    outputs: float | None = None
    gradients: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Proof:
    """A program, the shorter one, and their comparison; or the reason why there is none.

    Attributes:
        refusal: why no shorter program could be written or run; the rest is then empty.
        comparison: of both programs, on the same inputs, timed in turns.
        bound: relative differences up to it are taken for rounding: half of the digits of the dtype.
        gathered: gradients that the shorter program does not have.
        code: the shorter program as Python.
    """

    refusal: str = ""
    comparison: Comparison | None = None
    prediction: Prediction | None = None
    bound: float = 0.0
    gathered: Sequence[Gathered] = ()
    trials: Sequence[Trial] = ()
    calls: int = 0
    guards: int = 0
    code: str = ""

    @property
    def failures(self) -> list[str]:
        """What speaks against it: differences beyond the bound."""
        if self.comparison is None:
            return [self.refusal]
        found = []
        for kind, rows in (("output", self.comparison.outputs), ("gradient of", self.comparison.gradients)):
            for row in rows:
                if row.a != "value" or row.b != "value" or row.max_abs == 0.0:
                    continue
                if row.relative is None:
                    found.append(f"{kind} {row.name} differs")
                elif not row.relative <= self.bound:
                    found.append(f"{kind} {row.name} differs by {row.relative:.2g} of its size")
        for gathered in self.gathered:
            if gathered.ratio is not None and gathered.ratio > self.bound:
                found.append(
                    f"the gradient of {gathered.name} is gone, and was {gathered.ratio:.2g} of what it adds up"
                )
        for trial in self.trials:
            worst = max(trial.outputs or 0.0, trial.gradients or 0.0)
            if not trial.failure and worst > self.bound:
                found.append(f"on inputs changed by {trial.amount:g} they differ by {worst:.2g}")
        return found

    @property
    def holds(self) -> bool:
        """Whether the shorter program was seen to compute the same."""
        return self.comparison is not None and not self.failures


def predict(
    graph: GradGraph,
    removed: frozenset[int],
    leaves: Mapping[str, int],
    forward: float | None,
    backward: float | None,
) -> Prediction:
    """What is left of a graph without some of its nodes.

    Args:
        removed: the function nodes that go.
        leaves: names of the leaves that are still read.
        forward, backward: seconds that the ops that are left take, each timed by itself.
    """
    stay = [
        number not in removed if node.kind != "leaf" else node.name in leaves for number, node in enumerate(graph.nodes)
    ]
    storages = {item.storage: item.storage_bytes for item in graph.saved if stay[item.node]}
    sizes = [size for storage, size in storages.items() if storage is not None]
    known = None not in storages and None not in sizes
    return Prediction(sum(stay), sum(size or 0 for size in sizes) if known else None, forward, backward)

"""What was measured of a program and of the shorter one that was written in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from graphlens.analyses.comparison import Comparison
from graphlens.analyses.differences import Difference

_FASTER = 0.95  # of a pass's time: less than that saves no time worth the name
ROUNDINGS = 16  # times what the last digit of the inputs does: as much as many ops round


@dataclass(frozen=True)
class Prediction:
    """What the shorter program should have and take, told before it is run. Bytes and seconds.

    The nodes that stay are those of the original's graph, and so are the storages, except that equal
    values are kept once; the times are sums over ops that were timed one by one. None where that cannot be known.
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

    Attributes:
        truth: the largest true entry, computed in exact arithmetic with so many bits of `precision`;
            None where it was not computed, and `unknown` says why.
        is_zero: whether the true value is 0 everywhere, as far as exact arithmetic tells it from 0.
    """

    name: str
    contributions: int
    largest: float
    terms: float
    truth: float | None = None
    is_zero: bool | None = None
    precision: int | None = None
    unknown: str = ""

    @property
    def ratio(self) -> float | None:
        """The gradient as a share of what was added up; None where nothing was."""
        return self.largest / self.terms if self.terms else None


@dataclass(frozen=True)
class Trial:
    """Both programs on other inputs: each floating-point leaf changed by a random relative amount.

    `outputs` and `gradients` are the largest relative differences, those of `explained` left out:
    what is beyond the bound and no more than its noise, see `Proof`. `failure` says why the inputs
    could not be tried.
    """

    amount: float
    outputs: float | None = None
    gradients: float | None = None
    failure: str = ""
    explained: Sequence[str] = ()


@dataclass(frozen=True)
class Proof:
    """A program, the shorter one, and their comparison; or the reason why there is none.

    Attributes:
        refusal: why no shorter program could be written or run; the rest is then empty.
        comparison: of both programs, on the same inputs, timed in turns.
        bound: relative differences up to it are taken for rounding: half of the digits of the dtype.
        gathered: gradients that the shorter program does not have.
        noise: how far each output and gradient ("output y", "gradient of x") moves when the inputs
            change in their last digit, which no way of computing it can undercut.
        code: the shorter program as Python.
        names: whether there is a finding of something to leave out.
        by_hand: codes of findings that it does not follow: they are left to a person.
        gone: of the original's nodes those that the shorter program should do without, by op, leaves apart.
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
    noise: Mapping[str, float] = field(default_factory=dict)
    names: bool = True
    by_hand: Sequence[str] = ()
    gone: Mapping[str, int] = field(default_factory=dict)

    def is_noise(self, name: str, difference: float) -> bool:
        """Whether a difference is no larger than the rounding of the inputs explains."""
        return difference <= ROUNDINGS * self.noise.get(name, 0.0)

    @property
    def explained(self) -> list[str]:
        """Outputs and gradients that differ by more than the bound, and by no more than their noise."""
        return [
            f"{kind} {row.name}"
            for kind, row in self._differing()
            if row.relative is not None and row.relative > self.bound
            if self.is_noise(f"{kind} {row.name}", row.max_abs or 0.0)
        ]

    def _differing(self) -> Iterator[tuple[str, Difference]]:
        if self.comparison is None:
            return
        for kind, rows in (("output", self.comparison.outputs), ("gradient of", self.comparison.gradients)):
            yield from ((kind, row) for row in rows if row.a == row.b == "value" and row.max_abs != 0.0)

    @property
    def failures(self) -> list[str]:
        """What speaks against it: differences beyond the bound."""
        if self.comparison is None:
            return [self.refusal]
        found = []
        for kind, row in self._differing():
            if row.max_abs is not None and self.is_noise(f"{kind} {row.name}", row.max_abs):
                continue
            if row.relative is None:
                found.append(f"{kind} {row.name} differs")
            elif not row.relative <= self.bound:
                found.append(f"{kind} {row.name} differs by {row.relative:.2g} of its size")
        for gathered in self.gathered:
            if gathered.is_zero is False:
                found.append(f"the gradient of {gathered.name} is gone, and its true value is {gathered.truth:.2g}")
            elif gathered.is_zero is None and gathered.ratio is not None and gathered.ratio > self.bound:
                found.append(
                    f"the gradient of {gathered.name} is gone, and was {gathered.ratio:.2g} of what it adds up"
                )
        for trial in self.trials:
            worst = max(trial.outputs or 0.0, trial.gradients or 0.0)
            if not trial.failure and worst > self.bound:
                found.append(f"on inputs changed by {trial.amount:g} they differ by {worst:.2g}")
        return found

    @property
    def nodes(self) -> tuple[int, int] | None:
        """The nodes of both programs; None where one has no graph."""
        stats = None if self.comparison is None else (self.comparison.stats_a, self.comparison.stats_b)
        return None if stats is None or stats[0] is None or stats[1] is None else (stats[0].nodes, stats[1].nodes)

    @property
    def is_longer(self) -> bool:
        """Whether the program that was to be shorter has more nodes than the original."""
        return self.nodes is not None and self.nodes[1] > self.nodes[0]

    @property
    def is_shown(self) -> bool:
        """Whether the two are shown side by side: there is something to leave out, and it makes nothing longer."""
        return self.comparison is not None and self.names and not self.is_longer

    @property
    def saved(self) -> list[str]:
        """What the findings save: counts that fall, and passes whose times do not overlap with those of before."""
        comparison = self.comparison
        if comparison is None or not self.is_shown:
            return []
        found = ["nodes"] if self.nodes is not None and self.nodes[1] < self.nodes[0] else []
        a, b = comparison.stats_a, comparison.stats_b
        if a is not None and b is not None and not a.total.unknown and not b.total.unknown:
            found += ["bytes saved for backward"] if b.total.storage_bytes < a.total.storage_bytes else []
        for name, x, y in (
            ("forward", comparison.a.forward, comparison.b.forward),
            ("backward", comparison.a.backward, comparison.b.backward),
        ):
            # A single run has no range.
            if x is None or y is None or min(x.repeats, y.repeats) < 2:
                continue
            # A few runs that lie apart by next to nothing tell of the machine, not of the program.
            if y.max < x.min and y.median <= _FASTER * x.median:
                found.append(f"time of the {name} pass")
        return found

    @property
    def holds(self) -> bool:
        """Whether the shorter program was seen to compute the same."""
        return self.comparison is not None and not self.failures

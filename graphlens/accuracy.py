"""Accuracy: what was measured about the rounding of one run, as plain values; the findings are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from graphlens.graph import GradGraph

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Array = numpy.typing.NDArray[numpy.float64]

MOST_LEFT_OUT = 0.5  # of an error, by first order: with more, its terms do not tell who made it


class Op(NamedTuple):
    """One op that ran below autograd.

    `name` is that of the aten op ("mv", "linalg_inv_ex"). `node` is the node of the graph whose
    forward op it is, or whose backward it is part of, None if it belongs to none. `accumulates`
    says whether it adds up gradients that meet; `node` then sent the later of the two.
    """

    name: str
    node: int | None
    backward: bool
    accumulates: bool


@dataclass(frozen=True)
class Attribution:
    """Which ops made the error of one quantity, to first order.

    To first order a functional ℓ of a result is off by Σ ⟨∂ℓ/∂v, δv⟩ over the results v of all ops,
    with δv the rounding of the op alone: its result less the exact result on the same float inputs
    (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, section 1.6 and 3.7; the
    discrete adjoint method).

    Attributes:
        functional: which ℓ, in words.
        total: ℓ of the true error, from the reference; None where that is not known.
        contributions: per op of `Accuracy.ops` its term of the sum, NaN where it could not be measured.
        unmeasured: ops whose term could not be measured, and how often they ran.
    """

    functional: str
    total: float | None
    contributions: Array
    unmeasured: Mapping[str, int] = field(default_factory=dict)

    @property
    def net(self) -> float:
        """The sum of all terms that were measured."""
        import numpy

        return float(numpy.nansum(self.contributions))

    @property
    def magnitude(self) -> float:
        """The sum of their magnitudes."""
        import numpy

        return float(numpy.nansum(numpy.abs(self.contributions)))

    @property
    def discrepancy(self) -> float | None:
        """What first order leaves out: the true total less the sum; None where the total is not known."""
        return None if self.total is None else self.total - self.net

    @property
    def holds(self) -> bool:
        """Whether the terms sum to the true total nearly enough to tell who made it; True where that is not known."""
        gap = self.discrepancy
        return gap is None or abs(gap) <= MOST_LEFT_OUT * abs(self.total or 0.0)


@dataclass(frozen=True, eq=False)
class Quantity:
    """An output, the loss or a gradient of the run, held against its true value.

    Attributes:
        kind: "output", "loss" or "gradient".
        size: the largest magnitude among the run's entries.
        error: the largest |entry of the run − true entry|; None where it is not known.
        norm: the Euclidean norm of the error; None where it is not known.
        truth: the largest magnitude among the true entries; None where it is not known.
        is_zero: whether the truth is 0 everywhere, as far as the reference tells it from 0.
        ulps: the largest error in units in the last place of its own entry, in the run's format.
        digits: significant decimal digits of the largest entry that are right in every entry:
            −log₁₀(error ÷ truth), from 0 up to what the format holds; None where it has no meaning.
        significant: the same from runs that were rounded at random, with its 95 % interval; None
            where no such runs were made.
        attribution: which ops made the error; None where it was not asked for.
        not_finite: how many of the run's entries are NaN or infinite.
        true: the true entries, rounded once to float64; None where they are not known.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    size: float
    error: float | None = None
    norm: float | None = None
    truth: float | None = None
    is_zero: bool = False
    ulps: float | None = None
    digits: float | None = None
    significant: tuple[float, float, float] | None = None
    attribution: Attribution | None = None
    true: Array | None = None
    not_finite: int = 0

    @property
    def label(self) -> str:
        """What tells it from all others: "g", "gradient of A"."""
        return label(self.name, self.kind)


def label(name: str, kind: str) -> str:
    """How a result is called where outputs and gradients stand side by side."""
    return f"gradient of {name}" if kind == "gradient" else name


@dataclass(frozen=True)
class Suspect:
    """An op that is known to lose digits, and what it did in this run.

    Attributes:
        kind: "ill-conditioned", "cancellation", "absorption", "overflow", "underflow", "subnormal",
            "saturation" or "cast".
        ops: places in `Accuracy.ops`: all those of the same op on the same line.
        evidence: what was measured, as plain values; of several ops that of the worst.
        shares: per quantity (by its label) that has lost digits, the share of its error that comes through
            the suspected entries, as ⟨∂ℓ/∂v, error of v⟩ ÷ ℓ of the error; missing where it is not known.
        made: the same for the share of its error that these ops made themselves.
    """

    kind: str
    ops: tuple[int, ...]
    evidence: Mapping[str, object]
    shares: Mapping[str, float] = field(default_factory=dict)
    made: Mapping[str, float] = field(default_factory=dict)


class Branch(NamedTuple):
    """A decision on data that exact arithmetic would have taken otherwise, or cannot tell; by op and entries."""

    op: int
    otherwise: int
    undecided: int


@dataclass(frozen=True)
class TermSum:
    """A gradient that a leaf receives in several parts, and what their sum leaves of them.

    Attributes:
        terms: how many parts.
        magnitude: Σ |part| of the sum's largest entry; `kept`: that entry ÷ `magnitude`.
        left: the largest |Σ part| ÷ Σ |part| over all entries; 1 if nothing cancels.
        groups: per op of the nodes that sent the parts: their number, and the Euclidean norm of
            their sum and the sum of their norms.
        opposite: the cosine of the angle between the two largest groups' sums; None if there is one.
    """

    leaf: str
    terms: int
    magnitude: float
    left: float
    groups: Sequence[tuple[str, int, float, float]]
    opposite: float | None = None
    kept: float = 1.0


class Origin(NamedTuple):
    """An op whose error a loop takes in at every round.

    `op` is a place in `Accuracy.ops`. `is_repeated` says that its result, and so its error, is the
    same in every round. `injects` is the Euclidean norm of what that error alone changes in what one
    round hands to the next: the root of the mean square over a few rounds.
    """

    op: int
    is_repeated: bool
    injects: float


@dataclass(frozen=True)
class Split:
    """The error that a loop carries, to first order, by where it came from.

    The errors that come in are propagated round by round with the derivatives of the body's own ops, at
    the values of the run. Arrays are Euclidean norms, before the first round and after each.

    Attributes:
        inherited: from what the loop began with, and from inputs of single rounds.
        systematic: from values that are the same in every round, and so have the same error.
        rounding: from the roundings of the body's other ops.
        rest: the error less the sum of the three: what first order leaves out; None where the error
            is not known.
        injected: what the roundings of each round alone add to `rounding`.
        gain: natural logarithm of the factor by which a small change of what the loop began with has
            grown, in a direction chosen at random.
        turn: the largest distance of that change from what it was, relative to it: near 0 if each
            round hands on what it was given, infinite if a round reads more than the one before it.
        origins: the ops that inject most, the largest first.
        unmeasured: how many ops of the body have a rounding that is not known, and count as exact.
    """

    inherited: Array
    systematic: Array
    rounding: Array
    rest: Array | None
    injected: Array
    gain: Array
    turn: float
    origins: Sequence[Origin]
    unmeasured: int = 0


@dataclass(frozen=True)
class LoopErrors:
    """The error of what each round of a loop hands to the next.

    Attributes:
        group: the loop's number in the folded graph.
        backward: whether it is the loop's backward pass, which begins with the last round.
        makers: places in `Accuracy.ops` of the ops that make what is handed on, in the last round.
        unit: unit roundoff u of the format that is handed on.
        size: the Euclidean norm of what the run hands on, before the first round and after each.
        error: that of the error; NaN where it is not known, None where nothing is.
        truth: that of the true value; in the same way.
        split: where the error came from; None where it could not be propagated.
        cycle: (start, period) if the floats repeat to the last bit: those after round start + period
            are those after round start, and so on up to the end.
    """

    group: int
    backward: bool
    makers: tuple[int, ...]
    unit: float
    size: Array
    error: Array | None
    truth: Array | None
    split: Split | None
    cycle: tuple[int, int] | None = None

    @property
    def rounds(self) -> int:
        return len(self.size) - 1


class Difference(NamedTuple):
    """A result that two runs do not agree on: the largest difference of its entries, and the largest magnitude."""

    name: str
    kind: str
    difference: float
    size: float

    @property
    def label(self) -> str:
        """What tells it from all others: "g", "gradient of A"."""
        return label(self.name, self.kind)


@dataclass(frozen=True)
class Repeat:
    """Two runs of the program from the same state, held against each other bit by bit.

    Attributes:
        kind: how they part first: "same" if they do not; "result" if an op makes something else of the
            same bits; "argument" if an op is called with another plain number; "source" if an op reads
            data that no op made, and that differ; "op" if another op is called.
        op: its place in the run; None if there is no difference.
        node: the node that it belongs to, or that first uses what it made.
        first, second: what stood there in the two runs: plain numbers, names of ops (None after the
            last one) or shapes; None for tensors that differ in their entries alone.
        difference, size: the largest difference of these entries, and their largest magnitude.
        entries, differing: how many there are, and how many of them differ.
        origins: how many differences of this kind begin on the way, the first one included, and none
            of them made by another.
        random: whether the op draws random numbers.
        results: outputs and gradients that differ.
        ops: how many ops the first run called.
    """

    kind: str
    op: int | None = None
    name: str = ""
    node: int | None = None
    first: object = None
    second: object = None
    difference: float = 0.0
    size: float = 0.0
    entries: int = 0
    differing: int = 0
    origins: int = 0
    random: bool = False
    results: Sequence[Difference] = ()
    ops: int = 0


class Condition(NamedTuple):
    """κ₂ = σ_max ÷ σ_min of a matrix, from its singular values in float64; of several that of the worst.

    `at_least` says that it is a lower bound: σ_min drowns in the rounding of that computation, or not all
    matrices were looked at. `matrix` is the name of the leaf that it is, else the line that makes use of it.
    """

    kappa: float
    at_least: bool
    rows: int
    columns: int
    matrix: str = ""


@dataclass(frozen=True)
class Accuracy:
    """How exact one run was, and why.

    Attributes:
        method: "exact", "float64" or "sample": what the true values come from.
        precision: bits of the exact reference, 53 for float64; None for samples.
        unit: unit roundoff u of the run's format, half the spacing of the numbers above 1.
        ops: every op that ran, in order.
        quantities: outputs first, then the loss, then gradients.
        escaped: how often Python read the numbers of floating-point tensors, as .item() and
            torch.tensor([...]) do: what a program makes of them is not followed, and counts as exact.
        repeats: how a second run from the same state compared; None where none was made.
        conditions: of the matrices that the run inverts, factors or solves with, the worst of each name
            first.
        notes: what could not be found out, and why.
    """

    graph: GradGraph
    method: str
    precision: int | None
    unit: float
    ops: Sequence[Op]
    quantities: Sequence[Quantity]
    suspects: Sequence[Suspect] = ()
    sums: Sequence[TermSum] = ()
    loops: Sequence[LoopErrors] = ()
    branches: Sequence[Branch] = ()
    escaped: int = 0
    repeats: Repeat | None = None
    conditions: Sequence[Condition] = ()
    notes: Sequence[str] = ()
    seconds: float = 0.0

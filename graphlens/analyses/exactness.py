"""How exact a target was at one point of a sweep: the errors of its results and of its loops, as plain numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from graphlens.accuracy import Accuracy, LoopErrors, Quantity, label
from graphlens.analyses.rounding.laws import law_of, worst_case
from graphlens.analyses.rounding.places import place_of, short_place

_LITTLE = 0.02  # of an error: as much may have been there before a loop whose prediction it is held against


@dataclass(frozen=True)
class ResultError:
    """An output, the loss or a gradient; see `accuracy.Quantity` for what the numbers mean.

    Attributes:
        digits: of the largest entry that are right; where there is no reference, those that do not
            depend on rounding. None where it has no meaning, or is not known.
    """

    name: str
    kind: str
    error: float | None
    truth: float | None
    is_zero: bool
    digits: float | None

    @property
    def label(self) -> str:
        """ "g", "gradient of A"."""
        return label(self.name, self.kind)

    @property
    def relative(self) -> float | None:
        """The largest error ÷ the largest true entry; None where that is 0 or not known."""
        return self.error / self.truth if self.error is not None and self.truth and not self.is_zero else None


@dataclass(frozen=True)
class LoopError:
    """What one pass through a loop hands on after its last round, in Euclidean norms.

    Attributes:
        place: of the op that makes it: "chain.py:60", or the op's name.
        number: which of the loops of that place and pass, from 0.
        error, truth: None where not known.
        inherited: the part of the error that was there before the loop; None where not told apart.
        predicted: the part that theory tells from one round alone: rounds · ‖R y‖; None where no
            round takes in the same error as the others.
        random_signs: what the roundings of all rounds come to if their signs are random, as √n does.
        worst_case: what all errors come to if all point the same way: to first order a bound.
        verdict: see `analyses.rounding.laws.Law`.
    """

    place: str
    backward: bool
    number: int
    rounds: int
    error: float | None
    truth: float | None
    inherited: float | None
    predicted: float | None
    random_signs: float | None
    worst_case: float | None
    verdict: str

    @property
    def ratio(self) -> float | None:
        """Measured error ÷ predicted; None where part of the error was there before the loop, or none is predicted."""
        if not self.predicted or self.error is None or self.inherited is None:
            return None
        return self.error / self.predicted if self.inherited <= _LITTLE * self.error else None

    @property
    def key(self) -> tuple[str, bool, int]:
        """What tells it from the other loops of its point, and is the same at other points."""
        return (self.place, self.backward, self.number)


class MatrixCondition(NamedTuple):
    """κ₂ of a matrix that is inverted, factored or solved with, and whether it is a lower bound; see `Condition`."""

    matrix: str
    kappa: float
    at_least: bool


@dataclass(frozen=True)
class Exactness:
    """How exact one target was at one point.

    Attributes:
        method, precision: see `accuracy.Accuracy`.
        unit: unit roundoff of the results' format.
        conditions: of the matrices that are inverted, factored or solved with, the largest κ₂ first.
        notes: what could not be found out.
    """

    method: str
    precision: int | None
    unit: float
    results: tuple[ResultError, ...]
    loops: tuple[LoopError, ...]
    conditions: tuple[MatrixCondition, ...]
    notes: tuple[str, ...] = ()

    def condition(self, matrix: str) -> MatrixCondition | None:
        """That of a matrix by its name."""
        return next((found for found in self.conditions if found.matrix == matrix), None)

    def loop(self, key: tuple[str, bool, int]) -> LoopError | None:
        """One loop by its key."""
        return next((found for found in self.loops if found.key == key), None)

    @cached_property
    def by_label(self) -> Mapping[str, ResultError]:
        """The results by what tells each from all others."""
        return {result.label: result for result in self.results}


def exactness_of(accuracy: Accuracy) -> Exactness:
    """The numbers of one run, without its ops and its graph."""
    return Exactness(
        accuracy.method,
        accuracy.precision,
        accuracy.unit,
        tuple(_result(item) for item in accuracy.quantities),
        tuple(_loops(accuracy)),
        tuple(MatrixCondition(found.matrix, found.kappa, found.at_least) for found in accuracy.conditions),
        tuple(accuracy.notes),
    )


def telling(found: Sequence[Exactness]) -> list[str]:
    """The labels of all results, those that tell most first.

    Those come first that most points have; of these outputs, the loss, and gradients, at the last point
    the ones first that are most off.
    """
    count = Counter(result.label for exactness in found for result in exactness.results)
    order: dict[str, tuple[int, bool, float]] = {}
    for exactness in reversed(found):
        for result in exactness.results:
            is_gradient = result.kind == "gradient"
            relative = math.inf if result.is_zero and result.error else result.relative or 0.0
            rank = (-count[result.label], is_gradient, -relative if is_gradient else 0.0)
            order.setdefault(result.label, rank)
    return sorted(order, key=lambda label: order[label])


def matrices(found: Sequence[Exactness]) -> list[str]:
    """The names of all matrices: those first whose κ₂ changes most from point to point, then those with the largest."""
    kappas: dict[str, list[float]] = {}
    for exactness in found:
        for item in exactness.conditions:
            kappas.setdefault(item.matrix, []).append(item.kappa)
    return sorted(kappas, key=lambda name: (-round(max(kappas[name]) / min(kappas[name]), 3), -max(kappas[name])))


def along_condition(found: Sequence[Exactness], matrix: str) -> dict[str, list[tuple[float, float]]]:
    """By label the relative errors of results over κ₂ of a matrix, where both are known, by rising κ₂."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for exactness in found:
        known = exactness.condition(matrix)
        if known is None or known.at_least:
            continue
        for result in exactness.results:
            if result.relative is not None:
                rows.setdefault(result.label, []).append((known.kappa, result.relative))
    return {label: sorted(pairs) for label, pairs in rows.items()}


def loop_keys(found: Sequence[Exactness]) -> list[tuple[str, bool, int]]:
    """The loops of all points, the longest first, each forward pass before its backward pass."""
    longest: dict[tuple[str, bool, int], int] = {}
    for exactness in found:
        for loop in exactness.loops:
            longest[loop.key] = max(longest.get(loop.key, 0), loop.rounds)
    return sorted(longest, key=lambda key: (-longest[key], key[1], key[0], key[2]))


def _result(item: Quantity) -> ResultError:
    digits = item.digits if item.significant is None else item.significant[0]
    return ResultError(item.name, item.kind, item.error, item.truth, item.is_zero, digits)


def _loops(accuracy: Accuracy) -> Sequence[LoopError]:
    found: list[LoopError] = []
    for loop in accuracy.loops:
        place = place_of(accuracy, loop.makers)
        names = dict.fromkeys(accuracy.ops[op].name for op in loop.makers)
        where = short_place(place.source) or ", ".join(names) or "unknown"
        number = sum((one.place, one.backward) == (where, loop.backward) for one in found)
        found.append(_loop(loop, where, number))
    return found


def _loop(loop: LoopErrors, place: str, number: int) -> LoopError:
    law, split = law_of(loop), loop.split
    random_signs = inherited = worst = None
    if split is not None:
        random_signs, inherited, worst = law.expected, float(split.inherited[-1]), float(worst_case(split)[-1])
    truth = None if loop.truth is None else _finite(float(loop.truth[-1]))
    return LoopError(
        place, loop.backward, number, loop.rounds, law.final, truth, inherited, law.predicted, random_signs,
        worst, law.verdict,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# As JSON, for a file of finished points and between processes


def to_plain(found: Exactness) -> dict[str, Any]:
    """What JSON can hold of it."""
    return {
        "method": found.method,
        "precision": found.precision,
        "unit": _text(found.unit),
        "results": [{key: _text(value) for key, value in vars(item).items()} for item in found.results],
        "loops": [{key: _text(value) for key, value in vars(item).items()} for item in found.loops],
        "conditions": [{key: _text(value) for key, value in item._asdict().items()} for item in found.conditions],
        "notes": list(found.notes),
    }


def from_plain(plain: Mapping[str, Any]) -> Exactness:
    """The inverse of `to_plain`.

    Raises:
        KeyError, TypeError, ValueError: `plain` is nothing that `to_plain` has written.
    """
    return Exactness(
        str(plain["method"]),
        None if plain["precision"] is None else int(plain["precision"]),
        float(plain["unit"]),
        tuple(ResultError(**_numbers(item, ("error", "truth", "digits"))) for item in plain["results"]),
        tuple(LoopError(**_numbers(item, _LOOP_NUMBERS)) for item in plain["loops"]),
        tuple(MatrixCondition(**_numbers(item, ("kappa",))) for item in plain["conditions"]),
        tuple(map(str, plain["notes"])),
    )


_LOOP_NUMBERS = ("error", "truth", "inherited", "predicted", "random_signs", "worst_case")


def _numbers(item: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: float(value) if key in keys and value is not None else value for key, value in item.items()}


def _text(value: Any) -> Any:
    """NaN and infinities, which JSON lacks, as text that `float` reads."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

"""Which of two runs is nearer to the truth, result by result."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphlens.accuracy import Accuracy, Quantity
from graphlens.analyses.findings import listed
from graphlens.analyses.reasons import Reason
from graphlens.records import RunRecord
from graphlens.units import significant

# True values are rounded once to float64; two programs for one function may differ by a few of these.
_SAME = 2.0**-50
# Digits that two runs must differ by before one of them is called the nearer one: a factor of two.
_FEWEST_DIGITS = math.log10(2)
_MOST_SENTENCES = 6  # about gradients; more are told of in one


@dataclass(frozen=True)
class Nearness:
    """One result of two runs, held against the true value that both should have.

    Attributes:
        kind: "output", "loss" or "gradient".
        a, b: what each run has; None where it has no such result, as for a gradient that is `None`.
        agree: whether the true values of both programs are the same; None where one is not known.
            A gradient that is `None` counts as 0.
        nearer: "a", "b", or "" where neither is by a factor of two.
        digits: how many decimal digits more are right on the nearer side: log₁₀ of the ratio of the
            errors; infinite where its error is 0.
    """

    name: str
    kind: str
    a: Quantity | None
    b: Quantity | None
    agree: bool | None
    nearer: str = ""
    digits: float = 0.0


def nearness(a: Accuracy | None, b: Accuracy | None, none: Collection[str] = ()) -> tuple[Nearness, ...]:
    """The results that both runs have, in the order of the first.

    Args:
        none: gradients that one run has, and that are `None` in the other.
    """
    if a is None or b is None:
        return ()
    left, right = _by_name(a), _by_name(b)
    rows = []
    for key in dict.fromkeys((*left, *right)):
        kind, name = key
        one, two = left.get(key), right.get(key)
        if (one is None or two is None) and not (kind == "gradient" and name in none):
            continue
        rows.append(_judged(name, kind, one, two, certain=not (a.escaped or b.escaped)))
    return tuple(rows)


def nearness_reasons(a: RunRecord, b: RunRecord, rows: Sequence[Nearness]) -> Iterator[Reason]:
    """Sentences on the results for which the truth is known and that are not exact on both sides."""
    names = (a.target, b.target)
    apart = [row for row in rows if row.agree is False]
    if apart:
        told = listed([_name(row) for row in apart])
        yield Reason(
            "not-the-same",
            f"In exact arithmetic {told} {'differs' if len(apart) == 1 else 'differ'} too: the two do not compute the "
            "same.",
            {"names": [row.name for row in apart]},
        )
    judged = [row for row in rows if row.agree and (_error(row.a) or _error(row.b))]
    gradients = [row for row in judged if row.kind == "gradient"]
    many = len(gradients) > _MOST_SENTENCES
    for row in judged:
        if row.kind != "gradient" or not many:
            yield Reason("nearer", _sentence(names, row), _evidence(row))
    if many:
        yield _summary(names, gradients)


def _evidence(row: Nearness) -> dict[str, object]:
    return {
        "name": row.name,
        "kind": row.kind,
        "error_a": _error(row.a),
        "error_b": _error(row.b),
        "nearer": row.nearer or None,
        "digits": row.digits if row.nearer else None,
    }


def _summary(names: tuple[str, str], rows: Sequence[Nearness]) -> Reason:
    """One sentence about many gradients."""
    sides = {side: [row for row in rows if row.nearer == side] for side in ("a", "b")}
    told = []
    for side, name in zip("ab", names, strict=True):
        text = f"{name} in {len(sides[side]):,}"
        if sides[side]:
            most = max(sides[side], key=lambda row: row.digits)
            text += f" (most in that of {most.name}, by {_digits(most)} digits)"
        told.append(text)
    even = len(rows) - sum(map(len, sides.values()))
    claim = f"Of {len(rows):,} gradients, nearer to the truth is {told[0]}, {told[1]}, and neither in {even:,}."
    return Reason("nearer", claim, {side: [row.name for row in found] for side, found in sides.items()})


def _digits(row: Nearness) -> str:
    return "all" if math.isinf(row.digits) else significant(row.digits, 2)


def _by_name(accuracy: Accuracy) -> Mapping[tuple[str, str], Quantity]:
    return {(item.kind, item.name): item for item in accuracy.quantities}


def _judged(name: str, kind: str, a: Quantity | None, b: Quantity | None, *, certain: bool) -> Nearness:
    agree = _agree(a, b)
    if agree is False and not certain:
        agree = None  # of what went through Python, the run's rounding is part of the "truth"
    x, y = _error(a), _error(b)
    if not agree or x is None or y is None or x == y:
        return Nearness(name, kind, a, b, agree)
    digits = math.inf if min(x, y) == 0 else math.log10(max(x, y) / min(x, y))
    if digits < _FEWEST_DIGITS:
        return Nearness(name, kind, a, b, agree)
    return Nearness(name, kind, a, b, agree, "a" if x < y else "b", digits)


def _error(item: Quantity | None) -> float | None:
    """A gradient that is `None` stands for 0, without an error of its own if the truth is 0."""
    return 0.0 if item is None else item.error


def _agree(a: Quantity | None, b: Quantity | None) -> bool | None:
    if any(item is not None and (item.error is None or item.true is None) for item in (a, b)):
        return None
    if a is None or b is None:
        there = a or b
        return there is not None and there.is_zero
    if a.shape != b.shape:
        return False
    if a.is_zero and b.is_zero:
        return True
    assert a.true is not None
    assert b.true is not None
    gap = float(abs(a.true - b.true).max(initial=0.0))
    return gap <= _SAME * float(abs(a.true).max(initial=0.0))


def _name(row: Nearness) -> str:
    output = "the output" if row.name == "output" else f"the output {row.name}"
    return {"output": output, "loss": row.name, "gradient": f"the gradient of {row.name}"}[row.kind]


def _sentence(names: tuple[str, str], row: Nearness) -> str:
    what = _name(row)
    what = what[0].upper() + what[1:] if row.kind != "loss" else what
    sides = (row.a, row.b)
    if row.a is None or row.b is None:
        lacks, has = names if row.a is None else names[::-1]
        there = row.b if row.a is None else row.a
        assert there is not None
        return f"{what} is 0 in exact arithmetic: None is right ({lacks}), and {has} is off by {_amount(there)}."
    truth = "is 0 in exact arithmetic; it " if row.a.is_zero else ""
    told = [f"off by {_amount(item)} in {name}" for item, name in zip(sides, names, strict=True) if item is not None]
    text = f"{what} {truth}is {told[0]} and {told[1]}"
    if not row.nearer:
        return f"{text}: neither is nearer to the truth by a factor of two."
    by = "" if math.isinf(row.digits) else f", by {_digits(row)} digits"
    return f"{text}: {names['ab'.index(row.nearer)]} is nearer to the truth{by}."


def _amount(item: Quantity) -> str:
    return significant(item.error or 0.0, 2)

"""Results that are infinite, NaN or 0 where the truth is not: which op took the number out of its format's range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphlens.numerics.adjoint import depends_on
from graphlens.numerics.evidence import Spot, Told, evidence
from graphlens.numerics.study import Study, Target
from graphlens.numerics.suspects import Candidate
from graphlens.numerics.truths import Bools, is_finite, is_not_zero


@dataclass(frozen=True)
class Ruin:
    """Calls that ruin results altogether: per result what it is in place of the truth ("inf", "nan", "0")."""

    candidate: Candidate
    kind: str
    evidence: Told
    spoils: Mapping[str, str]


def ruins(study: Study, found: Sequence[Candidate]) -> list[Ruin]:
    """Per candidate that made a result infinite, NaN or 0 what was measured about it."""
    spoils: dict[int, dict[str, str]] = {}
    spots: dict[int, Spot] = {}
    for target in study.targets:
        word = _ruined(study, target)
        if word is None:
            continue
        for place, spot in _origins(study, found, target, word):
            spoils.setdefault(place, {})[target.label] = word
            spots.setdefault(place, spot)
    made = []
    for place, spot in sorted(spots.items()):
        told = evidence(study, found[place], spot)
        made.append(Ruin(found[place], str(told.pop("kind", found[place].kind)), told, spoils[place]))
    return made


def _ruined(study: Study, target: Target) -> str | None:
    """What a result is in the place of a finite truth, or of one that is not 0; None if nothing like it."""
    reference = study.reference
    assert reference is not None
    tensor = study.tape.tensors[target.value]
    if not tensor.numel():
        return None
    if not bool(tensor.isfinite().all()):
        finite = is_finite(reference, target.value)
        bad = ~tensor.isfinite().numpy()
        if finite is None or not finite[bad].all():
            return None
        return "nan" if bool(tensor.isnan().any()) else "inf"
    if bool((tensor == 0).all()):
        others = is_not_zero(reference, target.value)
        return "0" if others is not None and others.any() else None
    return None


def _origins(study: Study, found: Sequence[Candidate], target: Target, word: str) -> list[tuple[int, Spot]]:
    """The candidates that a ruined result comes from, each with the entry that went wrong first."""
    behind = depends_on(study.tape, [target.value])
    over = _spots(study, found, "overflow", behind)
    if word == "0":
        under = _spots(study, found, "underflow", behind)
        return _first(under or over)
    origins: dict[int, Spot] = {}
    for place, spot in over:
        zeros = _false_zeros(study, spot.call)
        for at, first in _first(_before(study, found, zeros)) or [(place, spot)]:
            origins.setdefault(at, first)
    return list(origins.items())


def _before(study: Study, found: Sequence[Candidate], zeros: Sequence[int]) -> list[tuple[int, Spot]]:
    """What made values 0 that should not be: a number that left the range, or else a difference of equal numbers."""
    if not zeros:
        return []
    behind = depends_on(study.tape, zeros)
    out = [spot for kind in ("underflow", "saturation", "overflow") for spot in _spots(study, found, kind, behind)]
    return sorted(out, key=lambda item: item[1].call) or _spots(study, found, "cancellation", behind)


def _spots(study: Study, found: Sequence[Candidate], kind: str, behind: set[int]) -> list[tuple[int, Spot]]:
    """Entries that went wrong altogether, in values that a result depends on."""
    spots = []
    for at, candidate in enumerate(found):
        if candidate.kind != kind:
            continue
        for call in candidate.calls:
            for value, mask in candidate.marks(call).items():
                if value not in behind:
                    continue
                wrong = _wrong(study, kind, value)
                bad = mask.numpy() & (wrong if wrong is not None else False)
                if bad.any():
                    place = np.unravel_index(int(bad.argmax()), bad.shape)
                    spots.append((at, Spot(call, value, tuple(int(part) for part in place))))
    return sorted(spots, key=lambda item: item[1].call)


def _wrong(study: Study, kind: str, value: int) -> Bools | None:
    """Of the marked entries of one kind those that are no approximation of the truth; None if that is not known."""
    assert study.reference is not None
    zero: Bools = (study.tape.tensors[value] == 0).numpy()
    if kind == "overflow":
        return is_finite(study.reference, value)
    if kind == "cancellation":
        others = is_not_zero(study.reference, value)
        return None if others is None else others & zero
    return zero if kind == "underflow" else np.ones_like(zero)


def _first(spots: Sequence[tuple[int, Spot]]) -> list[tuple[int, Spot]]:
    """The candidate of the earliest call; loops have it many times."""
    return list(spots[:1])


def _false_zeros(study: Study, call: int) -> list[int]:
    """What a call reads that is 0 somewhere, though the truth is not."""
    reference = study.reference
    assert reference is not None
    found = []
    for value in study.tape.calls[call].inputs:
        tensor = study.tape.tensors[value]
        if not tensor.dtype.is_floating_point:
            continue
        others = is_not_zero(reference, value)
        if others is not None and bool((others & (tensor == 0).numpy()).any()):
            found.append(value)
    return found

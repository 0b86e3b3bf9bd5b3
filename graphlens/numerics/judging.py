"""Which of the calls that may have lost digits did, and how much of a result's error that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphlens.accuracy import Attribution, Suspect
from graphlens.analyses.rounding.matters import FEW, is_lost
from graphlens.capture.tape import Tape
from graphlens.numerics.attribution import attribute
from graphlens.numerics.conditions import amplification
from graphlens.numerics.evidence import Spot, evidence
from graphlens.numerics.marks import Scan
from graphlens.numerics.quantities import quantity, unit_roundoff
from graphlens.numerics.ruin import Ruin, ruins
from graphlens.numerics.running import RunningSum
from graphlens.numerics.shadow import wide
from graphlens.numerics.study import Study, Target
from graphlens.numerics.suspects import THROUGH, Candidate

Doubles = npt.NDArray[np.float64]

MOST_ASKED = 8  # results; each costs a backward pass through the whole tape
LEAST_LOST = 1.0  # digits that an op must have lost to be blamed for those that a result lacks


class Asked(NamedTuple):
    """A result that has lost digits, and the size of its error."""

    target: Target
    label: str
    total: float
    relative: float


def judge(study: Study, found: Sequence[Candidate]) -> list[Suspect]:
    """The candidates that a result's loss of digits goes back to, with what was measured about each.

    For results that have the digits of their format nothing is computed at all.
    """
    if study.reference is None or not found:
        return []
    asked = results_asked(study)
    suspects = [suspect for candidate in found if (suspect := _Trial(study, candidate).judged(asked)) is not None]
    suspects = _told_once(suspects, found[0].scan)
    for ruin in ruins(study, found):
        suspects = _with_ruin(suspects, ruin)
    return [suspect for suspect in suspects if suspect.kind != "cast" or _is_largest(study, suspect, asked)]


def results_asked(study: Study) -> list[Asked]:
    """The results that have lost digits: outputs and the loss, then the gradients that are most off."""
    found = []
    for target in study.targets:
        item = quantity(study, target)
        if item.error is None or not math.isfinite(item.error) or not item.norm or not item.truth or item.is_zero:
            continue
        if is_lost(item.error / item.truth, unit_roundoff(study.tape.tensors[target.value].dtype)):
            found.append(Asked(target, item.label, item.norm, item.error / item.truth))
    found.sort(key=lambda one: (one.target.kind == "gradient", -one.relative))
    return found[:MOST_ASKED]


@dataclass
class _Trial:
    """One candidate and the study that it is judged in."""

    study: Study
    candidate: Candidate
    masks: dict[int, Doubles] = field(default_factory=dict)  # per value a one for every suspected entry
    owner: dict[int, int] = field(default_factory=dict)  # per value its call

    def judged(self, asked: Sequence[Asked]) -> Suspect | None:
        """The suspect, if a share of a result's error goes back to it and the op's own digits are gone."""
        if not asked or self.candidate.kind == "overflow":
            return None
        for place in self.candidate.calls:
            for value, mask in self.candidate.marks(place).items():
                self.masks[value], self.owner[value] = mask.double().numpy(), place
        is_through = self.candidate.kind in THROUGH
        share_of = self._through if is_through else self._made
        shares: dict[str, float] = {}
        worst: tuple[float, Asked, Spot] | None = None
        for one in asked:
            terms = share_of(one)
            share = math.fsum(float(term.sum()) for term in terms.values()) / one.total
            if not math.isfinite(share):
                continue
            shares[one.label] = share
            if abs(share) >= FEW and (worst is None or abs(share) > worst[0]):
                worst = abs(share), one, _largest(terms, self.owner)
        if worst is None:
            return None
        told = evidence(self.study, self.candidate, worst[2])
        told["amplification"] = self._amplification(worst[1], worst[2].value)
        lost = told.get("digits_lost")
        if is_through and not (isinstance(lost, float) and lost >= LEAST_LOST):
            return None
        made = {one.label: part for one in asked if (part := self._made_share(one)) is not None}
        return Suspect(
            str(told.pop("kind", self.candidate.kind)), tuple(self.candidate.calls), told,
            shares if is_through else {}, made if is_through else shares,
        )  # fmt: skip

    def _amplification(self, one: Asked, value: int) -> float | None:
        """By how much a relative error of a value may come out larger in a result, along the result's own error."""
        result = wide(self.study.tape.tensors[one.target.value]).numpy()
        given = wide(self.study.tape.tensors[value]).numpy()
        adjoint = self.study.suspected_adjoint(one.target)[value]
        found = amplification(adjoint, given, float(np.linalg.norm(result.ravel())))
        return found if math.isfinite(found) else None

    def _through(self, one: Asked) -> Mapping[int, Doubles]:
        """Per suspected entry its error times what the result makes of it, by ways that pass no later one."""
        adjoint = self.study.suspected_adjoint(one.target)
        known = {value: error for value in self.masks if (error := self.study.error(value)) is not None}
        rough = {value: adjoint[value] * self.masks[value] for value in known if value in adjoint}
        if math.fsum(float(np.abs(part * known[value]).sum()) for value, part in rough.items()) < FEW * one.total:
            return {}
        if len(self.masks) > 1 and _depend(self.study.tape, self.candidate.calls):
            _, weights, _ = self.study.along_error(one.target)
            rough = dict(self.study.sensitivities.past(one.target.value, weights, self.masks))
        return {
            value: np.where(part != 0, part * known[value], 0.0) if value in known else np.where(part != 0, np.nan, 0.0)
            for value, part in rough.items()
        }

    def _made(self, one: Asked) -> Mapping[int, Doubles]:
        """Per suspected entry the rounding of its own op times what the result makes of it."""
        return self._own(one, self.masks.get)

    def _made_share(self, one: Asked) -> float | None:
        """What the candidate's calls made of the error themselves, of which all entries count."""
        terms = self._own(one, lambda _: np.ones(()))
        share = math.fsum(float(term.sum()) for term in terms.values()) / one.total
        return share if math.isfinite(share) else None

    def _own(self, one: Asked, mask_of: Callable[[int], Doubles | None]) -> Mapping[int, Doubles]:
        adjoint = self.study.suspected_adjoint(one.target)
        found = {}
        for place in self.candidate.calls:
            local = self.study.local[place]
            for position, value in enumerate(self.study.tape.calls[place].outputs):
                if value is None or value not in adjoint:
                    continue
                mask = mask_of(value)
                if mask is None:
                    continue
                part = adjoint[value] * mask
                error = None if local is None else local[position]
                with np.errstate(invalid="ignore"):  # an infinite weight and no error: no number, as in `attribute`
                    found[value] = np.where(part != 0, part * (np.nan if error is None else error), 0.0)
        return found


def _told_once(suspects: Sequence[Suspect], scan: Scan) -> list[Suspect]:
    """Without the sums of which a single addition tells as much, and without the additions that tell less."""
    dropped: set[int] = set()
    for at, whole in enumerate(suspects):
        running = _running_sum(whole, scan)
        if running is None:
            continue
        single = [
            number for number, one in enumerate(suspects)
            if one.kind == whole.kind and "additions" not in one.evidence and one.evidence["worst_op"] in running.calls
        ]  # fmt: skip
        if any(_digits_lost(suspects[number]) > _digits_lost(whole) - LEAST_LOST for number in single):
            dropped.add(at)
        else:
            dropped.update(number for number in single if suspects[number].shares.keys() <= whole.shares.keys())
    return [suspect for at, suspect in enumerate(suspects) if at not in dropped]


def _running_sum(suspect: Suspect, scan: Scan) -> RunningSum | None:
    """The sum added up term by term that a suspect is, if it is one."""
    op = suspect.evidence["worst_op"] if "additions" in suspect.evidence else None
    made = scan.tape.calls[op].outputs[0] if isinstance(op, int) else None
    return None if made is None else scan.running[made]


def _digits_lost(suspect: Suspect) -> float:
    lost = suspect.evidence.get("digits_lost")
    return lost if isinstance(lost, float) else 0.0


def _largest(terms: Mapping[int, Doubles], owner: Mapping[int, int]) -> Spot:
    """The entry with the largest contribution."""
    value = max(terms, key=lambda number: float(np.abs(terms[number]).max(initial=0.0)))
    place = np.unravel_index(int(np.abs(terms[value]).argmax()), terms[value].shape)
    return Spot(owner[value], value, tuple(int(part) for part in place))


def _depend(tape: Tape, calls: Sequence[int]) -> bool:
    """Whether one of the calls reads what another one made, directly or not."""
    members, reached = set(calls), set[int]()
    for place in range(calls[0], calls[-1] + 1):
        call = tape.calls[place]
        follows = not reached.isdisjoint(call.inputs)
        if follows and place in members:
            return True
        if follows or place in members:
            reached.update(value for value in call.outputs if value is not None)
    return False


def _with_ruin(suspects: Sequence[Suspect], ruin: Ruin) -> list[Suspect]:
    """The suspects with what one of them spoils altogether, or with another one that does."""
    calls = tuple(ruin.candidate.calls)
    found, met = [], False
    for suspect in suspects:
        if suspect.ops == calls and suspect.kind == ruin.kind:
            suspect = replace(suspect, evidence={**suspect.evidence, "spoils": ruin.spoils})
            met = True
        found.append(suspect)
    if not met:
        found.append(Suspect(ruin.kind, calls, {**ruin.evidence, "spoils": ruin.spoils}))
    return found


def _is_largest(study: Study, suspect: Suspect, asked: Sequence[Asked]) -> bool:
    """Whether in one of the results no other op on any one line made more of the error than these casts."""
    graph = study.graph
    for one in asked:
        if abs(suspect.made.get(one.label, 0.0)) < FEW:
            continue
        terms: Attribution = attribute(study, one.target)
        groups: dict[tuple[object, ...], float] = {}
        own = set(suspect.ops)
        for place in np.flatnonzero(np.nan_to_num(terms.contributions)).tolist():
            op = study.ops[place]
            source = None if op.node is None else graph.nodes[op.node].source
            key = ("these",) if place in own else (op.name, op.backward, source)
            groups[key] = groups.get(key, 0.0) + float(terms.contributions[place])
        if groups and max(groups, key=lambda key: abs(groups[key])) == ("these",):
            return True
    return False

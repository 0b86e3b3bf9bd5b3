"""Which reference a run is held against: exact arithmetic, a run in float64, or none but samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch

from graphlens.analyses.findings import listed
from graphlens.capture.tape import Tape
from graphlens.capture.timing import Progress
from graphlens.errors import TargetError
from graphlens.numerics.adjoint import depends_on
from graphlens.numerics.exact import Exact, replay
from graphlens.numerics.reference import ExactReference, Reference, ShadowReference
from graphlens.numerics.shadow import WIDE, in_float64, is_number, too_large
from graphlens.numerics.study import Target

METHODS = ("auto", "exact", "float64", "sample")
# Faster than any replay was: what would take longer than the time allowed even so is not begun.
_ENTRIES_A_SECOND = 400_000


class Choice(NamedTuple):
    """A reference, whether single ops are to be measured exactly too, and what could not be had and why.

    `reference` is None where nothing is known of the truth, and runs that are rounded at random tell
    what can be told.
    """

    reference: Reference | None
    exactly: bool
    notes: tuple[str, ...]


def best_reference(
    tape: Tape, targets: Sequence[Target], wanted: Collection[int] = (), method: str = "auto", seconds: float = 60.0,
    progress: Progress = lambda _: None,
) -> Choice:  # fmt: skip
    """The reference for some results of a run.

    `auto` takes exact arithmetic for results in float64, a shadow run in float64 for those in narrower
    formats. Where a method tells nothing of any target the next one is used, and the notes say why;
    of a target that it does not know alone, they say so.

    Args:
        wanted: other values that are going to be asked for.
        method: one of `METHODS`.
        seconds: how long an exact replay may take.

    Raises:
        TargetError: there is no such method.
    """
    if method not in METHODS:
        raise TargetError(f"there is no reference {method!r}; there are {', '.join(METHODS)}")
    needed = depends_on(tape, [target.value for target in targets])
    is_narrow = any(is_number(tape.tensors[value]) and not _is_wide(tape.tensors[value]) for value in needed)
    notes = [_opaque_note(tape)] if tape.opaque else []
    # Of a result in float64 a run in float64 tells nothing, though a narrower constant may be among what made it.
    tells = is_narrow and not any(_is_wide(tape.tensors[target.value]) for target in targets)
    chosen = ("float64" if tells else "exact") if method == "auto" else method
    if chosen == "exact":
        progress("replaying the run in exact arithmetic")
        exact, why = exact_reference(tape, targets, wanted, seconds)
        if exact is not None:
            return Choice(exact, True, _sentences(*notes, *why))
        chosen = "float64" if is_narrow else "sample"
        notes += [f"{why[0]}; {_INSTEAD[chosen]}"]
    if chosen == "float64" and not is_narrow:
        notes.append(f"the run is in float64 itself: another one in float64 shows nothing; {_INSTEAD['sample']}")
    elif chosen == "float64":
        progress("running in float64 beside it")
        reference, why = _shadow(tape, targets, wanted)
        if reference is not None:
            return Choice(reference, False, _sentences(*notes, *why))
        notes += [f"{why[0]}; {_INSTEAD['sample']}"]
    # A run in float64 has no wider one to measure its ops by.
    return Choice(None, not is_narrow, _sentences(*notes))


def _sentences(*notes: str) -> tuple[str, ...]:
    return tuple(f"{note[0].upper()}{note[1:]}." for note in notes)


_INSTEAD = {
    "float64": "a run in float64 is the reference instead",
    "sample": "runs that are rounded at random are used instead",
}


def _is_wide(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (WIDE, torch.complex128)


def exact_reference(
    tape: Tape, targets: Sequence[Target], wanted: Collection[int] = (), seconds: float = 60.0
) -> tuple[ExactReference | None, list[str]]:
    """A replay in exact arithmetic that knows at least one target, with what it does not know; or why there is none."""
    needed = depends_on(tape, [target.value for target in targets])
    entries = sum(tape.tensors[value].numel() for value in needed if is_number(tape.tensors[value]))
    if entries > _ENTRIES_A_SECOND * seconds:
        much = f"the run makes {entries:,} numbers, too many for the time limit of {seconds:g} s"
        return None, [f"no exact reference: {much}"]
    found = replay(tape, wanted={*(target.value for target in targets), *wanted}, seconds=seconds)
    unknown = [target for target in targets if target.value in found.unknown]
    why = [_late(found, seconds)] if found.out_of_time and unknown else []
    if found.uncovered:
        why.append(f"exact arithmetic does not cover {_calls(found.uncovered)}")
    if unknown and len(unknown) == len(targets):
        return None, [f"no exact reference: {' and '.join(why) or 'no result is a finite number'}"]
    notes = []
    if unknown:
        names = listed(target.name for target in unknown)
        notes.append(f"the true value of {names} is not known: {' and '.join(why) or 'not finite'}")
    if not found.is_tight:
        radius = f"{found.relative_radius:.1e}" if math.isfinite(found.relative_radius) else "more than 1"
        notes.append(f"the true values are enclosed to a relative radius of {radius}, at {found.precision:,} bits")
    return ExactReference(tape, found), notes


def _late(found: Exact, seconds: float) -> str:
    """Why a replay was broken off."""
    if found.too_long is None:
        return f"not within the time limit of {seconds:g} s"
    op, needed = found.too_long
    needs = f"{needed:,.{0 if needed >= 10 else 1}f} s"
    return f"not within the time limit of {seconds:g} s, as {op} would take about {needs}"


def _shadow(
    tape: Tape, targets: Sequence[Target], wanted: Collection[int]
) -> tuple[ShadowReference | None, list[str]]:
    """A shadow run that knows at least one target, with what it does not know; or why there is none."""
    kept = {*(target.value for target in targets), *wanted}
    lacks = too_large(tape, kept)
    if lacks:
        return None, [f"no reference in float64: its values would take {lacks}"]
    shadow = in_float64(tape, wanted=kept)
    unknown = [target for target in targets if target.value in shadow.tainted]
    why = f"float64 does not cover {_calls(shadow.uncovered)}"
    if unknown and len(unknown) == len(targets):
        return None, [f"no reference in float64: {why}"]
    notes = [f"the true value of {listed(target.name for target in unknown)} is not known: {why}"] if unknown else []
    return ShadowReference(tape, shadow), notes


def _opaque_note(tape: Tape) -> str:
    return f"what {_calls(tape.opaque)} wrote is taken as the run had it"


def _calls(counts: Mapping[str, int]) -> str:
    """ "fft_r2c (2 calls) and igamma (1 call)"."""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return listed(
        f"{name.removeprefix('aten.').removesuffix('.default')} ({count:,} {'call' if count == 1 else 'calls'})"
        for name, count in most_first
    )

"""How the rounding error grows along a loop, and how much of it is the same error again in every round."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from graphlens.accuracy import LoopErrors, Split
from graphlens.capture.tape import Tape
from graphlens.numerics.loops import Loop
from graphlens.numerics.quantities import unit_roundoff
from graphlens.numerics.splitting import LoopSweep, OutOfTime, known_error
from graphlens.numerics.study import Study, euclidean
from graphlens.numerics.tangents import NoDerivative

Doubles = npt.NDArray[np.float64]


def loop_errors(study: Study, loops: Sequence[Loop], seconds: float = 30.0) -> tuple[list[LoopErrors], list[str]]:
    """The errors along all loops, and what could not be found out about them.

    The reference of the study has to know the values of `Loop.wanted`.

    Args:
        seconds: what propagating errors may take, for all loops together.
    """
    stop_at = time.perf_counter() + seconds
    found, notes = [], []
    for loop in loops:
        split: Split | None = None
        where = f"the {'backward' if loop.backward else 'forward'} pass of a loop of {len(loop.rounds):,} rounds"
        try:
            split = LoopSweep(study, loop, stop_at).split()
        except NoDerivative as error:
            notes.append(f"Where the error in {where} comes from is not known: {error} has no forward derivative.")
        except OutOfTime:
            notes.append(f"Where the error in {where} comes from was not found out in {seconds:g} s.")
        found.append(_errors(study, loop, split))
    return found, notes


def _errors(study: Study, loop: Loop, split: Split | None) -> LoopErrors:
    tensors = study.tape.tensors
    made_by = study.made_by
    sizes = [_norm([tensors[value].detach().double().numpy() for value in values]) for values in loop.carried]
    known = study.reference is not None
    return LoopErrors(
        loop.group,
        loop.backward,
        tuple(dict.fromkeys(place for value in loop.carried[-1] if (place := made_by[value]) is not None)),
        max(unit_roundoff(tensors[value].dtype) for value in loop.carried[-1]),
        np.array(sizes),
        np.array([_norm([known_error(study, value) for value in values]) for values in loop.carried])
        if known
        else None,
        np.array([_norm([_truth(study, value) for value in values]) for values in loop.carried]) if known else None,
        split,
        find_cycle(study.tape, loop),
    )


def _truth(study: Study, value: int) -> Doubles | None:
    known = study.reference is not None and known_error(study, value) is not None
    return study.reference.truth(value) if known and study.reference is not None else None


def _norm(parts: Sequence[Doubles | None]) -> float:
    """The Euclidean norm of several arrays together; NaN if one is not known."""
    whole = 0.0
    for part in parts:
        if part is None:
            return float("nan")
        whole = float(np.hypot(whole, euclidean(part)))
    return whole


def find_cycle(tape: Tape, loop: Loop) -> tuple[int, int] | None:
    """From which round on the floats repeat to the last bit, and after how many rounds.

    It is a cycle only if it was run through twice, and lasts to the end.
    """
    single = [_digest(tape, values) for values in loop.carried]
    # Where a round reads several earlier ones, all of these have to come again.
    width = max(loop.lags)
    states = [tuple(single[end - width : end]) for end in range(width, len(single) + 1)]
    last = len(states) - 1
    earlier = next((number for number in range(last - 1, -1, -1) if states[number] == states[last]), None)
    if earlier is None:
        return None
    period = last - earlier
    start = earlier
    while start > 0 and states[start - 1] == states[start - 1 + period]:
        start -= 1
    return (start + width - 1, period) if last - start >= 2 * period else None


def _digest(tape: Tape, values: Sequence[int]) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for value in values:
        dense: torch.Tensor = tape.tensors[value].detach().contiguous().reshape(-1)
        content.update(dense.view(torch.uint8).numpy().tobytes())
    return content.digest()

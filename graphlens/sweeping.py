"""Measure one point of a sweep: the targets at one setting of their options, here or in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphlens.analyses.exactness import Exactness, exactness_of
from graphlens.analyses.sweep_points import Point, point_of, to_plain
from graphlens.capture.program import Program
from graphlens.capture.resolve import resolve, user_code
from graphlens.capture.timing import Timings, time_programs
from graphlens.capture.trace import observe
from graphlens.errors import GraphlensError
from graphlens.limits import Truths
from graphlens.numerics.rounding import LOOPS, measure_accuracy
from graphlens.records import RunRecord
from graphlens.targets import Target, parse_options, parse_target

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """One point to measure.

    Attributes:
        swept: the value of each swept option.
        targets: the target, and the one it is held against, if there is one.
        options: all options that each of them is called with.
        repeats: how many runs to time after the warm-up.
        truths: where true values come from, if errors are asked for.
    """

    swept: Mapping[str, Any]
    targets: tuple[Target, ...]
    options: tuple[Mapping[str, Any], ...]
    repeats: int
    truths: Truths | None = None


def build(target: Target, options: Mapping[str, Any]) -> Program:
    """The target's program. Random numbers start from seed 0, so that it repeats."""
    torch.manual_seed(0)
    return resolve(target, options)


def check(work: Work) -> bool:
    """Build a point's programs and drop them; whether doing so was cheap against running them.

    A factory of finished tensors computes all there is to compute when it is called.

    Raises:
        GraphlensError: a target cannot be built so.
    """
    programs = [build(target, options) for target, options in zip(work.targets, work.options, strict=True)]
    return all(program.times_forward for program in programs)


def measure(work: Work, progress: Progress = lambda _: None) -> Point:
    """Run the targets for their values one after the other, then time them in turns.

    What goes wrong is the point's `failure`: the other points of the sweep do not depend on it.
    """
    try:
        return _measured(work, progress)
    except Exception as error:
        return Point(dict(work.swept), failure=reason(error))


def add_times(point: Point, work: Work, progress: Progress = lambda _: None) -> Point:
    """A point that was measured without times, with them."""
    try:
        programs = [build(target, options) for target, options in zip(work.targets, work.options, strict=True)]
        timings = _timed(work, programs, progress)
    except Exception as error:
        return Point(dict(work.swept), failure=reason(error))
    sides = tuple(
        replace(side, forward=timing.forward, backward=timing.backward)
        for side, timing in zip(point.sides, timings, strict=True)
    )
    return replace(point, sides=sides, repeats=work.repeats, is_kept=False)


def reason(error: Exception) -> str:
    """Why a point has no numbers, in one line."""
    if isinstance(error, GraphlensError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "out of memory"
    said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return f"{said} (within graphlens, not in the target; please report it)"


def _measured(work: Work, progress: Progress) -> Point:
    programs, runs = [], []
    for target, options in zip(work.targets, work.options, strict=True):
        # Run right after it is built, so that equal programs meet equal random numbers.
        programs.append(build(target, options))
        with user_code(target, "the backward pass"):
            runs.append(observe(programs[-1], progress=progress).record())
    exact = [_exactness(work, *pair, progress) for pair in zip(work.targets, programs, runs, strict=True)]
    timings = _timed(work, programs, progress)
    runs = [
        replace(run, forward=timing.forward, backward=timing.backward)
        for run, timing in zip(runs, timings, strict=True)
    ]
    point = point_of(work.swept, runs, [program.meta["options"] for program in programs])  # type: ignore[misc]
    sides = tuple(replace(side, exactness=found) for side, found in zip(point.sides, exact, strict=True))
    return replace(point, sides=sides, repeats=work.repeats)


def _exactness(
    work: Work, target: Target, program: Program, run: RunRecord, progress: Progress
) -> Exactness | None:  # fmt: skip
    """How exact one target is, if that is asked for and it has a backward graph."""
    if work.truths is None or run.graph is None:
        return None
    with user_code(target, "a repeated run"):
        torch.manual_seed(0)
        found = measure_accuracy(
            program, run.graph, method=work.truths.method, seconds=work.truths.seconds, parts=(LOOPS,),
            progress=progress,
        )  # fmt: skip
    return exactness_of(found)


def _timed(work: Work, programs: Sequence[Program], progress: Progress) -> list[Timings]:
    with user_code(work.targets[-1], "a repeated run"):
        return time_programs(programs, work.repeats, progress=progress)


# In a process of its own


def request(work: Work, threads: int) -> str:
    """What `main` reads on its standard input."""
    sides = [
        {"target": target.text, "settings": [f"{key}={value!r}" for key, value in options.items()]}
        for target, options in zip(work.targets, work.options, strict=True)
    ]
    asked = {"sides": sides, "repeats": work.repeats, "truths": work.truths, "threads": threads}
    return json.dumps(asked)


def main() -> None:
    """Measure the point that standard input asks for; the answer goes to standard output."""
    asked = json.load(sys.stdin)
    # Whatever else the user's code writes to standard output, from C too, goes to standard error.
    answer = os.dup(1)
    os.dup2(2, 1)
    if torch.get_num_threads() != asked["threads"]:
        torch.set_num_threads(asked["threads"])
    targets = tuple(parse_target(side["target"]) for side in asked["sides"])
    options = tuple(parse_options(side["settings"]) for side in asked["sides"])
    truths = None if asked["truths"] is None else Truths(*asked["truths"])
    point = measure(Work({}, targets, options, asked["repeats"], truths))
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump(to_plain(point), stream)

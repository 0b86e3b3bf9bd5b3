"""Time the passes of programs against the clock, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from graphlens.capture.program import Pass, Program, cleared_gradients, run_backward, wanted_leaves
from graphlens.capture.release import drain
from graphlens.collector import paused_collector
from graphlens.records import Timing

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Timings:
    """Wall-clock time of the forward pass and of the backward pass; None where not measured."""

    forward: Timing | None
    backward: Timing | None


def time_programs(
    programs: Sequence[Program],
    repeats: int,
    *,
    backward: bool = True,
    is_warm: bool = False,
    progress: Progress = lambda _: None,
) -> list[Timings]:
    """Run each program once to warm up, then `repeats` times against the clock.

    Several programs take turns, so that a machine that slows down meanwhile slows down all.
    `is_warm` says that each has just been run, and that `leaves` names all that receive gradients.
    """
    clocks = [_Clock(program, backward=backward, knows_leaves=is_warm) for program in programs]
    for repeat in range(1 if is_warm else 0, repeats + 1 if repeats else 0):
        for clock in clocks:
            progress(f"{clock.program.name}: timing, run {repeat} of {repeats}")
            if repeat and len(clocks) > 1 and clock.last < _SHORT:
                clock.run(counts=False)  # the other program has left the caches cold
            clock.run(counts=repeat > 0)
    return [clock.timings() for clock in clocks]


_SHORT = 0.05  # seconds: a pass that is slowed down noticeably by cold caches


class _Clock:
    """Runs one program again and again, and keeps the seconds."""

    def __init__(self, program: Program, *, backward: bool, knows_leaves: bool) -> None:
        self.program = program
        self.backward = backward
        self.leaves: Mapping[str, torch.Tensor] | None = program.leaves if knows_leaves else None
        self.last = 0.0  # seconds of the latest forward pass
        self.seconds: dict[str, list[float]] = {"forward": [], "backward": []}
        self.busy: dict[str, list[float]] = {"forward": [], "backward": []}  # seconds of the processor

    def run(self, *, counts: bool) -> None:
        """Run both passes once."""
        # As timeit does: a collection that happens to fall into a run belongs to no run.
        with paused_collector():
            _synchronize()
            began = time.process_time()
            start = time.perf_counter()
            made = self.program.forward()
            _synchronize()
            self.last = time.perf_counter() - start
            busy = time.process_time() - began
            if counts:
                self.seconds["forward"].append(self.last)
                self.busy["forward"].append(busy)
            if self.backward and made.roots:
                backward, busy = self._time_backward(made)
                if counts:
                    self.seconds["backward"].append(backward)
                    self.busy["backward"].append(busy)
            del made
            drain()

    def _time_backward(self, made: Pass) -> tuple[float, float]:
        """Seconds of the backward pass, by the clock and of the processor."""
        # A walk leaves Python objects on the nodes: a program whose leaves stay the same is walked
        # in the warm-up alone.
        leaves = self.leaves
        if leaves is None or not self.program.times_forward:
            leaves = self.leaves = wanted_leaves(self.program, made)
        with cleared_gradients(leaves.values()):
            began = time.process_time()
            start = time.perf_counter()
            run_backward(made.roots, leaves)
            _synchronize()
            return time.perf_counter() - start, time.process_time() - began

    def timings(self) -> Timings:
        """Medians and ranges; a forward pass that is more than that was not measured."""
        forward = self.seconds["forward"] if self.program.times_forward else []
        return Timings(timing(forward, self.busy["forward"]), timing(self.seconds["backward"], self.busy["backward"]))


def timing(seconds: Sequence[float], busy: Sequence[float] = ()) -> Timing | None:
    """Median and range of the measured seconds; None where nothing was measured.

    Args:
        busy: the processor's seconds in the same runs, if they were measured.
    """
    if not seconds:
        return None
    share = sum(busy) / sum(seconds) if busy and sum(seconds) else None
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds), share)


def _synchronize() -> None:
    """Wait for work that an accelerator still has in its queue."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()

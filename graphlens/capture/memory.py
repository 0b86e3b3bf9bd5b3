"""Which of the storages that a graph keeps outlive it, and what a process grows by."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import statistics
import time

import torch

from graphlens.analyses.memory import Growth
from graphlens.capture.backward import walk_again
from graphlens.capture.growing import resident
from graphlens.capture.ledger import Ledger
from graphlens.capture.program import Pass, Program
from graphlens.capture.release import drain
from graphlens.capture.room import room
from graphlens.collector import paused_collector
from graphlens.errors import GraphlensError
from graphlens.graph import GradGraph
from graphlens.targets import parse_options, parse_target

_ENOUGH = 4 << 20  # bytes that a round must grow by, so that pages and arenas do not matter
_MOST_PASSES = 4096
_LONG = 1.0  # seconds of a round
_FEW_ROUNDS = 3
_ROUNDS = 5
_ALIKE = 0.01  # rounds that differ by less need no more of them


def persistent_storages(program: Program, graph: GradGraph) -> frozenset[int]:
    """The storages, by their number in the graph's ledger, that two forward passes share.

    Parameters, inputs, buffers and whatever else the program keeps: they are in memory whether a
    graph keeps them or not.

    Raises:
        MeasureError: the program makes another graph every time.
    """
    with paused_collector():
        # Both are alive at once: a storage of the one cannot stand where one of the other stood.
        passes = [program.forward(), program.forward()]
        first, second = (_storages(program, made, graph) for made in passes)
        del passes
        drain()
    return frozenset(number for key, number in first.items() if key in second)


def _storages(program: Program, made: Pass, graph: GradGraph) -> dict[int, int]:
    """Per storage its number, given out in the order in which a capture gives them."""
    found = walk_again(program, made, graph)
    ledger = Ledger(())
    for number, live in enumerate(found.functions, len(found.leaves)):
        ledger.read(number, live, ledger.node_type(live))
    return ledger.storages


def grow_answer(target: str, settings: tuple[str, ...]) -> str:
    """What the fresh process answers: the fields of a `Growth` as JSON."""
    from graphlens.capture.resolve import resolve

    torch.manual_seed(0)
    try:
        growth = grow(resolve(parse_target(target), parse_options(settings)))
    except (GraphlensError, MemoryError) as error:
        growth = Growth(reason=str(error) or type(error).__name__)
    return json.dumps(growth.__dict__)


def grow(program: Program) -> Growth:
    """Run the forward pass and keep its graph, until it is known what one takes."""
    kept: list[torch.Tensor] = []

    def gain(passes: int) -> int:
        before = resident() or 0
        for _ in range(passes):
            kept.extend(program.forward().roots.values())
        _settle()
        return (resident() or 0) - before

    gc.collect()
    gc.freeze()  # what was imported need not be searched again for each round
    _settle()
    # The first pass loads kernels and starts threads, and leaves free memory for the others.
    largest = gain(1)
    if not kept:
        return Growth(reason="there is no backward graph")
    if not _has_room(2 * largest):
        return Growth(reason="there is no room for a second graph beside the first")
    passes = 1
    while True:
        start = time.perf_counter()
        grown = gain(passes)
        if grown >= _ENOUGH or time.perf_counter() - start > _LONG or passes >= _MOST_PASSES:
            break
        passes *= 2
    rounds = [grown / passes]
    while len(rounds) < _ROUNDS and _has_room(2 * grown):
        if len(rounds) >= _FEW_ROUNDS and max(rounds) - min(rounds) <= _ALIKE * max(rounds):
            break
        rounds.append(gain(passes) / passes)
    return Growth(
        max(0.0, statistics.median(rounds)), min(rounds), max(rounds), len(rounds), passes, not program.times_forward
    )


def _settle() -> None:
    """Give memory that has been freed back to the system, so that it does not count."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)


def _has_room(size: int) -> bool:
    free = room()
    return free is not None and free > 2 * size

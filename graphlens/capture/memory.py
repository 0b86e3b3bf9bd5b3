"""Which of the storages that a graph keeps outlive it, and what a process grows by."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import graphlens
from graphlens.analyses.memory import Growth
from graphlens.capture.backward import walk_again
from graphlens.capture.ledger import Ledger
from graphlens.capture.program import Pass, Program
from graphlens.capture.release import drain
from graphlens.collector import paused_collector
from graphlens.errors import GraphlensError
from graphlens.graph import GradGraph
from graphlens.targets import parse_options, parse_target

_ENOUGH = 8 << 20  # bytes that a round must grow by, so that pages and arenas do not matter
_MOST_PASSES = 4096
_LONG = 1.0  # seconds of a round
_ROUNDS = 5
_TIMEOUT = 600.0


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


def measure_growth(target: str, settings: tuple[str, ...]) -> Growth:
    """Run a target's forward pass again and again in a fresh process that keeps every graph.

    In a process that has already run something, freed memory is used again, and nothing grows.
    """
    if _resident() is None:
        return Growth(reason="this system has no /proc")
    root = str(Path(graphlens.__file__).parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "from graphlens.capture.memory import grow_answer\n"
        "real = sys.stdout; sys.stdout = sys.stderr\n"
        f"real.write(grow_answer({target!r}, {settings!r})); real.flush()\n"
        "import os; os._exit(0)"  # freeing a thousand graphs would take a while, for nothing
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return Growth(reason=f"the process took longer than {_TIMEOUT:.0f} s")
    except OSError as error:
        return Growth(reason=f"no process could be started: {error.strerror or error}")
    try:
        return Growth(**json.loads(done.stdout))
    except (ValueError, TypeError):
        return Growth(reason=f"the process ended with code {done.returncode}")


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
        before = _resident() or 0
        for _ in range(passes):
            kept.extend(program.forward().roots.values())
        _settle()
        return (_resident() or 0) - before

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
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return False
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return found is not None and int(found[1]) * 1024 > 2 * size


def _resident() -> int | None:
    """Bytes of this process in memory; None where the system does not tell."""
    try:
        # The sum in statm may lag behind by some pages per processor; this one is counted when asked for.
        found = re.search(r"^Rss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return None

"""Run points of a sweep in processes of their own, several at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from graphlens.analyses.sweep_points import Point, from_plain

if TYPE_CHECKING:
    from graphlens.sweeping import Work


def measure_all(works: Sequence[Work], jobs: int, threads: int) -> Generator[tuple[int, Point], None, None]:
    """Measure the points, so many at a time; each comes with its place in `works` as soon as it is there.

    Whoever stops asking, or is interrupted, ends the processes that are still running.
    """
    running: set[subprocess.Popen[bytes]] = set()
    stopped: list[bool] = []
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = {pool.submit(_run, work, threads, running, stopped): k for k, work in enumerate(works)}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        stopped.append(True)
        for process in list(running):
            process.kill()
        pool.shutdown(cancel_futures=True)


def _run(work: Work, threads: int, running: set[subprocess.Popen[bytes]], stopped: list[bool]) -> Point:
    from graphlens.sweeping import request

    # The same places to import from as here, and no others.
    code = f"import sys; sys.path[:] = {sys.path!r}; from graphlens.sweeping import main; main()"
    # Ctrl-C in the terminal reaches this process alone, which then ends the others.
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    running.add(process)
    try:
        if stopped:  # between the last look at `running` and now
            process.kill()
        answer, _ = process.communicate(request(work, threads).encode())
    finally:
        running.discard(process)
    if process.returncode == 0:
        return from_plain(work.swept, json.loads(answer))
    if process.returncode < 0:
        why = f"its process was ended by signal {-process.returncode}, as happens where memory runs out"
    else:
        why = f"its process ended with exit code {process.returncode}"
    return Point(dict(work.swept), failure=why)

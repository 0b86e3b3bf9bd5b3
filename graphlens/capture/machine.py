"""What this machine can do at best: a short calibration."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from graphlens.records import Machine

_SIDE = 768  # of the matrices that are multiplied
_COPIED = 1 << 26  # bytes: more than a cache holds
_RUNS = 15  # of which the best counts: others may use the machine meanwhile


@lru_cache(maxsize=8)
def calibrate(dtype: str, threads: int) -> Machine:
    """The best of a few products of large matrices, and of a few copies of a large array.

    Args:
        dtype: "float32" for instance; of types that the CPU cannot multiply well the float32 peak is taken.
        threads: torch's number of threads now; a part of the question, so that the answer is kept.
    """
    kind = getattr(torch, dtype, torch.float32)
    if kind not in (torch.float32, torch.float64):
        kind = torch.float32
    with torch.no_grad():
        left, right = torch.randn(_SIDE, _SIDE, dtype=kind), torch.randn(_SIDE, _SIDE, dtype=kind)
        source = torch.zeros(_COPIED // 4, dtype=torch.float32)
        target = torch.zeros_like(source)
        small = torch.ones(1)
        products = min(_seconds(lambda: torch.mm(left, right)) for _ in range(_RUNS))
        copies = min(_seconds(lambda: target.copy_(source)) for _ in range(_RUNS))
        calls = min(_seconds(lambda: [small.neg() for _ in range(1000)]) for _ in range(_RUNS))
    return Machine(2 * _SIDE**3 / products, 2 * _COPIED / copies, calls / 1000, threads)


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start

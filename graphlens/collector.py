"""Pausing Python's cyclic garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector(*, lasting: bool = False) -> Iterator[None]:
    """Pause the collector for the length of the block.

    A capture or a fold makes millions of small objects and no cycles; with the collector running
    each generation is scanned over and over, which makes a walk three to eight times slower.

    Args:
        lasting: the block makes objects that live on, and no user's code runs in it more than once. They
            then count as old at once; else the collector looks at each of them right after the block.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # To freeze and unfreeze moves all objects to the oldest generation without a look at them;
            # what somebody else has frozen stays so.
            if lasting and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextmanager
def rarer_collections() -> Iterator[None]:
    """Let Python's cyclic collector run less often for the length of the block.

    Records that pile up make it run, and each full run looks at everything that lives. It is not
    stopped, as user code runs inside: its cyclic garbage, tensors perhaps, must not pile up.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _RARE:
        gc.set_threshold(_RARE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


_RARE = 50_000  # new containers between two runs of the youngest generation

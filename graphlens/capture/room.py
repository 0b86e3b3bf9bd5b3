"""How much memory is free, so that a run that needs more is refused and not killed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_SHARE = 0.9  # of what is free: the rest is for the other programs of the machine
_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def room() -> int | None:
    """Bytes that may be taken; None where the system does not tell.

    What the kernel calls available, or what the control group that the process runs in leaves of its
    limit, whichever is less.
    """
    known = [size for size in (_available(), _left_in_group()) if size is not None]
    return int(_SHARE * min(known)) if known else None


def _available() -> int | None:
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", _SYSTEM.read_text())
        return None if found is None else int(found[1]) * 1024
    return None


def _left_in_group() -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        limit = int((_GROUP / "memory.max").read_text())
        cached = re.search(r"^inactive_file (\d+)", (_GROUP / "memory.stat").read_text(), re.MULTILINE)
        used = int((_GROUP / "memory.current").read_text()) - (0 if cached is None else int(cached[1]))
        return max(limit - used, 0)
    return None

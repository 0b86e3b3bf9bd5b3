"""What the boxes of a picture can be shaded by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphlens.analyses.scene import SceneBox


@dataclass(frozen=True)
class Heat:
    """A value of each box, None where none was measured; shares are shares of all `unit`."""

    value: Callable[[SceneBox], int | None]
    unit: str


HEATS: Mapping[str, Heat] = {
    "count": Heat(lambda box: box.nodes, "nodes"),
    "bytes": Heat(lambda box: box.storage_bytes, "saved bytes (storage)"),
    "time": Heat(lambda box: box.forward_ns, "forward time, measured once"),
}


def heat_step(value: int, most: int) -> int:
    """The shade of a box: 0 for nothing, 5 for the most."""
    share = value / most if most else 0.0
    # Rounded up, so that only nothing looks like nothing; but a share just above a fifth is a fifth.
    return max(math.ceil(round(share * 5, 1)), 1 if value else 0)

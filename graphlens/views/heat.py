"""Shades, and what stands beside them in words."""

from __future__ import annotations

import math

from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.scene import SceneBox
from graphlens.units import bytes_text, count_text, nodes_text, seconds_text, significant


def heat_step(value: float, most: float) -> int:
    """The shade of a box: 0 for nothing, 5 for the most."""
    share = value / most if most else 0.0
    # Rounded up, so that only nothing looks like nothing; but a share just above a fifth is a fifth.
    return max(math.ceil(round(share * 5, 1)), 1 if value else 0)


def amount_text(value: float, column: NodeColumn) -> str:
    """The value with its unit: "30,015 nodes", "2.80 MB", "12.3 ms", "3.21e-09 |ŷ − y|"."""
    if column.unit == "nodes":
        return nodes_text(round(value))
    if column.unit == "bytes":
        return bytes_text(round(value))
    if column.unit == "ns":
        return seconds_text(value / 1e9)
    return f"{significant(value, 3)} {column.unit}".rstrip()


def heat_legend(column: NodeColumn, whole: float, missing: bool) -> list[str]:
    """Lines that say what the shade and the percentage of a box mean.

    Args:
        whole: the sum over all boxes.
        missing: whether a box of which something could have been measured has no value.
    """
    shares = f"the stronger the orange, the larger the share of all {column.title}, in percent"
    lines = [f"{shares}; all: {amount_text(whole, column)}"]
    if missing:
        lines.append("boxes without a share and without orange were not measured")
    return lines


def cold_text(box: SceneBox) -> str:
    """How many nodes the share of a box leaves out, as they were not measured; nothing if none."""
    return f"{count_text(box.cold)} not measured" if box.heat is not None and box.cold else ""

"""Shades, and what stands beside them in words."""

from __future__ import annotations

import math

from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.scene import Scene, SceneBox, SceneFrame
from graphlens.units import bytes_text, count_text, nodes_text, percent_text, seconds_text, significant

_NOT_MEASURED = "Boxes without a share and without orange were not measured"


def heat_step(value: float, most: float) -> int:
    """The shade of a box: 0 for nothing, 5 for the most."""
    share = value / most if most else 0.0
    # Rounded up, so that only nothing looks like nothing; but a share just above a fifth is a fifth.
    return max(math.ceil(round(share * 5, 1)), 1 if value else 0)


def warmth(box: SceneBox, column: NodeColumn | None) -> float:
    """What the shade of a box goes by."""
    return box.heat or 0.0 if column is None or column.total is None else abs(box.net)


def share_text(item: SceneBox | SceneFrame, scene: Scene, whole: float) -> str:
    """ "47.7 %", or with its sign "100.1 % net"; nothing where there is nothing."""
    if not item.heat or scene.heat is None:
        return ""
    total = scene.heat.total
    if total is None:
        return percent_text(item.heat, whole)
    share = 100 * item.net / total
    return "< 0.1 % net" if abs(share) < 0.05 else f"{share:.1f} % net"


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
    if column.total is not None:
        lines = [f"In percent: {column.title}, with their signs; 100 % are {amount_text(column.total, column)}"]
        lines.append("The stronger the orange, the larger the sum of a box")
        return [*lines, _NOT_MEASURED] if missing else lines
    shares = f"The stronger the orange, the larger the share of all {column.title}, in percent"
    lines = [f"{shares}; all: {amount_text(whole, column)}"]
    if missing:
        lines.append(_NOT_MEASURED)
    return lines


def cold_text(box: SceneBox) -> str:
    """How many nodes the share of a box leaves out, as they were not measured; nothing if none."""
    return f"{count_text(box.cold)} not measured" if box.heat is not None and box.cold else ""

"""How a picture is to look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a scene is drawn; `theme` is "light", "dark" or "auto" (as the page around it).

    `lines` says whether the boxes name their line of code; `least` is the smallest type size, in points.
    """

    title: str = ""
    caption: str = ""
    direction: str = "forward"
    theme: str = "auto"
    lines: bool = False
    least: int = 9

"""Colours of the pictures: what torchviz's users know, in tones the colour-blind tell apart.

Hues after Okabe and Ito's palette. Meaning is never in the colour alone: leaves and outputs are
ellipses, repeats have frames, and every box says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Fill and line of each kind of box, and the colours of text, arrows, frames, and of paper where there is any."""

    paper: str
    text: str
    arrow: str
    carried: str
    boxes: Mapping[str, tuple[str, str]]
    frame: tuple[str, str]
    heat: tuple[str, ...]  # from none to most


LIGHT = Palette(
    paper="#ffffff",
    text="#1b1f23",
    arrow="#495057",
    carried="#9A6200",
    boxes={
        "function": ("#e9ecef", "#6c757d"),
        "custom": ("#efe5f3", "#7A4F8A"),
        "leaf": ("#cfe8f7", "#0072B2"),
        "output": ("#d7f0dd", "#00805C"),
        "closed": ("#fff3d9", "#B87500"),
        "middle": ("#fff3d9", "#B87500"),
    },
    frame=("#fff9ec", "#E69F00"),
    heat=("#ffffff", "#fdebd0", "#fbd3a1", "#f6b26b", "#ea8a3a", "#E06A10"),
)
DARK = Palette(
    paper="#0d1117",
    text="#f1f3f5",
    arrow="#adb5bd",
    carried="#F0B84A",
    boxes={
        "function": ("#343a40", "#868e96"),
        "custom": ("#43324b", "#C9A3D9"),
        "leaf": ("#123f5c", "#56B4E9"),
        "output": ("#0f4a38", "#2BC196"),
        "closed": ("#4d3a10", "#E69F00"),
        "middle": ("#4d3a10", "#E69F00"),
    },
    frame=("#2b2618", "#E69F00"),
    heat=("#212529", "#3a2a1e", "#573619", "#744015", "#934810", "#B34E00"),
)
MIDDLE_GREY = "#757b82"  # can be told from white and from black alike

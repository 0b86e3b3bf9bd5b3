"""Text in the HTML-like labels of DOT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

# Names of leaves are broken at dots into lines of about so many characters, and shortened beyond
# so many: an ellipse around one long line would make the picture several screens wide.
_LINE = 24
_MOST_OF_A_NAME = 96


def text(words: str) -> str:
    """Words of which nothing means anything to a layout program."""
    # dot would put names of its own in the place of \N and \G: an invisible joiner keeps the two apart.
    return escape(words, quote=True).replace("\\", "\\&#8288;").replace("  ", "&#160;&#160;")


def bold(words: str) -> str:
    """Words in bold type."""
    return f"<b>{text(words)}</b>"


def small(words: str) -> str:
    """Words in small type."""
    return f'<font point-size="9">{text(words)}</font>'


def label(lines: Sequence[str]) -> str:
    """Lines of markup as a label."""
    return f"<{'<br/>'.join(lines)}>"


def stack(cells: Sequence[tuple[str, str, str]]) -> str:
    """Boxes that touch, one above the other, as a label: markup, fill and line of each."""
    rows = "".join(f'<tr><td bgcolor="{fill}" color="{line}">{words}</td></tr>' for words, fill, line in cells)
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="3">{rows}</table>>'


def wrapped(name: str) -> list[str]:
    """A name in lines, broken after dots."""
    if len(name) > _MOST_OF_A_NAME:
        name = f"{name[: _MOST_OF_A_NAME // 2]}…{name[-_MOST_OF_A_NAME // 2 :]}"
    lines = [""]
    for piece in re.findall(r"[^.]*\.+|[^.]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > _LINE:
            lines.append("")
        lines[-1] += piece
    return lines

"""Text in the HTML-like labels of DOT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

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


def small(words: str, points: int = 9) -> str:
    """Words in small type."""
    return f'<font point-size="{points}">{text(words)}</font>'


def label(lines: Sequence[str]) -> str:
    """Lines of markup as a label."""
    return f"<{'<br/>'.join(lines)}>"


class Cell(NamedTuple):
    """Markup with its fill and line."""

    words: str
    fill: str
    line: str


def stack(rows: Sequence[tuple[Cell, Sequence[Cell]]]) -> str:
    """Boxes that touch, one above the other, each with those that stand to the right of it, as a label.

    If there are any to the right, the first and the last one in the row have the ports "top" and "end".
    """
    wide = any(beside for _, beside in rows)
    lines = []
    for number, (cell, beside) in enumerate(rows):
        span = f' rowspan="{len(beside)}"' if len(beside) > 1 else ""
        if wide and number in (0, len(rows) - 1):
            span += ' port="top"' if number == 0 else ' port="end"'
        blank = '<td border="0"></td>' if wide else ""
        others = [_cell(other, ' align="left" balign="left"') for other in beside] or [blank]
        lines.append(_cell(cell, span) + others[0])
        lines += others[1:]
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="3">{table}</table>>'


def _cell(cell: Cell, more: str) -> str:
    return f'<td bgcolor="{cell.fill}" color="{cell.line}"{more}>{cell.words}</td>'


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

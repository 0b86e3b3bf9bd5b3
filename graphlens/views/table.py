"""Tables and paragraphs as text, plain or in colour, never wider than asked."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def to_text(parts: Iterable[RenderableType], *, width: int = 80, colour: bool = False) -> str:
    """Render the parts one below the other; without `colour` the text holds no escape codes."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in stream.getvalue().split("\n"))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    total: Sequence[str] = (),
    texts: Collection[int] = (),
) -> Table:
    """A table without lines; the first `left` columns and those in `texts` are text, the others numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(header))
    for column, title in enumerate(header):
        if column < left or column in texts:
            # Only columns that may wrap give way where a table is too wide: numbers stay whole.
            made.add_column(Text(title), overflow="ellipsis")
        else:
            made.add_column(Text(title), justify="right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*map(Text, row))
    if total:
        made.add_row(*(Text(cell, style="bold") for cell in total))
    return made


def heading(left: str, right: str = "", *, width: int = 80) -> Text:
    """A bold line, with a plain remark at its right end where there is room."""
    gap = width - len(left) - len(right)
    if right and gap < 2:
        return Text.assemble((left, "bold"), "\n", right)
    return Text.assemble((left, "bold"), " " * gap if right else "", right)


_NUMBER_AND_UNIT = re.compile(r"\d (?:×|[kMGT]? ?FLOPs?|[kMGT]?B|[mµn]?s|%|ulp)(?!\w)")


def paragraph(text: str, *, width: int = 80, indent: str = "", first: str | None = None) -> Text:
    """Text broken into lines of at most `width`; `first` opens the first line instead of `indent`."""
    # A number and its unit stay on one line.
    lines = textwrap.wrap(
        _NUMBER_AND_UNIT.sub(lambda found: found[0].replace(" ", "\xa0"), text),
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=True,
        break_on_hyphens=False,
    )
    return Text("\n".join(lines).replace("\xa0", " "))

"""Tables and paragraphs as text, plain or in colour, never wider than asked."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
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
) -> RenderableType:
    """A table without lines; the first `left` columns and those in `texts` are text, the others numbers.

    Where it is wider than the page its columns stand closer; where that does not help, its first column, the
    names, goes on below: cut off, names of one beginning would be the same. Numbers stay whole.
    """
    words = frozenset(range(left)) | frozenset(texts)
    return _Table(tuple(header), [tuple(row) for row in rows], words, tuple(total))


_GAP = 2
_LEAST_TEXT = 8  # what a column of text may shrink to


@dataclass(frozen=True)
class _Table:
    """A table that is laid out once the width of the page is known."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: frozenset[int]
    total: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        widths = [max(map(_width, column)) for column in zip(*self._all(), strict=True)]
        left = options.max_width - sum(widths) - (len(widths) - 1)
        gap = 1 if 0 <= left < len(widths) - 1 else _GAP
        room = self._room(widths, options.max_width - gap * (len(widths) - 1))
        made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
        made.show_header = any(self.header)
        for column, title in enumerate(self.header):
            if column in self.words:
                made.add_column(Text(title), overflow="fold", min_width=room if column == 0 else None)
            else:
                made.add_column(Text(title), justify="right", no_wrap=True, overflow="ellipsis")
        for row in self.rows:
            made.add_row(Text(break_key(row[0], room)), *map(Text, row[1:]))
        if self.total:
            made.add_row(*(Text(cell, style="bold") for cell in self.total))
        yield made

    def _all(self) -> Iterator[tuple[str, ...]]:
        yield self.header
        yield from self.rows
        if self.total:
            yield self.total

    def _room(self, widths: Sequence[int], page: int) -> int:
        """What the first column gets: what the others leave, and not less than they can spare."""
        left = page - sum(widths[1:])
        spare = page - sum(
            min(width, _LEAST_TEXT) if column in self.words else width for column, width in enumerate(widths) if column
        )
        return max(min(widths[0], max(left, min(spare, page // 3))), 1)


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def break_key(key: str, room: int) -> str:
    """A name, a path or a line in lines of at most `room`, as far as its spaces, and then its dots, allow."""
    if len(key) <= room:
        return key
    lines = [""]
    for word in key.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
            continue
        pieces = re.findall(r"[^./]*[./]+|[^./]+", word) if len(word) > room else [word]
        lines += [""] if lines[-1] else []
        for piece in pieces:
            if lines[-1] and len(lines[-1]) + len(piece) > room:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def heading(left: str, right: str = "", *, width: int = 80) -> Text:
    """A bold line, with a plain remark at its right end where there is room."""
    gap = width - cell_len(left) - cell_len(right)
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

"""The lines that every report opens with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from graphlens.graph import GradGraph, printable
from graphlens.views.table import heading, paragraph

NOT_MEASURED = "not measured"


def opening(title: str, graph: GradGraph | None, threads: Any, width: int) -> Iterator[RenderableType]:
    """The title, with dtype and threads; then the options, if there are any."""
    facts = [] if graph is None else [printable(str(graph.meta.get("dtype", "")))]
    if type(threads) is int:
        facts.append(f"{threads} thread{'s' if threads != 1 else ''}")
    yield heading(printable(title), ", ".join(fact for fact in facts if fact), width=width)
    options = {} if graph is None else graph.meta.get("options", {})
    if isinstance(options, Mapping) and (text := options_text(options)):
        yield paragraph(text, width=width)


def options_text(options: Mapping[str, Any]) -> str:
    """ "n=100 d=5"; what is None was not asked for."""
    return " ".join(printable(f"{key}={value}") for key, value in options.items() if value is not None)


_NEXT = "Next: "


def next_steps(commands: Sequence[str], width: int) -> Iterator[RenderableType]:
    """The commands to type next, one below the other; one that is too long goes on after a backslash."""
    lines = [line for command in commands for line in _continued(printable(command), width - len(_NEXT))]
    for number, line in enumerate(lines):
        start = " " * len(_NEXT) if number else f"\n{_NEXT}"
        # A plain string is not broken: what is typed must stay as it is, even a word wider than the page.
        yield f"{start}{line}"


def _continued(command: str, width: int) -> Iterator[str]:
    line = ""
    for word in map(shlex.quote, shlex.split(command)):
        if line and len(line) + len(word) + 3 > width and len(command) > width:
            yield f"{line} \\"
            line = " "
        line += f" {word}" if line else word
    yield line

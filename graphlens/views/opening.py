"""The lines that every report opens with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

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


def next_steps(*commands: str) -> RenderableType:
    """The commands to type next, one a line."""
    return Text("\nNext: " + "\n      ".join(commands))

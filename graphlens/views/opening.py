"""The lines that every report opens with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType

from graphlens.graph import GradGraph
from graphlens.views.table import heading, paragraph

NOT_MEASURED = "not measured"


def opening(title: str, graph: GradGraph | None, threads: Any, width: int) -> Iterator[RenderableType]:
    """The title, with dtype and threads; then the options, if there are any."""
    facts = [] if graph is None else [str(graph.meta.get("dtype", ""))]
    if type(threads) is int:
        facts.append(f"{threads} thread{'s' if threads != 1 else ''}")
    yield heading(title, ", ".join(fact for fact in facts if fact), width=width)
    options = {} if graph is None else graph.meta.get("options", {})
    if isinstance(options, Mapping) and options:
        yield paragraph(", ".join(f"{key} = {_option(value)}" for key, value in options.items()), width=width)


def _option(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)

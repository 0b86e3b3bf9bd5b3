"""Save a captured graph to a file, and load one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from graphlens import graph_json
from graphlens.errors import GraphError, OutputError
from graphlens.files import check_writable, write_bytes
from graphlens.graph import GradGraph
from graphlens.views import export

_FORMATS: dict[str, Callable[[GradGraph], bytes]] = {
    ".json": graph_json.dumps,
    ".graphml": export.to_graphml,
    ".gexf": export.to_gexf,
    ".dot": export.to_dot,
}
_MOST_BYTES = 2**31


def save(graph: GradGraph, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the graph in the format of the path's ending: .json, .graphml, .gexf or .dot.

    Only .json can be loaded again. The file is written whole or not at all.

    Raises:
        OutputError: an unknown ending, an unwritable path, or an existing file without `force`.
    """
    check_format(path)
    target = check_writable(path, force=force)
    return write_bytes(target, _FORMATS[target.suffix.lower()](graph), force=force)


def check_format(path: str | os.PathLike[str]) -> None:
    """Raise `OutputError` unless the path's ending is one that `save` knows."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        raise OutputError(f"{path}: the ending says in which format a graph is saved; use one of {known}")


def load(path: str | os.PathLike[str]) -> GradGraph:
    """Read a graph that `save` wrote as .json.

    Raises:
        GraphError: there is no such file, or it is not a sound saved graph.
    """
    source = Path(path)
    try:
        if source.is_file() and source.stat().st_size > _MOST_BYTES:
            raise GraphError(f"{source}: larger than {_MOST_BYTES:,} bytes, the most that is read")
        data = source.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GraphError(f"{source}: cannot be read: {str(reason).lower()}; check the path") from error
    try:
        return graph_json.loads(data)
    except GraphError as error:
        raise GraphError(f"{source}: {error}; save the graph again with `graphlens save`") from error

"""Where the nodes of a recorded graph come from, in the words of the reports: a module, or a line of code."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.errors import MeasureError
from graphlens.graph import GradGraph, ModuleCall

# Rows for nodes that have no module or no line; a module's path and a line never read like these.
INPUTS = "(inputs)"
OUTSIDE = "(outside modules)"
LEAVES = "(leaves)"
NO_LINE = "(no line recorded)"


def require_recording(graph: GradGraph, what: str) -> None:
    """Refuse a graph whose nodes know neither modules nor lines of code; `what` is what needs them.

    Raises:
        MeasureError: the forward pass was not recorded.
    """
    functions = [node for node in graph.nodes if node.kind != "leaf"]
    if functions and all(node.source is None and node.call is None for node in functions):
        raise MeasureError(
            f"{what} needs to know where the nodes come from, and this graph does not: it was captured from finished "
            "tensors, or saved by an earlier version; name a target whose factory returns (module, args), or use "
            "graphlens.trace(model, inputs)"
        )


def lines(graph: GradGraph) -> list[str]:
    """Per node the line of code that made it, "model.py:123 (attention)"."""
    known = [str(source) for source in graph.sources]
    return [
        LEAVES if node.kind == "leaf" else NO_LINE if node.source is None else known[node.source]
        for node in graph.nodes
    ]


def modules(graph: GradGraph, depth: int | None = None) -> list[str]:
    """Per node the module whose call made it; a parameter belongs to the innermost called module that its name is in.

    Args:
        depth: how many dotted parts of a module's path are kept; all unless told.
    """
    known = [module_name(call, depth) for call in graph.calls]
    owners = {call.path: name for call, name in zip(graph.calls, known, strict=True)}
    roles = {item.node: item.role for item in graph.inputs if item.node is not None}
    places = []
    for number, node in enumerate(graph.nodes):
        if node.kind != "leaf":
            places.append(OUTSIDE if node.call is None else known[node.call])
        elif roles.get(number) == "input":
            places.append(INPUTS)
        else:
            places.append(_owner(node.name, owners) if node.name else OUTSIDE)
    return places


def module_name(call: ModuleCall, depth: int | None = None) -> str:
    """A module's path cut to `depth` parts, "transformer.h.0"; the class in brackets for the outermost one."""
    return str(call) if depth is None or not call.path else ".".join(call.path.split(".")[:depth])


def module_calls(graph: GradGraph, depth: int | None = None) -> dict[str, int]:
    """How often the module of each row was called.

    Of a container that is never called itself, as a list of layers, it is how often what is in it
    was called from outside.
    """
    whole: dict[str, int] = {}
    entered: dict[str, int] = {}
    names = [module_name(call, depth) for call in graph.calls]
    for call, name in zip(graph.calls, names, strict=True):
        if name == str(call):
            whole[name] = whole.get(name, 0) + 1
        elif call.caller is None or names[call.caller] != name:
            entered[name] = entered.get(name, 0) + 1
    return {**entered, **whole}


def short_lines(graph: GradGraph) -> dict[str, str]:
    """For each line its text with no more of the file's path than tells it from other files."""
    files = {source.file for source in graph.sources}
    shown = {file: _short(file, files) for file in files}
    return {str(source): str(source._replace(file=shown[source.file])) for source in graph.sources}


def _short(file: str, files: Sequence[str] | set[str]) -> str:
    parts = file.split("/")
    for kept in range(1, len(parts)):
        tail = "/".join(parts[-kept:])
        if tail and not any(other != file and (other == tail or other.endswith(f"/{tail}")) for other in files):
            return tail
    return file


def _owner(name: str, owners: dict[str, str]) -> str:
    while name:
        name = name.rpartition(".")[0]
        if name in owners:
            return owners[name]
    return OUTSIDE

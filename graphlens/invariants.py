"""What holds of every captured graph, verified column by column.

Most nodes share a few ops, shapes and dtypes: each distinct value is looked at once, and the rest
is left to functions that run at C speed, which keeps the check cheap on graphs with 10⁶ nodes.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphlens.errors import GraphError
from graphlens.graph import (
    COSTS,
    KINDS,
    LEDGERS,
    MAX_INT,
    ROLES,
    UNPRINTABLE,
    Edge,
    GradGraph,
    Input,
    Node,
    Output,
    SavedTensor,
)


def check_graph(graph: GradGraph) -> None:
    """Verify every invariant of the model.

    Raises:
        GraphError: naming the first invariant that does not hold.
    """
    leaves = _check_nodes(graph.nodes)
    _check_record(graph)
    _check_edges(len(graph.nodes), leaves, graph.edges)
    _check_saved(len(graph.nodes), leaves, graph.saved)
    _check_ends(graph)
    _check_reachable(graph)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _is_shape(value: object) -> bool:
    return type(value) is tuple and all(map(_is_count, value))


def _is_positions(value: object) -> bool:
    return _is_shape(value) and value != ()


def _is_label(value: object) -> bool:
    return type(value) is str and not UNPRINTABLE.search(value)


def _is_name(value: object) -> bool:
    return _is_label(value) and value != ""


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


# A check looks at columns, not at records, and leaves the loops to C: on graphs with 10⁶ nodes it
# would otherwise take as long as everything else that a capture does.


def _check_texts(what: str, column: Iterable[Any], is_valid: Callable[[Any], bool]) -> None:
    """Verify each distinct value once: many records share a few texts."""
    try:
        distinct = set(column)
    except TypeError:
        raise GraphError(f"{what} is a list or mapping where one value belongs") from None
    _check_each(what, distinct, is_valid)


def _check_tuples(what: str, column: Sequence[Any], is_valid: Callable[[Any], bool]) -> None:
    """Verify each object once; not each distinct value, as (1.0,) would hide behind (1,)."""
    _check_each(what, dict(zip(map(id, column), column, strict=True)).values(), is_valid)


def _check_counts(what: str, column: Sequence[Any], *, optional: bool = False) -> None:
    """Verify whole numbers ≥ 0 by type and by extremes; `optional` admits None."""
    types = set(map(type, column))
    if types == {int}:
        if min(column) < 0 or max(column) > MAX_INT:
            _check_each(what, column, _is_count)
    elif optional and types <= {int, type(None)}:
        _check_counts(what, [value for value in column if value is not None] or [0])
    else:
        _check_each(what, column, _or_none(_is_count) if optional else _is_count)


def _check_each(what: str, values: Iterable[Any], is_valid: Callable[[Any], bool]) -> None:
    for value in values:
        if not is_valid(value):
            raise GraphError(f"{what} cannot be {value!r:.80}")


def _check_nodes(nodes: Sequence[Node]) -> set[int]:
    """Verify the nodes; return the numbers of the leaves."""
    if not nodes:
        raise GraphError("the graph has no node")
    ops, kinds, seqs, names, shapes, dtypes, devices, outputs, ledgers, _, _, *costs = zip(*nodes, strict=True)
    _check_texts("a node's op", ops, _is_name)
    _check_texts("a node's kind", kinds, KINDS.__contains__)
    _check_counts("a node's seq", seqs, optional=True)
    _check_texts("a node's name", names, _is_label)
    _check_tuples("a node's shape", shapes, _or_none(_is_shape))
    _check_texts("a node's dtype", dtypes, _or_none(_is_label))
    _check_texts("a node's device", devices, _or_none(_is_label))
    _check_counts("a node's outputs", outputs)
    _check_texts("a node's ledger", ledgers, LEDGERS.__contains__)
    for name, column in zip(COSTS, costs, strict=True):
        _check_counts(f"a node's {name}", column, optional=True)
    leaves = set(itertools.compress(itertools.count(), map("leaf".__eq__, kinds)))
    if any(seqs[leaf] is not None for leaf in leaves):
        raise GraphError("a leaf has a sequence number, which only functions have")
    for kind, name in set(zip(itertools.compress(kinds, names), filter(None, names), strict=True)):
        if kind != "leaf":
            raise GraphError(f"only a leaf has a name, and yet a {kind} is called {name!r}")
    return leaves


def _check_record(graph: GradGraph) -> None:
    """What only a recorded graph has: lines of code and calls of modules."""
    for source in graph.sources:
        if not (_is_name(source.file) and _is_label(source.function) and _is_label(source.text)):
            raise GraphError(f"a source's file, function or text is malformed: {source!r:.120}")
    for call in graph.calls:
        if not (_is_label(call.path) and _is_name(call.kind)):
            raise GraphError(f"a module call's path or kind is malformed: {call!r:.120}")
    _check_counts("a source's line", [source.line for source in graph.sources])
    _check_counts("a module call's number", [call.number for call in graph.calls])
    _check_callers("source", [source.caller for source in graph.sources])
    _check_callers("module call", [call.caller for call in graph.calls])
    _check_places("a node's source", [node.source for node in graph.nodes], len(graph.sources))
    _check_places("a node's call", [node.call for node in graph.nodes], len(graph.calls))


def _check_callers(what: str, callers: Sequence[Any]) -> None:
    for number, caller in enumerate(callers):
        # A caller stands before what it calls, so that following callers always ends.
        if caller is not None and not (_is_count(caller) and caller < number):
            raise GraphError(f"{what} {number}: there is no earlier {what} {caller!r:.40}")


def _check_places(what: str, column: Sequence[Any], count: int) -> None:
    if set(map(type, column)) == {type(None)}:
        return
    _check_counts(what, column, optional=True)
    if max(place for place in column if place is not None) >= count:
        raise GraphError(f"{what} is none of the {count:,} listed")


def _check_edges(count: int, leaves: set[int], edges: Sequence[Edge]) -> None:
    if not edges:
        return
    sources, targets, slots, ports = zip(*edges, strict=True)
    _check_tuples("an edge's slots", slots, _is_positions)
    _check_tuples("an edge's ports", ports, _is_positions)
    if any(map(operator.ne, map(len, slots), map(len, ports))):
        raise GraphError("an edge has more slots than ports, or fewer")
    _check_numbers(sources, count, "an edge's end")
    _check_numbers(targets, count, "an edge's end")
    if any(map(operator.le, sources, targets)):
        source, target, *_ = next(edge for edge in edges if edge[0] <= edge[1])
        raise GraphError(f"edge {source}→{target} runs against the gradient: source must be > target")
    ends = list(zip(sources, targets, strict=True))
    if not all(map(operator.lt, ends, itertools.islice(ends, 1, None))):
        raise GraphError("the edges are not sorted, or one stands twice")
    for source in leaves.intersection(sources):
        raise GraphError(f"node {source} is a leaf, where gradients end, and yet an edge leaves it")
    # An edge with several slots is taken apart, and so are all that leave the same source.
    wide = set(itertools.compress(sources, map((1).__lt__, map(len, slots))))
    taken = [(edge[0], slot) for edge in edges if edge[0] in wide for slot in edge[2]] if wide else []
    if _has_twins(sources, slots) or len(set(taken)) < len(taken):
        raise GraphError("one slot of a node is used by two edges")


def _check_saved(count: int, leaves: set[int], saved: Sequence[SavedTensor]) -> None:
    if not saved:
        return
    numbers, slots, shapes, dtypes, devices, view_bytes, storages, storage_bytes, roles, packed = zip(
        *saved, strict=True
    )
    _check_texts("a saved tensor's slot", slots, _is_name)
    _check_tuples("a saved tensor's shape", shapes, _or_none(_is_shape))
    _check_texts("a saved tensor's dtype", dtypes, _or_none(_is_label))
    _check_texts("a saved tensor's device", devices, _or_none(_is_label))
    _check_counts("a saved tensor's view_bytes", view_bytes, optional=True)
    _check_texts("a saved tensor's role", roles, (None, *ROLES).__contains__)
    if set(map(type, packed)) != {bool}:
        _check_each("a saved tensor's packed", packed, lambda value: type(value) is bool)
    _check_numbers(numbers, count, "the node of a saved tensor")
    if any(map(operator.gt, numbers, itertools.islice(numbers, 1, None))):
        raise GraphError("the saved tensors are not sorted by node")
    if _has_twins(numbers, slots):
        raise GraphError("a node saves one slot twice")
    for number in leaves.intersection(numbers):
        raise GraphError(f"node {number} is a leaf, which saves nothing, and yet a tensor is listed for it")
    _check_counts("a saved tensor's storage", storages, optional=True)
    _check_counts("a saved tensor's storage_bytes", storage_bytes, optional=True)
    sizes = dict.fromkeys(zip(storages, storage_bytes, strict=True))
    sizes.pop((None, None), None)
    for place, (storage, size) in enumerate(sizes):
        if storage != place:
            raise GraphError(f"storage {storage!r} is out of order or has two sizes")
        if size is None:
            raise GraphError(f"storage {storage} has no size")


def _has_twins(owners: Sequence[int], values: Sequence[Any]) -> bool:
    """Whether an owner has a value twice; `owners` are sorted."""
    # Most owners have one value or two, and then twins are neighbours. Hashing all pairs costs more.
    pairs = list(zip(owners, values, strict=True))
    if any(map(operator.eq, pairs, itertools.islice(pairs, 1, None))):
        return True
    crowded = set(itertools.compress(owners, map(operator.eq, owners, itertools.islice(owners, 2, None))))
    rest = [pair for pair in pairs if pair[0] in crowded] if crowded else []
    return len(set(rest)) < len(rest)


def _check_numbers(numbers: Sequence[Any], count: int, what: str) -> None:
    if set(map(type, numbers)) != {int}:
        raise GraphError(f"{what} is not a whole number")
    if not 0 <= min(numbers) <= max(numbers) < count:
        raise GraphError(f"{what} is none of the {count:,} nodes")


def _check_ends(graph: GradGraph) -> None:
    count = len(graph.nodes)
    if not graph.outputs:
        raise GraphError("the graph has no output")
    names: set[str] = set()
    ends: list[Input | Output] = [*graph.outputs, *graph.inputs]
    for end in ends:
        if not (_is_name(end.name) and _is_shape(end.shape) and _is_label(end.dtype)):
            raise GraphError(f"{end.name!r:.80}: name, shape or dtype of an input or output is malformed")
    for output in graph.outputs:
        if type(output.node) is not int or not 0 <= output.node < count:
            raise GraphError(f"output {output.name}: there is no node {output.node!r}")
        if not _is_count(output.port):
            raise GraphError(f"output {output.name}: {output.port!r} is not an output number")
    for item in graph.inputs:
        if item.name in names:
            raise GraphError(f"two inputs are called {item.name}")
        names.add(item.name)
        if item.role not in ROLES or type(item.requires_grad) is not bool:
            raise GraphError(f"input {item.name}: role or requires_grad is malformed")
        if item.node is None:
            continue
        if type(item.node) is not int or not 0 <= item.node < count:
            raise GraphError(f"input {item.name}: there is no node {item.node!r}")
        if graph.nodes[item.node].kind != "leaf":
            raise GraphError(f"input {item.name}: node {item.node} is no leaf")


def _check_reachable(graph: GradGraph) -> None:
    # Edges only lead to earlier nodes. So if every node but the outputs has a consumer, following
    # the consumers from any node goes up and must end at an output: all are reached.
    consumed = {output.node for output in graph.outputs}.union(map(operator.itemgetter(1), graph.edges))
    if len(consumed) < len(graph.nodes):
        missing = min(set(range(len(graph.nodes))) - consumed)
        raise GraphError(f"node {missing} cannot be reached from any output")

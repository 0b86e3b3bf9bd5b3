"""GradGraph, the one model of a backward graph: plain values, checked, without torch.

Nodes are numbered 0 … N−1 in forward order. An edge goes the way the gradient flows, from the later
op (source) to the earlier one (target), so every edge has source > target. Sizes are in bytes.

The records are named tuples rather than dataclasses because a capture makes several of them per
node of graphs with 10⁶ nodes; a tuple costs a third of the time and half of the memory.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from graphlens.errors import GraphError

if TYPE_CHECKING:
    import networkx as nx

KINDS = ("function", "leaf", "custom")
LEDGERS = ("read", "freed", "hidden")
ROLES = ("parameter", "input", "intermediate", "constant")
MAX_INT = 2**63 - 1

# Controls, line separators, overrides of the writing direction, and what XML cannot hold.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Node(NamedTuple):
    """One `grad_fn` node.

    `shape`, `dtype` and `device` are those of the forward op's first output (`outputs` counts
    them); a leaf's are its tensor's. `seq` is autograd's sequence number, counted from the lowest
    one in the graph so that it does not tell what ran before; None for a leaf. `ledger` says
    whether the saved tensors could be read: "read"; "freed" by an earlier backward pass; or
    "hidden", where autograd keeps them out of Python's sight.
    """

    op: str
    kind: str = "function"
    seq: int | None = None
    name: str = ""
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    outputs: int = 1
    ledger: str = "read"


class Edge(NamedTuple):
    """All gradient flow from a later node to an earlier one.

    `slots[k]` is the position in the source's `next_functions`; `ports[k]` the number of the
    target's output that it belongs to. `x * x` gives one edge with two slots.
    """

    source: int
    target: int
    slots: tuple[int, ...]
    ports: tuple[int, ...]


class SavedTensor(NamedTuple):
    """One tensor that a node keeps for backward. Sizes in bytes, None where they are not available.

    `view_bytes` is elements × element size; `storage_bytes` is what the tensor keeps alive, and
    `storage` numbers the storages in order of first use. `packed` says that a saved-tensor hook
    replaced the tensor; the sizes are then those of what the hook keeps, if that is a tensor.
    """

    node: int
    slot: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    view_bytes: int | None = None
    storage: int | None = None
    storage_bytes: int | None = None
    role: str | None = None
    packed: bool = False


class Input(NamedTuple):
    """A named tensor that went into the forward pass; `node` is its leaf, None if unreached."""

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    requires_grad: bool
    node: int | None


class Output(NamedTuple):
    """A tensor that the graph was captured from: output number `port` of `node`."""

    name: str
    node: int
    port: int
    shape: tuple[int, ...]
    dtype: str


class SavedSums(NamedTuple):
    """What a node, or a group of nodes, keeps for backward.

    `storage_bytes` counts a storage once, at the first node in forward order that saves it.
    `unknown` counts what has no size: hidden or freed nodes and packed tensors.
    """

    tensors: int
    view_bytes: int
    storages: int
    storage_bytes: int
    unknown: int


class GradGraph:
    """A backward graph as plain values: it outlives the tensors, and can be pickled and compared.

    Attributes:
        nodes: one `Node` per `grad_fn` node, in forward order.
        edges: sorted by (source, target).
        saved: the ledger, sorted by node.
        inputs: the named inputs and parameters, reached or not.
        outputs: the tensors that the graph was captured from.
        meta: versions, date, target, options, threads, dtype; scalars and nested mappings.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        edges: Sequence[Edge],
        saved: Sequence[SavedTensor] = (),
        inputs: Sequence[Input] = (),
        outputs: Sequence[Output] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.nodes = tuple(nodes)
        self.edges = tuple(edges)
        self.saved = tuple(saved)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.meta = dict(meta or {})

    def __len__(self) -> int:
        return len(self.nodes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GradGraph):
            return NotImplemented
        return self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]  # compared by value, so not hashable

    def _parts(self) -> tuple[object, ...]:
        return (self.nodes, self.edges, self.saved, self.inputs, self.outputs, self.meta)

    def __getstate__(self) -> dict[str, Any]:
        # The NetworkX graph is derived; pickling it would double the size.
        return {key: value for key, value in self.__dict__.items() if key != "nx"}

    def __repr__(self) -> str:
        return f"<GradGraph: {len(self.nodes):,} nodes, {len(self.edges):,} edges>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from graphlens.notebook import mimebundle

        return mimebundle(self)

    def saved_by_node(self) -> list[SavedSums]:
        """The ledger summed per node; the rows add up to the graph's totals."""
        rows = [[0, 0, 0, 0, 0] for _ in self.nodes]
        for node, row in zip(self.nodes, rows, strict=True):
            row[4] = node.ledger != "read"
        seen: set[int] = set()
        for item in self.saved:
            row = rows[item.node]
            row[0] += 1
            if item.view_bytes is None:
                row[4] += 1
            else:
                row[1] += item.view_bytes
            if item.storage is not None and item.storage not in seen:
                seen.add(item.storage)
                row[2] += 1
                row[3] += item.storage_bytes or 0
        return [SavedSums(*row) for row in rows]

    @cached_property
    def nx(self) -> nx.DiGraph[int]:
        """The graph as a plain `networkx.DiGraph`, built on first use and kept.

        Attributes are scalars, and those that are not known are left out, so that every NetworkX
        writer accepts the graph. Shapes read "[5, 5]"; the slots of an edge read "0,1".
        """
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph()
        for number, (node, sums) in enumerate(zip(self.nodes, self.saved_by_node(), strict=True)):
            graph.add_node(number, **_scalars(node), **_saved_scalars(node, sums))
        comma: dict[tuple[int, ...], str] = {(k,): str(k) for k in range(8)}
        graph.add_edges_from(
            (
                edge.source,
                edge.target,
                {
                    "slots": comma.get(edge.slots) or ",".join(map(str, edge.slots)),
                    "ports": comma.get(edge.ports) or ",".join(map(str, edge.ports)),
                },
            )
            for edge in self.edges
        )
        return graph

    def check(self) -> GradGraph:
        """Verify every invariant of the model; return the graph itself.

        Raises:
            GraphError: naming the first invariant that does not hold.
        """
        leaves = _check_nodes(self.nodes)
        _check_edges(len(self.nodes), leaves, self.edges)
        _check_saved(len(self.nodes), leaves, self.saved)
        _check_ends(self)
        _check_reachable(self)
        return self


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it can be shown in a terminal or as XML."""
    return _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text)


def shape_text(shape: Sequence[int] | None) -> str:
    """A shape as it is shown everywhere: "[5, 5]", "[]" for a scalar, "" where unknown."""
    return "" if shape is None else f"[{', '.join(map(str, shape))}]"


def _scalars(node: Node) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"op": node.op, "kind": node.kind}
    if node.seq is not None:
        attributes["seq"] = node.seq
    if node.name:
        attributes["name"] = node.name
    if node.shape is not None:
        attributes["shape"] = shape_text(node.shape)
    if node.dtype is not None:
        attributes["dtype"] = node.dtype
    if node.device is not None:
        attributes["device"] = node.device
    if node.outputs != 1:
        attributes["outputs"] = node.outputs
    return attributes


def _saved_scalars(node: Node, sums: SavedSums) -> dict[str, int]:
    if node.kind == "leaf":
        return {}
    if sums.unknown:
        return {"saved_tensors": sums.tensors} if node.ledger == "read" else {}
    return {
        "saved_tensors": sums.tensors,
        "saved_bytes": sums.view_bytes,
        "storage_bytes": sums.storage_bytes,
    }


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _is_shape(value: object) -> bool:
    return type(value) is tuple and all(map(_is_count, value))


def _is_positions(value: object) -> bool:
    return _is_shape(value) and value != ()


def _is_label(value: object) -> bool:
    return type(value) is str and not _UNPRINTABLE.search(value)


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
    ops, kinds, seqs, names, shapes, dtypes, devices, outputs, ledgers = zip(*nodes, strict=True)
    _check_texts("a node's op", ops, _is_name)
    _check_texts("a node's kind", kinds, KINDS.__contains__)
    _check_counts("a node's seq", seqs, optional=True)
    _check_texts("a node's name", names, _is_label)
    _check_tuples("a node's shape", shapes, _or_none(_is_shape))
    _check_texts("a node's dtype", dtypes, _or_none(_is_label))
    _check_texts("a node's device", devices, _or_none(_is_label))
    _check_counts("a node's outputs", outputs)
    _check_texts("a node's ledger", ledgers, LEDGERS.__contains__)
    leaves = set(itertools.compress(itertools.count(), map("leaf".__eq__, kinds)))
    if any(seqs[leaf] is not None for leaf in leaves):
        raise GraphError("a leaf has a sequence number, which only functions have")
    for kind, name in set(zip(itertools.compress(kinds, names), filter(None, names), strict=True)):
        if kind != "leaf":
            raise GraphError(f"only a leaf has a name, and yet a {kind} is called {name!r}")
    return leaves


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

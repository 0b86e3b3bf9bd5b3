"""GradGraph, the one model of a backward graph: plain values, checked, without torch.

Nodes are numbered 0 … N−1 in forward order. An edge goes the way the gradient flows, from the later
op (source) to the earlier one (target), so every edge has source > target. Sizes are in bytes.

The records are named tuples rather than dataclasses because a capture makes several of them per
node of graphs with 10⁶ nodes; a tuple costs a third of the time and half of the memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import networkx as nx

KINDS = ("function", "leaf", "custom")
LEDGERS = ("read", "freed", "hidden")
ROLES = ("parameter", "input", "intermediate", "constant")
MAX_INT = 2**63 - 1

# Controls, line separators, overrides of the writing direction, and what XML cannot hold.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Node(NamedTuple):
    """One `grad_fn` node.

    `shape`, `dtype` and `device` are those of the forward op's first output (`outputs` counts
    them); a leaf's are its tensor's. `seq` is autograd's sequence number, counted from the lowest
    one in the graph so that it does not tell what ran before; None for a leaf. `ledger` says
    whether the saved tensors could be read: "read"; "freed" by an earlier backward pass; or
    "hidden", where autograd keeps them out of Python's sight.

    Known only where the forward pass was recorded: `source` and `call` are places in the graph's
    `sources` and `calls`, the line of code and the call of a module that made the node;
    `forward_ns` is the wall-clock time in nanoseconds of the forward op, and only where times were
    asked for.

    Known only where costs were asked for: `backward_ns`; FLOPs, where a multiply-add counts as 2,
    None for an op without a formula; and the bytes that were read and written (`moved`).
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
    source: int | None = None
    call: int | None = None
    forward_ns: int | None = None
    backward_ns: int | None = None
    forward_flops: int | None = None
    backward_flops: int | None = None
    forward_moved: int | None = None
    backward_moved: int | None = None


COSTS = Node._fields[Node._fields.index("forward_ns") :]


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


class Source(NamedTuple):
    """A line of code that made nodes.

    `file` is relative to the working directory or to the folder that its package is installed in;
    `text` is the line itself, "" where it cannot be read. `caller` is the line that called the
    function, a place in `sources`; None unless whole stacks were recorded.
    """

    file: str
    line: int
    function: str
    text: str = ""
    caller: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place} ({self.function})" if self.function else place


class ModuleCall(NamedTuple):
    """One call of a module: `number` counts the calls of its `path` from 1.

    `path` is the module's name as in `named_modules()`, "" for the outermost one; of a module that
    has several names, the one below the module that called it. `kind` is its class. `caller` is
    the call that it was made in, a place in `calls`.
    """

    path: str
    kind: str
    number: int
    caller: int | None = None

    def __str__(self) -> str:
        return self.path or f"({self.kind})"


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
        sources: the lines of code that made nodes; empty where the forward pass was not recorded.
        calls: the calls of modules that made nodes, each after its caller.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        edges: Sequence[Edge],
        saved: Sequence[SavedTensor] = (),
        inputs: Sequence[Input] = (),
        outputs: Sequence[Output] = (),
        meta: Mapping[str, Any] | None = None,
        sources: Sequence[Source] = (),
        calls: Sequence[ModuleCall] = (),
    ) -> None:
        self.nodes = tuple(nodes)
        self.edges = tuple(edges)
        self.saved = tuple(saved)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.meta = dict(meta or {})
        self.sources = tuple(sources)
        self.calls = tuple(calls)

    def __len__(self) -> int:
        return len(self.nodes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GradGraph):
            return NotImplemented
        return self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]  # compared by value, so not hashable

    def _parts(self) -> tuple[object, ...]:
        return (self.nodes, self.edges, self.saved, self.inputs, self.outputs, self.meta, self.sources, self.calls)

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
            graph.add_node(number, **_scalars(node), **self._recorded(node), **_saved_scalars(node, sums))
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

    def _recorded(self, node: Node) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {}
        if node.source is not None:
            attributes["source"] = str(self.sources[node.source])
        if node.call is not None:
            call = self.calls[node.call]
            attributes["module"] = str(call)
            attributes["module_call"] = call.number
        for name, value in zip(COSTS, node[-len(COSTS) :], strict=True):
            if isinstance(value, int):
                attributes[name] = value
        return attributes

    def check(self) -> GradGraph:
        """Verify every invariant of the model; return the graph itself.

        Raises:
            GraphError: naming the first invariant that does not hold.
        """
        from graphlens.invariants import check_graph

        check_graph(self)
        return self


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it can be shown in a terminal or as XML."""
    return UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text)


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

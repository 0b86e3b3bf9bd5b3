"""`capture`: from live tensors to a checked `GradGraph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.attribution import Attribution
from graphlens.capture.environment import describe_environment
from graphlens.capture.ledger import Ledger, dtype_name, look_of, op_name
from graphlens.capture.walk import NO_NUMBER, Walk, walk
from graphlens.collector import paused_collector
from graphlens.errors import NoGraphError
from graphlens.graph import COSTS, GradGraph, Input, ModuleCall, Node, Output, Source, printable

Tensors = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]


def capture(
    tensors: Tensors,
    names: Mapping[str, torch.Tensor] | None = None,
    *,
    meta: Mapping[str, Any] | None = None,
    attribution: Attribution | None = None,
    times: bool = False,
) -> GradGraph:
    """Capture the backward graph of one or more tensors. Nothing is run again.

    Args:
        tensors: a tensor, a sequence of tensors, or a mapping from output names to tensors.
        names: names of leaf tensors, e.g. `dict(module.named_parameters())` and the inputs. Those
            that the graph does not reach are listed in `.inputs` with `node=None`.
        meta: facts to add to the graph's `.meta`, e.g. the target and its options.
        attribution: where a recorder saw the nodes being made.
        times: whether to take the recorder's times over; they make two captures of one program differ.

    Returns:
        The checked graph, holding values only: no tensor and no autograd node is kept alive.

    Raises:
        NoGraphError: a tensor has no backward graph; the message says why and what to do.
    """
    return capture_recorded(tensors, names, meta=meta, attribution=attribution, times=times)[0]


def capture_recorded(
    tensors: Tensors,
    names: Mapping[str, torch.Tensor] | None = None,
    *,
    meta: Mapping[str, Any] | None = None,
    attribution: Attribution | None = None,
    times: bool = False,
) -> tuple[GradGraph, list[str]]:
    """As `capture`; and sentences on how many nodes could not be attributed to a line, and why."""
    named = _named_outputs(tensors)
    roots = [_root(name, tensor) for name, tensor in named.items()]
    names = dict(names or {})
    with paused_collector():
        found = walk(roots)
        graph = _build(found, named, roots, names, meta, attribution, times)
        notes = [] if attribution is None else _unattributed(graph, found, attribution)
        return graph.check(), notes


def _build(
    found: Walk,
    outputs: Mapping[str, torch.Tensor],
    roots: Sequence[AutogradNode],
    names: Mapping[str, torch.Tensor],
    meta: Mapping[str, Any] | None,
    attribution: Attribution | None,
    times: bool,
) -> GradGraph:
    leaf_names = {id(tensor): printable(str(name)) for name, tensor in reversed(list(names.items()))}
    leaves: list[torch.Tensor] = [node.variable for node in found.leaves]  # type: ignore[attr-defined]
    ledger = Ledger((tensor, role_of(tensor)) for tensor in (*leaves, *names.values()))
    nodes = [_leaf(tensor, leaf_names.get(id(tensor), "")) for tensor in leaves]
    nodes.extend(_functions(found, ledger))
    sources: Sequence[Source] = ()
    calls: Sequence[ModuleCall] = ()
    if attribution is not None:
        nodes[len(leaves) :] = _attributed(nodes[len(leaves) :], found.seqs, attribution, times)
        sources, calls = attribution.sources, attribution.calls

    position = {id(tensor): number for number, tensor in enumerate(leaves)}
    inputs = [
        Input(
            printable(str(name)),
            role_of(tensor),
            look_of(tensor)[0] or (),
            dtype_name(tensor.dtype),
            tensor.requires_grad,
            position.get(id(tensor)),
        )
        for name, tensor in names.items()
    ]
    ends = []
    for (name, tensor), root in zip(outputs.items(), roots, strict=True):
        shape, dtype, _ = look_of(tensor)
        ends.append(Output(printable(name), found.number[root], tensor.output_nr, shape or (), dtype))
    facts = {**describe_environment(), "dtype": ends[0].dtype, **(meta or {})}
    return GradGraph(nodes, found.edges, ledger.records, inputs, ends, facts, sources, calls)


def _attributed(nodes: Sequence[Node], seqs: Sequence[int], attribution: Attribution, times: bool) -> Iterator[Node]:
    counts = _repeated(seqs)
    for node, seq in zip(nodes, seqs, strict=True):
        source, call, spent = attribution.origin(seq, counts.get(seq, 1))
        yield _new(Node, (*node[:_RECORDED], source, call, spent if times else None, *_NO_COSTS))


def _unattributed(graph: GradGraph, found: Walk, attribution: Attribution) -> list[str]:
    counts = _repeated(found.seqs)
    functions = graph.nodes[len(found.leaves) :]
    reasons = Counter(
        attribution.why_unknown(seq, counts.get(seq, 1))
        for node, seq in zip(functions, found.seqs, strict=True)
        if node.source is None
    )
    return [
        f"{count:,} of {len(functions):,} nodes {'is' if count == 1 else 'are'} not attributed to a line: {reason}"
        for reason, count in reasons.items()
    ]


def _repeated(seqs: Sequence[int]) -> dict[int, int]:
    """Sequence numbers that occur more than once: each thread counts for itself."""
    if len(set(seqs)) == len(seqs):
        return {}
    return {seq: count for seq, count in Counter(seqs).items() if count > 1}


_RECORDED = Node._fields.index("source")  # the fields before it are autograd's
_NO_COSTS = (None,) * (len(COSTS) - 1)
_UNRECORDED = (None, None, None, *_NO_COSTS)


def role_of(tensor: torch.Tensor) -> str:
    """"parameter" or "input"."""
    return "parameter" if isinstance(tensor, torch.nn.Parameter) else "input"


def _named_outputs(tensors: Tensors) -> dict[str, torch.Tensor]:
    if isinstance(tensors, torch.Tensor):
        return {"output": tensors}
    if isinstance(tensors, Mapping):
        named = {str(name): tensor for name, tensor in tensors.items()}
    elif isinstance(tensors, Sequence) and not isinstance(tensors, str):
        named = {f"output[{k}]": tensor for k, tensor in enumerate(tensors)}
    else:
        named = {"output": tensors}
    if not named:
        raise NoGraphError("no tensor to capture: pass at least one output of a forward pass")
    for name, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise NoGraphError(f"output `{name}` is of type {type(tensor).__name__}, not a tensor; pass tensors")
    return named


def _root(name: str, tensor: torch.Tensor) -> AutogradNode:
    if tensor.requires_grad and tensor.grad_fn is None:
        # A leaf that is its own output: the gradient goes straight into its accumulator.
        return torch.autograd.graph.get_gradient_edge(tensor).node
    if tensor.grad_fn is None:
        raise NoGraphError(f"output `{name}` has no grad_fn: {_why_no_graph(tensor)}")
    return tensor.grad_fn


def _why_no_graph(tensor: torch.Tensor) -> str:
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        return (
            f"its dtype is {dtype_name(tensor.dtype)}, and only floating-point tensors carry gradients; "
            "capture the floating-point tensor it was computed from"
        )
    if tensor.is_inference():
        return "it was made in inference mode; run the forward pass outside torch.inference_mode()"
    return (
        "no input required a gradient, or the value left the graph on its way (torch.no_grad, detach, .item(), "
        "torch.tensor); call .requires_grad_() on an input, or pass a module with parameters"
    )


def _leaf(tensor: torch.Tensor, name: str) -> Node:
    return Node("AccumulateGrad", "leaf", None, name, *look_of(tensor))


def _functions(found: Walk, ledger: Ledger) -> Iterator[Node]:
    first_seq = min(found.seqs, default=0)
    node_type, read = ledger.node_type, ledger.read
    for number, (live, seq) in enumerate(zip(found.functions, found.seqs, strict=True), len(found.leaves)):
        kind = node_type(live)
        status = read(number, live, kind)
        metadata = live._input_metadata
        look = look_of(metadata[0]) if metadata else (None, None, None)
        op = kind.op or op_name(live)
        number_made = None if seq == NO_NUMBER else seq - first_seq
        fields = (op, kind.kind, number_made, "", *look, len(metadata), status, *_UNRECORDED)
        yield _new(Node, fields)


_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record

"""`capture`: from live tensors to a checked `GradGraph`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.environment import describe_environment
from graphlens.capture.ledger import Ledger, NodeType, dtype_name, look_of, op_name
from graphlens.capture.walk import Walk, paused_collector, walk
from graphlens.errors import NoGraphError
from graphlens.graph import Edge, GradGraph, Input, Node, Output, printable

Tensors = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]


def capture(
    tensors: Tensors,
    names: Mapping[str, torch.Tensor] | None = None,
    *,
    meta: Mapping[str, Any] | None = None,
) -> GradGraph:
    """Capture the backward graph of one or more tensors. Nothing is run again.

    Args:
        tensors: a tensor, a sequence of tensors, or a mapping from output names to tensors.
        names: names of leaf tensors, e.g. `dict(module.named_parameters())` and the inputs. Those
            that the graph does not reach are listed in `.inputs` with `node=None`.
        meta: facts to add to the graph's `.meta`, e.g. the target and its options.

    Returns:
        The checked graph, holding values only: no tensor and no autograd node is kept alive.

    Raises:
        NoGraphError: a tensor has no backward graph; the message says why and what to do.
    """
    named = _named_outputs(tensors)
    roots = [_root(name, tensor) for name, tensor in named.items()]
    names = dict(names or {})
    with paused_collector():
        found = walk(roots)
        graph = _build(found, named, roots, names, meta)
        return graph.check()


def _build(
    found: Walk,
    outputs: Mapping[str, torch.Tensor],
    roots: Sequence[AutogradNode],
    names: Mapping[str, torch.Tensor],
    meta: Mapping[str, Any] | None,
) -> GradGraph:
    leaf_names = {id(tensor): printable(str(name)) for name, tensor in reversed(list(names.items()))}
    leaves = [node.variable for node, seq in zip(found.nodes, found.seqs, strict=True) if seq is None]  # type: ignore[attr-defined]
    ledger = Ledger((tensor, role_of(tensor)) for tensor in (*leaves, *names.values()))

    nodes = [_leaf(tensor, leaf_names.get(id(tensor), "")) for tensor in leaves]
    node_type, read = ledger.node_type, ledger.read
    for number in range(len(leaves), len(found.nodes)):
        live = found.nodes[number]
        kind = node_type(live)
        nodes.append(_function(live, kind, found.seqs[number], read(number, live, kind)))

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
    return GradGraph(nodes, _edges(found), ledger.records, inputs, ends, facts)


def role_of(tensor: torch.Tensor) -> str:
    """"parameter" or "input"."""
    return "parameter" if isinstance(tensor, torch.nn.Parameter) else "input"


def _named_outputs(tensors: Tensors) -> dict[str, torch.Tensor]:
    if isinstance(tensors, torch.Tensor):
        return {"output": tensors}
    if isinstance(tensors, Mapping):
        named = {str(name): tensor for name, tensor in tensors.items()}
    else:
        named = {f"output[{k}]": tensor for k, tensor in enumerate(tensors)}
    if not named:
        raise NoGraphError("no tensor to capture: pass at least one output of a forward pass")
    for name, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise NoGraphError(f"output `{name}` is a {type(tensor).__name__}, not a tensor; pass tensors")
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


def _function(live: AutogradNode, kind: NodeType, seq: int | None, status: str) -> Node:
    op = kind.op or op_name(live)
    metadata = live._input_metadata
    if not metadata:
        return Node(op, kind.kind, seq, outputs=0, ledger=status)
    first = metadata[0]
    return Node._make((op, kind.kind, seq, "", *look_of(first), len(metadata), status))


_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
_SINGLE = tuple((k,) for k in range(64))


def _single(value: int) -> tuple[int, ...]:
    return _SINGLE[value] if value < 64 else (value,)


def _edges(found: Walk) -> list[Edge]:
    edges: list[Edge] = []
    number = found.number
    for source, links in enumerate(found.links):
        ends = [(number[node], slot, port) for slot, (node, port) in enumerate(links) if node is not None]
        if len(ends) > 1:
            ends.sort()
        last = -1
        for target, slot, port in ends:
            if target == last:  # a further slot of the same edge, as in x * x
                _, _, slots, ports = edges.pop()
                edges.append(Edge(source, target, (*slots, slot), (*ports, port)))
            else:
                edges.append(_new(Edge, (source, target, _single(slot), _single(port))))
                last = target
    return edges

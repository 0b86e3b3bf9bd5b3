"""GL101 (a node that passes None on), GL106 and GL107: backward passes that fail, stop, or turn to NaN."""

from __future__ import annotations

from collections.abc import Iterator

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import shown
from graphlens.analyses.findings import Finding, Place, listed, receive
from graphlens.observation import NonFinite, Range

_BACKWARD = ("Tensor.backward", "torch.autograd.backward", "torch.autograd.grad")


def stopping_nodes(facts: Facts) -> Iterator[Finding]:
    """GL101 for leaves that the graph leads to, and that a node on the way passes None to."""
    graph = facts.seen.graph
    if graph is None:
        return
    by_nodes: dict[tuple[int, ...], list[str]] = {}
    for name, nodes in facts.seen.stopped.items():
        if nodes:
            by_nodes.setdefault(tuple(nodes), []).append(name)
    for nodes, names in by_nodes.items():
        ops = sorted({graph.nodes[number].op for number in nodes})
        where = facts.place_of_node(nodes[0])
        yield Finding(
            "GL101", "error",
            f"{receive(names)} no gradient: {listed(ops)} receives one and passes None on.",
            Place(where.source, where.text, where.module, nodes),
            {"lost": names, "ops": ops},
            "let backward() of the custom Function return the gradient of this input instead of None",
        )  # fmt: skip


def failing_backward(facts: Facts) -> Iterator[Finding]:
    """GL106 for a backward pass that raised."""
    seen = facts.seen
    if not seen.backward_error:
        return
    evidence = {"error": seen.backward_error}
    for item in seen.clobbered:
        saved, write = facts.place_of_node(item.node), _overwriting(facts, item.node)
        where = saved if write is None else write
        by = f" by {_function_at(facts, write)}" if write is not None else ""
        assert seen.graph is not None
        yield Finding(
            "GL106", "error",
            f"backward fails: a tensor that {seen.graph.nodes[item.node].op} needs was written over{by} after it "
            "was saved.",
            Place(where.source, where.text, where.module, (item.node,)),
            {**evidence, "saved_at": saved.source, "slot": item.slot},
            "write to a copy, x = x + 1 in place of x += 1, or write before the tensor is used",
        )  # fmt: skip
    if seen.clobbered:
        return
    graph = seen.graph
    freed = [number for number, node in enumerate(graph.nodes) if node.ledger == "freed"] if graph is not None else []
    if "second time" in seen.backward_error or freed:
        inner = next((step for step in facts.flow.steps if step.function in _BACKWARD), None)
        where = facts.place(inner) if inner is not None else _joint(facts, freed)
        by = "the backward pass inside forward" if inner is not None else "an earlier backward pass"
        count = "1 node" if len(freed) == 1 else f"{len(freed):,} nodes"
        yield Finding(
            "GL106", "error",
            f"backward fails: part of the graph ({count}) was freed by {by}.",
            where, {**evidence, "freed_nodes": len(freed)},
            "detach what is carried over from one step to the next, as in state = state.detach(); or sum the losses "
            "and call backward() once",
        )  # fmt: skip
        return
    yield Finding("GL106", "error", f"backward fails: {seen.backward_error[:200]}", Place(), evidence, "")


def _overwriting(facts: Facts, node: int) -> Place | None:
    """Where a value that this node's call read or made was written over later."""
    graph = facts.seen.graph
    assert graph is not None
    source, call = graph.nodes[node].source, graph.nodes[node].call
    saved: set[int] = set()
    for step in facts.flow.steps:
        if saved.intersection(step.written) and (step.source, step.call) != (source, call):
            return facts.place(step)
        if (step.source, step.call) == (source, call):
            if saved.intersection(step.written):
                return facts.place(step)
            saved.update(step.inputs, step.outputs)
    return None


def _function_at(facts: Facts, place: Place) -> str:
    return next((shown(step.function) for step in facts.flow.steps if step.written and facts.place(step) == place), "")


def _joint(facts: Facts, freed: list[int]) -> Place:
    """The first call of this run that uses what was freed."""
    graph = facts.seen.graph
    if graph is None or not freed:
        return Place()
    # Nodes of this run know their line, those of an earlier one do not.
    earlier = {n for n, node in enumerate(graph.nodes) if node.kind != "leaf" and node.source is None}
    for edge in graph.edges:
        if edge.target in earlier and edge.source not in earlier:
            where = facts.place_of_node(edge.source)
            return Place(where.source, where.text, where.module, (edge.source, edge.target))
    inside = [number for number in freed if graph.nodes[number].source is not None]
    return facts.place_of_node(inside[0]) if inside else Place(nodes=tuple(freed[:1]))


def missing_graph(facts: Facts, where: Place | None) -> Iterator[Finding]:
    """GL106 for outputs without a backward graph; `where` is the first place where it was cut."""
    seen = facts.seen
    if seen.graph is not None:
        yield from _separate_outputs(facts)
        return
    ends = [end.name for end in seen.ends]
    keep = "keep the computation in torch, with gradients switched on, from the parameters to the loss"
    if not ends:
        what, why, fix = "The forward pass returns no tensor", "there is nothing to differentiate", keep
    else:
        what = f"{listed(ends)} {'needs' if len(ends) == 1 else 'need'} no gradient"
        if facts.wanted:
            why, fix = f"nothing that requires one is connected to {'it' if len(ends) == 1 else 'them'}", keep
        else:
            why = "no input or parameter requires one"
            fix = "call requires_grad_() on an input, or unfreeze a parameter"
    yield Finding("GL106", "error", f"{what}: {why}.", where or _making(facts), {"outputs": ends}, fix)


def _making(facts: Facts) -> Place:
    """Where the first of the ends was made."""
    steps = (step for step in reversed(facts.flow.steps) if facts.ends.intersection(step.outputs))
    step = next((step for step in steps if facts.place(step).text), None)
    return Place() if step is None else facts.place(step)


def _separate_outputs(facts: Facts) -> Iterator[Finding]:
    """Outputs whose graphs have no node in common, not even a leaf."""
    graph = facts.seen.graph
    assert graph is not None
    if len(graph.outputs) < 2:
        return
    parent = list(range(len(graph.nodes)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for edge in graph.edges:
        parent[find(edge.source)] = find(edge.target)
    parts: dict[int, list[str]] = {}
    for output in graph.outputs:
        parts.setdefault(find(output.node), []).append(output.name)
    if len(parts) > 1:
        groups = [listed(names) for names in parts.values()]
        yield Finding(
            "GL106", "info",
            f"The graph has {len(parts)} parts that share no node, not even a leaf: {'; '.join(groups[:6])}.",
            Place(), {"parts": list(parts.values())}, "nothing, if they are meant to be independent",
        )  # fmt: skip


def non_finite(facts: Facts) -> Iterator[Finding]:
    """GL107."""
    seen = facts.seen
    bad_ends = [end.name for end in seen.ends if end.finite is False]
    bad_leaves = [leaf.name for leaf in seen.leaves if leaf.gradient == "nonfinite"]
    if not bad_ends and not bad_leaves:
        return
    evidence: dict[str, object] = {"not_finite": bad_ends, "gradients_not_finite": bad_leaves}
    subject = f"{listed(bad_ends)} is" if len(bad_ends) == 1 else f"{listed(bad_ends)} are"
    if bad_ends and seen.forward_fault is not None:
        fault = seen.forward_fault
        assert fault.step is not None
        step = facts.flow.steps[fault.step] if fault.step < len(facts.flow.steps) else None
        where = facts.place(step) if step is not None else Place()
        name = shown(step.function) if step is not None else "a call"
        yield Finding(
            "GL107", "error",
            f"{subject} not finite: {name} is the first call with {fault.what} in its result and none in its inputs, "
            f"which are {_ranges(fault)}.",
            where, {**evidence, "inputs": [item._asdict() for item in fault.inputs]},
            "keep the inputs of this call away from where its result is not finite: clamp them, add a small number, or "
            "use the stable form (log_softmax, logsumexp, log1p)",
        )  # fmt: skip
        return
    if seen.backward_fault is not None and seen.graph is not None:
        fault = seen.backward_fault
        assert fault.node is not None
        yield Finding(
            "GL107", "error",
            f"{_gradients_of(bad_leaves)} not finite though the result is: {seen.graph.nodes[fault.node].op} is the "
            f"first node of the backward pass that makes {fault.what} from a gradient without, which is "
            f"{_ranges(fault)}.",
            facts.place_of_node(fault.node), {**evidence, "inputs": [item._asdict() for item in fault.inputs]},
            "keep the input of this op away from where its derivative is not finite, before the op: clamp it, add a "
            "small number; torch.where after the op does not help",
        )  # fmt: skip
        return
    claim = f"{subject} not finite." if bad_ends else f"{_gradients_of(bad_leaves)} not finite."
    yield Finding("GL107", "error", claim, Place(), evidence, "")


def _gradients_of(names: list[str]) -> str:
    return f"The gradient of {names[0]} is" if len(names) == 1 else f"The gradients of {listed(names)} are"


def _ranges(fault: NonFinite) -> str:
    texts = [_range(item) for item in fault.inputs[:3]]
    return "; ".join(texts) or "not measured"


def _range(item: Range) -> str:
    if item.low is None or item.high is None:
        return "without a finite value"
    text = f"{item.low:.3g}" if item.low == item.high else f"from {item.low:.3g} to {item.high:.3g}"
    return f"{text} and {item.infinite} infinite" if item.infinite else text

"""GL101 (a node that passes None on), GL106 and GL107: backward passes that fail, stop, or turn to NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import shown
from graphlens.analyses.findings import Finding, Place, listed, receive
from graphlens.flow import Step
from graphlens.observation import Clobbered, NonFinite, Range, Spoilt

_NO_DERIVATIVE = re.compile(r"derivative for (?:aten::)?(\w+) is not implemented")
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
            replace(where, nodes=nodes),
            {"lost": names, "ops": ops},
            "let backward() of the custom Function return the gradient of this input instead of None",
        )  # fmt: skip


def failing_backward(facts: Facts) -> Iterator[Finding]:
    """GL106 for a backward pass that raised."""
    seen = facts.seen
    if not seen.backward_error:
        return
    yield from _clobbered(facts)
    if seen.clobbered:
        return
    evidence = {"error": seen.backward_error}
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
    lacking = _NO_DERIVATIVE.search(seen.backward_error)
    where, fix = Place(), ""
    if lacking is not None:
        op = lacking[1].rstrip("_")
        called = (step for step in facts.flow.steps if step.function.rpartition(".")[2].rstrip("_") == op)
        step = next(called, None)
        where = Place() if step is None else facts.place(step)
        fix = "use an op that torch has a derivative for; or detach its input, if that needs no gradient"
    yield Finding("GL106", "error", f"backward fails: {seen.backward_error[:200]}", where, evidence, fix)


def _clobbered(facts: Facts) -> Iterator[Finding]:
    """One finding for each place where saved tensors were written over."""
    graph = facts.seen.graph
    found: dict[tuple[str, Place, str], list[Clobbered]] = {}
    for item in facts.seen.clobbered:
        assert graph is not None
        saved, write = facts.place_of_node(item.node), _overwriting(facts, item)
        where = replace(saved, nodes=()) if write is None else facts.place(write)
        by = f" by {shown(write.function)}" if write is not None else ""
        claim = (
            f"backward fails: a tensor that {graph.nodes[item.node].op} needs was written over{by} after it was saved."
        )
        found.setdefault((claim, where, saved.source), []).append(item)
    for (claim, where, saved_at), items in found.items():
        nodes = tuple(dict.fromkeys(item.node for item in items))
        slots = list(dict.fromkeys(item.slot for item in items))
        yield Finding(
            "GL106", "error", claim, replace(where, nodes=nodes),
            {"error": facts.seen.backward_error, "saved_at": saved_at, "slot": ", ".join(slots)},
            "write to a copy, x = x + 1 in place of x += 1, or write before the tensor is used",
        )  # fmt: skip


def _overwriting(facts: Facts, item: Clobbered) -> Step | None:
    """The call by which a value that this node's call read or made was written over later."""
    graph, steps = facts.seen.graph, facts.flow.steps
    assert graph is not None
    node = graph.nodes[item.node]
    made_by = [
        place
        for place, step in enumerate(steps)
        if (step.source, step.call) == (node.source, node.call)
        and (item.number is None or step.end == 0 or step.first <= item.number < step.end)
    ]
    if not made_by:
        return None
    # A call inside another one ends first, and is the one that made the node.
    first = made_by[0]
    saved = {*steps[first].inputs, *steps[first].outputs}
    return next((step for step in steps[first + 1 :] if saved.intersection(step.written)), None)


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
            return replace(where, nodes=(edge.source, edge.target))
    inside = [number for number in freed if graph.nodes[number].source is not None]
    return facts.place_of_node(inside[0]) if inside else Place(nodes=tuple(freed[:1]))


def missing_graph(facts: Facts, where: Place | None) -> Iterator[Finding]:
    """GL106 for outputs without a backward graph; `where` is the first place where it was cut."""
    seen = facts.seen
    if seen.graph is not None:
        yield from _separate_outputs(facts)
        return
    ends = [end.name for end in seen.ends if not end.requires_grad] or [end.name for end in seen.ends]
    keep = "keep the computation in torch, with gradients switched on, from the parameters to the loss"
    if not ends:
        what = "The forward pass returns no tensor, nor a tuple, list, dictionary or dataclass with one"
        why = "there is nothing to differentiate"
        fix = f"return a tensor, or a tuple, list, dictionary or dataclass of tensors; {keep}"
    else:
        what = f"{listed(ends)} {'needs' if len(ends) == 1 else 'need'} no gradient"
        if facts.wanted or facts.lost or facts.ignored:
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
    bad_ends = seen.unfinite
    bad_leaves = [leaf.name for leaf in seen.leaves if leaf.gradient == "nonfinite"]
    if not bad_ends and not bad_leaves:
        return
    evidence: dict[str, object] = {"not_finite": bad_ends, "gradients_not_finite": bad_leaves}
    subject = f"{listed(bad_ends)} is" if len(bad_ends) == 1 else f"{listed(bad_ends)} are"
    fault = seen.forward_fault
    if bad_ends and fault is not None and fault.what == "asked for" and not bad_leaves:
        return
    spoilt = [item for item in seen.spoilt if item.range.nan] or list(seen.spoilt)
    # It may be meant, as in a mask that is an input, unless no call made NaN or infinity of numbers without.
    if bad_ends and spoilt and (fault is None or (fault.origin is None and _mixed(fault))):
        yield _spoilt(facts, subject, spoilt, evidence)
    elif bad_ends and fault is not None and fault.step is not None:
        yield _first_call(facts, subject, fault, evidence)
    elif seen.backward_fault is not None and fault is not None and fault.step is not None:
        yield _met_in_backward(facts, bad_leaves, fault, seen.backward_fault, evidence)
    elif seen.backward_fault is not None and seen.graph is not None:
        fault = seen.backward_fault
        assert fault.node is not None
        yield Finding(
            "GL107", "error",
            f"{_gradients_of(bad_leaves)} not finite though the result is: {seen.graph.nodes[fault.node].op} is the "
            f"first node of the backward pass that makes {fault.what} from a gradient without, which is "
            f"{_ranges(fault.inputs)}.",
            facts.place_of_node(fault.node), {**evidence, "inputs": [item._asdict() for item in fault.inputs]},
            "keep the input of this op away from where its derivative is not finite, before the op: clamp it, add a "
            "small number; torch.where after the op does not help",
        )  # fmt: skip
    else:
        claim = f"{subject} not finite." if bad_ends else f"{_gradients_of(bad_leaves)} not finite."
        yield Finding("GL107", "error", claim, Place(), evidence, "")


def _mixed(fault: NonFinite) -> bool:
    return any(item.nan or item.infinite for item in fault.inputs)


def _spoilt(facts: Facts, subject: str, spoilt: list[Spoilt], evidence: dict[str, object]) -> Finding:
    """What was not finite before anything was computed."""
    first = spoilt[0]
    bad, whole = first.range.nan + first.range.infinite, math.prod(first.range.shape)
    what = _kinds(first.range)
    more = f"; so {'does' if len(spoilt) == 2 else 'do'} {listed([item.name for item in spoilt[1:]])}"
    value = facts.flow.leaves.get(first.name)
    use = next((step for step in facts.flow.steps if value is not None and value in step.inputs), None)
    return Finding(
        "GL107", "error",
        f"{subject} not finite: the {_named(first)} holds {what} before the forward pass begins, in {bad:,} "
        f"of its {whole:,} entries{more if len(spoilt) > 1 else ''}.",
        Place() if use is None else facts.place(use),
        {**evidence, "not_finite_before": [item.name for item in spoilt]},
        "look for what put it there: data that was not cleaned, a training step that diverged, a file that was loaded",
    )  # fmt: skip


def _named(spoilt: Spoilt) -> str:
    """ "input x"; but "input" of one that is called so."""
    return spoilt.role if spoilt.name == spoilt.role else f"{spoilt.role} {spoilt.name}"


def _first_call(facts: Facts, subject: str, fault: NonFinite, evidence: dict[str, object]) -> Finding:
    """The call that made NaN or infinity; and where it made NaN of infinity, the call that made that."""
    steps = facts.flow.steps
    assert fault.step is not None
    step, inputs, fix = steps[fault.step], fault.inputs, (
        "keep the inputs of this call away from where its result is not finite: clamp them, add a small number, or "
        "use the stable form (log_softmax, logsumexp, log1p)"
    )  # fmt: skip
    if fault.origin is None and fault.what == "infinity" and _mixed(fault):
        claim = (
            f"{subject} not finite: {shown(step.function)} takes entries into its result that were infinite before: "
            f"its inputs are {_ranges(inputs)}."
        )
    elif fault.origin is None:
        claim = (
            f"{subject} not finite: {shown(step.function)} is the first call with {fault.what} in its result and none "
            f"in its inputs, which are {_ranges(inputs)}."
        )
    else:
        last, step, inputs = step, steps[fault.origin], fault.origin_inputs
        claim = (
            f"{subject} not finite: {shown(step.function)} makes infinity from inputs without, which are "
            f"{_ranges(inputs)}; {shown(last.function)} at {facts.place(last).source} then makes NaN of it."
        )
    where = facts.place(step)
    return Finding("GL107", "error", claim, where, {**evidence, "inputs": [item._asdict() for item in inputs]}, fix)


def _met_in_backward(
    facts: Facts, leaves: list[str], fault: NonFinite, backward: NonFinite, evidence: dict[str, object]
) -> Finding:
    """The call that made NaN or infinity in the forward pass, which does not reach the result and comes back then."""
    steps, graph = facts.flow.steps, facts.seen.graph
    assert fault.step is not None
    assert graph is not None
    assert backward.node is not None
    step, inputs = steps[fault.step], fault.inputs
    if fault.origin is None:
        made = f"has {fault.what} in its result and none in its inputs"
        then = ""
    else:
        last, step, inputs = step, steps[fault.origin], fault.origin_inputs
        made = "makes infinity from inputs without"
        then = f", of which {shown(last.function)} at {facts.place(last).source} makes NaN"
    return Finding(
        "GL107", "error",
        f"{_gradients_of(leaves)} not finite though the result is: {shown(step.function)} {made}, which are "
        f"{_ranges(inputs)}{then}; the result is finite all the same, and {graph.nodes[backward.node].op}, which "
        f"computes with that, makes {backward.what} of a gradient without.",
        replace(facts.place(step), nodes=(backward.node,)),
        {
            **evidence,
            "inputs": [item._asdict() for item in inputs],
            "gradients": [item._asdict() for item in backward.inputs],
        },
        "keep the inputs of this call away from where its result is not finite: clamp them, add a small number, mask "
        "with a large number in place of infinity; to mask the result does not help",
    )  # fmt: skip


def _gradients_of(names: list[str]) -> str:
    return f"The gradient of {names[0]} is" if len(names) == 1 else f"The gradients of {listed(names)} are"


def _ranges(items: Sequence[Range]) -> str:
    return "; ".join(map(_range, items[:3])) or "not measured"


def _range(item: Range) -> str:
    bad = [f"{count:,} {what}" for count, what in ((item.nan, "NaN"), (item.infinite, "infinite")) if count]
    if item.low is None or item.high is None:
        return f"without a finite value ({' and '.join(bad)})" if bad else "empty"
    text = f"{item.low:.3g}" if item.low == item.high else f"from {item.low:.3g} to {item.high:.3g}"
    return " and ".join([text, *bad])


def _kinds(item: Range) -> str:
    return " and ".join(what for count, what in ((item.nan, "NaN"), (item.infinite, "infinity")) if count)

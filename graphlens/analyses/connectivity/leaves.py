"""GL102, GL104, GL105, GL108: leaves made on the way, unused and unlisted ones, gradients that are 0 by nature."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.mechanisms import DETACHING, shown
from graphlens.analyses.connectivity.twins import updated_leaves
from graphlens.analyses.findings import Finding, Place, listed, receive
from graphlens.analyses.lineage import values_read
from graphlens.flow import LEAF, SWITCHES, Step
from graphlens.graph import GradGraph
from graphlens.observation import LeafFact

# Ops whose derivative torch defines as 0 everywhere: steps, and samples that do not depend smoothly
# on their parameters.
FLAT_OPS = frozenset(
    f"{name}Backward{number}"
    for name in (
        *("Round", "Sign", "Sgn", "Floor", "Ceil", "Trunc", "FloorDivide"),
        *("Bernoulli", "Normal", "Poisson", "Geometric", "Binomial"),
    )
    for number in range(4)
)

# What to write instead of a draw whose parameters are to be trained.
_SCORE = "weight the loss with the log-probability of what was drawn, as policy gradients do"
_DRAWN = {
    "Normal": "draw apart from the parameters, mean + std * torch.randn_like(mean), as rsample() does",
    "Bernoulli": "draw from a smooth stand-in, torch.distributions.RelaxedBernoulli or F.gumbel_softmax; or pass the "
    "gradient straight through, p + (torch.bernoulli(p) - p).detach()",
    "Poisson": _SCORE,
    "Geometric": _SCORE,
    "Binomial": _SCORE,
}


def fresh_leaves(facts: Facts) -> Iterator[Finding]:
    """GL102."""
    if not facts.seen.is_forward:  # a program that builds its module makes leaves by right
        return
    known = {leaf.value for leaf in facts.seen.leaves if leaf.value is not None and facts.is_unseen(leaf.value)}
    consumed = _differentiated_inside(facts)
    consumed |= facts.seen.held
    asked_for = _asked_for(facts)
    sites_used: set[str] = set()  # where a leaf was made whose gradient the forward pass asks for, in another round
    made: dict[tuple[str, bool], list[Step]] = {}
    from_input: set[int] = set()  # computed from what was handed in, and from no leaf that is wanted
    for step in facts.flow.steps:
        if any(facts.is_unseen(value) or value in from_input for value in values_read(step)):
            from_input.update(value for value in step.outputs if not facts.lineage.carried[value])
        # A leaf that was written over, or frozen for a while, is the leaf that it was.
        known.update(new for old, new in zip(step.written, step.outputs, strict=False) if old in known)
        fresh = [value for value in step.outputs if facts.flow.values[value] & LEAF and value not in known]
        fresh = [value for value in fresh if value not in step.inputs]  # and not merely passed on
        known.update(fresh)
        if consumed.intersection(fresh):
            sites_used.add(facts.place(step).source)
        if step.function in ("Tensor.grad", "Tensor.data =") or consumed.intersection(fresh):
            continue
        if asked_for.intersection(fresh):
            asked = step.function in SWITCHES and from_input.issuperset(step.written)
            made.setdefault((facts.place(step).source, asked), []).append(step)
    for (source, asked), steps in made.items():
        if source in sites_used:
            continue
        first, count = steps[0], len(steps)
        times = f" {count:,} times" if count > 1 else ""
        flag = "requires_grad_()" if first.function in SWITCHES else "requires_grad=True"
        fix = f"leave out {flag}; or make the tensor a parameter in the constructor if it is to be trained"
        yield Finding(
            # Reentrant checkpoints and saliency maps need a gradient of the input.
            "GL102", "info" if asked else "warning",
            f"{shown(first.function)} makes a new leaf that requires a gradient{times} inside the forward pass: "
            "its gradient goes nowhere, as nobody holds the leaf.",
            facts.place(first),
            {"leaves": sum(1 for step in steps for value in step.outputs if facts.flow.values[value] & LEAF),
             "function": first.function},
            f"nothing, if the gradient of what was handed in is asked for, as by a reentrant checkpoint; else {fix}"
            if asked else fix,
        )  # fmt: skip


def _differentiated_inside(facts: Facts) -> set[int]:
    """Leaves whose gradient the forward pass itself asks for, as gradient penalties do."""
    values: set[int] = set()
    for step in facts.flow.steps:
        if step.function in ("torch.autograd.grad", "Tensor.grad"):
            values.update(step.inputs)
    # requires_grad_() and in-place writes number the same tensor anew.
    for step in reversed(facts.flow.steps):
        if step.written and not values.isdisjoint(step.outputs):
            values.update(step.written)
    return values


def _asked_for(facts: Facts) -> set[int]:
    """The ends, and what some call computes with under autograd: there is a gradient to go somewhere."""
    return {*facts.ends} | {
        value
        for step in facts.flow.steps
        if step.grad and step.function not in (*DETACHING, *SWITCHES)
        for value in (*step.inputs, *step.written)
    }


def unused_leaves(facts: Facts, explained: Collection[str]) -> Iterator[Finding]:
    """GL104. That nothing reaches the output is said of leaves whose values were changed."""
    reached = facts.seen.reached
    unsure = {leaf.name for leaf in facts.lost if facts.seen.diagnosed and leaf.name not in facts.seen.dependence}
    rest = [leaf for leaf in facts.lost if leaf.name not in explained and leaf.name not in reached]
    sure = [leaf for leaf in rest if not facts.matters(leaf)]
    if facts.seen.graph is None:  # what is differentiated has no graph; other outputs may depend on the leaf
        sure = [leaf for leaf in sure if not facts.seen.dependence.get(leaf.name)]
    parameters = [leaf for leaf in sure if leaf.role == "parameter"]
    inputs = [leaf for leaf in sure if leaf.role != "parameter"]
    for level, leaves, what in (("warning", parameters, "parameter"), ("info", inputs, "input")):
        unused = [leaf for leaf in leaves if not facts.is_used(leaf)]
        known = [leaf for leaf in unused if leaf.name not in unsure]
        if known:
            yield _unused(
                facts, level, known, what, "is not used by the forward pass", "are not used by the forward pass"
            )
        if len(known) < len(unused):
            doubt = "; whether the output depends on {} was not measured"
            yield _unused(
                facts, level, [leaf for leaf in unused if leaf.name in unsure], what,
                f"is read by no call that was recorded{doubt.format('it')}",
                f"are read by no call that was recorded{doubt.format('them')}",
            )  # fmt: skip
        used = [leaf for leaf in leaves if facts.is_used(leaf) and facts.is_without_effect(leaf)]
        written = updated_leaves(facts) if used else set()
        followers = [leaf for leaf in used if leaf.name in written]
        if followers:
            yield _average(facts, followers, what)
        used = [leaf for leaf in used if leaf.name not in written]
        if used:
            yield _unused(
                facts, level, used, what,
                "is used, but nothing that was computed from it reaches what is differentiated",
                "are used, but nothing that was computed from them reaches what is differentiated",
            )  # fmt: skip


def _average(facts: Facts, leaves: list[LeafFact], what: str) -> Finding:
    """What the run writes the values of trained parameters into, and uses for nothing else, as an average of them."""
    finding = _unused(
        facts, "info", leaves, what,
        "is written over with values of trained ones, and nothing that was computed from it reaches what is "
        "differentiated",
        "are written over with values of trained ones, and nothing that was computed from them reaches what is "
        "differentiated",
    )  # fmt: skip
    return replace(finding, fix=f"nothing, if {'it is' if len(leaves) == 1 else 'they are'} an average or a copy that "
                   f"is used elsewhere; else {finding.fix}")  # fmt: skip


def _unused(facts: Facts, level: str, leaves: list[LeafFact], what: str, one: str, many: str) -> Finding:
    names = [leaf.name for leaf in leaves]
    claim = f"The {what} {names[0]} {one}." if len(names) == 1 else f"The {what}s {listed(names)} {many}."
    fix = "use it, remove it, or freeze it with requires_grad_(False)"
    if what == "parameter":
        fix += "; DistributedDataParallel needs find_unused_parameters=True for it"
    first_use = next((step for step in facts.flow.steps if leaves[0].value in step.inputs), None)
    where = facts.place(first_use) if first_use is not None else Place()
    return Finding("GL104", level, claim, where, {"leaves": names}, fix)


def unlisted_leaves(facts: Facts) -> Iterator[Finding]:
    """GL108."""
    kept = facts.seen.unlisted
    # What forward itself made and put there is another matter.
    leaves = [leaf for leaf in facts.wanted if leaf.name in kept and leaf.value is not None]
    leaves = [leaf for leaf in leaves if facts.is_unseen(leaf.value or 0)]
    for level, alone in (("warning", False), ("info", True)):
        names = [leaf.name for leaf in leaves if kept[leaf.name][1] == alone]
        if not names:
            continue
        places = [kept[name][0] for name in names]
        one = len(places) == 1
        them = "it" if one else "them"
        use = next(step for step in facts.flow.steps if facts.flow.leaves[names[0]] in step.inputs)
        fix = (
            "make tensors torch.nn.Parameters, and keep several of these in a ParameterList or ParameterDict, layers "
            "in a ModuleList or ModuleDict; or give them to the optimizer beside parameters()"
        )
        yield Finding(
            "GL108", level,
            f"{listed(places)} {'takes' if one else 'take'} part, and named_parameters() of the module does not list "
            f"{them}: an optimizer made of its parameters() does not train {them}, and state_dict() does not save "
            f"{them}.",
            facts.place(use), {"leaves": names, "kept_in": places},
            f"nothing, if {'it is' if one else 'they are'} hidden there on purpose; else {fix}" if alone else fix,
        )  # fmt: skip


def flat_gradients(facts: Facts) -> Iterator[Finding]:
    """GL105."""
    graph = facts.seen.graph
    if graph is None:
        return
    flat = {number for number, node in enumerate(graph.nodes) if node.op in FLAT_OPS}
    # A division has the derivative 0 only with a rounding mode, which shows when it is run.
    flat |= {number for number in facts.seen.zeroing if graph.nodes[number].op.startswith("DivBackward")}
    flat.update(facts.seen.constant)
    zero = {leaf.name for leaf in facts.wanted if leaf.gradient == "zero"}
    if not flat or not zero:
        return
    open_nodes = _reached_without(graph, flat)
    by_nodes: dict[tuple[int, ...], list[str]] = {}
    for name, node in facts.seen.reached.items():
        if name in zero and node not in open_nodes:
            by_nodes.setdefault(tuple(sorted(_last_flat(graph, flat, node))), []).append(name)
    yield from (_flat_finding(facts, nodes, names) for nodes, names in by_nodes.items())


def _flat_finding(facts: Facts, nodes: tuple[int, ...], names: list[str]) -> Finding:
    graph = facts.seen.graph
    assert graph is not None
    ops = sorted({graph.nodes[number].op for number in nodes})
    where = facts.place_of_node(nodes[0])
    level, why = "error", "whose derivative is 0 wherever it exists"
    fix = "pass the gradient straight through, x + (op(x) - x).detach(); or use a smooth op in its place"
    drawn = _DRAWN.get(ops[0].partition("Backward")[0])
    if drawn is not None:
        why, fix = "whose derivative torch sets to 0, as that of every draw", drawn
    if not set(nodes).isdisjoint(facts.seen.constant):
        why = "which normalises over a single entry, so that its result is the same for every input of this shape"
        fix = (
            "use sigmoid for a single logit, as in binary_cross_entropy_with_logits, or give the layer before it one "
            "output for each class"
        )
        if any(leaf.gradient == "value" for leaf in facts.wanted):  # as in attention to a sequence of one
            level, fix = "warning", f"nothing, if other inputs have more entries there; else {fix}"
    return Finding(
        "GL105", level,
        f"{receive(names)} a gradient that is 0 everywhere: every path leads through {listed(ops)}, {why}.",
        replace(where, nodes=nodes),
        {"leaves": names, "ops": ops}, fix,
    )  # fmt: skip


def _reached_without(graph: GradGraph, avoided: set[int]) -> set[int]:
    """The nodes that a gradient reaches without going through any of `avoided`."""
    reached = {output.node for output in graph.outputs} - avoided
    for edge in reversed(graph.edges):  # sorted by source, so that consumers come first
        if edge.source in reached and edge.target not in avoided:
            reached.add(edge.target)
    return reached


def _last_flat(graph: GradGraph, flat: set[int], leaf: int) -> set[int]:
    """The flat nodes that stand between a leaf and the output with no other flat node before them."""
    cone = {leaf}
    found = set()
    for edge in graph.edges:
        if edge.target in cone:
            if edge.source in flat:
                found.add(edge.source)
            else:
                cone.add(edge.source)
    return found

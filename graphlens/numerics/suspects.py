"""Calls that may have lost digits: which there are, and which true values it takes to judge them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphlens.capture.tape import Call, Tape
from graphlens.collector import paused_collector
from graphlens.graph import GradGraph
from graphlens.numerics.arguments import op_name
from graphlens.numerics.marks import MARKERS, Marks, Scan, kinds_for
from graphlens.numerics.shadow import is_float
from graphlens.numerics.study import targets_of

# Autograd's own reduction of what is no scalar: a number that nobody asked for.
REDUCED = "reduced by .sum()"
# What these kinds do to a result is told by the errors of their values; the others by the ops' own rounding.
THROUGH = ("ill-conditioned", "cancellation", "running cancellation")


@dataclass
class Candidate:
    """The calls of one op on one line, in one of the passes, that may have lost digits in one way.

    Attributes:
        kind: a key of `MARKERS`.
        name: of the aten op.
        calls: their places on the tape.
        values: what must be known exactly to judge them.
        scan: what was found out about the tape on the way.
    """

    kind: str
    name: str
    calls: list[int]
    scan: Scan
    values: set[int] = field(default_factory=set)

    def marks(self, call: int) -> Marks:
        """The entries of one call's results that are suspected; found again, as all of them take much memory."""
        return MARKERS[self.kind](self.scan.tape.calls[call], self.scan)


    def reads(self, call: Call) -> Sequence[int]:
        """What goes into a call; into a running sum its largest terms."""
        made = call.outputs[0]
        if self.kind == "running cancellation" and made is not None:
            return self.scan.running[made].largest(self.scan.tape)
        return call.inputs


def candidates(tape: Tape, graph: GradGraph) -> list[Candidate]:
    """All calls that may have lost digits, by kind, op and line of code, in the order of their first call."""
    with paused_collector():
        return _found(Scan(tape), graph)


def _found(scan: Scan, graph: GradGraph) -> list[Candidate]:
    tape = scan.tape
    found: dict[tuple[object, ...], Candidate] = {}
    cuts: dict[tuple[object, ...], set[int]] = {}
    for place, call in enumerate(tape.calls):
        name = op_name(call)
        kinds = kinds_for(name) if any(map(_is_value, call.outputs)) else []
        if not kinds or _is_reduction(graph, call.node):
            continue
        for kind in kinds:
            marks = MARKERS[kind](call, scan)
            if not marks:
                continue
            key = (kind, *_group(graph, call.node, name), call.backward, call.accumulates)
            candidate = found.setdefault(key, Candidate(kind, name, [], scan))
            candidate.calls.append(place)
            cuts.setdefault(key, set()).update(value for value, mask in marks.items() if bool(mask.all()))
    ends = [target.value for target in targets_of(tape)]
    for key, candidate in found.items():
        candidate.values = set(_needed(candidate, cuts[key], ends))
    return list(found.values())


def last_ones(scan: Scan, calls: Iterable[int], cuts: set[int], ends: Iterable[int]) -> list[int]:
    """Those of some calls from which a way leads to one of `ends` that no value in `cuts` lies on."""
    members, free = set(calls), set(ends)
    found = []
    for place in range(len(scan.reads) - 1, -1, -1):
        outputs = scan.tape.calls[place].outputs
        if free.isdisjoint(outputs):
            continue
        if place in members:
            found.append(place)
            if cuts.issuperset(value for value in outputs if value in free):
                continue
        free.update(scan.reads[place])
    return found[::-1]


def _needed(candidate: Candidate, cuts: set[int], ends: Iterable[int]) -> Iterator[int]:
    """Results of the calls that are not behind others of the same kind, and what those read."""
    tape = candidate.scan.tape
    if candidate.kind in THROUGH:
        for place in last_ones(candidate.scan, candidate.calls, cuts, ends):
            call = tape.calls[place]
            values = (*candidate.reads(call), *(value for value in call.outputs if value is not None))
            yield from (value for value in values if is_float(tape.tensors[value]))
    elif candidate.kind == "overflow":
        for place in candidate.calls:
            call = tape.calls[place]
            yield from call.inputs
            yield from (value for value in call.outputs if value is not None)
    elif candidate.kind == "underflow":
        for place in candidate.calls:
            yield from (value for value in tape.calls[place].outputs if value is not None)


def _is_value(value: int | None) -> bool:
    return value is not None


def _group(graph: GradGraph, node: int | None, name: str) -> tuple[object, ...]:
    """The op of a node and its line of code; of a call without a node its own name."""
    if node is None:
        return name, None
    found = graph.nodes[node]
    return found.op, found.source if found.source is not None else f"node {node}"


def _is_reduction(graph: GradGraph, node: int | None) -> bool:
    source = None if node is None else graph.nodes[node].source
    return source is not None and (graph.sources[source].file, graph.sources[source].function) == ("graphlens", REDUCED)

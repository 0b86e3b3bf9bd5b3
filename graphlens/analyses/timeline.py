"""A measured pass as spans of time: calls of modules around nodes, and a flame chart of it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphlens.graph import GradGraph, ModuleCall
from graphlens.records import CostRun

# A bar that is narrower than this share of the pass is summed up with its narrow neighbours.
_NARROW = 1 / 300
_MOST_BARS = 600
# A bar that is narrower than this share has no room for a name; so many of them in one row tell nothing.
_NAMED = 1 / 40
_MOST_NAMELESS = 40
_MOST_ROWS = 24  # of modules; what lies deeper stands below the last one
_NUMBER = re.compile(r"\d+")
REST = "…"  # the name of a bar that stands for what is too narrow to be shown


@dataclass(frozen=True)
class Span:
    """One node, or one stretch of one call of a module, in nanoseconds after the beginning of its pass.

    `node` is the node's number, None for a module; `call` the call that it is or was made in. What
    the engine does before the first node and after the last one has neither.
    """

    start: int
    length: int
    node: int | None
    call: int | None


@dataclass(frozen=True)
class Timeline:
    """One pass: its spans, each after those around it, and the nodes that were not timed."""

    spans: tuple[Span, ...]
    total: int
    untimed: tuple[int, ...]


def forward_timeline(graph: GradGraph) -> Timeline:
    """The forward ops in the order in which they ran, laid end to end; leaves have none."""
    numbers = [number for number, node in enumerate(graph.nodes) if node.kind != "leaf"]
    return _timeline(graph, numbers, [node.forward_ns for node in graph.nodes], 0, 0)


def backward_timeline(graph: GradGraph, order: Sequence[int], run: CostRun) -> Timeline:
    """The nodes in the order in which the backward pass ran them, laid end to end, between the engine's own time."""
    return _timeline(graph, order, [node.backward_ns for node in graph.nodes], run.before_ns, run.after_ns)


def _timeline(
    graph: GradGraph, order: Sequence[int], lengths: Sequence[int | None], before: int, after: int
) -> Timeline:
    chains = _chains(graph.calls)
    spans: list[Span] = []
    untimed: list[int] = []
    opened: list[tuple[int, int]] = []  # (call, start)
    if before:
        spans.append(Span(0, before, None, None))
    now = before

    def close(kept: int) -> None:
        while len(opened) > kept:
            call, start = opened.pop()
            spans.append(Span(start, now - start, None, call))

    for number, call in zip(order, _calls_in_order(graph, order), strict=True):
        length = lengths[number]
        if length is None:
            untimed.append(number)
            continue
        chain = () if call is None else chains[call]
        same = 0
        while same < min(len(opened), len(chain)) and opened[same][0] == chain[same]:
            same += 1
        close(same)
        opened.extend((entered, now) for entered in chain[same:])
        spans.append(Span(now, length, number, call))
        now += length
    close(0)
    if after:
        spans.append(Span(now, after, None, None))
    depth = {call: len(chain) for call, chain in enumerate(chains)}
    # Those around others first; a module before what it holds, also where that takes no time.
    spans.sort(key=lambda span: (span.start, -span.length, span.node is not None, depth.get(span.call or 0, 0)))
    return Timeline(tuple(spans), now + after, tuple(untimed))


def _calls_in_order(graph: GradGraph, order: Iterable[int]) -> Iterator[int | None]:
    """The module call of each node; a leaf has that of the node that ran before it, which it was waiting for."""
    last: int | None = None
    for number in order:
        node = graph.nodes[number]
        if node.kind != "leaf":
            last = node.call
        yield last


def _chains(calls: Sequence[ModuleCall]) -> list[tuple[int, ...]]:
    """Per call the calls that it lies in, the outermost first, and itself. Callers come before their calls."""
    chains: list[tuple[int, ...]] = []
    for number, call in enumerate(calls):
        chains.append((*(() if call.caller is None else chains[call.caller]), number))
    return chains


@dataclass(frozen=True)
class Bar:
    """A bar of a flame chart: nanoseconds after the beginning of the pass; row 0 is the whole pass.

    `kind` is "pass", "module", "op" or "custom", "engine" for what the engine does before the first
    node and after the last one, or "rest" for what is too narrow to be shown.
    `nodes` counts those that it stands for. `is_gathered` says that these did not follow one
    another: narrow bars of one name, among others, were put together. `lines` counts the nodes per
    line of code, places in the graph's `sources`.
    """

    name: str
    path: str
    kind: str
    row: int
    start: int
    length: int
    nodes: int
    is_gathered: bool
    lines: Counter[int]


@dataclass(frozen=True)
class Flame:
    """The bars of a flame chart, row by row, each row by time; `total` is in nanoseconds."""

    bars: tuple[Bar, ...]
    total: int
    nodes: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return 1 + max(bar.row for bar in self.bars)


@dataclass
class _Branch:
    name: str
    kind: str
    length: int = 0
    nodes: int = 0
    inner: list[_Branch] = field(default_factory=list)
    lines: Counter[int] = field(default_factory=Counter)
    is_gathered: bool = False


def flame(graph: GradGraph, order: Sequence[int], run: CostRun, name: str = "backward pass") -> Flame:
    """The backward pass as a flame chart: the whole pass, the parts of the modules' paths, the ops.

    Neighbours of one name are one bar. Neighbours that are too narrow to be seen, or many ops that are too
    narrow to be named, are put together by name, where modules that are numbered have one, "h.*", the longest
    first; and what is still too narrow is one bar called "…": the widths stay true, and the picture small.
    """
    root = _tree(graph, order, name)
    engine = [_Branch("engine", "engine", length) for length in (run.before_ns, run.after_ns)]
    root.inner = [branch for branch in (engine[0], *root.inner, engine[1]) if branch.length or branch.nodes]
    root.length += run.before_ns + run.after_ns
    narrow = _NARROW
    bars = list(_bars(root, narrow))
    while len(bars) > _MOST_BARS:
        narrow *= 1.5
        bars = list(_bars(root, narrow))
    bars.sort(key=lambda bar: (bar.row, bar.start))
    return Flame(tuple(bars), root.length, root.nodes)


def _tree(graph: GradGraph, order: Sequence[int], name: str) -> _Branch:
    paths = [tuple(itertools.islice(_parts(graph.calls, chain), _MOST_ROWS)) for chain in _chains(graph.calls)]
    root = _Branch(name, "pass")
    opened = [root]
    for number, call in zip(order, _calls_in_order(graph, order), strict=True):
        node = graph.nodes[number]
        if node.backward_ns is None:
            continue
        path = () if call is None else paths[call]
        same = 0
        while same < min(len(opened) - 1, len(path)) and opened[same + 1].name == path[same]:
            same += 1
        del opened[same + 1 :]
        for part in path[same:]:
            opened.append(_Branch(part, "module"))
            opened[-2].inner.append(opened[-1])
        parent = opened[-1]
        kind = "custom" if node.kind == "custom" else "op"
        if not parent.inner or (parent.inner[-1].name, parent.inner[-1].kind) != (node.op, kind):
            parent.inner.append(_Branch(node.op, kind))
        leaf = parent.inner[-1]
        for branch in (*opened, leaf):
            branch.length += node.backward_ns
            branch.nodes += 1
        if node.source is not None:
            leaf.lines[node.source] += 1
    return root


def _parts(calls: Sequence[ModuleCall], chain: Sequence[int]) -> Iterator[str]:
    """The names of the rows that a call stands below: the class of the outermost module, then the parts of its path."""
    outermost, innermost = calls[chain[0]], calls[chain[-1]]
    if not outermost.path:
        yield str(outermost)
    before = ""
    for part in filter(None, innermost.path.split(".")):
        # "h.11" says more than "11".
        yield f"{before}.{part}" if part.isdigit() and before else part
        before = part


def _bars(root: _Branch, narrow: float) -> Iterator[Bar]:
    least, named = root.length * narrow, root.length * max(narrow, _NAMED)
    stack: list[tuple[_Branch, int, int, str]] = [(root, 0, 0, "")]
    while stack:
        branch, row, start, path = stack.pop()
        yield Bar(
            branch.name, path, branch.kind, row, start, branch.length, branch.nodes, branch.is_gathered, branch.lines
        )
        if branch.length < least:
            continue
        below = path if branch.kind == "pass" else f"{path} › {branch.name}" if path else branch.name
        nameless = sum(inner.length < named for inner in branch.inner)
        for inner in _readable(branch.inner, least, named if nameless > _MOST_NAMELESS else least):
            stack.append((inner, row + 1, start, below))
            start += inner.length


def _readable(branches: Sequence[_Branch], least: float, named: float) -> Iterator[_Branch]:
    """The branches, with runs of narrow ones put together: modules below `least`, ops below `named`."""
    run: list[_Branch] = []
    for branch in branches:
        if branch.length >= (least if branch.kind == "module" else named):
            yield from _gathered(run, least)
            run = []
            yield branch
        else:
            run.append(branch)
    yield from _gathered(run, least)


def _gathered(run: Sequence[_Branch], least: float) -> Iterator[_Branch]:
    if len(run) < 2:
        yield from run
        return
    groups: dict[tuple[str, str], _Branch] = {}
    for branch in run:
        name = _NUMBER.sub("*", branch.name) if branch.kind == "module" else branch.name
        group = groups.get((name, branch.kind))
        if group is None:
            groups[name, branch.kind] = branch
            continue
        if not group.is_gathered:
            group = groups[name, branch.kind] = _copied(group, name)
        _take(group, branch)
    rest = _Branch(REST, "rest", is_gathered=True)
    for group in sorted(groups.values(), key=lambda group: (-group.length, group.name)):
        if group.length >= least:
            yield group
        else:
            _take(rest, group)
            rest.inner.clear()
    if rest.nodes:
        yield rest


def _copied(branch: _Branch, name: str) -> _Branch:
    """A branch of the same content that others can be put to."""
    copied = _Branch(name, branch.kind, is_gathered=True)
    _take(copied, branch)
    return copied


def _take(into: _Branch, branch: _Branch) -> None:
    into.length += branch.length
    into.nodes += branch.nodes
    into.inner.extend(branch.inner)
    into.lines.update(branch.lines)

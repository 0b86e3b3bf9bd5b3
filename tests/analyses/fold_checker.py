"""An independent judge of foldings: it compares iterations node by node, without the fold's own code."""

from __future__ import annotations

from collections import Counter, defaultdict

from graphlens.analyses.fold import Box, FoldedGraph, Group, Link, Path
from graphlens.graph import GradGraph


class Reader:
    """Looks, links and consumers of each node, read from the plain graph."""

    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        saved = defaultdict(list)
        for item in graph.saved:
            saved[item.node].append((item.slot, item.shape, item.dtype, item.device, item.view_bytes, item.packed))
        self.links: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.consumers: dict[int, list[int]] = defaultdict(list)
        for edge in graph.edges:
            for slot, port in zip(edge.slots, edge.ports, strict=True):
                self.links[edge.source][slot] = edge.target, port
                self.consumers[edge.target].append(edge.source)
        self.ends = Counter(output.node for output in graph.outputs)
        self.looks = [
            (*node._replace(seq=None, name=""), tuple(saved[number]), tuple(sorted(self.links[number])))
            for number, node in enumerate(graph.nodes)
        ]


def verify(folded: FoldedGraph) -> FoldedGraph:
    """Fail unless every merge is right: equal nodes, isomorphic iterations, nothing lost."""
    folded.check()
    reader = Reader(folded.graph)
    for box, members in folded.members.items():
        assert {reader.looks[member] for member in members} == {reader.looks[box]}
    functions = [number for number, node in enumerate(folded.graph.nodes) if node.kind != "leaf"]
    paths = {number: folded.path(number) for number in functions}
    places = Counter((folded.box_of[number], paths[number]) for number in functions)
    assert set(places.values()) <= {1}, "two nodes stand at the same place of the same iteration"
    instances: dict[tuple[object, ...], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number in functions:
        path = paths[number]
        for depth, (group, iteration) in enumerate(path):
            instances[(group, path[:depth])][iteration].append(number)
    seen = Counter()
    for (group, prefix), iterations in instances.items():
        steady = all(iteration >= folded.groups[outer].drawn for outer, iteration in prefix)
        drawn = all(iteration == folded.groups[outer].drawn for outer, iteration in prefix)
        seen[group] += 1
        _verify_instance(reader, folded.groups[group], iterations, steady, drawn)
    for group in folded.groups:
        outer = 1
        parent = group.parent
        while parent is not None:
            outer *= folded.groups[parent].count
            parent = folded.groups[parent].parent
        assert seen[group.number] == outer
    _verify_leaves(reader, folded)
    _verify_links(folded, paths)
    return folded


def _verify_instance(reader: Reader, group: Group, iterations: dict[int, list[int]], steady: bool, drawn: bool) -> None:
    count = len(iterations)
    assert count == group.count >= 2
    bodies = [sorted(iterations[k]) for k in range(count)]
    assert len({len(body) for body in bodies}) == 1
    where = {number: (k, offset) for k, body in enumerate(bodies) for offset, number in enumerate(body)}
    owners: dict[tuple[int, int], int] = {}
    renamed: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in bodies]
    owners_of_nodes: dict[int, int] = {}
    renamed_nodes: list[dict[int, int]] = [{} for _ in bodies]
    for offset, model in enumerate(bodies[-1]):
        for body in bodies:
            assert reader.looks[body[offset]] == reader.looks[model]
        for slot in reader.links[model]:
            sources = [reader.links[body[offset]][slot] for body in bodies]
            inside = where.get(sources[-1][0])
            if inside is not None:
                lag = count - 1 - inside[0]
                for k, (source, port) in enumerate(sources):
                    if k >= lag:
                        assert (where.get(source), port) == ((k - lag, inside[1]), sources[-1][1])
                    else:
                        assert source not in where
                        entry = (-1 - lag, inside[1] * 1000 + sources[-1][1])
                        assert renamed[k].setdefault(entry, (source, port)) == (source, port)
                continue
            assert all(source not in where for source, _ in sources)
            if not steady or len(set(sources)) == 1:
                continue
            assert len(set(sources)) == count, "some iterations share what others have of their own"
            nodes = [source for source, _ in sources]
            assert len(set(nodes)) == 1 or len({(reader.looks[n], port) for n, port in sources}) == 1
            for k, source in enumerate(sources):
                assert owners.setdefault(source, k) == k
                assert renamed[k].setdefault(sources[-1], source) == source
            if len(set(nodes)) > 1:  # two outputs of one node in one iteration are so in each
                for k, node in enumerate(nodes):
                    assert owners_of_nodes.setdefault(node, k) == k
                    assert renamed_nodes[k].setdefault(nodes[-1], node) == node
    # In a round that is not drawn, as the last one, results may go elsewhere: the links say so.
    if drawn:
        _verify_readers(reader, bodies, where)


def _verify_readers(reader: Reader, bodies: list[list[int]], where: dict[int, tuple[int, int]]) -> None:
    def readers(number: int) -> tuple[list[str], int]:
        outside = [reader.looks[c] for c in reader.consumers[number] if c not in where]
        return sorted(map(repr, outside)), reader.ends[number]

    for column in zip(*bodies[:-1], strict=True):
        assert all(readers(number) == readers(column[0]) for number in column)


def _verify_leaves(reader: Reader, folded: FoldedGraph) -> None:
    for box, members in folded.members.items():
        if folded.graph.nodes[box].kind != "leaf":
            continue
        uses = {
            member: Counter(
                (folded.box_of[c], slot)
                for c in set(reader.consumers[member])
                for slot, (source, _) in reader.links[c].items()
                if source == member
            )
            for member in members
        }
        assert all(use == uses[box] for use in uses.values())


def _verify_links(folded: FoldedGraph, paths: dict[int, Path]) -> None:
    """Each edge is drawn by a link that says how it passes each frame, and each link draws an edge."""
    links = defaultdict(list)
    for link in folded.links:
        links[link.earlier, link.later].append(link)
    used = set()
    for edge in folded.graph.edges:
        later, earlier = paths[edge.source], paths.get(edge.target, ())
        matching = [
            link
            for link in links[folded.box_of[edge.target], folded.box_of[edge.source]]
            if _draws(folded, link, earlier, later)
        ]
        assert matching, f"no link draws the edge {edge.source}→{edge.target}"
        used.update(matching)
    assert used == set(folded.links)


def _draws(folded: FoldedGraph, link: Link, earlier: Path, later: Path) -> bool:
    depth = 0
    while depth < min(len(earlier), len(later)) and earlier[depth] == later[depth]:
        depth += 1
    if depth < min(len(earlier), len(later)) and earlier[depth][0] == later[depth][0]:
        group, iteration = later[depth]
        return (link.carried_by, link.lag) == (group, iteration - earlier[depth][1])
    return link.carried_by is None and all(
        len(crossings) == len(path[depth:])
        and all(
            crossing.group == group and crossing.low <= iteration <= crossing.high
            for crossing, (group, iteration) in zip(crossings, path[depth:], strict=True)
        )
        for crossings, path in ((link.leaves, earlier), (link.enters, later))
    )


def outline(folded: FoldedGraph) -> str:
    """The folding as indented text."""
    lines = []
    for depth, item in folded.walk():
        if isinstance(item, Box):
            times = f" ×{item.copies}" if item.copies > 1 else ""
            lines.append(f"{'  ' * depth}{item.label}{times}")
        else:
            lines.append(f"{'  ' * depth}×{item.count} {item.label}")
    return "\n".join(lines)


def shape(folded: FoldedGraph) -> list[tuple[int, int | None]]:
    """(count, parent) of every group, parents first."""
    return [(group.count, group.parent) for group in folded.groups]

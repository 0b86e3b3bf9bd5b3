"""Where each node of a folded graph is drawn: the iterations it is in, the frames around it, and its box."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.analyses.fold import FoldedGraph, Group
from graphlens.analyses.module_frames import ModuleFrames
from graphlens.analyses.scene.records import Expansion, Frame, Key, Path, SceneArrow


def paths_of(folded: FoldedGraph, modules: ModuleFrames | None) -> list[Path]:
    """The iterations, and the calls of modules in frames, that each node is drawn in."""
    chains = _leaf_chains(folded)
    nodes = folded.graph.nodes
    # What is an output too, or an input, belongs to no module.
    apart = {output.node for output in folded.graph.outputs}
    apart |= {item.node for item in folded.graph.inputs if item.role == "input" and item.node is not None}
    consumers: dict[int, list[int]] = {}
    for source, target, _, _ in folded.graph.edges:
        if nodes[target].kind == "leaf":
            consumers.setdefault(target, []).append(source)
    paths: list[Path] = []
    for number, node in enumerate(nodes):
        if node.kind != "leaf":
            paths.append(folded.path(number) if modules is None else modules.paths[number])
            continue
        readers = consumers.get(number, [])
        if modules is None:
            readers = readers[:1]
        ways = [folded.path(reader) if modules is None else modules.paths[reader] for reader in readers]
        paths.append(_leaf_path(ways, chains[folded.box_of[number]], len(folded.groups), number in apart))
    return paths


def _leaf_path(ways: Sequence[Path], chain: frozenset[int], groups: int, apart: bool) -> Path:
    """The frames that a leaf lies in: those of its box, in the iteration of its first reader, and of modules.

    Args:
        ways: the path of each node that reads it.
        chain: the groups around its box.
        groups: how many groups there are; higher numbers are those of modules.
        apart: whether it lies in no module, but for one around its groups.
    """
    if not ways:
        return ()
    innermost = max((depth for depth, (number, _) in enumerate(ways[0]) if number in chain), default=-1)
    length = 0
    for depth, step in enumerate(ways[0]):
        if step[0] < groups:
            inside = step[0] in chain
        else:
            inside = (depth < innermost or not apart) and all(way[depth : depth + 1] == (step,) for way in ways)
        if not inside:
            break
        length += 1
    return ways[0][:length]


def _leaf_chains(folded: FoldedGraph) -> dict[int, frozenset[int]]:
    """For each drawn node the groups around it."""
    chains: dict[int, frozenset[int]] = {}
    around: list[int] = []
    for depth, item in folded.walk():
        del around[depth:]
        if isinstance(item, Group):
            around.append(item.number)
        else:
            chains[item.node] = frozenset(around)
    return chains


def key_of(folded: FoldedGraph, expansion: Expansion, path: Path, number: int) -> Key:
    """The place of the box that a node is drawn in."""
    frames: list[Frame] = []
    for group, iteration in path:
        if expansion.depth is not None and len(frames) >= expansion.depth:
            return Key(tuple(frames), "closed", group)
        if group in expansion.unrolled:
            frames.append(Frame(group, iteration))
        elif group in expansion.ends:
            if 0 < iteration < folded.groups[group].count - 1:
                return Key(tuple(frames), "middle", group)
            frames.append(Frame(group, iteration))
        else:
            frames.append(Frame(group, None))
    return Key(tuple(frames), "node", folded.box_of[number])


def levels(key: Key) -> int:
    """How many of the groups around a node the picture tells of; what happens inside a closed box it does not."""
    return len(key.frames) + (key.what == "closed")


def is_carried(earlier: Path, later: Path, expansion: Expansion) -> bool:
    """Whether an edge leads from one iteration to another of a group that is drawn once."""
    for (group, iteration), (other, next_iteration) in zip(earlier, later, strict=False):
        if group != other:
            return False
        if iteration != next_iteration:
            return group not in expansion.unrolled and group not in expansion.ends
    return False


def cross(arrow: SceneArrow, folded: FoldedGraph, earlier: Path, later: Path) -> None:
    """Note which iterations the frames that an edge crosses are in; the outermost ones tell."""
    out, into = (_outermost(folded, key.frames, len(arrow.around)) for key in (arrow.earlier, arrow.later))
    if out is not None and arrow.earlier.frames[out].iteration is None:
        arrow.left.add(earlier[out][1])
        arrow.left_count = folded.groups[earlier[out][0]].count
    if into is not None and arrow.later.frames[into].iteration is None:
        arrow.entered.add(later[into][1])
        arrow.entered_count = folded.groups[later[into][0]].count


def _outermost(folded: FoldedGraph, frames: tuple[Frame, ...], depth: int) -> int | None:
    """Which of the frames, from a depth on, is the first of a group; those of modules stand for no iteration."""
    return next((k for k in range(depth, len(frames)) if frames[k].group < len(folded.groups)), None)

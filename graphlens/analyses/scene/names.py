"""What groups and modules in a scene are called."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.analyses.fold import FoldedGraph
from graphlens.analyses.fold.labels import compact_label
from graphlens.analyses.module_frames import ModuleFrames
from graphlens.analyses.scene.records import Frame, Key, Path


def group_names(folded: FoldedGraph) -> dict[str, frozenset[int]]:
    """The names by which groups can be asked for: their labels, whole or compact, and "1", "2", … in order."""
    names: dict[str, frozenset[int]] = {}
    for group in folded.groups:
        for name in {group.label, compact_label(group.label), str(group.number + 1)}:
            names[name] = names.get(name, frozenset()) | {group.number}
    return names


class Names:
    """What the modules in a scene are called, by what they stand for in it."""

    def __init__(
        self, folded: FoldedGraph, modules: ModuleFrames | None, keys: Sequence[Key], paths: Sequence[Path]
    ) -> None:
        self.modules = modules
        self.calls: dict[tuple[Frame, ...] | Key, set[int]] = {}
        if modules is None:
            return
        for number, (key, path) in enumerate(zip(keys, paths, strict=True)):
            for depth, frame in enumerate(key.frames):
                if frame.group >= modules.first:
                    self.calls.setdefault(key.frames[: depth + 1], set()).add(path[depth][1])
            if key.what == "closed" and key.number >= modules.first:
                self.calls.setdefault(key, set()).add(path[len(key.frames)][1])
            elif key.what == "node" and number in modules.singles:
                self.calls.setdefault(key, set()).add(modules.singles[number])

    def of(self, place: tuple[Frame, ...] | Key) -> tuple[str, str, int]:
        """The path and the class of the module that a frame or a box shows, and how many calls of it; or nothing."""
        calls = sorted(self.calls.get(place, ()))
        return (*self.modules.named(calls), len(calls)) if self.modules is not None and calls else ("", "", 0)

    def kind(self, group: int) -> str:
        """The class of the module that each iteration of a group is a call of."""
        return "" if self.modules is None else self.modules.kinds.get(group, "")

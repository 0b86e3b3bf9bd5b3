"""Which call of which module is open: the names of modules, and a stack of their calls."""

from __future__ import annotations

from collections import Counter

import torch

from graphlens.graph import ModuleCall, printable


class ModuleNames:
    """Names modules as `named_modules()` of the outermost one does; one object may have several names.

    Args:
        subject: what is run. If it is a module its own path is ""; other modules that no module
            called are named by their class, "Linear" and "Linear#2".
    """

    def __init__(self, subject: object) -> None:
        self._names: dict[int, list[str]] = {}
        self._held: list[torch.nn.Module] = []  # so that no id is used again
        self._roots: Counter[str] = Counter()
        if isinstance(subject, torch.nn.Module):
            self._add(subject, "")

    def path(self, module: torch.nn.Module, caller: str | None) -> str:
        """The module's name; of several the one below its caller, e.g. encoder.embed inside encoder."""
        names = self._names.get(id(module))
        if names is None:
            kind = printable(type(module).__name__)
            if caller is None:
                self._roots[kind] += 1
                self._add(module, kind if self._roots[kind] == 1 else f"{kind}#{self._roots[kind]}")
            else:  # kept in a plain list, or made on the way: it has no name of its own
                self._held.append(module)
                self._names[id(module)] = [f"{caller}.({kind})" if caller else f"({kind})"]
            names = self._names[id(module)]
        inside = [name for name in names if caller and name.startswith(f"{caller}.")]
        return min(inside, key=len) if inside else names[0]

    def _add(self, root: torch.nn.Module, name: str) -> None:
        self._held.append(root)
        for inner, module in root.named_modules(remove_duplicate=False):
            path = ".".join(filter(None, (name, printable(inner))))
            self._names.setdefault(id(module), []).append(path)


class ModuleStack:
    """The calls of modules that are open on one thread; `table` is shared by all threads."""

    def __init__(self, names: ModuleNames, table: list[ModuleCall], counts: Counter[str]) -> None:
        self.open: int | None = None
        self._names = names
        self._table = table
        self._counts = counts
        self._stack: list[tuple[torch.nn.Module, int]] = []

    def enter(self, module: torch.nn.Module) -> None:
        """A module's forward begins."""
        caller = self.open
        path = self._names.path(module, None if caller is None else self._table[caller].path)
        self._counts[path] += 1
        self.open = len(self._table)
        self._table.append(ModuleCall(path, printable(type(module).__name__), self._counts[path], caller))
        self._stack.append((module, self.open))

    def leave(self, module: torch.nn.Module) -> None:
        """A module's forward has ended, or failed; one that failed may have left calls open above."""
        while self._stack:
            left, _ = self._stack.pop()
            if left is module:
                break
        self.open = self._stack[-1][1] if self._stack else None

"""Which call of which module is open: the names of modules, and a stack of their calls."""

from __future__ import annotations

import threading
from collections import Counter
from weakref import ref

import torch

from graphlens.graph import ModuleCall, printable


class ModuleNames:
    """Names modules as `named_modules()` of the outermost one does; one object may have several names.

    No module is kept alive: one that is made on the way may be large, and its id is used again.

    Args:
        subject: what is run. If it is a module its own path is ""; other modules that no module
            called are named by their class, "Linear" and "Linear#2".
    """

    def __init__(self, subject: object) -> None:
        self._names: dict[int, tuple[ref[torch.nn.Module], list[str]]] = {}
        self._kinds: Counter[str] = Counter()
        self.lock = threading.Lock()
        if isinstance(subject, torch.nn.Module):
            self._add(subject, "")

    def path(self, module: torch.nn.Module, caller: str | None, parent: torch.nn.Module | None = None) -> str:
        """The module's name; of several the one below its caller, e.g. encoder.embed inside encoder.

        Args:
            caller, parent: the path of the module that calls it, and that module.
        """
        names = self._known(module)
        if names is None:
            kind = printable(type(module).__name__)
            if caller is None:
                self._add(module, self._another(kind))
            else:
                if parent is not None:  # it may have been given the module after it was named
                    self._add(parent, caller)
                if self._known(module) is None:  # kept in a plain list, or made on the way
                    prefix = f"{caller}." if caller else ""
                    self._add(module, self._another(f"{prefix}({kind})"))
            names = self._known(module)
            assert names is not None
        if len(names) == 1 or caller is None:
            return names[0]
        inside = [name for name in names if not caller or name.startswith(f"{caller}.")]
        return min(inside, key=lambda name: name.count(".")) if inside else names[0]

    def _known(self, module: torch.nn.Module) -> list[str] | None:
        entry = self._names.get(id(module))
        return entry[1] if entry is not None and entry[0]() is module else None

    def _another(self, name: str) -> str:
        """`name`, or where it is taken `name#2`: (Linear) and (Linear#2) inside a module."""
        self._kinds[name] += 1
        count = self._kinds[name]
        if count == 1:
            return name
        return f"{name[:-1]}#{count})" if name.endswith(")") else f"{name}#{count}"

    def _add(self, root: torch.nn.Module, name: str) -> None:
        for inner, module in root.named_modules(remove_duplicate=False):
            path = ".".join(filter(None, (name, printable(inner))))
            names = self._known(module)
            if names is None:
                self._names[id(module)] = (ref(module), [path])
            elif path not in names:
                names.append(path)


class ModuleStack:
    """The calls of modules that are open on one thread; `table` is shared by all threads."""

    def __init__(self, names: ModuleNames, table: list[ModuleCall], counts: Counter[str]) -> None:
        self.open: int | None = None
        self._names = names
        self._table = table
        self._counts = counts
        self._stack: list[tuple[torch.nn.Module, int, int]] = []

    def __len__(self) -> int:
        return len(self._stack)

    def enter(self, module: torch.nn.Module, first: int = 0) -> None:
        """A module's forward begins; `first` is the sequence number of its first node."""
        parent = self._stack[-1][0] if self._stack else None
        caller = self.open
        with self._names.lock:
            path = self._names.path(module, None if caller is None else self._table[caller].path, parent)
            self._counts[path] += 1
            self.open = len(self._table)
            self._table.append(ModuleCall(path, printable(type(module).__name__), self._counts[path], caller))
        self._stack.append((module, self.open, first))

    def leave(self, module: torch.nn.Module) -> tuple[int, int] | None:
        """A module's forward has ended, or failed; one that failed may have left calls open above.

        Returns:
            Its call, and what `enter` was given; None if it was not entered.
        """
        ended = None
        if any(open_module is module for open_module, _, _ in self._stack):
            while self._stack:
                left, call, first = self._stack.pop()
                if left is module:
                    ended = call, first
                    break
        self.open = self._stack[-1][1] if self._stack else None
        return ended

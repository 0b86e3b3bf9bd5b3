"""The commands that a report advises to type next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from itertools import count
from pathlib import Path


@dataclass(frozen=True)
class Steps:
    """Builds commands about one target with the options that it was run with, quoted for a shell.

    Attributes:
        target: as the user typed it.
        settings: what was given with --set.
        options: others that say what the target is or where one looks, as --device meta.
    """

    target: str
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __call__(self, verb: str, *rest: str, output: str = "") -> str:
        """ "graphlens VERB TARGET --set … rest"; with `output` it writes a file, by a name that is free."""
        # Only a file can begin with a dash, which would be read as an option.
        target = f"./{self.target}" if self.target.startswith("-") else self.target
        sets = [word for setting in self.settings for word in ("--set", setting)]
        writes = ["-o", unused(output)] if output else []
        return shlex.join(("graphlens", verb, target, *sets, *self.options, *rest, *writes))


def unused(name: str) -> str:
    """The name, or one with a number that no file has: a command that writes refuses to replace one."""
    path = Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    return name if not os.path.lexists(name) else next(free for free in numbered if not os.path.lexists(free))

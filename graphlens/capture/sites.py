"""Which line of code made a call: the innermost frame of the user's own code."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType

import torch

import graphlens
from graphlens.graph import Source, printable

# What a frame's code belongs to, the better to be named the lower.
OWN, LIBRARY, FRAMEWORK, SILENT, STOP = range(5)
# The file and the line that stand for calls of torch by graphlens itself.
OURS = ("graphlens", 0)

_TORCH = str(Path(torch.__file__).parent) + os.sep  # torchvision lies in a folder that begins like it
_HOUSE = str(Path(graphlens.__file__).parent) + os.sep
_LESSONS = _HOUSE + "lessons" + os.sep
_STANDARD = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib")})
_SITES = ("site-packages", "dist-packages")
# The dispatcher's own frames say nothing; those of torch's modules say which layer it is.
_DISPATCH = ("overrides.py", "_contextlib.py", "grad_mode.py")


class Sites:
    """Numbers the lines of code that calls come from.

    A call's line is that of the innermost frame of the user's own code. Where there is none, as in
    a library's model that was not written by the user, it is the library's innermost frame; and
    torch's own only where there is nothing else.

    Args:
        stops: the functions that call the user's code; frames outside them are not looked at. One
            that calls torch itself comes with a few words on what it does, and is named then.
        stacks: number whole stacks, so that each line knows the line that called its function.
    """

    def __init__(self, stops: Mapping[CodeType, str], *, stacks: bool = False) -> None:
        # Per code of the user's own, keyed by id, and per place in it: the line's number. For looking
        # up without a call; empty if whole stacks are wanted, as they are not the same each time.
        self.lines: dict[int, dict[int, int]] = {}
        self._stops = {id(code): words for code, words in stops.items()}
        self._ranks: dict[int, int] = dict.fromkeys(self._stops, STOP)
        self._stacks = stacks
        # By id, as two functions with the same text are equal even if they come from two files.
        self._numbers: dict[tuple[int, int, int | None], int] = {}
        self._held: dict[int, CodeType] = {id(code): code for code in stops}

    def number(self, frame: FrameType | None) -> int | None:
        """The number of the line that `frame` stands at, or of the line to name instead."""
        ranks = self._ranks
        best, best_rank = None, SILENT
        here = frame
        while here is not None:
            code = here.f_code
            rank = ranks.get(id(code))
            if rank is None:
                rank = self._rank(here)
            if rank == OWN:
                best = here
                break
            if rank == STOP:
                if best is None and self._stops[id(code)]:
                    return self._place(code, 0, None)
                break
            if rank < best_rank:
                best, best_rank = here, rank
            here = here.f_back
        if best is None:
            return None
        if self._stacks:
            return self._place(best.f_code, best.f_lineno, self._caller(best))
        found = self._place(best.f_code, best.f_lineno, None)
        if best is here:  # the user's own
            self.lines.setdefault(id(best.f_code), {})[best.f_lasti] = found
        return found

    def decorator(self, code: CodeType, otherwise: int | None) -> int | None:
        """The number of the line of a function's decorator; `otherwise` if neither the user nor a library wrote it."""
        self._held[id(code)] = code
        return self._place(code, code.co_firstlineno, None) if is_outside(code) else otherwise

    def _rank(self, frame: FrameType) -> int:
        code = frame.f_code
        self._held[id(code)] = code
        rank = self._ranks[id(code)] = rank_of(code, frame.f_globals.get("__name__"))
        return rank

    def _place(self, code: CodeType, line: int, caller: int | None) -> int:
        return self._numbers.setdefault((id(code), line or 0, caller), len(self._numbers))

    def _caller(self, frame: FrameType) -> int | None:
        outer: list[FrameType] = []
        here = frame.f_back
        while here is not None:
            rank = self._ranks.get(id(here.f_code))
            if rank is None:
                rank = self._rank(here)
            if rank == STOP:
                break
            if rank <= LIBRARY:
                outer.append(here)
            here = here.f_back
        caller: int | None = None
        for each in reversed(outer):
            caller = self._place(each.f_code, each.f_lineno, caller)
        return caller

    def sources(self) -> list[Source]:
        """The lines by number, with their text."""
        return [self._source(*key) for key in list(self._numbers)]

    def _source(self, key: int, line: int, caller: int | None) -> Source:
        if self._stops.get(key):
            return Source(*OURS, self._stops[key])
        code = self._held[key]
        function = printable(getattr(code, "co_qualname", code.co_name).replace(".<locals>", ""))
        text = printable(linecache.getline(code.co_filename, line).strip())
        return Source(shown_path(code.co_filename), line, function, text, caller)


@lru_cache(maxsize=4096)
def shown_path(file: str) -> str:
    """A file as it is shown: relative to the working directory, or to where its package is installed."""
    if file.startswith("<"):
        return printable(file)
    path = Path(file)
    installed = (Path(*path.parts[: k + 1]) for k, part in enumerate(path.parts) if part in _SITES)
    for folder in (*installed, Path(_HOUSE).parent):
        if path.is_relative_to(folder):
            return printable(path.relative_to(folder).as_posix())
    try:
        return printable(path.relative_to(Path.cwd()).as_posix())
    except (ValueError, OSError):  # elsewhere, or the working directory is gone
        return printable(file)


def rank_of(code: CodeType, module: object = None) -> int:
    """What code belongs to, one of OWN, LIBRARY, FRAMEWORK, SILENT; `module` is the name of its module."""
    file = code.co_filename
    if file.startswith("<"):
        if file.startswith(("<frozen ", "<__array_function__")):
            return SILENT
        # What Python or torch.fx generates is named only if nothing else is; `python -c` is the user.
        return LIBRARY if file.startswith(("<string>", "<eval_with_key>")) and module != "__main__" else OWN
    if file.startswith(_LESSONS):
        return OWN
    if file.startswith(_TORCH):
        return SILENT if file.endswith(_DISPATCH) else FRAMEWORK
    if file.startswith(_HOUSE):
        return SILENT
    if any(part in _SITES for part in Path(file).parts):
        return LIBRARY
    return SILENT if file.startswith(_STANDARD) else OWN


def is_outside(code: CodeType) -> bool:
    """Whether code is the user's, or a library's that they use."""
    return rank_of(code) <= LIBRARY

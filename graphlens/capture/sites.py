"""Which line of code made a call: the innermost frame of the user's own code."""

from __future__ import annotations

import linecache
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

_TORCH = str(Path(torch.__file__).parent)
_HOUSE = str(Path(graphlens.__file__).parent)
_LESSONS = str(Path(_HOUSE, "lessons"))
_STANDARD = tuple({sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["platstdlib"]})
_SITES = ("site-packages", "dist-packages")
_COMPILER = str(Path("_dynamo", "eval_frame.py"))
_GENERATED = ("<frozen ", "<string>", "<__array_function__")


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
        self.compiled = False  # whether a frame of torch.compile was met
        self._ranks: dict[CodeType, int] = dict.fromkeys(stops, STOP)
        self._stops = stops
        self._stacks = stacks
        self._numbers: dict[tuple[CodeType, int, int | None], int] = {}

    def number(self, frame: FrameType | None) -> int | None:
        """The number of the line that `frame` stands at, or of the line to name instead."""
        ranks = self._ranks
        best, best_rank = None, SILENT
        here = frame
        while here is not None:
            code = here.f_code
            rank = ranks.get(code)
            if rank is None:
                rank = ranks[code] = _rank(code.co_filename)
                self.compiled |= code.co_filename.endswith(_COMPILER)
            if rank == OWN:
                best = here
                break
            if rank == STOP:
                if best is None and self._stops[code]:
                    return self._numbers.setdefault((code, 0, None), len(self._numbers))
                break
            if rank < best_rank:
                best, best_rank = here, rank
            here = here.f_back
        if best is None:
            return None
        key = (best.f_code, best.f_lineno, self._caller(best) if self._stacks else None)
        numbers = self._numbers
        found = numbers.get(key)
        if found is None:
            found = numbers[key] = len(numbers)
        return found

    def _caller(self, frame: FrameType) -> int | None:
        outer: list[FrameType] = []
        here = frame.f_back
        while here is not None and self._ranks.setdefault(here.f_code, _rank(here.f_code.co_filename)) != STOP:
            if self._ranks[here.f_code] <= LIBRARY:
                outer.append(here)
            here = here.f_back
        caller: int | None = None
        for each in reversed(outer):
            caller = self._numbers.setdefault((each.f_code, each.f_lineno, caller), len(self._numbers))
        return caller

    def sources(self) -> list[Source]:
        """The lines by number, with their text."""
        return [self._source(*key) for key in self._numbers]

    def _source(self, code: CodeType, line: int, caller: int | None) -> Source:
        if self._stops.get(code):
            return Source("graphlens", 0, self._stops[code])
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


def _rank(file: str) -> int:
    if file.startswith(_LESSONS):
        return OWN
    if file.startswith(_TORCH):
        # The dispatcher's own frames say nothing; those of torch's modules say which layer it is.
        return SILENT if file.endswith(("overrides.py", "_contextlib.py", "grad_mode.py")) else FRAMEWORK
    if file.startswith((_HOUSE, *_GENERATED)):
        return SILENT
    if any(part in _SITES for part in Path(file).parts):
        return LIBRARY
    if file.startswith(_STANDARD):
        return SILENT
    return OWN


def is_outside(code: CodeType) -> bool:
    """Whether code is the user's, or a library's that they use."""
    return _rank(code.co_filename) <= LIBRARY

"""The file of finished points that --keep names: a sweep that was interrupted goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphlens.analyses.sweep_points import Point, from_plain, to_plain
from graphlens.errors import OutputError
from graphlens.files import check_writable
from graphlens.limits import Truths
from graphlens.targets import Target

FORMAT = "graphlens-sweep/1"


class State:
    """Finished points by what they were measured with; a file of JSON lines, or nothing but this run's memory.

    Each line is written at once and whole, so that an interrupt leaves no part of one. The file is
    made with its first point.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.damaged: list[int] = []
        self._points: dict[str, Mapping[str, Any]] = {}
        self._is_new, self._ends_whole = True, True
        if path is not None:
            self._read(path)

    def __len__(self) -> int:
        return len(self._points)

    def find(self, key: Mapping[str, Any], options: Mapping[str, Any]) -> Point | None:
        """The point that was measured with exactly this."""
        plain = self._points.get(_text(key))
        return None if plain is None else from_plain(options, plain, is_kept=True)

    def add(self, key: Mapping[str, Any], point: Point) -> None:
        """Keep a finished point.

        Raises:
            OutputError: the system refused the write.
        """
        plain = to_plain(point)
        self._points[_text(key)] = plain
        if self.path is None:
            return
        lines = "" if self._ends_whole else "\n"  # a line that a crash cut off stays a line of its own
        if self._is_new:
            lines += f"{json.dumps({'format': FORMAT})}\n"
        lines += f"{json.dumps({'key': key, 'point': plain}, ensure_ascii=False, allow_nan=False)}\n"
        try:
            _append(self.path, lines.encode())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{self.path} cannot be written: {reason}; choose another file for --keep") from error
        self._is_new, self._ends_whole = False, True

    def _read(self, path: Path) -> None:
        check_writable(path, force=True)
        if not path.exists():
            return
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{path} cannot be read: {reason}; choose another file for --keep") from error
        if not data:
            return
        first, *rest = data.split(b"\n")
        if _loaded(first) != {"format": FORMAT}:
            raise OutputError(f"{path} is no file of a sweep's points, and is left as it is; choose another for --keep")
        self._is_new, self._ends_whole = False, data.endswith(b"\n")
        for number, line in enumerate(rest, 2):
            if not line.strip():
                continue
            document = _loaded(line)
            try:
                key, plain = document["key"], document["point"]
                if len(from_plain({}, plain).sides) != len(key["sides"]):
                    raise ValueError("no point of these targets")
                self._points[_text(key)] = plain
            except (ValueError, TypeError, KeyError):
                self.damaged.append(number)


def key_of(
    targets: tuple[Target, ...], options: tuple[Mapping[str, Any], ...], repeats: int, machine: Mapping[str, Any],
    truths: Truths | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a point's numbers depend on, as far as graphlens can see it.

    Args:
        machine: the versions of graphlens and torch, and the number of threads.
        truths: where true values come from, if errors were measured.
    """
    sides = [
        {
            "target": target.text,
            "source": _source(target),
            "options": {key: repr(value) for key, value in sorted(chosen.items())},
        }
        for target, chosen in zip(targets, options, strict=True)
    ]
    errors = {} if truths is None else {"reference": truths.method, "time_limit": truths.seconds}
    return {"sides": sides, "repeats": repeats, **machine, **errors}


def _source(target: Target) -> str | None:
    """A digest of the file that defines the factory; what that file imports is not part of it."""
    place: str | None = target.place
    if target.kind == "module":
        if "" not in sys.path:  # modules in the current folder can be named; they are looked for as when they are run
            sys.path.insert(0, "")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a.b imports a, which may print
                found = importlib.util.find_spec(target.place)
        except (Exception, SystemExit):  # what is wrong with it is told when it is run
            return None
        place = found.origin if found is not None else None
    if target.kind == "lesson" or place is None or not os.path.isfile(place):
        return None
    return hashlib.sha256(Path(place).read_bytes()).hexdigest()[:16]


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8, or no JSON
        return None


def _append(path: Path, data: bytes) -> None:
    """Append all of `data`, or nothing."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        before = os.fstat(handle).st_size
        written = os.write(handle, data)  # one call, which no interrupt cuts in two
        if written < len(data):
            os.ftruncate(handle, before)
            raise OSError(28, os.strerror(28))  # a disk that is full
    finally:
        os.close(handle)

"""Call a layout program on DOT text, within a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from graphlens.errors import DrawError

FORMATS = ("svg", "png", "pdf")
SECONDS = 60.0


@dataclass(frozen=True)
class LayoutProgram:
    """A program that takes dot's arguments; the embedded one writes no PDF."""

    path: str
    embedded: bool


def find_program() -> LayoutProgram:
    """Graphviz's `dot` from PATH, else the embedded renderer.

    Raises:
        DrawError: neither is there.
    """
    system = shutil.which("dot")
    if system is not None:
        return LayoutProgram(system, embedded=False)
    # The renderer's command lies beside the interpreter, also where that folder is not on PATH.
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    embedded = shutil.which("graphviz-pure", path=folders)
    if embedded is not None:
        return LayoutProgram(embedded, embedded=True)
    raise DrawError("no layout program found: install Graphviz, or `pip install graphviz-pure`; or write a .dot file")


def check_format(suffix: str) -> None:
    """Raise `DrawError` unless pictures of this ending (".svg") can be made here."""
    kind = suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise DrawError(f"a layout is made as one of {', '.join(FORMATS)}, not {suffix!r}")
    if kind == "pdf" and find_program().embedded:
        raise DrawError("PDF needs Graphviz's own `dot` on PATH: install Graphviz, or write .svg or .png")


def lay_out(dot: str, kind: str, *, seconds: float = SECONDS, dpi: int | None = None) -> bytes:
    """The picture of DOT text as "svg", "png" or "pdf".

    Raises:
        DrawError: the program failed, or took longer than `seconds`.
    """
    check_format(kind)
    program = find_program()
    command = [program.path, f"-T{kind}", *([f"-Gdpi={dpi}"] if dpi else [])]
    try:
        done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise DrawError(
            f"the layout took longer than {seconds:g} s and was stopped; draw a smaller graph, or write a .dot file"
        ) from error
    except OSError as error:
        raise DrawError(f"{program.path} cannot be run: {error.strerror}; reinstall it") from error
    if done.returncode != 0 or not done.stdout:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise DrawError(f"{Path(program.path).name} failed: {reason[-1] if reason else f'code {done.returncode}'}")
    return done.stdout

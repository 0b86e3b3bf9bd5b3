"""Call a layout program on DOT text, within a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
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


_LATIN = 0x24F  # the last letter of those that every font has
_MOST_LETTERS = 60  # that are looked at: each takes a hundredth of a second
_WITHOUT = "\ue000"  # stands for nothing in any font


def missing_letters(words: str) -> list[str]:
    """The letters in these words that a .png shows as empty boxes, since the embedded renderer has none; in order.

    Whatever fonts a reader has, an .svg shows them; and so does Graphviz's own `dot`, which takes the system's fonts.
    """
    program = find_program()
    letters = {letter for letter in words if ord(letter) > _LATIN}
    # What joins, spaces and marks has no shape of its own.
    rare = sorted(letter for letter in letters if unicodedata.category(letter)[0] not in "CMZ")
    if not program.embedded or not rare:
        return []
    empty = _letter(program, _WITHOUT)
    return [letter for letter in rare[:_MOST_LETTERS] if _letter(program, letter) == empty]


def _letter(program: LayoutProgram, letter: str) -> bytes:
    dot = f'digraph {{ node [shape=plaintext fontname="Arial"]; a [label="{letter}"] }}'
    done = subprocess.run(
        [program.path, "-Tpng"], input=dot.encode(), capture_output=True, timeout=SECONDS, check=False
    )
    return done.stdout

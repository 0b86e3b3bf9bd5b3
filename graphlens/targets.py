"""What the command line calls a target, told apart by its text alone, without torch."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from graphlens.errors import TargetError

# Named here too, so that a mistyped target need not import torch; a test compares the two.
LESSONS = ("soft-threshold", "wasteful", "hoisted", "efficient", "severed")


@dataclass(frozen=True)
class Target:
    """A parsed target.

    Attributes:
        text: as the user typed it.
        kind: "lesson", "module" (package.module:factory), "file" (file.py:factory) or "saved".
        place: the lesson's name, the module, or the path.
        factory: the name after the colon, empty for lessons and saved graphs.
    """

    text: str
    kind: str
    place: str
    factory: str = ""


def parse_target(text: str) -> Target:
    """Tell what kind of target the text names.

    Raises:
        TargetError: it names nothing that graphlens can run or load.
    """
    if text in LESSONS:
        return Target(text, "lesson", text)
    # From the right, because a path may hold a colon of its own (a drive letter).
    place, colon, factory = text.rpartition(":")
    if colon and place.endswith(".py"):
        if not os.path.isfile(place):
            raise TargetError(f"{text}: there is no file {place}; check the path")
        if not all(part.isidentifier() for part in factory.split(".")):
            raise TargetError(f"{text}: name a factory after the colon, as in {place}:build")
        return Target(text, "file", place, factory)
    if colon and all(part.isidentifier() for part in [*place.split("."), *factory.split(".")]):
        return Target(text, "module", place, factory)
    if text.lower().endswith(".json"):
        if not os.path.isfile(text):
            raise TargetError(f"{text}: there is no such saved graph; check the path")
        return Target(text, "saved", text)
    if text.endswith(".py"):
        raise TargetError(f"{text}: name a factory in it, as in {text}:build")
    close = difflib.get_close_matches(text, LESSONS, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise TargetError(
        f"unknown target {text!r}; {hint}a target is a lesson ({', '.join(LESSONS)}), "
        "package.module:factory, file.py:factory, or a saved graph.json"
    )


def parse_options(settings: Sequence[str]) -> dict[str, object]:
    """`["n=1000", "dtype=float32"]` as a mapping; values are Python literals, or bare words.

    Raises:
        TargetError: a setting is not KEY=VALUE, or its value cannot be parsed.
    """
    import ast

    options: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise TargetError(f"--set {setting!r:.80} is not of the form KEY=VALUE, as in --set n=1000")
        try:
            options[key] = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            if not value.replace("-", "_").replace(".", "_").replace("/", "_").isidentifier():
                raise TargetError(
                    f"--set {key}: {value!r:.80} is no Python literal; quote a text, as in --set {key}=\"'text'\""
                ) from error
            options[key] = value
    return options

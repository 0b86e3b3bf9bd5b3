"""The names that `import graphlens` promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import graphlens


@pytest.mark.parametrize("name", graphlens.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(graphlens, name)

    assert found.__name__ == name
    assert found.__doc__


def test_the_public_names() -> None:
    assert set(graphlens.__all__) >= {
        "GradGraph", "GraphlensError", "Subject", "Trace", "capture", "compare", "lesson", "load", "save", "stats",
        "trace",
    }  # fmt: skip


def test_type_checkers_are_told_the_same_names_and_homes() -> None:
    tree = ast.parse(Path(graphlens.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    told = {
        alias.asname: node.module for node in imports if node.module.startswith("graphlens") for alias in node.names
    }

    assert told == graphlens._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'graphlens' has no attribute 'captrue'"):
        _ = graphlens.captrue  # type: ignore[attr-defined]


def test_dir_lists_the_public_names() -> None:
    assert set(graphlens.__all__) <= set(dir(graphlens))


@pytest.mark.parametrize(
    "before",
    ["graphlens.capture", "graphlens.trace", "import graphlens.capture.trace", "from graphlens.capture import walk"],
)
def test_capture_stays_the_function_beside_a_folder_of_that_name(before: str) -> None:
    code = f"import graphlens\n{before}\nassert graphlens.capture.__module__ == 'graphlens.capture.build'"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")

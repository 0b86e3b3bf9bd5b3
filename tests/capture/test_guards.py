"""Lines that only guard, told from those that choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphlens.capture.guards import guarding_lines


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("assert x > 0\n", {1}),
        ("assert (\n    x > 0\n), 'no'\n", {1, 2, 3}),
        ("if x > 0:\n    raise ValueError\n", {1}),
        ("if x > 0: raise ValueError\n", {1}),
        ("if x > 0:\n    text = 'no'\n    raise ValueError(text)\nelse:\n    y = 1\n", {1}),
        ("if (\n    x > 0\n    or y\n):\n    raise ValueError\n", {1, 2, 3}),
        ("if a:\n    y = 1\nelif x > 0:\n    raise ValueError\n", {3}),
        ("if x > 0:\n    y = 1\n", set()),
        ("while x > 0:\n    raise ValueError\n", set()),
        ("if x > 0:\n    if y: raise ValueError\n    y = 1\n", {2}),
        ("if x >\n", set()),
    ],
)
def test_lines_that_guard(code: str, lines: set[int], tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(code)

    assert guarding_lines(str(file)) == lines


def test_a_file_that_is_not_there() -> None:
    assert guarding_lines("/nowhere/at/all.py") == frozenset()

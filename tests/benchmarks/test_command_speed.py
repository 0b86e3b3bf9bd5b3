"""Whole-process times of commands that should feel immediate. Run with `make bench`; nothing here gates the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphlens.storage import save
from tests.builders import captured, lesson_loss
from tests.cli.commands import spawn_cli


def test_help(benchmark) -> None:
    outcome = benchmark.pedantic(spawn_cli, ("--help",), rounds=10)

    assert outcome.code == 0


@pytest.mark.parametrize("verb", ["stats", "compare", "render"])
@pytest.mark.parametrize("n", [100, 10_000])
def test_saved_graph(benchmark, tmp_path: Path, verb: str, n: int) -> None:
    path = save(captured(lambda: lesson_loss("wasteful", n=n)), tmp_path / "graph.json")
    arguments = {"compare": (verb, path, path), "render": (verb, path, "-o", "-")}.get(verb, (verb, path))

    outcome = benchmark.pedantic(spawn_cli, arguments, rounds=5)

    assert (outcome.code, outcome.err) == (0, "")

"""Where the time goes from a program to its picture, and that layout does not depend on n."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import graphlens
from graphlens.analyses.compose import Wish, compose
from graphlens.analyses.fold import fold
from graphlens.analyses.scene import build_scene
from graphlens.graph import GradGraph
from graphlens.views.layout import lay_out
from graphlens.views.scene_dot import Look, scene_dot
from tests.builders import captured, lesson_loss


@cache
def wasteful(n: int) -> GradGraph:
    return captured(lambda: lesson_loss("wasteful", n=n))


def dot(n: int) -> str:
    return scene_dot(compose(wasteful(n), Wish()), Look())


STEPS: dict[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    "run and capture": lambda: (captured, (lambda: lesson_loss("wasteful", n=10_000),)),
    "fold": lambda: (fold, (wasteful(10_000),)),
    "scene": lambda: (build_scene, (fold(wasteful(10_000)),)),
    "layout": lambda: (lay_out, (dot(10_000), "svg")),
}


@pytest.mark.parametrize("step", STEPS)
def test_step(benchmark, step: str) -> None:
    function, arguments = STEPS[step]()
    assert benchmark.pedantic(function, args=arguments, rounds=3)


def test_program_to_file(benchmark, tmp_path: Path) -> None:
    path = tmp_path / "wasteful.svg"

    def draw() -> None:
        graphlens.render(captured(lambda: lesson_loss("wasteful", n=10_000)), path, force=True)

    benchmark.pedantic(draw, rounds=3)
    assert path.stat().st_size > 1_000


@pytest.mark.parametrize("n", [10, 100_000])
def test_layout_does_not_depend_on_n(benchmark, n: int) -> None:
    assert benchmark.pedantic(lay_out, args=(dot(n), "svg"), rounds=5)

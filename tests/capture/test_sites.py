"""Which line is named: whose code a frame is, and what is shown of it."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.sites import FRAMEWORK, LIBRARY, OWN, SILENT, Sites, rank_of, shown_path
from graphlens.graph import GradGraph, Source

PACKAGES = Path(torch.__file__).parent.parent


def code_in(file: str) -> CodeType:
    return compile("x = 1", file, "exec")


@pytest.mark.parametrize(
    ("file", "rank"),
    [
        ("/home/me/model.py", OWN),
        ("/home/me/torch/model.py", OWN),
        (f"{Path(graphlens.__file__).parent}_exercise/model.py", OWN),
        (f"{Path(graphlens.__file__).parent}/lessons/chain.py", OWN),
        (f"{Path(graphlens.__file__).parent}/capture/lane.py", SILENT),
        (f"{PACKAGES}/torch/nn/functional.py", FRAMEWORK),
        (f"{PACKAGES}/torch/overrides.py", SILENT),
        (f"{PACKAGES}/torchvision/models/resnet.py", LIBRARY),
        (f"{PACKAGES}/transformers/models/t5/modeling_t5.py", LIBRARY),
        ("/usr/lib/python3/dist-packages/numpy/core.py", LIBRARY),
        (os.__file__, SILENT),
        (f"{Path(os.__file__).parent}-mine/model.py", OWN),
        ("<frozen importlib._bootstrap>", SILENT),
        ("<__array_function__ internals>", SILENT),
        ("<string>", LIBRARY),
        ("<eval_with_key>.7", LIBRARY),
        ("<stdin>", OWN),
        ("<ipython-input-3-abc>", OWN),
        ("/tmp/ipykernel_17/123.py", OWN),
    ],
)
def test_whose_code_a_file_is(file: str, rank: int) -> None:
    assert rank_of(code_in(file)) == rank


def test_code_that_python_was_given_on_its_command_line_is_the_users_own() -> None:
    assert rank_of(code_in("<string>"), "__main__") == OWN
    script = "import torch, graphlens\nt = graphlens.trace(lambda x: x.exp(), torch.ones((), requires_grad=True))\n"
    script += "print(t.graph.sources[t.graph.nodes[-1].source])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "<string>:2 (<lambda>)\n", done.stderr


def test_how_files_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown_path.cache_clear()
    assert shown_path(str(tmp_path / "src" / "model.py")) == "src/model.py"
    assert shown_path("/elsewhere/model.py") == "/elsewhere/model.py"
    assert shown_path(f"{PACKAGES}/transformers/models/t5.py") == "transformers/models/t5.py"
    assert shown_path(f"{Path(graphlens.__file__).parent}/lessons/chain.py") == "graphlens/lessons/chain.py"
    assert shown_path("<stdin>") == "<stdin>"
    assert shown_path("/odd\u202e/model.py") == "/odd\\u202e/model.py"
    shown_path.cache_clear()


def made_at(graph: GradGraph | None) -> list[Source]:
    assert graph is not None
    return [graph.sources[node.source] for node in graph.nodes if node.source is not None]


def loaded(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    linecache.checkcache(str(path))
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(text, str(path), "exec"), names)
    return names


def test_two_files_with_the_same_text_are_told_apart(tmp_path: Path) -> None:
    """Python takes two such functions for equal: their file is no part of the comparison."""
    text = "def f(x):\n    return x.exp()\n"
    old, new = loaded(tmp_path / "old.py", text)["f"], loaded(tmp_path / "new.py", text)["f"]
    assert old.__code__ == new.__code__

    seen = graphlens.trace(lambda x: old(x) + new(x), torch.ones((), requires_grad=True))

    files = [Path(source.file).name for source in made_at(seen.graph)]
    assert files == ["old.py", "new.py", "test_sites.py"]


def test_functions_that_are_made_and_forgotten() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for k in range(50):
            names: dict[str, Any] = {}
            exec(compile("\n" * k + "def f(x): return x * 2", f"made_{k}.py", "exec"), names)
            x = names.pop("f")(x)
        return x

    seen = graphlens.trace(forward, torch.ones((), requires_grad=True))

    places = [(source.file, source.line) for source in made_at(seen.graph)]
    assert places == [(f"made_{k}.py", k + 1) for k in range(50)]


def test_the_line_of_a_call_over_several_lines_and_of_several_calls_in_one() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x.exp().sin() + x
        return torch.nn.functional.layer_norm(
            y,
            (2,),
        )

    seen = graphlens.trace(forward, torch.ones(2, requires_grad=True))

    start = forward.__code__.co_firstlineno
    lines = [source.line - start for source in made_at(seen.graph) if source.line]
    assert lines == [1, 1, 1, 2]
    assert made_at(seen.graph)[0].text == "y = x.exp().sin() + x"
    assert made_at(seen.graph)[0].function.endswith("forward")
    assert made_at(seen.graph)[-1] == Source("graphlens", 0, "reduced by .sum()")


def inner(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


def middle(x: torch.Tensor) -> torch.Tensor:
    return inner(x)


def outer(x: torch.Tensor) -> torch.Tensor:
    return middle(x) + inner(x)


def test_whole_stacks() -> None:
    seen = graphlens.trace(outer, torch.ones((), requires_grad=True), stacks=True)
    plain = graphlens.trace(outer, torch.ones((), requires_grad=True))

    def stack(node: Any) -> list[str]:
        names, number = [], node.source
        while number is not None:
            source = seen.graph.sources[number]
            names.append(source.function)
            number = source.caller
        return names

    assert [stack(node) for node in seen.graph.nodes[1:]] == [
        ["inner", "middle", "outer"],
        ["inner", "outer"],
        ["outer"],
    ]
    assert all(source.caller is None for source in plain.graph.sources)
    assert len(plain.graph.sources) == 2


def test_code_that_libraries_generate_is_named_only_where_nothing_else_is() -> None:
    Pair = namedtuple("Pair", "a b")

    def forward(x: torch.Tensor) -> torch.Tensor:
        return Pair(x.exp(), x).a

    (source,) = made_at(graphlens.trace(forward, torch.ones((), requires_grad=True)).graph)
    assert source.file.endswith("test_sites.py")

    traced = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(2, 1)))
    (own,) = {source.file for source in made_at(graphlens.trace(lambda x: traced(x).sum(), torch.ones(2)).graph)}
    assert own.endswith("test_sites.py")
    alone = {source.file for source in made_at(graphlens.trace(traced, torch.ones(2)).graph)}
    assert all(file.startswith(("<eval_with_key>", "torch/")) for file in alone)


def test_a_place_is_looked_up_once() -> None:
    sites = Sites({})
    asked: list[FrameType] = []

    def here() -> tuple[int | None, dict[int, int]]:
        frame = sys._getframe()
        asked.append(frame)
        return sites.number(frame), sites.lines[id(frame.f_code)]

    number, lines = here()
    assert number == 0
    assert list(lines.values()) == [0]
    assert here()[0] == 0
    assert [source.function for source in sites.sources()] == ["test_a_place_is_looked_up_once.here"]


def test_nothing_outside_the_users_code_is_named() -> None:
    def stop() -> int | None:
        return Sites({stop.__code__: ""}).number(sys._getframe())

    assert stop() is None

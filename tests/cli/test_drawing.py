"""graphlens render, from its arguments to the picture."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.commands import run_cli

SVG = "{http://www.w3.org/2000/svg}"
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
ENGINES = ["torchviz", "graphlens"]


@pytest.fixture(params=[pytest.param(True, marks=needs_dot), False], ids=["with dot", "without dot"])
def graphviz(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> bool:
    """Once with Graphviz's own program, once with the embedded one."""
    if not request.param:
        monkeypatch.setenv("PATH", str(folder))
    return request.param


def draw(target: str, path: str, *arguments: object) -> bytes:
    outcome = run_cli("render", target, "-o", path, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Wrote {path}: ")
    return Path(path).read_bytes()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["svg", "png", "pdf", "dot"])
def test_every_format(graphviz: bool, engine: str, kind: str) -> None:
    if kind == "pdf" and not graphviz:
        pytest.skip("PDF needs Graphviz's dot, and the refusal is tested elsewhere")
    start = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph"}

    data = draw("wasteful", f"picture.{kind}", "--engine", engine, "--set", "n=3")

    assert data.startswith(start[kind])


@pytest.mark.parametrize("engine", ENGINES)
def test_svg_is_well_formed_described_and_has_ids_of_its_own(graphviz: bool, engine: str) -> None:
    root = ElementTree.fromstring(draw("wasteful", "a.svg", "--engine", engine, "--set", "n=3"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]

    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text.strip()
    assert re.search(r"\d+ nodes", root.find(f"{SVG}desc").text)
    assert set(root.get("aria-labelledby").split()) <= set(ids)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("graphlens-wasteful") for name in ids)
    assert any("LinalgInv" in text for text in texts)
    assert {"A", "x", "M"} <= {text.split()[0] for text in texts if text.split()}


@needs_dot
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_target_gives_the_same_bytes(engine: str) -> None:
    for kind in ("svg", "dot"):
        first, second = (draw("wasteful", f"{name}.{kind}", "--engine", engine, "--set", "n=3") for name in "ab")
        assert first == second


@pytest.mark.usefixtures("folder")
def test_torchviz_draws_a_box_per_node() -> None:
    dot = draw("user.py:build", "a.dot", "--engine", "torchviz").decode()

    # x, its accumulator, two sines, the sum, the output; an arrow between each and the next.
    assert (dot.count("label="), dot.count("->")) == (6, 5)
    assert "a.dot" not in dot


@pytest.mark.usefixtures("folder")
def test_saved_graphs_are_drawn() -> None:
    assert "MvBackward0" in draw("small.json", "a.dot").decode() or "Mv" in Path("a.dot").read_text()
    ElementTree.fromstring(draw("wasteful.json", "a.svg"))


@pytest.mark.usefixtures("folder")
def test_text_goes_to_stdout() -> None:
    outcome = run_cli("render", "wasteful", "-o", "-", "--set", "n=10000")

    assert (outcome.code, outcome.err) == (0, "")
    assert "10,000" in outcome.out
    assert len(outcome.out.splitlines()) < 60
    assert not Path("-").exists()


@pytest.mark.usefixtures("folder")
def test_as_json_and_quietly() -> None:
    outcome = run_cli("render", "small.json", "-o", "a.dot", "--json")
    document = json.loads(outcome.out)

    assert (document["target"], document["file"], document["nodes"], document["edges"]) == ("small.json", "a.dot", 5, 5)
    assert run_cli("render", "small.json", "-o", "b.dot", "--quiet").out == ""


@needs_dot
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("graphlens", "<b>&amp;"),  # torchviz leaves Graphviz's entities as they are
        *[(engine, name) for engine in ENGINES for name in ('a"b', "größe 表", "{x|y}")],
    ],
)
def test_names_that_mean_something_to_graphviz(name: str, engine: str) -> None:
    Path("names.py").write_text(
        "import torch\n"
        "class Named(torch.nn.Module):\n"
        "    def forward(self, **inputs):\n        return sum(inputs.values()).sum()\n"
        f"def named():\n    return Named(), (), {{{name!r}: torch.ones(1, requires_grad=True)}}\n"
    )
    root = ElementTree.fromstring(draw("names.py:named", "a.svg", "--engine", engine, "--force"))

    shown = [text for element in root.iter(f"{SVG}text") for text in ["".join(element.itertext())]]
    assert any(name in text.replace("\xa0", " ") for text in shown)


@pytest.mark.usefixtures("folder")
def test_what_was_written_fits_into_80_columns_and_the_name_stays_whole() -> None:
    Path("a-folder-of-a-rather-long-name").mkdir()
    name = "a-folder-of-a-rather-long-name/a-picture-of-a-name-that-is-rather-long-too.svg"
    short, long = (run_cli("render", "wasteful.json", "-o", output).out for output in ("w.svg", name))

    assert re.fullmatch(r"Wrote w\.svg: 27 nodes, drawn by graphlens as \d+ boxes, what repeats drawn once\n", short)
    assert len(short) <= 80
    assert long.splitlines()[0] == f"Wrote {name}:"
    assert max(map(len, long.splitlines()[1:])) <= 80
    assert " ".join(long.split()).replace(name, "w.svg") == " ".join(short.split())


def test_letters_that_a_png_cannot_show_are_named(graphviz: bool) -> None:
    options = ("render", "wasteful", "--set", "n=30", "--title", "漢字 ✓ Ω → é ŷ")
    png, svg = run_cli(*options, "-o", "a.png"), run_cli(*options, "-o", "a.svg")
    said = "graphlens: a.png shows empty boxes in place of ✓ 字 漢: its renderer has no such letters; write a .svg\n"

    assert (png.code, png.err) == (0, "" if graphviz else said)
    assert (svg.code, svg.err) == (0, "")
    assert "漢字 ✓" in Path("a.svg").read_text(encoding="utf-8")

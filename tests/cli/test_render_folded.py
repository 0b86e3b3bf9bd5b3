"""graphlens render with each of its options, from the command line to the file."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import image

from graphlens.views import layout
from tests.cli.commands import run_cli
from tests.drawing import texts

pytestmark = pytest.mark.usefixtures("folder")


def draw(target: str, *arguments: object, path: str = "a.svg") -> str:
    """What stands in the picture."""
    outcome = run_cli("render", target, "-o", path, "--force", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    data = Path(path).read_bytes()
    return texts(data) if path.endswith(".svg") else data.decode()


def refusal(*arguments: object) -> str:
    outcome = run_cli("render", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    return outcome.err


def test_the_flagship() -> None:
    outcome = run_cli("render", "wasteful", "-o", "a.svg")
    boxes = int(re.search(r"Wrote a.svg: 30,015 nodes, drawn by graphlens as (\d+) boxes", outcome.out)[1])
    shown = texts(Path("a.svg").read_bytes())

    assert boxes <= 40
    assert "× 10,000 Mv · LinalgInvEx · Mv 30,000 nodes · 2.80 MB" in shown
    assert "carried [5]" in shown


def test_words_go_to_stdout() -> None:
    outcome = run_cli("render", "wasteful", "-o", "-", "--set", "n=70")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("wasteful: 225 nodes, ")
    assert "× 70 Mv · LinalgInvEx · Mv  (210 nodes, " in outcome.out
    assert draw("wasteful", "--set", "n=70", path="a.txt") == outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--expand", "first,last"], "iterations 2 … 29"),
        (["--expand", "all"], "iteration 30"),
        (["--expand", "1"], "iteration 30"),
        (["--expand", "Mv · LinalgInvEx · Mv"], "iteration 30"),
        (["--depth", "0"], "× 30 Mv · LinalgInvEx · Mv 90 nodes · saves 8.60 kB in all"),
        (["--max-nodes", "15"], "× 30 Mv · LinalgInvEx · Mv 90 nodes · saves 8.60 kB in all"),
        (["--heat", "count"], "the larger the share of all nodes, in percent"),
        (["--heat", "bytes"], "the larger the share of all saved bytes (storage), in percent"),
        (["--title", "A title"], "A title 105 nodes"),
        (["--caption", "A caption"], "A caption"),
        (["--focus", "50"], "5 of 105 nodes, at most 2 edges from node 50"),
        (["--focus", "50", "--radius", "0"], "1 of 105 nodes, at most 0 edges from node 50"),
        (["--path", "A"], "101 of 105 nodes, on the paths from A"),
    ],
)
def test_what_an_option_shows(options: list[str], words: str) -> None:
    plain = draw("wasteful", "--set", "n=30")
    assert words not in plain
    assert words in draw("wasteful", "--set", "n=30", *options)


def test_direction_and_theme() -> None:
    assert "dir=back" in draw("wasteful", "--set", "n=30", "--direction", "backward", path="a.dot")
    draw("wasteful", "--set", "n=30", "--theme", "dark")
    dark = Path("a.svg").read_text()
    draw("wasteful", "--set", "n=30")
    assert ("light-dark(" in dark, "light-dark(" in Path("a.svg").read_text()) == (False, True)


def test_dpi() -> None:
    widths = []
    for dpi in (60, 180):
        run_cli("render", "small.json", "-o", "a.png", "--force", "--dpi", dpi)
        widths.append(image.imread(io.BytesIO(Path("a.png").read_bytes())).shape[1])
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "engine", "how"),
    [
        (["efficient"], "graphlens", "drawn by graphlens as 15 boxes, nothing folded"),
        (["efficient", "--engine", "graphlens"], "graphlens", "as 13 boxes, what repeats drawn once"),
        (["efficient", "--engine", "torchviz"], "torchviz", "drawn raw by torchviz"),
        (["efficient", "--depth", "0"], "graphlens", "boxes, what repeats drawn once"),
        (["wasteful", "--set", "n=30"], "graphlens", "as 17 boxes, what repeats drawn once"),
        (["small.json"], "graphlens", "nothing folded"),
    ],
)
def test_a_small_graph_is_drawn_raw_unless_asked_otherwise(arguments: list[str], engine: str, how: str) -> None:
    said = run_cli("render", *arguments, "-o", "a.svg").out
    assert how in said
    assert json.loads(run_cli("render", *arguments, "-o", "a.svg", "--force", "--json").out)["engine"] == engine


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--engine", "torchviz", "--heat", "bytes"], "--heat goes with --engine graphlens"),
        (["--engine", "torchviz", "--theme", "dark"], "--theme goes with --engine graphlens"),
        (["--engine", "torchviz", "--path", "x"], "--path goes with --engine graphlens"),
        (["--engine", "torchviz", "--max-nodes", "3"], "--max-nodes goes with --engine graphlens"),
        (["--show-saved"], "--show-saved goes with --engine torchviz"),
        (["--radius", "3"], "--radius goes with --focus"),
        (["--dpi", "90"], "--dpi goes with a .png file"),
        (["-o", "-", "--json"], "--json says what was written"),
    ],
)
def test_an_option_without_effect_is_refused(arguments: list[str], why: str) -> None:
    outcome = run_cli("render", "efficient", "-o", "a.svg", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert why in outcome.err
    assert not Path("a.svg").exists()


def test_show_saved() -> None:
    plain = draw("efficient", "--engine", "torchviz", path="a.dot")
    saved = draw("efficient", "--engine", "torchviz", "--show-saved", path="b.dot")
    assert "fillcolor=orange" in saved
    assert "fillcolor=orange" not in plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["severed"], "phi"),
        (["soft-threshold", "--set", "y=5", "--engine", "graphlens"], "Sub"),
        (["efficient", "--engine", "graphlens"], "LinalgInvEx [5, 5] saves 200 B"),
        (["hoisted"], "× 10,000"),
    ],
)
def test_lessons(arguments: list[str], words: str) -> None:
    assert words in draw(*arguments)


def test_a_saved_graph_is_drawn_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['graphlens', 'render', 'wasteful.json', '-o', 'a.svg']\n"
        "from graphlens.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split()[-1] == "False"
    assert ElementTree.fromstring(Path("a.svg").read_bytes()).get("role") == "img"


def test_without_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert layout.find_program().embedded
    assert "× 30" in draw("wasteful", "--set", "n=30")


def test_refusals() -> None:
    Path("old.svg").write_text("precious")
    assert "old.svg exists; pass --force" in refusal("small.json", "-o", "old.svg")
    assert Path("old.svg").read_text() == "precious"
    chain = ["wasteful.json", "-o", "a.svg"]
    assert "there is no group 'nobody' to expand; there is 1 (" in refusal(*chain, "--expand", "nobody")
    assert "there is no node 999: nodes are numbered 0 to" in refusal(*chain, "--focus", "999")
    assert "no leaf called 'nobody'; it leads to w, x" in refusal("small.json", "-o", "a.svg", "--path", "nobody")
    assert "node 0 is not on the path asked for" in refusal(
        "small.json", "-o", "a.svg", "--path", "x", "--focus", "0"
    )
    assert "raise --max-nodes" in refusal(*chain, "--max-nodes", "2")
    assert not Path("a.svg").exists()


def test_heat_of_rounding_errors() -> None:
    done = run_cli("render", "wasteful", "--set", "n=50", "--heat", "error", "-o", "-")
    (inverse,) = re.findall(r"  \d+\. LinalgInvEx .*  (-?[\d.]+) % net", done.out)

    assert (done.code, done.err) == (0, "")
    assert "contributions to the rounding error of g, with their signs" in done.out
    assert 80 < float(inverse) < 120


def test_heat_of_errors_needs_a_run() -> None:
    run_cli("save", "efficient", "-o", "saved.json")
    done = run_cli("render", "saved.json", "--heat", "error", "-o", "-")

    assert done.code == 2
    assert done.err == (
        "graphlens: saved.json is a saved graph, which tells no values; name the target it was captured from\n"
    )


def test_what_had_to_be_closed_is_said() -> None:
    options = ("render", "wasteful", "--set", "n=70", "--group", "module")
    whole = run_cli(*options, "-o", "a.svg")
    boxes = int(re.search(r"as (\d+) boxes", whole.out)[1])
    closed = run_cli(*options, "-o", "b.svg", "--max-nodes", str(boxes - 1))

    assert "Closed" not in whole.out
    said = " ".join(closed.out.split())
    assert f"Closed, as open it takes {boxes} boxes: " in said
    assert said.endswith(f"; --max-nodes {boxes} opens them.")
    assert f"; --max-nodes {boxes} opens them." in Path("b.svg").read_text(encoding="utf-8")
    again = run_cli(*options, "-o", "c.svg", "--max-nodes", str(boxes))
    assert again.out == whole.out.replace("a.svg", "c.svg")

"""graphlens timeline, as people type it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")


def test_a_trace() -> None:
    done = run_cli("timeline", "wasteful", "--set", "n=50", "--repeats", "2", "-o", "trace.json")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Wrote trace.json: 165 nodes, ")
    assert "ui.perfetto.dev" in done.out
    document = json.loads(Path("trace.json").read_text())
    nodes = [event for event in document["traceEvents"] if event.get("cat") == "node" and event["tid"] == 2]
    assert len(nodes) == 165
    assert document["otherData"]["target"] == "wasteful"


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_chart(suffix: str) -> None:
    done = run_cli("timeline", "user.py:build", "--repeats", "1", "-o", f"chart{suffix}", "--quiet")

    assert (done.code, done.out, done.err) == (0, "", "")
    data = Path(f"chart{suffix}").read_bytes()
    if suffix == ".svg":
        assert "Backward pass of user.py:build" in ElementTree.fromstring(data)[0].text
    else:
        assert data.startswith(b"\x89PNG")


def test_json_on_stdout() -> None:
    done = run_cli("timeline", "efficient", "--repeats", "1", "-o", "chart.svg", "--json")
    found = json.loads(done.out)

    assert (found["target"], found["file"], found["nodes"]) == ("efficient", "chart.svg", 14)
    assert found["backward_ns"] > found["around_ns"]["before"] > 0
    assert found["backward"]["plain"]["repeats"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wasteful", "-o", "a.gif"), "a timeline is written as one of .json, .svg, .png, not a.gif"),
        (("wasteful", "-o", "a"), "a timeline is written as one of .json, .svg, .png, not a"),
        (("wasteful",), "Missing option '-o'"),
        (("small.json", "-o", "a.svg"), "small.json is a saved graph, which cannot be run"),
        (("user.py:detached", "-o", "a.svg"), "user.py:detached: no output has a backward graph"),
        (("user.py:raises", "-o", "a.svg"), "ValueError: planted"),
        (("wasteful", "-o", "a.svg", "--set", "m=1"), "wasteful has no option 'm'"),
        (("wasteful", "-o", "a.svg", "--repeats", "0"), "0 is not in the range"),
        (("wasteful", "-o", "missing/a.svg"), "the folder missing does not exist"),
        (("user.py:raises", "-o", "old.svg"), "old.svg exists; pass --force"),
        (("user.py:raises", "-o", "old.svg", "--force"), "ValueError: planted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_leaves_files(arguments: tuple[str, ...], message: str) -> None:
    Path("old.svg").write_text("mine")
    before = set(Path().iterdir())
    done = run_cli("timeline", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert Path("old.svg").read_text() == "mine"
    assert {path for path in Path().iterdir() if path.name != "__pycache__"} == before


def test_force_replaces() -> None:
    Path("old.svg").write_text("mine")

    assert run_cli("timeline", "efficient", "--repeats", "1", "-o", "old.svg", "--force").code == 0
    assert Path("old.svg").read_text() != "mine"

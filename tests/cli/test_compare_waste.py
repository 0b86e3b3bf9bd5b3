"""What compare says of work that is done in vain, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")


def test_the_slower_one_is_told_what_it_could_do_without() -> None:
    done = run_cli("compare", "wasteful", "efficient", "--set", "n=40", "--repeats", "1")
    _, _, waste = done.out.partition("What wasteful could do without")

    assert done.code == 0
    assert "GL201  inv(A) is computed 40 times from the same values." in waste
    assert "39 nodes" in waste
    assert "GL202" in waste
    assert "graphlens/lessons/chain.py" in waste
    assert "What efficient could do without" not in done.out
    assert "graphlens explain wasteful" in waste
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_holds_the_findings_of_each_side() -> None:
    found = json.loads(run_cli("compare", "wasteful", "hoisted", "--set", "n=20", "--repeats", "1", "--json").out)
    told = {(item["target"], item["code"]): item for item in found["why"] if item["code"].startswith("GL")}

    assert told["wasteful", "GL201"]["evidence"]["times"] == 20
    assert told["wasteful", "GL202"]["evidence"]["nodes"] == told["hoisted", "GL202"]["evidence"]["nodes"] == 40
    assert ("hoisted", "GL201") not in told
    assert told["wasteful", "GL201"]["evidence"]["backward_ns"] > 0
    assert told["wasteful", "GL201"]["where"]["source"].startswith("graphlens/lessons/chain.py")


def test_it_can_be_left_out() -> None:
    done = run_cli("compare", "wasteful", "efficient", "--set", "n=20", "--repeats", "1", "--no-waste")

    assert "GL2" not in done.out
    assert "graphlens stats wasteful" in done.out


def test_saved_graphs_are_not_looked_into() -> None:
    run_cli("save", "wasteful", "--set", "n=20", "-o", "graph.json")
    done = run_cli("compare", "graph.json", "efficient", "--repeats", "1")

    assert done.code == 0
    assert "GL2" not in done.out


def test_the_lines_of_a_finished_tensor_are_told() -> None:
    Path("twice.py").write_text(
        "import torch\n"
        "def build():\n"
        "    x = torch.rand(64, 64, requires_grad=True)\n"
        "    return (torch.linalg.inv(x) * torch.linalg.inv(x)).sum()\n"
    )
    found = json.loads(run_cli("compare", "twice.py:build", "efficient", "--repeats", "1", "--json").out)

    assert {item["where"]["source"] for item in found["why"] if item["code"] == "GL201"} == {"twice.py:4 (build)"}


def test_a_finished_tensor_is_the_same_for_every_verb() -> None:
    """What is made anew, so that its lines are seen, is made of the random numbers of the first time."""
    Path("drawn.py").write_text(
        "import torch\ndef build():\n    return (torch.rand(3, requires_grad=True) * torch.randn(3)).sum()\n"
    )
    found = json.loads(run_cli("compare", "drawn.py:build", "drawn.py:build", "--repeats", "0", "--json").out)
    ran = json.loads(run_cli("run", "drawn.py:build", "--json").out)

    assert found["a"]["loss"] == found["b"]["loss"] == ran["loss"]

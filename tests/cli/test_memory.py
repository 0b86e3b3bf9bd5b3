"""graphlens memory and --device meta, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")

BRANCH = """
import torch

def build():
    def forward(x):
        return x.exp() if x.sum() > 0 else x
    return forward, (torch.ones(3, requires_grad=True),)

def linear(*, side=1_000_000):
    return torch.nn.Linear(side, side), (torch.ones(1, side, requires_grad=True),)
"""


def test_the_ledger_the_process_and_the_peak() -> None:
    done = run_cli("memory", "wasteful", "--set", "n=200", "-o", "memory.svg")

    assert (done.code, done.err) == (0, "")
    assert "as 607 distinct storages" in done.out
    assert "in memory anyway (parameters, inputs, buffers)     440 B" in done.out
    assert "LinalgInvExBackward0" in done.out
    assert done.out.endswith("Wrote memory.svg\n")
    assert b"Kept for backward by wasteful" in Path("memory.svg").read_bytes()
    assert max(map(len, done.out.splitlines())) <= 80


def test_json() -> None:
    found = json.loads(run_cli("memory", "wasteful", "--set", "n=20", "--json", "--by", "source").out)
    stats = json.loads(run_cli("stats", "wasteful", "--set", "n=20", "--json").out)

    assert found["saved"]["storage_bytes"] == stats["saved"]["storage_bytes"]
    assert found["saved"]["views"] == stats["saved"]["bytes"]
    assert found["saved"]["kept"] == max(found["curve"]["backward"]) == found["curve"]["forward"][-1]
    assert len(found["curve"]["backward"]) == stats["nodes"] + 1
    assert sum(row["bytes"] for row in found["rows"]) == found["saved"]["kept"]
    assert any(row["key"].startswith("graphlens/lessons/chain.py:") for row in found["rows"])


def test_meta_predicts_what_stats_counts() -> None:
    target = "user.py:module_with_a_rather_long_name_of_its_own"
    for verb in (("stats",), ("stats", "--by", "module"), ("stats", "--tensors")):
        real = json.loads(run_cli(*verb, target, "--json").out)
        predicted = json.loads(run_cli(*verb, target, "--json", "--device", "meta").out)
        assert predicted == real
    real = json.loads(run_cli("memory", target, "--json").out)
    predicted = json.loads(run_cli("memory", target, "--json", "--device", "meta").out)
    assert predicted["growth"]["bytes"] is None
    assert predicted["growth"]["reason"] == "nothing is allocated with --device meta"
    assert {**predicted, "growth": None} == {**real, "growth": None}


def test_meta_goes_where_the_machine_cannot() -> None:
    Path("branch.py").write_text(BRANCH)
    done = run_cli("memory", "branch.py:linear", "--device", "meta")

    assert (done.code, done.err) == (0, "")
    assert "predicted without data: nothing was allocated or computed" in done.out
    assert "4.00 TB" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("memory", "wasteful", "-o", "a.gif"), "a curve is written as one of .svg, .png, not a.gif"),
        (("memory", "wasteful", "-o", "missing/a.svg"), "the folder missing does not exist"),
        (("memory", "user.py:raises", "-o", "old.svg"), "old.svg exists; pass --force"),
        (("memory", "small.json"), "small.json is a saved graph, which cannot be run"),
        (("memory", "user.py:detached"), "user.py:detached: no output has a backward graph"),
        (("memory", "user.py:raises"), "ValueError: planted"),
        (("memory", "wasteful", "--device", "cuda"), "'cuda' is not"),
        (("memory", "branch.py:build", "--device", "meta"), "a tensor's value is needed at branch.py:6, and there is"),
        (("stats", "branch.py:build", "--device", "meta"), "a tensor's value is needed at branch.py:6, and there is"),
        (("stats", "wasteful", "--set", "n=9", "--device", "meta"), "wasteful: a tensor's value is needed at soft_th"),
        (("stats", "small.json", "--device", "meta"), "small.json is a saved graph, which is not run"),
        (("stats", "wasteful", "--device", "meta", "--time"), "--device meta runs nothing that could be timed"),
        (("stats", "wasteful", "--device", "meta", "--sort", "time"), "--device meta runs nothing that could be timed"),
        (("stats", "wasteful", "--device", "meta", "--cost"), "--cost runs the target; leave out --device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_leaves_files(arguments: tuple[str, ...], message: str) -> None:
    Path("branch.py").write_text(BRANCH)
    Path("old.svg").write_text("mine")
    before = set(Path().iterdir())
    done = run_cli(*arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert Path("old.svg").read_text() == "mine"
    assert {path for path in Path().iterdir() if path.name != "__pycache__"} == before

"""graphlens stats by module and by line of code, as a user types it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

import graphlens
from graphlens.storage import save
from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("model")

MODEL = """\
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return x + self.linear(x).tanh()

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block() for _ in range(3))
        self.last = torch.nn.Linear(4, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        x = self.blocks[0](x)
        return self.last(x).mean()

def build():
    return Net(), (torch.ones(2, 4, requires_grad=True),)

def tensors():
    return torch.ones(2, requires_grad=True).exp().sum()
"""
TARGET = "model.py:build"


@pytest.fixture
def model(folder: Path) -> None:
    Path("model.py").write_text(MODEL)


def text(*arguments: object) -> str:
    outcome = run_cli("stats", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= 80
    return outcome.out


def rows(*arguments: object) -> dict[str, dict]:
    found = document(*arguments)
    assert sum(row["nodes"] for row in found["rows"]) == found["nodes"]
    assert sum(row["storage_bytes"] for row in found["rows"]) == found["saved"]["storage_bytes"]
    return {row["key"]: row for row in found["rows"]}


def document(*arguments: object) -> dict:
    outcome = run_cli("stats", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def refusal(*arguments: object) -> str:
    outcome = run_cli("stats", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    return outcome.err


def test_which_module_holds_what() -> None:
    found = rows(TARGET, "--by", "module")

    # T and Addmm of each call of the linear map, and its two leaves; block 0 is called twice.
    assert found["blocks.0.linear"]["nodes"] == 2 * 2 + 2
    assert found["blocks.1.linear"]["nodes"] == 2 + 2
    assert (found["blocks.0"]["nodes"], found["blocks.0"]["calls"]) == (2 * 2, 2)  # Tanh and Add
    assert found["(Net)"]["nodes"] == 1  # Mean
    assert (found["(inputs)"]["nodes"], found["(inputs)"]["calls"]) == (1, None)
    out = text(TARGET, "--by", "module")
    assert re.search(r"\nmodule +calls +nodes +saved +storages +share\n", out)
    assert re.search(r"\nblocks\.0\.linear +2 +6 ", out)


def test_paths_rolled_up() -> None:
    found = rows(TARGET, "--by", "module", "--depth", "1")

    assert (found["blocks"]["nodes"], found["blocks"]["calls"]) == (4 * 4 + 3 * 2, 4)
    assert "--depth goes with --by module" in refusal(TARGET, "--depth", "2")
    assert "--depth" in refusal(TARGET, "--by", "module", "--depth", "0")


def test_which_line_of_my_code_holds_the_memory() -> None:
    found = rows(TARGET, "--by", "source")

    assert found["model.py:9 (Block.forward)"]["nodes"] == 4 * (2 + 1 + 1)  # T, Addmm; Tanh; Add
    assert found["(leaves)"]["nodes"] == 1 + 4 * 2
    out = text(TARGET, "--by", "source", "--tensors")
    # Each call's input and result of tanh, of which an input is the sum that the call before made.
    assert re.search(r"\nfloat32\[2,4\] +\d+ B +×\d+  model\.py:9 \(Block\.forward\)\n", out)
    assert "\nSaved parameters (in memory anyway)\n" in out
    # Four calls save three weights of 64 bytes each.
    assert re.search(r"\nfloat32\[4,4\] +192 B +×4  model\.py:9 \(Block\.forward\)\n", out)


def test_tensors_as_json_and_csv() -> None:
    found = document(TARGET, "--by", "source", "--tensors")
    table = list(csv.DictReader(io.StringIO(run_cli("stats", TARGET, "--by", "source", "--tensors", "--csv").out)))

    assert sum(kind["storage_bytes"] for kind in found["tensors"]) == found["saved"]["storage_bytes"]
    assert [row["source"] for row in table] == [kind["key"] for kind in found["tensors"]]
    assert document(TARGET, "--by", "source")["tensors"] is None


def test_forward_times() -> None:
    found = document(TARGET, "--by", "module", "--time")

    assert found["forward_ns"] == sum(row["forward_ns"] or 0 for row in found["rows"]) > 0
    assert {row["key"] for row in found["rows"] if row["forward_ns"] is None} == {"(inputs)"}
    assert document(TARGET)["forward_ns"] is None
    out = text(TARGET, "--time")
    assert re.search(r"\nop +nodes +saved +views +storages +share +forward\n", out)
    assert "measured once" in " ".join(out.split())
    assert "forward" not in text(TARGET).split("Next:")[0]
    slowest = document(TARGET, "--sort", "time")["rows"]
    assert [row["forward_ns"] or 0 for row in slowest] == sorted(row["forward_ns"] or 0 for row in slowest)[::-1]
    header = run_cli("stats", TARGET, "--by", "module", "--time", "--csv").out.partition("\n")[0]
    assert header == "module,nodes,saved_tensors,saved_bytes,storage_bytes,not_available,calls,forward_ns"


def test_a_graph_that_knows_neither_modules_nor_lines_nor_times() -> None:
    for by in ("module", "source"):
        message = refusal("wasteful.json", "--by", by)
        assert f"counting by {by} needs to know where the nodes come from, and this graph does not" in message
        assert message.count("\n") == 1
    assert "wasteful.json tells no times: it is a saved graph of a run that was not timed" in refusal(
        "wasteful.json", "--time"
    )


def test_a_saved_graph_keeps_modules_lines_and_times() -> None:
    import sys

    sys.path.insert(0, "")
    try:
        import model

        save(graphlens.trace(*(lambda net, inputs: (net, *inputs))(*model.build()), times=True).graph, "saved.json")
    finally:
        sys.path.remove("")
        sys.modules.pop("model", None)

    for by in ("module", "source"):
        live, saved = rows(TARGET, "--by", by), rows("saved.json", "--by", by)
        assert {key: row["nodes"] for key, row in live.items()} == {key: row["nodes"] for key, row in saved.items()}
    assert document("saved.json", "--time")["forward_ns"] > 0


def test_many_rows_are_summed_up_and_told() -> None:
    Path("many.py").write_text(
        "import torch\n"
        "def build():\n"
        "    layers = [torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()) for _ in range(30)]\n"
        "    return torch.nn.Sequential(*layers), (torch.ones(1, 2),)\n"
    )
    out = text("many.py:build", "--by", "module")

    # 30 maps, 30 activations, and the sum outside: 39 rows and one for the others.
    assert re.search(r"\n\(22 more\) +\d+", out)
    assert "22 more are summed up in one row" in out
    assert "(22 more)" not in run_cli("stats", "many.py:build", "--by", "module", "--csv").out

"""What the README shows is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import graphlens
from graphlens.analyses.catalogue import PAGES
from graphlens.cli.app import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ graphlens ([^\n]*)\n(.*?)```", README, flags=re.DOTALL)
MEASURED = (
    # Said where the machine is busy; the README was written on an idle one.
    (r"Caution: the times are disturbed.*?Repeat on an idle machine\. ?", ""),
    (r"[\d.,]+ (ns|µs|ms|s)\b", "TIME"),  # times, and the ratios of times
    (r"[\d.,]+ × as long", "RATIO as long"),
    (r"(TIME TIME) [\d.,]+ ×", r"\1 RATIO"),
    (r"\d\.\d+e[-+]\d+", "SMALL"),  # rounding noise
    (r"[\d.]+ digits", "DIGITS"),
    (r"(TIME of both passes, )[\d.]+ %", r"\1SHARE"),
    (r"(\+SMALL SMALL) [\d.]+ %", r"\1 SHARE"),
    (r"\d+ threads?", "THREADS"),
)


def normalised(text: str) -> str:
    text = " ".join(text.split())
    for pattern, replacement in MEASURED:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_shown_output_is_what_the_command_prints(
    command: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app.main(command.split(), standalone_mode=False, prog_name="graphlens")
    printed = normalised(capsys.readouterr().out)
    # A line with "…" alone stands for lines left out.
    for number, piece in enumerate(re.split(r"^…\n", shown, flags=re.MULTILINE)):
        words = normalised(piece)
        assert printed.startswith(words) if number == 0 else words in printed
        printed = printed[printed.index(words) + len(words) :]


def test_the_tables_of_findings_list_every_code() -> None:
    assert re.findall(r"^\| (GL\d+) \|", README, flags=re.MULTILINE) == sorted(PAGES)


def test_normalising_leaves_counts_alone() -> None:
    assert normalised("nodes 30,015  2.80 MB 200 ms 129 µs 1,550 ×") == "nodes 30,015 2.80 MB TIME TIME RATIO"


def test_the_first_commands_are_the_two_that_set_everything_up() -> None:
    first = re.search(r"```console\n(.*?)```", README, flags=re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].strip().splitlines()] == ["make demo", "make test"]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(import graphlens.*?)```", README, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(3, 2)
    inputs = (torch.randn(4, 3),)
    names = {"model": model, "inputs": inputs, "loss": model(*inputs).sum()}
    names["other"] = graphlens.trace(graphlens.lesson("efficient"))
    exec(code[1], names)
    assert (tmp_path / "graph.svg").read_bytes().startswith(b"<?xml")
    assert graphlens.load(tmp_path / "graph.json") == names["graph"]

"""The commands after "Next:" work as they are typed, on the same target, and are not the one just run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from graphlens.cli.steps import Steps
from graphlens.views.opening import next_steps
from graphlens.views.table import to_text
from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")

WORD = """
import torch

def build(*, word="", n=2):
    x = torch.ones(3, requires_grad=True)
    for _ in range(n):
        x = x.exp().log()
    assert word == "it's a word", word
    return x.sum()
"""
QUOTED = ("two words/user.py:build", "--set", "word='it\\'s a word'")


def advised(report: str) -> list[list[str]]:
    """The commands after "Next:", each as a shell would split it."""
    text = report.partition("\nNext: ")[2].replace("\\\n", "")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.strip().startswith("graphlens")]


@pytest.mark.parametrize(
    "done",
    [
        ("run", *QUOTED, "--repeats", "0"),
        ("stats", *QUOTED),
        ("stats", *QUOTED, "--device", "meta"),
        ("stats", *QUOTED, "--cost", "--repeats", "1"),
        ("explain", *QUOTED, "--repeats", "1"),
        ("explain", *QUOTED, "--only", "waste", "--repeats", "1"),
        ("explain", *QUOTED, "--only", "rounding"),
        ("explain", *QUOTED, "--only", "waste", "--prove", "--repeats", "1"),
        ("memory", *QUOTED, "--device", "meta", "-o", "memory.svg"),
        ("memory", *QUOTED, "--device", "meta", "--by", "source"),
        ("compare", QUOTED[0], "user.py:build", "--set-a", QUOTED[2], "--set-b", "n=3"),
        ("compare", "small.json", *QUOTED, "--no-waste"),
        ("stats", "small.json"),
        ("stats", "small.json", "--tensors"),
        ("lessons",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_each_step_works_as_typed_and_is_another_one(done: tuple[str, ...]) -> None:
    Path("two words").mkdir()
    Path("two words/user.py").write_text(WORD)
    Path("graph.svg").write_text("there already")
    report = run_cli(*done)
    steps = advised(report.out)

    assert report.code == 0, report.err
    assert steps
    for step in steps:
        assert step != list(done)
        again = run_cli(*step)
        assert again.code == 0, (step, again.err)
        if "two words/user.py:build" in step:
            assert QUOTED[2] in step
            assert ("--device" in step) == ("--device" in done)
    assert Path("graph.svg").read_text() == "there already"


def test_a_program_without_a_graph_is_sent_to_check() -> None:
    for verb in (("run", "--repeats", "0"), ("explain",)):
        done = run_cli(verb[0], "user.py:detached", *verb[1:])
        assert advised(done.out) == [["check", "user.py:detached"]]
    refused = run_cli("render", "user.py:detached", "-o", "new.svg")
    assert "`graphlens check user.py:detached` says why" in refused.err


def test_what_has_no_waste_is_not_to_be_proved() -> None:
    done = run_cli("explain", "user.py:build", "--only", "waste", "--repeats", "1")

    assert advised(done.out)[0] == ["explain", "user.py:build"]


def test_words_are_quoted_and_files_get_a_free_name() -> None:
    follow = Steps("-my.json", ("name='a b'",))

    assert follow("render", output="g.svg") == """graphlens render ./-my.json --set 'name='"'"'a b'"'"'' -o g.svg"""
    Path("g.svg").touch()
    Path("g-2.svg").symlink_to("nowhere")
    assert follow("render", output="g.svg").endswith(" -o g-3.svg")


def test_a_long_command_goes_on_after_a_backslash() -> None:
    command = Steps("package.module:factory", ("word='two words'", "hidden=1000", "layers=12"))("stats", "--by", "op")
    text = to_text(next_steps([command], 60), width=60)

    assert max(map(len, text.splitlines())) <= 60
    assert text.count("\\\n") == 2
    assert advised(text) == [shlex.split(command)[1:]]
    long = "a" * 90
    assert f"      {long}" in to_text(next_steps([f"graphlens stats {long}"], 60), width=60).replace("\n ", "\n")


def test_the_way_out_of_a_graph_that_cannot_be_drawn_has_the_options_too() -> None:
    refused = run_cli("render", "user.py:build", "--set", "n=4000", "--engine", "torchviz", "-o", "deep.svg")
    command = refused.err.partition("`")[2].partition("`")[0]

    assert command == "graphlens save user.py:build --set n=4000 -o graph.graphml"
    assert run_cli(*shlex.split(command)[1:]).code == 0

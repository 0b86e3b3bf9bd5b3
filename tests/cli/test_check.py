"""graphlens check, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import graphlens
from graphlens.analyses.catalogue import PAGES
from tests.cli.commands import run_cli

CHAIN = Path(graphlens.__file__).parent / "lessons" / "chain.py"


def place_of(text: str) -> str:
    """The line of the lessons' code that holds `text`, as reports show it."""
    lines = CHAIN.read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return f"graphlens/lessons/chain.py:{number} "


def findings(*arguments: str) -> tuple[int, list[dict[str, object]]]:
    done = run_cli("check", *arguments, "--json")
    return done.code, json.loads(done.out)["findings"]


def test_severed_names_the_line_and_what_is_lost_there() -> None:
    code, found = findings("severed", "--set", "n=5")

    assert code == 1
    assert [item["code"] for item in found] == ["GL101", "GL102", "GL103", "GL103"]
    cut, fresh, above, below = found
    assert (cut["level"], cut["where"]["source"].startswith(place_of("return torch.tensor("))) == ("error", True)
    assert cut["evidence"]["lost"] == ["A"]
    assert cut["evidence"]["still_connected_by_other_paths"] == ["x", "M"]
    assert cut["evidence"]["outputs_that_change_with_it"]["A"]["g"] == [0, 1, 2, 3, 4]
    assert fresh["where"]["source"].startswith(place_of("return torch.zeros_like(y, requires_grad=True)"))
    assert above["where"]["source"].startswith(place_of("if y > T:"))
    assert (above["evidence"]["times"], below["evidence"]["times"]) == (5, 4)


def test_the_report_on_severed() -> None:
    done = run_cli("check", "severed", "--set", "n=5")

    assert done.code == 1
    assert "A     input      used, but its value leaves the graph before the output" in done.out
    assert "torch.tensor() copies the values into a" in done.out
    assert "fix: replace it by torch.stack([...])" in done.out
    assert "Found: 1 error, 1 warning, 2 info." in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("lesson", ["wasteful", "hoisted", "efficient", "soft-threshold"])
@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_sound_lessons_are_not_accused(lesson: str, form: str) -> None:
    options = ["--set", f"form={form}"] + ([] if lesson == "soft-threshold" else ["--set", "n=4"])
    code, found = findings(lesson, *options)

    assert code == 0
    assert {item["level"] for item in found} <= {"info"}
    assert {item["code"] for item in found} <= {"GL103", "GL104"}


def test_an_unused_input_is_said_as_what_it_is() -> None:
    code, found = findings("efficient", "--select", "gl104")

    assert code == 0
    assert [(item["level"], item["claim"]) for item in found] == [
        ("info", "The input A is not used by the forward pass.")
    ]


def test_select_and_ignore() -> None:
    severed = ("severed", "--set", "n=2")

    assert [item["code"] for item in findings(*severed, "--select", "GL102")[1]] == ["GL102"]
    assert findings(*severed, "--ignore", "GL101")[0] == 0
    assert findings(*severed, "--ignore", "GL1") == (0, [])
    assert findings(*severed, "--select", "GL10", "--ignore", "gl103")[0] == 1


@pytest.mark.parametrize("code", PAGES)
def test_every_code_has_its_page(code: str) -> None:
    done = run_cli("check", "--explain", code.lower())

    assert done.code == 0
    assert done.out.startswith(f"{code}  {PAGES[code].title}")
    assert "instead of" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'TARGET'"),
        (("severed", "--explain", "GL101"), "--explain takes no TARGET"),
        (("--explain", "GL999"), "there is no finding 'GL999'; there are GL101"),
        (("severed", "--select", "X"), "there is no finding 'X'"),
        (("severed", "--ignore", ""), "there is no finding ''"),
        (("no-such-lesson",), "no-such-lesson"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run_cli("check", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "user.py"
    file.write_text(
        "import torch\n"
        "def cut():\n"
        "    w = torch.ones(3, requires_grad=True)\n"
        "    total = (w * 2).sum()\n"
        "    return torch.tensor([float(total)]) * torch.ones(1, requires_grad=True)\n"
        "def sound():\n"
        "    return (torch.ones(3, requires_grad=True) * 2).sum()\n"
        "def written():\n"
        "    def forward(x):\n"
        "        y = x.exp()\n"
        "        y += 1\n"
        "        return y\n"
        "    return forward, torch.ones(3, requires_grad=True)\n"
        "def number():\n"
        "    return (lambda x: x.sum().item()), torch.ones(3, requires_grad=True)\n"
        "def fails():\n"
        "    return (lambda x: x @ torch.ones(4)), torch.ones(3, requires_grad=True)\n",
        encoding="utf-8",
    )
    return file


def test_a_factory_of_finished_tensors_is_watched_too(program: Path) -> None:
    code, (cut,) = findings(f"{program}:cut")

    assert (code, cut["code"]) == (1, "GL101")
    assert cut["where"]["source"].endswith("user.py:5 (cut)")
    assert cut["evidence"]["lost"] == [f"leaf made at {program}:3 (cut)"]
    assert findings(f"{program}:sound") == (0, [])


def test_a_backward_pass_that_fails_is_a_finding(program: Path) -> None:
    code, (found,) = findings(f"{program}:written")

    assert (code, found["code"]) == (1, "GL106")
    assert found["where"]["source"].endswith("user.py:11 (written.forward)")
    assert "modified by an inplace operation" in found["evidence"]["error"]


def test_a_program_that_returns_a_number(program: Path) -> None:
    code, found = findings(f"{program}:number")

    assert code == 1
    assert [item["code"] for item in found] == ["GL101", "GL106"]
    assert found[0]["claim"].startswith("x receives no gradient: .item() hands the value to Python")


def test_a_forward_pass_that_fails_is_the_users_error(program: Path) -> None:
    done = run_cli("check", f"{program}:fails")

    assert (done.code, done.out) == (2, "")
    assert "the forward pass failed at user.py:17" in done.err


def test_a_saved_graph_cannot_be_checked(tmp_path: Path) -> None:
    saved = graphlens.save(graphlens.trace(graphlens.lesson("efficient")), tmp_path / "graph.json")
    done = run_cli("check", saved)

    assert done.code == 2
    assert "is a saved graph, which cannot be run; name the target it was captured from" in done.err

"""Times that other programs disturbed are told, and steady ones are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphlens.analyses.comparison import compare_records
from graphlens.analyses.unrest import caution
from graphlens.capture.timing import timing
from graphlens.records import RunRecord, Timing
from graphlens.views.comparison_report import comparison_report
from graphlens.views.run_report import run_report
from tests.cli.commands import run_cli

STEADY = Timing(2.0, 1.0, 3.0, 5, 0.9)
WIDE = Timing(0.0935, 0.0015, 0.501, 5, 1.9)
WAITING = Timing(2.0, 1.9, 2.1, 5, 0.42)


@pytest.mark.parametrize("steady", [STEADY, Timing(1.0, 1.0, 1.0, 1), Timing(1.0, 0.9, 1.1, 5, 1.9), None])
def test_steady_times_need_no_caution(steady: Timing | None) -> None:
    assert caution({"forward": steady}) == ""


def test_what_disturbs_is_told_with_its_numbers() -> None:
    text = caution({"forward": STEADY, "backward": WIDE})

    assert text.startswith("Caution: the times are disturbed, as where other programs are running: backward took 1.5 ")
    assert text.endswith("ms to 501 ms. Repeat on an idle machine.")
    assert "forward" not in text
    assert "backward had a processor for 42.0 % of its time" in caution({"backward": WAITING})


def test_many_are_counted() -> None:
    text = caution([(f"point {k}", WIDE) for k in range(9)])

    assert "point 1" in text
    assert "point 2" not in text
    assert "7 times more like that" in text


def test_the_processors_share_is_that_of_the_runs_together() -> None:
    measured = timing([1.0, 3.0], [1.0, 0.0])

    assert measured is not None
    assert measured.processor == 0.25
    assert timing([1.0]).processor is None  # type: ignore[union-attr]


def test_reports_have_it_once() -> None:
    disturbed, calm = (RunRecord(name, None, forward=STEADY, backward=times) for name, times in
                       (("a", WIDE), ("b", STEADY)))  # fmt: skip
    for text in (run_report(disturbed), comparison_report(compare_records(disturbed, calm))):
        assert text.count("Caution: ") == 1
    for text in (run_report(calm), comparison_report(compare_records(calm, calm))):
        assert "Caution" not in text


SLEEPY = """
import time, torch

class Sleepy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        time.sleep(0.02)
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(0.02)
        return gradient * 2

def model():
    return (lambda x: Sleepy.apply(x).sum()), (torch.ones(3, requires_grad=True),)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "sleepy.py:model"),
        ("stats", "sleepy.py:model", "--cost", "--repeats", "2"),
        ("compare", "sleepy.py:model", "sleepy.py:model", "--no-waste"),
        ("explain", "sleepy.py:model", "--only", "waste", "--repeats", "2"),
        ("timeline", "sleepy.py:model", "-o", "t.json", "--force"),
    ],
)
def test_a_program_that_waits_is_told_in_every_report(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sleepy.py").write_text(SLEEPY)
    done = run_cli(*arguments)

    assert done.code == 0, done.err
    assert "Caution: the times are disturbed" in " ".join(done.out.split())
    notes = json.loads(run_cli(*arguments, "--json").out)["notes"]
    assert any(note.startswith("Caution: ") for note in notes)


def test_a_sweep_names_the_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sleepy.py").write_text(SLEEPY.replace("def model():", "def model(n=1):"))
    done = run_cli("sweep", "sleepy.py:model", "--over", "n=1,2", "--repeats", "2")

    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    assert "Caution: the times are disturbed" in text
    assert "of sleepy.py:model at n=1" in text
    assert "idle machine." in text
    assert "idle machine.." not in text

"""graphlens sweep, as people type it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.commands import Outcome, run_cli

USER = """
import os, signal
import torch

class Steps(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        if not isinstance(n, int):
            raise TypeError(f"n must be whole, got {n!r}")
        self.n = n
        self.weight = torch.nn.Parameter(torch.eye(3))

    def forward(self, x):
        if self.n == 3 and os.path.exists("interrupt"):
            raise KeyboardInterrupt
        if self.n == 4 and os.path.exists("sleep"):
            open("asleep", "w").close()
            __import__("time").sleep(60)
        if self.n == 5:
            torch.linalg.inv(torch.zeros(3, 3))
        if self.n == 6:
            torch.empty(10**15)
        if self.n == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(self.n):
            x = torch.tanh(self.weight @ x)
        print("planted print")
        return x

def steps(*, n=2, shape=(3,), pad="'"):
    return Steps(n), (torch.ones(shape, requires_grad=True),)

def finished(*, n=2):
    if n == 3:
        raise ValueError("planted")
    return (torch.ones(3, requires_grad=True) * torch.ones(n, 1)).sum()

def detached(*, n=2):
    return torch.nn.Linear(n, 1).requires_grad_(False), torch.ones(2, n)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("user.py").write_text(USER)
    return tmp_path


QUICK = ("--repeats", "0")


def text(*arguments: object) -> str:
    outcome = run_cli("sweep", *arguments)
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert all(character.isprintable() or character == "\n" for character in outcome.out)
    return outcome.out


def document(*arguments: object) -> dict:
    outcome = run_cli("sweep", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def refusal(*arguments: object) -> str:
    """The one line in which the command line refuses; no file is written or changed."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    outcome = run_cli("sweep", *arguments)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    lines = [line for line in outcome.err.splitlines() if line != "planted print"]
    assert len(lines) == 1
    assert lines[0].startswith("graphlens: ")
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
    return lines[0].removeprefix("graphlens: ")


def law(found: dict, quantity: str, target: str | None = None) -> dict:
    (one,) = [law for law in found["laws"] if law["quantity"] == quantity and target in (None, law["target"])]
    return one


# The numbers


def test_counts_are_those_of_stats() -> None:
    found = document("wasteful", "--over", "n=1,4,9", "--set", "d=3", *QUICK)

    for n, point in zip((1, 4, 9), found["points"], strict=True):
        stats = json.loads(run_cli("stats", "wasteful", "--set", f"n={n}", "--set", "d=3", "--json").out)
        side = point["target"]
        assert point["options"] == {"n": n}
        assert (side["nodes"], side["edges"], side["depth"]) == (stats["nodes"], stats["edges"], stats["depth"])
        assert side["saved_storage_bytes"] == stats["saved"]["storage_bytes"]
        assert side["time"] == {"forward": None, "backward": None}


def test_wasteful_has_three_nodes_more_for_each_round_and_efficient_has_14() -> None:
    found = document("wasteful", "--against", "efficient", "--over", "n=100,1000,10000", *QUICK)

    assert [point["target"]["nodes"] for point in found["points"]] == [315, 3015, 30015]
    assert {point["against"]["nodes"] for point in found["points"]} == {14}
    line = law(found, "nodes", "wasteful")["line"]
    assert (line["slope"], line["intercept"], line["exact"], line["points"]) == (3, 15, True, 3)
    assert law(found, "nodes", "wasteful")["power"]["exponent"] == pytest.approx(0.99, abs=0.01)
    constant = law(found, "nodes", "efficient")
    assert (constant["constant"], constant["power"], constant["line"]) == (14, None, None)


def test_differences_are_those_of_compare() -> None:
    found = document("wasteful", "--against", "efficient", "--over", "n=2,50", *QUICK)
    pair = json.loads(run_cli("compare", "wasteful", "efficient", "--set", "n=50", *QUICK, "--json").out)
    point = found["points"][1]

    assert point["output"]["max_abs_diff"] == pair["output"]["max_abs_diff"]
    gradients = {name: row for name, row in pair["gradients"].items() if row["max_abs_diff"] is not None}
    assert point["gradient"]["max_abs_diff"] == max(row["max_abs_diff"] for row in gradients.values())
    assert point["gradient"]["relative"] == max(row["relative"] for row in gradients.values())
    assert point["gradient"]["one_sided"] == {"A": pair["gradients"]["A"]["largest_of_one"]}
    assert point["target"]["loss"] == pair["a"]["loss"]


def test_times_of_both_targets() -> None:
    found = document("hoisted", "--against", "efficient", "--over", "n=1,2", "--repeats", "3")

    for point in found["points"]:
        for side in ("target", "against"):
            for timing in point[side]["time"].values():
                assert timing["repeats"] == 3
                assert 0 < timing["min"] <= timing["median"] <= timing["max"]


def test_the_report() -> None:
    out = text("wasteful", "--against", "efficient", "--over", "n=10,30,100", "--repeats", "1")

    assert out.startswith("wasteful against efficient over n ")
    for line in ("3·n + 15 exactly", "280·n + 728 exactly", "efficient nodes: constant, 14 nodes at all 3 points.",
                 "The gradient A has a value for one target only", "Growth along n\n"):  # fmt: skip
        assert line in out
    assert "d=5 T=3.14" in out


def test_a_grid_and_an_option_of_words() -> None:
    out = text("wasteful", "--over", "n=1,2,3", "--over", "dtype=float32,float64", *QUICK)

    assert "Growth along n, at dtype = float32" in out
    assert "Growth along n, at dtype = float64" in out
    assert "Along dtype no growth law is fitted: its values are not all numbers." in out


def test_csv() -> None:
    outcome = run_cli("sweep", "efficient", "--over", "n=10..30", *QUICK, "--csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))

    assert outcome.code == 0
    assert [(row["n"], row["nodes"], row["forward_median"]) for row in rows] == [("10", "14", ""), ("30", "14", "")]
    assert "n=10..30 stands for 10, 30" in outcome.err


def test_two_settings_of_one_target() -> None:
    found = document("wasteful", "--against", "wasteful", "--set-b", "form=vectorised", "--over", "n=1,2", *QUICK)

    assert (found["target"], found["against"]) == ("wasteful (a)", "wasteful (b)")
    assert found["points"][0]["against"]["options"]["form"] == "vectorised"


def test_values_of_any_kind() -> None:
    found = document("user.py:steps", "--over", "shape=(3,),(3,2)", "--over", "pad=a,'b,c'", "--set", "n=1", *QUICK)

    assert found["over"] == {"shape": ["(3,)", "(3, 2)"], "pad": ["a", "b,c"]}
    assert [point["options"]["pad"] for point in found["points"]] == ["a", "a", "b,c", "b,c"]


@pytest.mark.parametrize(
    ("over", "values", "note"),
    [
        ("n=30,10,20", [10, 20, 30], ""),
        ("n=10,30,10", [10, 30], "n: 10 was named more than once and is run once"),
        ("n=1..10", [1, 3, 10], "n=1..10 stands for 1, 3, 10: 1 and 3 times each power of ten, and both ends"),
        ("n=5,20..200", [5, 20, 30, 100, 200], "stands for 20, 30, 100, 200"),
        ("T=0.5..20", [0.5, 1.0, 3.0, 10.0, 20.0], "stands for 0.5, 1.0, 3.0, 10.0, 20.0"),
        ("n=1_0", [10], ""),
    ],
)
def test_lists_and_ranges(over: str, values: list, note: str) -> None:
    found = document("efficient", "--over", over, *QUICK)

    assert found["over"] == {over.partition("=")[0]: values}
    assert note in " ".join(found["notes"])
    assert bool(note) == bool(found["notes"])


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_plot_is_written(suffix: str) -> None:
    out = text("efficient", "--over", "n=1,2,3", *QUICK, "-o", f"growth.{suffix}")

    assert out.endswith(f"Wrote growth.{suffix}\n")
    assert Path(f"growth.{suffix}").stat().st_size > 1000


# Points that fail


def test_a_point_that_fails_is_told_at_its_row_and_the_others_go_on() -> None:
    out = text("user.py:steps", "--over", "n=1,2,5,6,9", *QUICK)

    assert [line.split()[0] for line in out.splitlines() if line.split()[1:] == ["failed"]] == ["5", "6"]
    assert "exactly" in out
    out = " ".join(out.split())
    assert "n = 5: user.py:steps: the forward pass failed at user.py:20" in out
    assert "singular" in out
    assert "n = 6: user.py:steps: the forward pass failed at user.py:22: RuntimeError" in out


def test_a_failed_point_in_the_documents() -> None:
    found = document("user.py:steps", "--over", "n=1,5", *QUICK)

    assert found["points"][0]["failure"] is None
    assert "singular" in found["points"][1]["failure"]
    assert found["points"][1]["target"] is None
    assert found["laws"][0]["note"].startswith("1 point (1 more without a value)")


def test_a_factory_of_finished_tensors_may_fail_at_a_point() -> None:
    out = text("user.py:finished", "--over", "n=2,3,4", "--repeats", "1")

    assert "n = 3: user.py:finished: the factory failed" in out
    assert "not measured" in out  # the forward pass is not seen


def test_where_no_point_succeeds() -> None:
    assert refusal("user.py:steps", "--over", "n=5", *QUICK, "-o", "a.svg", "--keep", "k.jsonl").startswith(
        "no point succeeded; at n=5: user.py:steps: the forward pass failed"
    )


def test_no_graph_is_no_failure() -> None:
    out = text("user.py:detached", "--over", "n=2,3", *QUICK)

    assert out.count("no graph") == 2


# Points that are kept


def test_an_interrupted_sweep_goes_on() -> None:
    arguments = ("user.py:steps", "--over", "n=1,2,3,4", *QUICK, "--keep", "state.jsonl")
    Path("interrupt").touch()
    outcome = run_cli("sweep", *arguments)

    assert (outcome.code, outcome.out) == (130, "")
    assert "graphlens: 2 of 4 points are kept in state.jsonl; the same command goes on from there" in outcome.err
    lines = Path("state.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"format": "graphlens-sweep/1"}
    assert len(lines) == 3

    Path("interrupt").unlink()
    found = document(*arguments)
    assert [point["kept"] for point in found["points"]] == [True, True, False, False]
    assert found["notes"] == ["2 of 4 points were taken over from state.jsonl"]
    del found["notes"]
    for point in found["points"]:
        point["kept"] = False
    fresh = document(*arguments[:-2])
    del fresh["notes"]
    assert found == fresh


def test_only_what_matches_is_taken_over() -> None:
    sweep = ("user.py:steps", "--over", "n=1,2", "--keep", "state.jsonl")

    def kept(*arguments: str) -> list[bool]:
        return [point["kept"] for point in document(*arguments)["points"]]

    assert kept(*sweep, *QUICK) == [False, False]
    assert kept(*sweep, *QUICK) == [True, True]
    assert kept(*sweep, "--repeats", "1") == [False, False]  # counted, but not timed so
    assert kept(*sweep, "--repeats", "1") == [True, True]
    assert kept(*sweep, *QUICK, "--set", "pad=x") == [False, False]
    assert kept("user.py:steps", "--over", "n=2,3", "--keep", "state.jsonl", *QUICK) == [True, False]
    text = Path("state.jsonl").read_text()
    Path("state.jsonl").write_text(text.replace('"threads": ', '"threads": 1'))
    assert kept(*sweep, *QUICK) == [False, False]
    Path("user.py").write_text(USER + "\n# edited\n")
    assert kept(*sweep, *QUICK) == [False, False]


def test_a_module_is_known_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.cli.sweep_state import key_of
    from graphlens.targets import parse_target

    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])

    def sources(*targets: str) -> list[str | None]:
        options: tuple[dict, ...] = ({},) * len(targets)
        return [side["source"] for side in key_of(tuple(map(parse_target, targets)), options, 3, {})["sides"]]

    first, second = sources("user:steps", "user.py:steps")
    assert first == second is not None
    assert sources("wasteful", "no_such_module:build", "no_such_package.module:build") == [None, None, None]


def test_damaged_lines_are_ignored_with_a_warning() -> None:
    sweep = ("user.py:steps", "--over", "n=1,2,3", *QUICK, "--keep", "state.jsonl")
    document(*sweep)
    header, first, second, third = Path("state.jsonl").read_text().splitlines()
    empty = json.dumps({**json.loads(second), "point": {**json.loads(second)["point"], "sides": []}})
    damaged = [second.replace('"nodes":', '"knots":'), empty, third[:-20]]
    Path("state.jsonl").write_text("\n".join([header, first, *damaged]))

    outcome = run_cli("sweep", *sweep, "--json")

    assert outcome.code == 0
    assert "graphlens: warning: state.jsonl: damaged lines are ignored: 3, 4, 5" in outcome.err
    assert [point["kept"] for point in json.loads(outcome.out)["points"]] == [True, False, False]
    # The line that was cut off stays one line of its own, and the new ones can be read.
    assert [point["kept"] for point in document(*sweep)["points"]] == [True, True, True]


@pytest.mark.parametrize("content", [b"my notes\n", b'{"format": "graphlens-sweep/9"}\n', b"\xff\xfe", b"[" * 100_000])
def test_a_file_of_something_else_is_left_alone(content: bytes) -> None:
    Path("mine.jsonl").write_bytes(content)

    assert "mine.jsonl is no file of a sweep's points, and is left as it is" in refusal(
        "efficient", "--over", "n=1,2", "--keep", "mine.jsonl"
    )


def test_an_empty_file_is_taken() -> None:
    Path("state.jsonl").touch()
    document("efficient", "--over", "n=1,2", *QUICK, "--keep", "state.jsonl")

    assert len(Path("state.jsonl").read_text().splitlines()) == 3


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "graphlens", "sweep", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c(jobs: str) -> None:
    Path("sleep").touch()
    process = start("user.py:steps", "--over", "n=1,4", *QUICK, "--keep", "state.jsonl", "--jobs", jobs)
    end = time.monotonic() + 60
    while not (Path("asleep").exists() and Path("state.jsonl").exists()):
        assert time.monotonic() < end
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (130, b"")
    assert b"1 of 2 points are kept in state.jsonl" in err
    assert b"Traceback" not in err
    assert Path("state.jsonl").read_text().endswith("\n")
    if jobs == "2" and Path("/proc").exists():
        places = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        assert not any(_works_in(place, Path.cwd()) for place in places)


def _works_in(place: Path, folder: Path) -> bool:
    try:
        return (place / "cwd").resolve() == folder and b"graphlens.sweeping" in (place / "cmdline").read_bytes()
    except OSError:
        return False


# Several at a time


def test_jobs_give_the_same_numbers_and_times_afterwards() -> None:
    sweep = ("user.py:steps", "--over", "n=1,2,7", "--keep", "state.jsonl")
    found = document(*sweep, "--jobs", "3", "--repeats", "1")
    alone = document("user.py:steps", "--over", "n=1,2", *QUICK)

    for point, other in zip(found["points"], alone["points"], strict=False):
        for key in ("nodes", "edges", "depth", "saved_storage_bytes", "loss", "options"):
            assert point["target"][key] == other["target"][key]
        assert point["target"]["time"]["forward"]["repeats"] == 1
    assert "its process was ended by signal 9" in found["points"][2]["failure"]
    assert found["notes"] == ["Times were taken afterwards, one point at a time, so that no other point disturbed them"]
    again = document("user.py:steps", "--over", "n=1,2", "--keep", "state.jsonl", "--repeats", "1")
    assert [point["kept"] for point in again["points"]] == [True, True]


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wasteful",), "Missing option '--over'"),
        (("wasteful", "--over", "m=1,2"), "wasteful has no option 'm'; its options are n=10000, d=5"),
        (("wasteful", "--over", "n"), "--over 'n' is not of the form KEY=V1,V2,…"),
        (("wasteful", "--over", "n="), "--over n lists no value; name some, as in --over n=10,100,1000"),
        (("wasteful", "--over", "n=1,,2"), "--over n: a value is missing in '1,,2'"),
        (("wasteful", "--over", "n=1,2,"), "--over n: a value is missing in '1,2,'"),
        (("wasteful", "--over", "n=1,000"), "--over n: '000' begins with 0; write a thousand as 1000 or 1_000"),
        (("wasteful", "--over", "n=1 +,2"), "--over n: '1 +' is no Python literal"),
        (("wasteful", "--over", "n=1e999"), "--over n: '1e999' is not finite"),
        (("wasteful", "--over", "n=10..1"), "--over n: '10..1' is no range of numbers above 0"),
        (("wasteful", "--over", "n=0..10"), "--over n: '0..10' is no range of numbers above 0"),
        (("wasteful", "--over", "n=a..b"), "--over n: 'a..b' is no range of numbers above 0"),
        (("wasteful", "--over", "n=1..2..3"), "--over n: '1..2..3' is no range"),
        (("wasteful", "--over", "n=1,2", "--over", "n=3"), "--over n is given twice"),
        (("wasteful", "--over", "n=1,2", "--set", "n=3"), "--over and --set both name n; leave one of them out"),
        (("wasteful", "--over", "n=-1,10"), "wasteful: n must be a whole number ≥ 0, got -1 (at n=-1)"),
        (("wasteful", "--over", "n=1.5"), "wasteful: n must be a whole number ≥ 0, got 1.5"),
        (("wasteful", "--over", "dtype=float32,int8"), "dtype must be one of 'float64', 'float32', got 'int8'"),
        (("user.py:steps", "--over", "n=1,x"), "TypeError: n must be whole, got 'x' (at n=x)"),
        (("wasteful", "--over", "n=1", "--against", "user.py:steps", "--set", "d=3"), "has no option 'd'"),
        (("wasteful", "--over", "n=1", "--against", "wasteful"), "--against wasteful is the target itself"),
        (("user.py:steps", "--over", "n=1", "--against", "./user.py:steps"), "is the target itself; name another"),
        (("wasteful", "--over", "n=1", "--set-b", "d=3"), "--set-b goes with --against"),
        (("wastefull", "--over", "n=1"), "unknown target 'wastefull'; did you mean 'wasteful'?"),
        (("graph.json", "--over", "n=1"), "graph.json is a saved graph, which cannot be run"),
        (("wasteful", "--over", "n=1", "--against", "graph.json"), "graph.json is a saved graph, which cannot be run"),
        (("wasteful", "--over", "n=1", "--json", "--csv"), "--json and --csv exclude each other"),
        (("wasteful", "--over", "n=1", "-o", "a.gif"), "a plot is written as one of .svg, .png, .pdf, not a.gif"),
        (("wasteful", "--over", "n=1", "-o", "old.svg"), "old.svg exists; pass --force"),
        (("wasteful", "--over", "n=1", "-o", "no/new.svg"), "the folder no does not exist"),
        (("wasteful", "--over", "n=1", "--keep", "no/new.jsonl"), "the folder no does not exist"),
        (("wasteful", "--over", "n=1", "-o", "a.svg", "--keep", "./a.svg"), "name the same file"),
        (("wasteful", "--over", "n=1", "--repeats", "-1"), "-1 is not in the range"),
        (("wasteful", "--over", "n=1", "--jobs", "0"), "0 is not in the range"),
        (("wasteful", "--over", f"n={','.join(map(str, range(200)))}", "--over",
          f"d={','.join(map(str, range(200)))}"), "--over asks for 40,000 points, more than 10,000"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    Path("old.svg").write_text("mine")
    Path("graph.json").write_text("{}")

    assert message in refusal(*arguments)


def test_force_replaces_the_plot_but_never_the_points() -> None:
    Path("old.svg").write_text("mine")
    Path("state.jsonl").write_text("mine")

    assert "left as it is" in refusal("efficient", "--over", "n=1", "--keep", "state.jsonl", "--force")
    assert run_cli("sweep", "efficient", "--over", "n=1", *QUICK, "-o", "old.svg", "--force").code == 0
    assert Path("old.svg").read_text().startswith("<?xml")


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.cli import sweep_state

    original = os.write
    monkeypatch.setattr(sweep_state.os, "write", lambda handle, data: original(handle, data[:10]))
    outcome = run_cli("sweep", "efficient", "--over", "n=1,2", *QUICK, "--keep", "state.jsonl")

    assert (outcome.code, outcome.out) == (2, "")
    assert "state.jsonl cannot be written: no space left on device" in outcome.err
    assert Path("state.jsonl").read_bytes() == b""


def test_help_names_the_verb() -> None:
    assert "sweep" in run_cli("--help").out
    shown: Outcome = run_cli("sweep", "--help")

    assert shown.code == 0
    assert "--keep" in shown.out

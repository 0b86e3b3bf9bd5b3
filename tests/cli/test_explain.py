"""graphlens explain, as people type it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

import graphlens
from graphlens.capture import tape_values
from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")

USERS = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3) * 2)

    def forward(self, x):
        for _ in range(4):
            x = x.exp().log()
            x = x @ torch.linalg.inv(self.weight)
        return x

def model():
    return Model(), (torch.rand(2, 3, requires_grad=True),)

def fine():
    return torch.nn.Linear(3, 3), (torch.rand(2, 3),)

def number():
    def forward(x):
        return (x / x.norm().item()).sum()
    return forward, (torch.rand(3, requires_grad=True),)

def nothing():
    return torch.nn.Linear(3, 3).requires_grad_(False), (torch.rand(2, 3),)

def broken():
    raise ValueError("no such luck")

def finished(shift=1e8):
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    return ((x + shift) - shift).sum()
"""


@pytest.fixture(autouse=True)
def users(folder: Path) -> None:
    Path("model.py").write_text(USERS)


def test_the_wasteful_lesson_is_proved_down_to_the_efficient_one() -> None:
    done = run_cli("explain", "wasteful", "--set", "n=200", "--only", "waste", "--prove", "-o", "simplified.py")
    efficient = json.loads(run_cli("stats", "efficient", "--json").out)

    assert (done.code, done.err) == (0, "")
    assert "inv(A) is computed 200 times from the same values" in done.out
    assert re.search(r"gives back M @ x, and such a pair is run\s+200 times: 400 nodes", done.out)
    assert re.search(rf"grad_fn nodes +615 +{efficient['nodes']} .* {efficient['nodes']}\n", done.out)
    told = " ".join(done.out.split())
    assert "difference is taken for rounding: same values. Saved, with the same values: nodes, bytes saved" in told
    assert re.search(r"Times of the backward pass: [\d.]+ .s to [\d.]+ .s before, [\d.]+ .s to [\d.]+ .s after", told)
    assert max(map(len, done.out.splitlines())) <= 80
    code = Path("simplified.py").read_text()
    assert "def simplified_wasteful(x, M):" in code
    assert "A" not in re.findall(r"\b[A-Z]\b", code)


def test_the_written_program_runs_by_itself() -> None:
    run_cli("explain", "wasteful", "--set", "n=50", "--only", "waste", "-o", "simplified.py", "-q")
    trace = graphlens.trace(graphlens.lesson("efficient"))
    subject = graphlens.lesson("efficient")
    x, _ = subject.args
    torch.save({"x": x.detach(), "M": subject.module.M.detach()}, "leaves.pt")
    script = (
        "import torch; from simplified import simplified_wasteful as f\n"
        "leaves = {k: v.requires_grad_() for k, v in torch.load('leaves.pt').items()}\n"
        "g, phi = f(**leaves); phi.backward(); print(g.tolist(), leaves['x'].grad.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    gradient = trace.gradients["x"]

    assert gradient is not None
    assert done.stdout.strip() == f"{trace.outputs['g'].tolist()} {gradient.tolist()}"


def test_json() -> None:
    done = run_cli("explain", "hoisted", "--set", "n=30", "--only", "waste", "--prove", "--json")
    found = json.loads(done.out)
    codes = [finding["code"] for finding in found["findings"]]

    assert codes[0] == "GL202"
    assert found["findings"][0]["evidence"]["pairs"] == 30
    assert found["findings"][0]["evidence"]["nodes"] == 60
    assert found["proof"]["holds"] is True
    assert found["proof"]["comparison"]["b"]["nodes"] == found["proof"]["predicted"]["nodes"] == 14
    gone = found["proof"]["gathered"]["A"]
    assert (gone["contributions"], gone["truth"], gone["is_zero"], gone["unknown"]) == (31, 0.0, True, None)
    assert found["time"]["backward"]["median"] > 0
    assert found["nodes"] == 76


def test_a_strangers_model() -> None:
    found = json.loads(run_cli("explain", "model.py:model", "--only", "waste", "--prove", "--json").out)
    by_code = {finding["code"]: finding for finding in found["findings"]}

    assert by_code["GL201"]["evidence"]["times"] == 4
    assert by_code["GL201"]["where"]["source"].startswith("model.py:12")
    assert by_code["GL202"]["evidence"]["pairs"] == 4
    assert by_code["GL202"]["where"]["text"] == "x = x.exp().log()"
    assert found["proof"]["holds"]


def test_gradients_are_a_topic() -> None:
    out = run_cli("explain", "severed", "--set", "n=3", "--only", "gradients").out

    assert "GL101" in out
    assert "GL20" not in out
    assert run_cli("explain", "severed", "--set", "n=3", "--only", "gradients").code == 0


def test_nothing_to_say() -> None:
    out = run_cli("explain", "model.py:fine", "--only", "waste").out

    assert "Nothing found that is computed twice" in out


def test_a_refusal_says_why() -> None:
    done = run_cli("explain", "model.py:number", "--only", "waste", "--prove")

    assert done.code == 0
    assert "No shorter program can be shown: it reads the number" in done.out
    done = run_cli("explain", "model.py:number", "--only", "waste", "-o", "simplified.py")
    assert done.code == 2
    assert "simplified.py was not written: it reads the number" in done.err
    assert "Where the time and the memory go" in done.out
    assert not Path("simplified.py").exists()


def test_without_a_graph() -> None:
    done = run_cli("explain", "model.py:nothing")

    assert done.code == 0
    assert "Where the time" not in done.out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nosuch",), "unknown target"),
        (("wasteful", "--only", "speed"), "'speed' is not one of"),
        (("wasteful", "--prove", "--only", "rounding"), "--prove goes with the topic waste"),
        (("wasteful", "-o", "x.txt"), ".py"),
        (("wasteful", "--repeats", "0"), "range"),
        (("model.py:broken",), "no such luck"),
        (("wasteful", "-o", "model.py"), "--force"),
    ],
)
def test_bad_arguments(args: tuple[str, ...], says: str) -> None:
    done = run_cli("explain", *args)

    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not done.out


def test_a_saved_graph_cannot_be_run() -> None:
    run_cli("save", "efficient", "-o", "graph.json")
    done = run_cli("explain", "graph.json")

    assert done.code == 2
    assert "name the target it was captured from" in done.err


def test_in_python() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.exp().log().sum() + x.exp().sum()

    x = torch.rand(4, requires_grad=True)
    found = graphlens.explain(forward, x, topics=["waste"], prove=True, repeats=1)

    assert {finding.code for finding in found.findings} >= {"GL201", "GL202"}
    assert found.proof is not None
    assert found.proof.holds
    assert "GL201" in str(found)
    assert "def simplified_forward(x):" in found.proof.code
    assert x.grad is None
    with pytest.raises(graphlens.GraphlensError, match="no topic 'speed'"):
        graphlens.explain(forward, x, topics=["speed"])


# Rounding


def test_the_errors_of_all_results_and_who_made_them() -> None:
    done = run_cli("explain", "wasteful", "--set", "n=100", "--only", "rounding")

    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "in exact arithmetic" in done.out
    assert re.search(r"\ng +\d\.\de-1\d +\d\.\de-1\d +[\d,]+ +1[0-4]\.\d +6\.89\n", done.out)
    assert re.search(r"\nA +\d\.\de-\d\d +none +0\n", done.out), "the gradient of A is truly 0"
    assert re.search(r"\nLinalgInvEx +forward +chain.py:\d+ +101 ", done.out)
    assert re.search(r"\nsum .* 100.0 %\n", done.out)
    assert "Where the time and the memory go" not in done.out


def test_the_document_of_a_rounding() -> None:
    found = json.loads(run_cli("explain", "wasteful", "--set", "n=100", "--only", "rounding", "--json").out)
    accuracy = found["accuracy"]
    results = {(item["kind"], item["name"]): item for item in accuracy["results"]}

    assert accuracy["method"] == "exact"
    assert accuracy["unit_roundoff"] == 2.0**-53
    assert list(results) == [
        ("output", "g"), ("loss", "phi"), ("gradient", "x"), ("gradient", "A"), ("gradient", "M"),
    ]  # fmt: skip
    for item in results.values():
        made = item["attribution"]
        assert made["total"] == item["error_norm"]
        assert sum(row["share"] for row in made["by"]) == pytest.approx(1, abs=1e-4)
    assert results["gradient", "A"]["true_is_zero"]
    assert results["gradient", "A"]["digits"] is None
    lesson = graphlens.lesson("wasteful")
    matrices = {"A": lesson.args[1], "M": lesson.module.M}  # type: ignore[union-attr]
    assert {row["matrix"]: row["kappa_2"] for row in accuracy["conditions"]} == {
        name: pytest.approx(float(torch.linalg.cond(matrix)), rel=1e-9) for name, matrix in matrices.items()
    }


def test_a_float32_program_is_held_against_float64() -> None:
    found = json.loads(run_cli("explain", "model.py:fine", "--only", "rounding", "--json").out)["accuracy"]

    assert (found["method"], found["precision"], found["unit_roundoff"]) == ("float64", 53, 2.0**-24)


def test_the_lines_of_a_finished_tensor_are_told() -> None:
    """A factory that returns its loss has run before anybody watches; it runs once more, on the same random numbers."""
    found = json.loads(run_cli("explain", "model.py:finished", "--json", "--set", "shift=1e8").out)
    line = 1 + USERS.splitlines().index("    return ((x + shift) - shift).sum()")
    ran = json.loads(run_cli("run", "model.py:finished", "--set", "shift=1e8", "--json").out)

    assert [finding["where"]["source"] for finding in found["findings"] if finding["code"] == "GL304"] == [
        f"model.py:{line} (finished)"
    ]
    result = found["accuracy"]["results"][0]
    assert {row["line"] for row in result["attribution"]["by"]} == {f"model.py:{line} (finished)"}
    assert ran["loss"] != 0
    torch.manual_seed(0)
    exact = sum(map(Fraction, torch.rand(3, dtype=torch.float64).tolist()))
    assert result["max_abs_error"] == pytest.approx(abs(float(Fraction(ran["loss"]) - exact)), rel=1e-9)


def test_an_unknown_reference_is_refused() -> None:
    done = run_cli("explain", "wasteful", "--reference", "oracle")

    assert done.code == 2
    assert "'auto', 'exact', 'float64', 'sample'" in done.err


def test_the_errors_along_a_loop_are_plotted(tmp_path: Path) -> None:
    path = tmp_path / "errors.svg"
    result = run_cli("explain", "wasteful", "--set", "n=20", "--only", "rounding", "--quiet", "--plot", str(path))
    assert result.code == 0, result.err
    assert "forward pass: systematic" in path.read_text(encoding="utf-8")
    again = run_cli("explain", "wasteful", "--set", "n=20", "--only", "rounding", "--quiet", "--plot", str(path))
    assert again.code == 2  # it is not written over


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "waste", "--plot", "errors.svg"), "--plot goes with the topic rounding"),
        (("--plot", "errors.txt"), "one of .svg, .png, .pdf"),
    ],
)
def test_plots_that_are_refused(options: tuple[str, ...], message: str) -> None:
    result = run_cli("explain", "wasteful", *options)
    assert result.code == 2
    assert message in result.err


def test_what_cannot_be_proved_says_why_and_not_to_try_again(tmp_path: Path) -> None:
    (tmp_path / "programs.py").write_text(
        "import itertools, torch\n"
        "rounds = itertools.count(2)\n"
        "def growing():\n"
        "    y = torch.ones(3, requires_grad=True)\n"
        "    for _ in range(next(rounds)):\n"
        "        y = y.exp().log()\n"
        "    return y.sum()\n"
        "def without():\n"
        "    return torch.ones(3).sum()\n"
        "def plain():\n"
        "    return torch.ones(3, requires_grad=True).tanh().sum()\n"
    )
    growing, without, plain = (f"{tmp_path}/programs.py:{name}" for name in ("growing", "without", "plain"))

    for target, why in ((growing, "makes another graph every time"), (without, "no output has a backward graph")):
        done = run_cli("explain", target, "--only", "waste", "--prove")
        assert done.code == 0, done.err
        assert why in " ".join(done.out.split())
        assert "--prove" not in done.out
        written = run_cli("explain", target, "--only", "waste", "-o", str(tmp_path / "shorter.py"))
        assert written.code == 2
        assert "Where the time and the memory go" in written.out or why == "no output has a backward graph"
        assert "shorter.py was not written: " in " ".join(written.err.split())
        assert why in " ".join(written.err.split())
        assert not (tmp_path / "shorter.py").exists()
    done = run_cli("explain", plain, "--only", "waste", "--prove")
    assert "Nothing to leave out: no finding names anything" in " ".join(done.out.split())
    assert "it gives the same values, to the last bit" in " ".join(done.out.split())
    assert "The saving" not in done.out
    assert "before" not in done.out


NORMED = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), (torch.randn(5, 3),)
"""


def test_the_report_comes_though_no_program_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "normed.py").write_text(NORMED)
    target = f"{tmp_path}/normed.py:model"
    without = run_cli("explain", target, "--only", "waste", "--prove")
    done = run_cli("explain", target, "--only", "waste", "-o", str(tmp_path / "shorter.py"))
    why = "the forward pass writes to 1.num_batches_tracked, which outlives the run"

    assert (without.code, done.code) == (0, 2)
    for out in (without.out, done.out):
        assert "Where the time and the memory go" in out
        assert why in " ".join(out.split())
    (line,) = done.err.splitlines()
    assert "shorter.py was not written: " in line
    assert why in line
    assert not (tmp_path / "shorter.py").exists()


def test_a_nan_in_the_input_is_why_no_error_is_measured() -> None:
    Path("nan.py").write_text(
        "import torch\ndef f():\n    return torch.nn.Linear(3, 3), (torch.tensor([[1.0, float('nan'), 2.0]]),)\n"
    )
    text = " ".join(run_cli("explain", "nan.py:f", "--repeats", "1").out.split())

    assert "the input holds NaN before the forward pass begins" in text
    assert "Not measured for output, output.sum() and the gradient of weight, which hold NaN or infinity" in text


def test_a_plot_without_errors_to_show_is_not_silently_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_cli("explain", "model.py:nothing", "--only", "rounding", "--plot", "errors.svg")
    assert done.code == 2
    assert "errors.svg was not written: no output has a backward graph" in done.err
    assert not Path("errors.svg").exists()

    monkeypatch.setattr(tape_values, "room", lambda: 10)
    done = run_cli("explain", "model.py:model", "--only", "rounding", "--plot", "errors.svg")
    assert done.code == 2
    assert "errors.svg was not written: " in done.err
    assert "10 B that are free" in done.err
    assert not Path("errors.svg").exists()

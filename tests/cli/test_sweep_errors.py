"""graphlens sweep --what error, held against fractions, numpy and programs whose error is known beforehand."""

from __future__ import annotations

import csv
import io
import json
import math
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import graphlens
from tests.cli.commands import run_cli

USER = """
import torch

class Tenths(torch.nn.Module):
    def __init__(self, n, dtype):
        super().__init__()
        self.n = n

    def forward(self, x):
        if self.n == 13:
            raise ValueError("planted")
        total = torch.zeros_like(x)
        for _ in range(self.n):
            total = total + x
        return total

def tenths(*, n=10, dtype="float64"):
    return Tenths(n, dtype), (torch.full((2,), 0.1, dtype=getattr(torch, dtype), requires_grad=True),)

class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x

def doubled(*, n=1):
    return Doubled(), (torch.full((n,), 0.75, dtype=torch.float64, requires_grad=True),)

class Solve(torch.nn.Module):
    def __init__(self, power):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.diag(torch.tensor([1.0, 10.0**-power], dtype=torch.float64)))

    def forward(self, b):
        return torch.linalg.solve(self.matrix, b)

def solve(*, power=1):
    return Solve(power), (torch.ones(2, dtype=torch.float64, requires_grad=True),)

class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs() if len(x) > 2 else x / 3

def spectrum(*, n=1):
    return Spectrum(), (torch.linspace(0.1, 1, n, dtype=torch.float64).requires_grad_(),)

def plain(*, n=1):
    return Doubled(), (torch.full((n,), 0.75),)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("user.py").write_text(USER)
    return tmp_path


def text(*arguments: object) -> str:
    outcome = run_cli("sweep", *arguments, "--what", "error")
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 80
    return outcome.out


def document(*arguments: object) -> dict:
    outcome = run_cli("sweep", *arguments, "--what", "error", "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def results(point: dict, side: str = "target") -> dict[str, dict]:
    kinds = {"gradient": "gradient of "}
    return {kinds.get(item["kind"], "") + item["name"]: item for item in point[side]["exactness"]["results"]}


def conditions(point: dict) -> dict[str, float]:
    rows = point["target"]["exactness"]["conditions"]
    assert not any(row["at_least"] for row in rows)
    return {row["matrix"]: row["kappa"] for row in rows}


def loops(point: dict) -> dict[bool, dict]:
    found = point["target"]["exactness"]["loops"]
    assert len(found) == 2
    return {loop["backward"]: loop for loop in found}


# Fractions


def fractions(matrix: torch.Tensor) -> list[list[Fraction]]:
    return [[Fraction(entry) for entry in row] for row in matrix.tolist()]


def times(matrix: list[list[Fraction]], vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination without rounding."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = next(place for place in range(column, len(rows)) if rows[place][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [entry / rows[column][column] for entry in rows[column]]
        for place, row in enumerate(rows):
            if place != column:
                rows[place] = [a - row[column] * b for a, b in zip(row, rows[column], strict=True)]
    return [row[-1] for row in rows]


def exercise(n: int) -> tuple[float, float]:
    """The largest error of g, and n·‖R M x‖ with R = X A − I for the computed inverse X, both without rounding."""
    lesson = graphlens.lesson("wasteful", n=n)
    x, a = lesson.args
    m = fractions(lesson.module.M.detach())  # type: ignore[union-attr, operator]
    y = times(m, [Fraction(entry) for entry in x.tolist()])
    threshold = Fraction(3.14)
    cut = [max(abs(e) - threshold, Fraction(0)) * (1 if e > 0 else -1) for e in y]
    true = solved(m, cut)
    made = lesson.module(*lesson.args).tolist()  # type: ignore[operator]
    residual = [
        r - e for r, e in zip(times(fractions(torch.linalg.inv(a.detach())), times(fractions(a), y)), y, strict=True)
    ]
    return (
        float(max(abs(Fraction(run) - value) for run, value in zip(made, true, strict=True))),
        n * math.sqrt(sum(float(entry) ** 2 for entry in residual)),
    )


def test_errors_and_predictions_of_the_exercise_are_those_of_fractions() -> None:
    found = document("wasteful", "--over", "n=10,30,100")
    lesson = graphlens.lesson("wasteful")
    a, m = lesson.args[1].detach().numpy(), lesson.module.M.detach().numpy()  # type: ignore[union-attr, operator]
    for point in found["points"]:
        n = point["options"]["n"]
        error, predicted = exercise(n)
        assert results(point)["g"]["error"] == pytest.approx(error, rel=1e-9)
        forward = loops(point)[False]
        assert forward["rounds"] == n
        # The first round reads M x with its own rounding, which changes R y in its last digits alone.
        assert forward["predicted"] == pytest.approx(predicted, rel=1e-6)
        # Which way the other roundings go is the machine's affair; how much they come to is told by the √n line.
        assert abs(forward["error"] - forward["predicted"]) <= max(0.1 * forward["predicted"], forward["random_signs"])
        assert forward["verdict"] == "systematic"
        assert results(point)["gradient of A"]["is_zero"]
        assert conditions(point) == {
            "A": pytest.approx(np.linalg.cond(a), rel=1e-9), "M": pytest.approx(np.linalg.cond(m), rel=1e-9)
        }  # fmt: skip
    (law,) = [law for law in found["laws"] if law["quantity"] == "error of g"]
    ns, errors = np.array([10, 30, 100]), np.array([exercise(n)[0] for n in (10, 30, 100)])
    assert law["power"]["exponent"] == pytest.approx(np.polyfit(np.log(ns), np.log(errors), 1)[0], rel=1e-6)
    assert law["line"]["slope"] == pytest.approx(np.polyfit(ns, errors, 1)[0], rel=1e-6)


def test_no_error_is_beyond_its_worst_case() -> None:
    found = document("wasteful", "--over", "seed_A=0,1,2,3,4,5", "--set", "n=40")
    for point in found["points"]:
        for loop in loops(point).values():
            assert loop["error"] <= loop["worst_case"] * (1 + 1e-6)
            assert loop["random_signs"] <= loop["worst_case"]


def test_errors_grow_with_the_condition_number_that_is_asked_for() -> None:
    found = document("wasteful", "--over", "cond=1e1,1e2,1e4,1e6,1e8", "--set", "n=30", "--jobs", "2")
    assert [conditions(point)["A"] for point in found["points"]] == pytest.approx([1e1, 1e2, 1e4, 1e6, 1e8], rel=1e-3)
    assert len({conditions(point)["M"] for point in found["points"]}) == 1
    errors = [results(point)["g"]["error"] for point in found["points"]]
    assert errors == sorted(errors)
    assert errors[-1] > 1e4 * errors[0]
    (line,) = [law["line"] for law in found["laws"] if law["quantity"] == "error of g" and law["over"] == "cond"]
    assert line is None, "the last point alone would decide it"
    assert any(law["over"] == "κ₂(A)" and law["quantity"] == "relative error of g" for law in found["laws"])
    for point in found["points"]:
        mine = graphlens.lesson("wasteful", n=30, cond=point["options"]["cond"]).args[1].detach().numpy()
        assert np.linalg.cond(mine) == pytest.approx(point["options"]["cond"], rel=1e-3)


def test_a_strangers_sum_of_tenths() -> None:
    found = document("user.py:tenths", "--over", "n=10,100,1000")
    for point in found["points"]:
        n, total = point["options"]["n"], 0.0
        for _ in range(n):
            total += 0.1
        assert results(point)["output"]["error"] == pytest.approx(
            abs(float(Fraction(total) - n * Fraction(0.1))), rel=1e-12
        )
        assert results(point)["gradient of x"]["error"] == 0.0
        assert conditions(point) == {}
    page = text("user.py:tenths", "--over", "n=10,100,1000")
    assert "κ₂" not in page
    assert "Growth of errors along n" in page
    assert "grad x: 0 at every point" in page


def test_the_condition_of_a_strangers_matrix_and_a_law_along_it() -> None:
    found = document("user.py:solve", "--over", "power=1,2,3,4")
    kappas = [conditions(point)["matrix"] for point in found["points"]]
    assert kappas == pytest.approx([1e1, 1e2, 1e3, 1e4], rel=1e-9)


def test_float32_is_held_against_a_run_in_float64() -> None:
    found = document("user.py:tenths", "--over", "dtype='float32','float64'", "--set", "n=100")
    methods = [point["target"]["exactness"]["method"] for point in found["points"]]
    assert methods == ["float64", "exact"]
    single = np.float32(0.0)
    for _ in range(100):
        single += np.float32(0.1)
    true = 100 * Fraction(float(np.float32(0.1)))
    assert results(found["points"][0])["output"]["error"] == pytest.approx(
        abs(float(Fraction(float(single)) - true)), rel=1e-6
    )
    page = text("user.py:tenths", "--over", "dtype='float32','float64'", "--set", "n=100")
    assert "(at 1 of 2)" in page


def test_samples_tell_digits_and_no_error() -> None:
    page = text("user.py:tenths", "--over", "n=10,100", "--reference", "sample")
    assert "not known" in page
    assert "~1" in page


def test_what_could_not_be_found_out_is_said_with_its_points() -> None:
    page = " ".join(text("user.py:spectrum", "--over", "n=2,3,4").split())
    assert "At n = 3 and 1 more: No exact reference: exact arithmetic does not cover" in page
    assert "view_as_real (1 call)" in page
    assert "True values come from exact arithmetic (at 1 of 3)." in page


def test_a_failed_point_leaves_the_others() -> None:
    outcome = run_cli("sweep", "user.py:tenths", "--over", "n=10,13,20", "--what", "error")
    assert outcome.code == 0
    assert "n = 13" in outcome.out
    assert "planted" in outcome.out
    rows = list(csv.DictReader(io.StringIO(run_csv("user.py:tenths", "--over", "n=10,13,20"))))
    assert [row["failure"] != "" for row in rows if row["n"] == "13"] == [True]


def run_csv(*arguments: object) -> str:
    outcome = run_cli("sweep", *arguments, "--what", "error", "--csv")
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_csv_has_a_row_for_each_result_and_each_loop() -> None:
    rows = list(csv.DictReader(io.StringIO(run_csv("wasteful", "--over", "n=10,30"))))
    found = document("wasteful", "--over", "n=10,30")
    for point in found["points"]:
        mine = [row for row in rows if row["n"] == str(point["options"]["n"])]
        assert [row["name"] for row in mine if row["kind"] in ("output", "loss", "gradient")] == [
            item["name"] for item in point["target"]["exactness"]["results"]
        ]
        g = next(row for row in mine if row["name"] == "g")
        assert float(g["error"]) == results(point)["g"]["error"]
        forward = next(row for row in mine if row["kind"] == "forward loop")
        assert float(forward["predicted"]) == loops(point)[False]["predicted"]
        assert forward["growth"] == "systematic"
        assert {row["name"]: float(row["condition"]) for row in mine if row["kind"] == "matrix"} == conditions(point)


def test_finished_points_are_kept_by_their_reference() -> None:
    arguments = ("user.py:tenths", "--over", "n=10,20", "--keep", "kept.jsonl")
    first = document(*arguments)
    again = document(*arguments)
    assert [point["kept"] for point in again["points"]] == [True, True]
    assert again["points"][0]["target"]["exactness"] == first["points"][0]["target"]["exactness"]
    sampled = document(*arguments, "--reference", "sample")
    assert [point["kept"] for point in sampled["points"]] == [False, False]
    outcome = run_cli("sweep", *arguments, "--repeats", "0", "--json")
    counted = json.loads(outcome.out)
    assert [point["kept"] for point in counted["points"]] == [False, False]
    assert counted["points"][0]["target"]["exactness"] is None


def test_other_processes_measure_the_same_errors() -> None:
    alone = document("wasteful", "--over", "n=10,20")
    side_by_side = document("wasteful", "--over", "n=10,20", "--jobs", "2")
    for one, other in zip(alone["points"], side_by_side["points"], strict=True):
        assert one["target"]["exactness"] == other["target"]["exactness"]


def test_two_targets_stand_side_by_side() -> None:
    page = text("wasteful", "--over", "n=10,20,30", "--against", "efficient")
    assert page.count("efficient") > 6
    assert "wasteful g" in page
    found = document("wasteful", "--over", "n=10,20,30", "--against", "efficient")
    for point in found["points"]:
        assert results(point)["g"]["error"] > results(point, "against")["g"]["error"]


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_plot_is_the_same_again(kind: str) -> None:
    for name in ("one", "two"):
        page = text("wasteful", "--over", "n=10,20,30", "-o", f"{name}.{kind}")
        assert f"Wrote {name}.{kind}" in page
    assert Path(f"one.{kind}").read_bytes() == Path(f"two.{kind}").read_bytes()


def test_the_plot_shows_what_was_measured_beside_what_theory_says() -> None:
    text("wasteful", "--over", "n=10,20,30", "-o", "errors.svg")
    root = ElementTree.fromstring(Path("errors.svg").read_bytes())
    words = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("text"))
    for word in (
        "measured",
        "prediction n·‖R y‖",
        "√n",
        "worst case",
        "gradient of A",
        "forward pass",
        "backward pass",
    ):
        assert word in words
    assert root.get("role") == "img"
    description = next(element.text for element in root if element.tag.endswith("desc"))
    error, _ = exercise(10)
    assert f"the error of g is {error:.1e} at n = 10" in str(description)


def test_the_plot_of_seeds_has_a_panel_for_the_condition_number() -> None:
    text("wasteful", "--over", "seed_A=0,1,2", "--set", "n=20", "-o", "seeds.svg")
    assert "Against the condition number" in Path("seeds.svg").read_text()
    text("wasteful", "--over", "cond=10,100,1000", "--set", "n=20", "-o", "cond.svg")
    assert "Against the condition number" not in Path("cond.svg").read_text(), "the option is it already"


def test_a_sweep_without_any_error_prints_its_zeros_and_plots_nothing() -> None:
    outcome = run_cli("sweep", "user.py:doubled", "--over", "n=1,2,3", "--what", "error", "-o", "none.svg")
    assert outcome.code == 2
    assert "0 at every point" in outcome.out
    assert outcome.err.strip().splitlines()[-1].startswith("graphlens: there is no error to plot")
    assert not Path("none.svg").exists()


def test_a_target_without_a_graph_has_no_errors_and_says_so() -> None:
    outcome = run_cli("sweep", "user.py:plain", "--over", "n=1,2,3", "--what", "error")
    assert outcome.code == 0
    assert "No point has a backward graph" in outcome.out
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--what", "error", "--repeats", "3"), "--repeats goes with --what cost"),
        (("--reference", "exact"), "--reference goes with --what error"),
        (("--what", "errors"), "'errors' is not one of"),
        (("--what", "error", "--reference", "best"), "'best' is not one of"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple[str, ...], says: str) -> None:
    outcome = run_cli("sweep", "wasteful", "--over", "n=10,20", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert "Traceback" not in outcome.err

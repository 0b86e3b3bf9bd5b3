"""--time-limit, as people type it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")


def test_what_was_not_known_in_time_is_known_with_more() -> None:
    command = ("explain", "wasteful", "--set", "n=60", "--only", "rounding", "--json")
    hurried = json.loads(run_cli(*command, "--time-limit", "0.001").out)["accuracy"]
    patient = json.loads(run_cli(*command, "--time-limit", "600").out)["accuracy"]

    assert hurried["method"] == "sample"
    assert any("0.001 s" in note for note in hurried["notes"])
    assert patient["method"] == "exact"
    assert not patient["notes"]
    assert {result["name"]: result["max_abs_error"] is None for result in patient["results"]} == dict.fromkeys(
        ("g", "phi", "x", "A", "M"), False
    )


def test_compare_takes_it_too() -> None:
    command = ("compare", "wasteful", "efficient", "--set", "n=60", "--repeats", "1", "--json")

    hurried, patient = (json.loads(run_cli(*command, *more).out)["truth"] for more in (("--time-limit", "0.001"), ()))

    assert hurried["outputs"]["g"]["nearer"] is None
    assert patient["outputs"]["g"]["nearer"] == "b"


@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")])
def test_sweep_takes_it_too_and_measures_a_hurried_point_again(jobs: tuple[str, ...]) -> None:
    command = ("sweep", "wasteful", "--over", "n=30,60", "--what", "error", "--keep", "kept.jsonl", "--json", *jobs)
    hurried = json.loads(run_cli(*command, "--time-limit", "0.001").out)
    patient = json.loads(run_cli(*command).out)

    def methods(found: dict[str, Any]) -> set[str]:
        return {point["target"]["exactness"]["method"] for point in found["points"]}

    assert "exact" not in methods(hurried)
    assert methods(patient) == {"exact"}
    assert len(Path("kept.jsonl").read_text().splitlines()) == 1 + 2 * 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("explain", "wasteful", "--time-limit", "0"), "0.0 is not in the range x>0"),
        (("explain", "wasteful", "--time-limit", "nan"), "nan is not a finite number"),
        (("compare", "wasteful", "efficient", "--time-limit", "inf"), "inf is not a finite number"),
        (("sweep", "wasteful", "--over", "n=2,3", "--time-limit", "60"), "--time-limit goes with --what error"),
        (("explain", "wasteful", "--only", "waste", "--reference", "exact"), "--reference goes with the topic"),
        (("explain", "wasteful", "--time-limit", "soon"), "'soon' is not a valid float"),
        (("sweep", "wasteful", "--over", "n=2,3", "--time-limit", "5"), "--time-limit goes with --what error"),
        (("explain", "wasteful", "--only", "waste", "--time-limit", "5"), "--time-limit goes with the topic rounding"),
    ],
)
def test_a_wrong_limit_is_refused(args: tuple[str, ...], says: str) -> None:
    done = run_cli(*args)

    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) <= 4

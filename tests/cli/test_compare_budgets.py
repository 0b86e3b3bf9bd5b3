"""graphlens compare as a gate in CI."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.commands import run_cli

NODES = {"ratio": 1.5, "limit": 1.4, "exceeded": True}
PAIR = ("compare", "wasteful", "efficient", "--set", "n=2")  # 21 nodes against 14


def test_a_budget_that_is_kept_leaves_the_exit_code_at_0() -> None:
    done = run_cli(*PAIR, "--max-nodes-ratio", "1.5", "--max-saved-ratio", "100", "--max-time-ratio", "1e6")

    assert done.code == 0, done.err
    assert "nodes      1.500 ×    1.5 ×  kept" in done.out


def test_a_budget_that_is_exceeded_gives_1_and_the_whole_report() -> None:
    done = run_cli(*PAIR, "--max-nodes-ratio", "1.4")

    assert done.code == 1
    assert "nodes      1.500 ×    1.4 ×  exceeded" in done.out
    assert "grad_fn nodes" in done.out


def test_budgets_in_json() -> None:
    done = run_cli(*PAIR, "--max-nodes-ratio", "1.4", "--json")

    assert done.code == 1
    assert json.loads(done.out)["budgets"] == {"nodes": {**NODES, "a": 21, "b": 14, "least": 1.5}}


def test_what_the_ratio_of_times_is() -> None:
    done = run_cli(*PAIR, "--max-time-ratio", "1e6")
    text = " ".join(done.out.split())

    assert re.search(r"Time: both passes together, [\d.]+ .s over [\d.]+ .s \(medians of forward plus backward\)", text)
    assert re.search(r"the longest of b's is [\d.e-]+ ×; the limit is exceeded where that is beyond it too", text)
    words = " ".join(run_cli("compare", "--help").out.split())
    assert "exceeded only where A's shortest passes take more than R times B's longest" in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-time-ratio", "2", "--repeats", "0"), "--max-time-ratio needs times; leave out --repeats 0"),
        (("--max-nodes-ratio", "nan"), "nan is not a finite number"),
        (("--max-nodes-ratio", "-1"), "-1.0 is not in the range x>=0"),
    ],
)
def test_a_budget_that_cannot_be_checked(options: tuple[str, ...], message: str) -> None:
    done = run_cli(*PAIR, *options)

    assert (done.code, done.out) == (2, "")
    assert message in done.err

"""How exact a target was along a sweep, on records made by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from graphlens.accuracy import Accuracy, LoopErrors, Op, Split
from graphlens.analyses.exactness import (
    Exactness,
    LoopError,
    MatrixCondition,
    ResultError,
    along_condition,
    exactness_of,
    from_plain,
    loop_keys,
    matrices,
    telling,
    to_plain,
)
from graphlens.analyses.growth import laws
from graphlens.analyses.sweep_points import Point, Side, Sweep
from graphlens.views.exactness_plot import _panels
from tests.builders import small_graph


def result(name: str, kind: str, error: float, *, truth: float = 1.0, is_zero: bool = False) -> ResultError:
    return ResultError(name, kind, error, truth, is_zero, None if is_zero else 10.0)


def loop(place: str, rounds: int, *, backward: bool = False, inherited: float = 0.0, error: float = 2e-9) -> LoopError:
    return LoopError(place, backward, 0, rounds, error, 1.0, inherited, 1e-9, 1e-10, 1e-8, "systematic")


def exactness(*results: ResultError, loops: Any = (), conditions: Any = ()) -> Exactness:
    return Exactness("exact", 128, 2.0**-53, results, tuple(loops), tuple(conditions))


def sweep(over: dict[str, list[Any]], points: list[tuple[dict[str, Any], Exactness]]) -> Sweep:
    made = tuple(Point(options, (Side(exactness=found),)) for options, found in points)
    return Sweep(("t",), over, made, what="error")


def test_results_that_most_points_have_come_first_then_outputs_then_what_is_most_off() -> None:
    g, noise = result("g", "output", 1e-12), result("n", "gradient", 1e-9, truth=0.0, is_zero=True)
    small, large = result("s", "gradient", 1e-12), result("l", "gradient", 1e-8)
    rare = result("r", "output", 1.0)
    found = [exactness(g, small, large, noise), exactness(g, small, large, noise, rare)]
    assert telling(found) == ["g", "gradient of n", "gradient of l", "gradient of s", "r"]


def test_the_longest_loops_come_first_and_their_forward_pass_before_the_backward_pass() -> None:
    short, long, back = loop("a.py:1", 10), loop("b.py:2", 100), loop("c.py:3", 100, backward=True)
    assert loop_keys([exactness(loops=[short, back]), exactness(loops=[long])]) == [long.key, back.key, short.key]


@pytest.mark.parametrize(("inherited", "ratio"), [(0.0, 2.0), (3e-11, 2.0), (1e-9, None)])
def test_an_error_that_was_partly_there_before_is_not_held_against_a_prediction(inherited: float, ratio: Any) -> None:
    assert loop("a.py:1", 10, inherited=inherited).ratio == ratio


def test_the_matrix_whose_condition_changes_most_comes_first() -> None:
    found = [exactness(conditions=[MatrixCondition("M", 1e6, False), MatrixCondition("A", k, False)]) for k in (1, 50)]
    assert matrices(found) == ["A", "M"]


def test_lower_bounds_and_results_without_a_truth_are_no_points_along_a_condition() -> None:
    known = exactness(result("g", "output", 2e-9, truth=2.0), conditions=[MatrixCondition("A", 50.0, False)])
    bound = exactness(result("g", "output", 1.0), conditions=[MatrixCondition("A", 1e16, True)])
    assert along_condition([bound, known, exactness(result("g", "output", 1.0))], "A") == {"g": [(50.0, 1e-9)]}


def test_a_grid_has_no_law_along_a_condition() -> None:
    def at(a: int, b: int) -> tuple[dict[str, Any], Exactness]:
        kappa = 10.0**a
        found = exactness(result("g", "output", kappa * 1e-16 * b), conditions=[MatrixCondition("A", kappa, False)])
        return {"a": a, "b": b}, found

    line = sweep({"a": [1, 2, 3, 4], "b": [1]}, [at(a, 1) for a in (1, 2, 3, 4)])
    (law,) = [law for law in laws(line) if law.over == "κ₂(A)"]
    assert law.power is not None
    assert law.power.exponent == pytest.approx(1)
    assert law.line is None
    grid = sweep({"a": [1, 2, 3, 4], "b": [1, 5]}, [at(a, b) for b in (1, 5) for a in (1, 2, 3, 4)])
    assert not [law for law in laws(grid) if law.over == "κ₂(A)"]


@pytest.mark.parametrize(("inherited", "is_drawn"), [(1e-12, False), (1e-9, True)])
def test_what_was_there_before_is_drawn_where_it_matters(inherited: float, *, is_drawn: bool) -> None:
    found = [exactness(loops=[loop("a.py:1", n, inherited=inherited)]) for n in (10, 20)]
    made = sweep({"n": [10, 20]}, [({"n": n}, one) for n, one in zip((10, 20), found, strict=True)])
    panel = _panels(made, 0, {}, made.points, "n")[1]
    assert ("from before the loop" in {line.label for line in panel.lines}) == is_drawn


def test_a_loop_that_adds_next_to_nothing_is_inherited_and_its_worst_case_holds_all_parts() -> None:
    k = np.arange(101.0)
    parts = Split(1e-9 + 0 * k, 2e-12 * k, 0 * k, 0 * k, 1e-14 + 0 * k, 0 * k, 0.0, ())
    grown = LoopErrors(0, True, (0,), 2.0**-53, 1 + 0 * k, 1.05e-9 + 0 * k, 1 + 0 * k, parts)
    graph = small_graph()
    (one,) = exactness_of(
        Accuracy(graph, "exact", 128, 2.0**-53, (Op("mv", None, True, False),), (), loops=[grown])
    ).loops
    assert (one.place, one.backward, one.rounds) == ("mv", True, 100)
    assert one.verdict == "systematic", "2e-10 is more than a tenth of 1e-9"
    less = LoopErrors(0, True, (0,), 2.0**-53, grown.size, grown.error, grown.truth, Split(
        1e-9 + 0 * k, 1e-13 * k, 0 * k, 0 * k, 1e-14 + 0 * k, 0 * k, 0.0, ()
    ))  # fmt: skip
    (other,) = exactness_of(
        Accuracy(graph, "exact", 128, 2.0**-53, (Op("mv", None, True, False),), (), loops=[less])
    ).loops
    assert other.verdict == "inherited"
    assert other.worst_case == pytest.approx(1e-9 + 1e-11 + 100 * 1e-14)
    assert other.random_signs == pytest.approx(1e-13)  # √100 · 1e-14


def test_json_holds_all_of_it() -> None:
    found = exactness(
        result("g", "output", math.inf), loops=[loop("a.py:1", 10)], conditions=[MatrixCondition("A", 1e3, True)]
    )
    assert from_plain(json.loads(json.dumps(to_plain(found), allow_nan=False))) == found

"""What `graphlens sweep` prints, held against text for hand-built sweeps."""

from __future__ import annotations

import csv
import io
import json

import pytest

from graphlens.analyses.fits import Line
from graphlens.analyses.growth import laws
from graphlens.analyses.sweep_points import Gap, Point, Side, Sweep
from graphlens.records import Timing
from graphlens.views.documents import to_json
from graphlens.views.growth_report import exact_text, growth_csv, growth_report, r_squared_text, range_text, with_error
from graphlens.views.sweep_document import sweep_document


def side(n: int, slow: bool, name: str = "") -> Side:
    seconds = 20e-6 * n if slow else 130e-6
    timing = Timing(seconds, seconds * 0.95, seconds * 1.1, 3)
    options = {"n": n, "d": 5}
    if not slow:
        return Side(14, 18, 8, 528, 0, timing, timing, 14.0688268, 2, options)
    return Side(3 * n + 15, 5 * n + 18, 2 * n + 8, 280 * n + 728, 0, timing, None, 14.0688268, 2, options, ("a note",))


def pair(*ns: int) -> Sweep:
    points = [
        Point({"n": n}, (side(n, True), side(n, False)), Gap(7.5e-14 * n, 1e-14 * n, {"A": 1.8e-12 * n}), Gap(0.0, 0.0))
        for n in ns
    ]
    points.insert(1, Point({"n": 20}, failure="wasteful: A is singular, it has no inverse"))
    over = {"n": [point.options["n"] for point in points]}
    return Sweep(("wasteful", "efficient"), over, tuple(points), ({"d": 5}, {"d": 5}), 3, notes=("n=… stands for …",))


REPORT = """\
wasteful against efficient over n                                      2 threads
d=5
wasteful: a note.
n=… stands for ….

n      of         nodes  edges  depth    saved       loss
10     wasteful      45     68     28  3.53 kB  14.068827
       efficient     14     18      8    528 B  14.068827
20     wasteful  failed
       efficient  failed
100    wasteful     315    518    208  28.7 kB  14.068827
       efficient     14     18      8    528 B  14.068827
1,000  wasteful   3,015  5,018  2,008   281 kB  14.068827
       efficient     14     18      8    528 B  14.068827

n      of         forward         range      backward       range
10     wasteful    200 µs    190–220 µs  not measured
       efficient   130 µs    124–143 µs        130 µs  124–143 µs
20     wasteful    failed
       efficient   failed
100    wasteful    2.0 ms    1.9–2.2 ms  not measured
       efficient   130 µs    124–143 µs        130 µs  124–143 µs
1,000  wasteful   20.0 ms  19.0–22.0 ms  not measured
       efficient   130 µs    124–143 µs        130 µs  124–143 µs

n      output differs  relative  gradients differ  relative
10            7.5e-13   1.0e-13                 0         0
20             failed
100           7.5e-12   1.0e-12                 0         0
1,000         7.5e-11   1.0e-11                 0         0
The output A has a value for one target only, of at most 1.8e-09.

Failed
  · n = 20: wasteful: A is singular, it has no inverse.

Growth along n
  y = a·n^p, least squares in log-log over the larger half of the points, 3 at
  least:
"""


def test_the_report() -> None:
    found = pair(10, 100, 1000)
    text = growth_report(found, laws(found))

    normal = "\n".join(line.rstrip() for line in text.splitlines())
    assert [line.split() for line in normal.splitlines()[: len(REPORT.splitlines()) - 2]] == [
        line.split() for line in REPORT.splitlines()[:-2]
    ]
    assert max(map(len, text.splitlines())) <= 80
    for line in (
        "3·n + 15 exactly", "5·n + 18 exactly", "2·n + 8 exactly", "280·n + 728 exactly",
        "· efficient nodes: constant, 14 nodes at all 3 points.",
        "· gradient difference: 0 at every point.",
    ):  # fmt: skip
        assert line in text
    assert "efficient forward: constant, 130 µs" in text


def test_one_target() -> None:
    points = tuple(Point({"n": n}, (side(n, True),)) for n in (10, 100))
    text = growth_report(Sweep(("wasteful",), {"n": [10, 100]}, points, ({},)), ())

    assert "of" not in text.splitlines()[4].split()
    assert "forward and backward: not measured (--repeats 0)" in text
    assert "differs" not in text
    assert "Along n no growth law is fitted: it has 2 values, and a law needs at least 3." in text


def test_long_names_and_options_stay_within_80_columns() -> None:
    name = "experiments/models.py:module_with_a_rather_long_name"
    values = [128, 1024, 1048576]
    points = tuple(
        Point({"hidden_units": n, "dtype": dtype, "d": 12}, (side(n, True), side(n, False)), Gap(1e-9 * n, None), None)
        for dtype in ("float32", "float64") for n in values
    )  # fmt: skip
    over = {"hidden_units": values, "dtype": ["float32", "float64"], "d": [12]}
    found = Sweep((name, f"{name}_2"), over, points, ({}, {}), 3)
    text = growth_report(found, laws(found))

    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "Along dtype no growth law is fitted: its values are not all numbers." in text
    assert "Growth along hidden_units, at dtype = float32, d = 12" in text
    assert f"a is {name}." in text


def test_what_is_not_there_is_said() -> None:
    points = (
        Point({"n": 1}, (Side(loss=2.0, options={}),)),
        Point({"n": 2}, (Side(3, 2, 1, None, 1),)),
        Point({"n": 3}, (Side(3, 2, 1, 80, 1),)),
    )
    text = growth_report(Sweep(("t",), {"n": [1, 2, 3]}, points), ())

    for cell in ("no graph", "not available", "≥ 80 B"):
        assert cell in text


def test_escape_codes_are_not_passed_on() -> None:
    bad = "\x1b[31mred"
    points = (Point({"form": bad}, (Side(1, 0, 0, 0, options={"form": bad, "k": bad}, notes=(bad,)),)),
              Point({"form": "b"}, failure=bad))  # fmt: skip
    found = Sweep((bad,), {"form": [bad, "b"]}, points, notes=(bad,))

    assert "\x1b" not in growth_report(found, laws(found))


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(growth_csv(pair(10, 100)))))

    assert [row["n"] for row in rows] == ["10", "10", "20", "20", "100", "100"]
    assert list(rows[0]) == [
        "n", "target", "nodes", "edges", "depth", "saved_storage_bytes", "forward_median", "forward_min", "forward_max",
        "backward_median", "backward_min", "backward_max", "loss", "output_max_abs_diff", "output_relative",
        "gradient_max_abs_diff", "gradient_relative", "failure",
    ]  # fmt: skip
    assert rows[0]["target"] == "wasteful"
    assert float(rows[0]["forward_median"]) == 20e-6 * 10
    assert rows[0]["backward_median"] == ""
    assert rows[2]["nodes"] == ""
    assert rows[2]["failure"] == "wasteful: A is singular, it has no inverse"


def test_the_document() -> None:
    found = pair(10, 100, 1000)
    document = json.loads(to_json(sweep_document(found, laws(found))))

    assert document["over"] == {"n": [10, 20, 100, 1000]}
    assert [point["failure"] for point in document["points"]][:2] == [
        None, "wasteful: A is singular, it has no inverse",
    ]  # fmt: skip
    assert document["points"][1]["target"] is None
    first = document["points"][0]
    assert first["target"]["nodes"] == 45
    assert first["against"]["saved_storage_bytes"] == 528
    assert first["target"]["time"]["backward"] is None
    assert first["target"]["time"]["forward"]["median"] == 20e-6 * 10
    assert first["output"]["one_sided"] == {"A": 1.8e-11}
    nodes = document["laws"][0]
    assert (nodes["quantity"], nodes["target"], nodes["over"], nodes["where"]) == ("nodes", "wasteful", "n", {})
    assert nodes["line"]["exact"] is True
    assert (nodes["line"]["slope"], nodes["line"]["intercept"]) == (3, 15)
    assert nodes["power"]["from"] == 10
    assert {"exponent", "standard_error", "factor", "r_squared", "points", "from", "to"} == set(nodes["power"])


def test_values_that_json_lacks() -> None:
    points = (Point({"shape": (2, 3)}, (Side(loss=float("nan")),)),)
    found = Sweep(("t",), {"shape": [(2, 3)]}, points)
    document = json.loads(to_json(sweep_document(found, laws(found))))

    assert document["over"] == {"shape": ["(2, 3)"]}
    assert document["points"][0]["target"]["loss"] == "nan"


@pytest.mark.parametrize(
    ("value", "error", "unit", "text"),
    [
        (16.712e-6, 0.123e-6, "s", "16.71 ± 0.12 µs"),
        (-3.61e-3, 2.3e-3, "s", "-3.6 ± 2.3 ms"),
        (1e-9, 5e-6, "s", "0.0 ± 5.0 µs"),
        (37.3e3, 3.77e3, "B", "37.3 ± 3.8 kB"),
        (280.0, 0.0, "B", "280.0 ± 0 B"),
        (0.8462, 0.0444, "nodes", "0.846 ± 0.044 nodes"),
        (0.0, 0.0, "nodes", "0 ± 0 nodes"),
        (7.43e-14, 4.31e-16, "", "7.4e-14 ± 4.3e-16"),
    ],
)
def test_a_number_with_its_error(value: float, error: float, unit: str, text: str) -> None:
    assert with_error(value, error, unit) == text


@pytest.mark.parametrize(
    ("slope", "intercept", "text"),
    [(3, 15, "3·n + 15 exactly"), (1, 0, "n exactly"), (-1, 4, "−n + 4 exactly"), (-2000, -7, "−2,000·n − 7 exactly")],
)
def test_an_exact_line(slope: int, intercept: int, text: str) -> None:
    assert exact_text(Line(slope, 0, intercept, 0, 1, 3, 1, 3, is_exact=True), "n") == text


def test_small_texts() -> None:
    assert [r_squared_text(share) for share in (1.0, 1 - 1e-12, 0.99987, 0.998, 0.5)] == [
        "1", "0.99999", "0.99987", "0.998", "0.500",
    ]  # fmt: skip
    assert range_text(Timing(0.2, 0.195, 0.213, 3)) == "195–213 ms"
    assert range_text(Timing(1e-3, 98e-6, 1.2e-3, 3)) == "98.0 µs – 1.2 ms"
    assert range_text(Timing(1e-3, 1e-3, 1e-3, 1)) == "1.0 ms"

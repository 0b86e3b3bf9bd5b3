"""The plot of a sweep: the same bytes again, text that can be read, lines told apart without colour."""

from __future__ import annotations

import warnings
from xml.etree import ElementTree

import pytest

from graphlens.analyses.sweep_points import Gap, Point, Side, Sweep
from graphlens.records import Timing
from graphlens.views.growth_plot import _look, plot_growth


def side(n: int, times: int) -> Side:
    timing = Timing(1e-5 * n, 0.9e-5 * n, 1.2e-5 * n, 3) if times else None
    return Side(3 * n + 15, 5 * n + 18, 2 * n, 280 * n, 0, timing, timing, 1.0, 2, {"n": n})


def pair(*ns: int, gap: float = 1e-14) -> Sweep:
    points = tuple(Point({"n": n}, (side(n, 1), side(7, 1)), Gap(gap * n, None), Gap(2 * gap * n, None)) for n in ns)
    return Sweep(("wasteful", "efficient"), {"n": list(ns)}, points)


def texts(svg: bytes) -> set[str]:
    return {"".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter()
            if element.tag.endswith("text")}  # fmt: skip


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_sweep_gives_the_same_bytes(kind: str, start: bytes) -> None:
    first, second = (plot_growth(pair(10, 100, 1000), kind) for _ in range(2))

    assert first == second
    assert first.startswith(start)
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first


def test_axes_are_labelled_and_text_is_text() -> None:
    found = texts(plot_growth(pair(10, 100, 1000), "svg"))

    assert {
        "wasteful against efficient over n", "n", "grad_fn nodes", "storage saved for backward",
        "wall-clock time", "largest absolute difference", "wasteful", "efficient", "wasteful against efficient",
        "full: forward, output difference", "hollow: backward, gradient difference", "1,000", "10 kB", "1 ms",
    } <= found  # fmt: skip


def test_what_was_not_measured_has_no_panel() -> None:
    points = tuple(Point({"n": n}, (side(n, 0),)) for n in (1, 10, 100))
    found = texts(plot_growth(Sweep(("t",), {"n": [1, 10, 100]}, points), "svg"))

    assert "grad_fn nodes" in found
    assert not any("time" in text or "difference" in text or "hollow" in text for text in found)


def test_zero_is_said_not_to_be_shown() -> None:
    found = texts(plot_growth(pair(0, 1, 10), "svg"))
    assert "2 of the values are 0 or less: not shown" in found  # n = 0, for each of the targets

    assert "every value is 0 or less" in texts(plot_growth(pair(1, 10, 100, gap=0.0), "svg"))


def test_a_grid_has_a_line_for_each_setting() -> None:
    points = tuple(Point({"n": n, "form": f}, (side(n, 1),)) for f in ("x", "y") for n in (1, 10, 100))
    found = texts(plot_growth(Sweep(("t",), {"n": [1, 10, 100], "form": ["x", "y"]}, points), "svg"))

    assert {"t, form = x", "t, form = y"} <= found


def test_words_have_places_on_the_axis() -> None:
    points = tuple(Point({"dtype": d}, (side(5, 1),)) for d in ("float32", "float64"))

    assert {"dtype", "float32", "float64"} <= texts(
        plot_growth(Sweep(("t",), {"dtype": ["float32", "float64"]}, points), "svg")
    )


def test_lines_differ_without_their_colour() -> None:
    looks = {(look["marker"], str(look["linestyle"])) for look in (_look(k, is_first=True) for k in range(40))}

    assert len(looks) == 40


@pytest.mark.parametrize("ns", [(5,), (3, 4), (10, 10**9), (0.001, 0.1, 10.0), (-1, 0)])
@pytest.mark.filterwarnings("error")
def test_any_range_is_drawn_without_a_warning(ns: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = tuple(Point({"n": n}, (Side(14, 3, 2, 8),)) for n in ns)
        plot_growth(Sweep(("t$x$ {a_b}",), {"n": list(ns)}, points), "svg")


def test_no_point_with_a_graph() -> None:
    points = (Point({"n": 1}, (Side(loss=1.0),)), Point({"n": 2}, failure="x"))

    assert plot_growth(Sweep(("t",), {"n": [1, 2]}, points), "svg").startswith(b"<?xml")

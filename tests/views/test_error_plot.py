"""The plot of the error along a loop: same bytes again, labelled axes, lines told apart without colour."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from graphlens.accuracy import Accuracy, LoopErrors, Split
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.views.error_plot import _LOOKS, lines_of, plot_errors


def loop(rounds: int = 100, *, backward: bool = False, split: bool = True) -> LoopErrors:
    k = np.arange(rounds + 1.0)
    parts = Split(1e-16 + 0 * k, 3e-13 * k, 1e-13 * np.sqrt(k), 0 * k, 1e-13 + 0 * k, 0 * k, 0.0, ()) if split else None
    error = 3.1e-13 * k
    error[7] = math.nan
    return LoopErrors(0, backward, (), 2.0**-53, 1 + 0 * k, error, 1 + 0 * k, parts)


def accuracy(*loops: LoopErrors) -> Accuracy:
    return Accuracy(GradGraph.__new__(GradGraph), "exact", 128, 2.0**-53, (), (), loops=loops)


def texts(svg: bytes) -> set[str]:
    found = (element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text"))
    return {"".join(element.itertext()).strip() for element in found}


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_errors_give_the_same_bytes(kind: str, start: bytes) -> None:
    first, second = (plot_errors(accuracy(loop(), loop(backward=True)), kind, title="wasteful") for _ in range(2))
    assert first == second
    assert first.startswith(start)
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first


def test_axes_and_panels_are_labelled() -> None:
    svg = plot_errors(accuracy(loop(), loop(backward=True)), "svg", title="wasteful")
    found = texts(svg)
    assert {"rounds", "forward pass: systematic", "backward pass: systematic", "measured"} <= found
    assert any("units" in text for text in found)
    assert {"1", "10", "100"} <= found
    assert not any("mathdefault" in text for text in found)
    assert b'role="img"' in svg
    assert b"predicted 3.0e-11" in svg


def test_lines_hold_the_numbers_that_were_measured() -> None:
    lines = {line.label: line for line in lines_of(loop())}
    assert set(lines) == set(_LOOKS)
    measured = lines["measured"]
    assert 7 not in measured.rounds  # not known
    assert measured.values[measured.rounds.index(50)] == 3.1e-13 * 50
    assert lines["prediction"].values[-1] == pytest.approx(3e-11)
    assert lines["random signs"].values[-1] == pytest.approx(1e-12)  # √100 · 1e-13
    assert lines["worst case"].values[-1] == pytest.approx(1e-16 + 3e-11 + 1e-11)  # before, alike, roundings


def test_of_long_loops_some_points_are_drawn_the_last_among_them() -> None:
    line = lines_of(loop(10_000))[0]
    assert len(line.rounds) <= 201
    assert line.rounds[-1] == 10_000


def test_lines_differ_without_colour() -> None:
    looks = [(repr(look["linestyle"]), look["marker"]) for look in _LOOKS.values()]
    assert len(set(looks)) == len(looks)


def test_a_loop_without_a_split_shows_what_was_measured() -> None:
    assert [line.label for line in lines_of(loop(split=False))] == ["measured"]


def test_without_loops_it_says_so() -> None:
    with pytest.raises(MeasureError, match="no error along a loop"):
        plot_errors(accuracy(), "svg", title="x")

"""The plot of a function: the same bytes again, and None shown as what it is."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from graphlens.records import Curve
from graphlens.views.curve_plot import _runs, plot_curve

FLAT = Curve("f_T", "y", [-2.0, -1.0, 0.0, 1.0, 2.0], [-1.0, 0.0, 0.0, 0.0, 1.0], [1.0, None, None, None, 1.0])
SMOOTH = Curve("g", "x", [0.0, 1.0], [0.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_curve_gives_the_same_bytes(kind: str, start: bytes) -> None:
    first, second = (plot_curve(FLAT, kind, title="t") for _ in range(2))

    assert first == second
    assert first.startswith(start)


def test_svg_says_what_is_drawn() -> None:
    texts = [element.text for element in ElementTree.fromstring(plot_curve(FLAT, "svg", title="soft")).iter()]

    assert {"soft", "f_T(y)", "f_T′(y)", "y", "value from autograd", "None: no path to y, stands for 0"} <= set(texts)


def test_none_is_not_mentioned_where_there_is_none() -> None:
    assert b"None" not in plot_curve(SMOOTH, "svg", title="smooth")


def test_stretches_with_and_without_a_value() -> None:
    assert _runs(FLAT.derivatives) == [[0], [1, 2, 3], [4]]
    assert _runs([]) == []

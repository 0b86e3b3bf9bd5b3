"""Every plot as SVG says in words what it shows, and shares no id with another one on the same page."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from graphlens.views.curve_plot import plot_curve
from graphlens.views.error_plot import plot_errors
from graphlens.views.growth_plot import plot_growth
from tests.views.test_curve_plot import FLAT
from tests.views.test_error_plot import accuracy, loop
from tests.views.test_growth_plot import pair

PLOTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "growth": (lambda: plot_growth(pair(10, 100), "svg"), "wasteful: nodes from 45 nodes at n = 10 to 315 nodes"),
    "curve": (lambda: plot_curve(FLAT, "svg", title="soft"), "No derivative comes from autograd at -1 to 1."),
    "errors": (lambda: plot_errors(accuracy(loop()), "svg", title="e"), "an error of 3.1e-11 at the end"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_says_what_it_shows(name: str) -> None:
    draw, words = PLOTS[name]
    root = ElementTree.fromstring(draw())
    heads = {element.tag.rpartition("}")[2]: element for element in root}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{heads['title'].get('id')} {heads['desc'].get('id')}"
    assert words in str(heads["desc"].text)


def test_ids_of_several_plots_differ() -> None:
    ids = [set(re.findall(r'\bid="([^"]*)"', draw().decode())) for draw, _ in PLOTS.values()]
    assert all(ids)
    assert sum(map(len, ids)) == len(set().union(*ids))

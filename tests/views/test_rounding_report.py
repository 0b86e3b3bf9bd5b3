"""The report on rounding, from a record made by hand; its table of shares added up by hand too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from graphlens.accuracy import Accuracy, Attribution, Branch, Op, Quantity
from graphlens.analyses.rounding.shares import error_column, node_errors, shares
from graphlens.errors import MeasureError
from graphlens.views.rounding_document import accuracy_document
from graphlens.views.rounding_report import rounding_parts
from graphlens.views.table import to_text
from tests.builders import recorded_graph

GRAPH = recorded_graph()
NODES = [number for number, node in enumerate(GRAPH.nodes) if node.kind != "leaf"]
FIRST, SECOND = NODES[:2]
# Two forward ops of one node's line, one backward op, one sum of gradients, one op outside the graph.
OPS = (
    Op("mv", FIRST, False, False),
    Op("mv", SECOND, False, False),
    Op("mv", FIRST, True, False),
    Op("add", FIRST, True, True),
    Op("zeros", None, False, False),
)
TERMS = np.array([6e-10, -2e-10, 5e-10, 1e-10, float("nan")])


def accuracy(*quantities: Quantity, **changes: object) -> Accuracy:
    made = Accuracy(GRAPH, "exact", 128, 2.0**-53, OPS, quantities)
    return replace(made, **changes)  # type: ignore[arg-type]


def quantity(
    name: str = "g", kind: str = "output", terms: Sequence[float] = tuple(TERMS), **changes: object
) -> Quantity:
    made = Attribution("the error's own direction", 1e-9, np.array(terms), {"zeros": 1})
    found = Quantity(
        name, kind, (2,), "float64", 4.0, 8e-10, 1e-9, 4.0, ulps=1801439.85, digits=9.69897, attribution=made
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def report(found: Accuracy, width: int = 80) -> str:
    return to_text(rounding_parts(found, width), width=width)


def test_shares_add_up() -> None:
    item = quantity()
    assert item.attribution is not None
    rows = shares(accuracy(item), item.attribution)

    assert [(row.during, row.ops) for row in rows] == [
        ("forward", 1), ("backward", 1), ("forward", 1), ("sums of gradients", 1),
    ]  # fmt: skip
    assert [row.net for row in rows] == [6e-10, 5e-10, -2e-10, 1e-10]
    assert sum(row.net for row in rows) == pytest.approx(item.attribution.net) == pytest.approx(1e-9)
    assert sum(row.magnitude for row in rows) == pytest.approx(item.attribution.magnitude) == pytest.approx(1.4e-9)
    assert item.attribution.discrepancy == pytest.approx(0, abs=1e-24)
    assert node_errors(GRAPH, item.attribution, OPS) == {
        FIRST: pytest.approx(1.2e-9), SECOND: pytest.approx(-2e-10),
    }  # fmt: skip


def test_the_report() -> None:
    text = report(accuracy(quantity(), quantity("A", "gradient", truth=0.0, is_zero=True, digits=None, ulps=3.0)))
    lines = text.splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("True values: all 5 ops of both passes once more in exact arithmetic, on the same")
    assert "g             8.0e-10   2.0e-10  1.8e+06           9.7                4.00" in lines
    assert any(line.split() == ["A", "8.0e-10", "none", "0"] for line in lines)
    assert "The true value of the gradient of A is 0: what the run has in its place is" in lines
    assert any(line.startswith("sum ") and line.endswith("4  +1.0e-09    1.4e-09  100.0 %") for line in lines)
    words = " ".join(text.split())
    assert "Shares are of 1e-09, the Euclidean norm of the error" in words
    assert "Not measured: zeros (1)." in words
    assert "ulp: units in the last place of each entry's own." in words
    assert "  · gradient of A (norm of the error 1.0e-09): " in text


def test_what_was_not_measured_is_said() -> None:
    bare = quantity(error=None, norm=None, truth=None, ulps=None, digits=None, attribution=None)
    lines = report(accuracy(bare)).splitlines()

    assert any(line.startswith("g") and "not measured" in line for line in lines)
    assert not any(line.startswith("Who made") for line in lines)


def test_significant_digits_stand_in_for_right_ones() -> None:
    bare = quantity(error=None, truth=None, ulps=None, digits=None, attribution=None, significant=(6.25, 6.0, 6.5))
    text = report(accuracy(bare, method="sample", precision=None))

    assert "each result off by a random part of one unit roundoff" in " ".join(text.split())
    assert any(line.split() == ["g", "6.2", "6.0", "to", "6.5", "4.00"] for line in text.splitlines())
    none = report(accuracy(quantity(error=None, attribution=None), method="sample", precision=None))
    assert any(line.split() == ["g", "not", "measured", "4.00"] for line in none.splitlines())


def test_decisions_and_numbers_that_python_read_are_said() -> None:
    text = " ".join(
        report(
            accuracy(quantity(), branches=(Branch(0, 2, 1), Branch(1, 1, 0)), escaped=3, notes=("One more.",))
        ).split()
    )

    assert "At 3 entries a decision on data (a comparison, a maximum) would go another way" in text
    assert "At 1 entry a decision on data is so close" in text
    assert "Python read the numbers of tensors 3 times (.item(), torch.tensor)" in text
    assert "One more." in text


def test_many_results_are_cut() -> None:
    items = [quantity(f"w{k}", "gradient", attribution=None) for k in range(20)]
    text = report(accuracy(quantity(), *items))

    assert "… and 20 more (--json lists them)" in text
    assert len(accuracy_document(accuracy(quantity(), *items))["results"]) == 21


def test_a_column_of_errors() -> None:
    column = error_column(accuracy(quantity(attribution=None), quantity("x", "gradient")))

    assert column.title == "contributions to the rounding error of the gradient of x"
    assert column.total == 1e-9
    assert set(column.values) == {FIRST, SECOND}
    with pytest.raises(MeasureError, match="no op was found to contribute to an error"):
        error_column(accuracy(quantity(terms=[0.0] * 5)))


def test_what_is_not_finite_says_why_nothing_is_measured() -> None:
    unknown = {"error": None, "truth": None, "ulps": None, "digits": None, "attribution": None, "not_finite": 1}
    spoilt = [quantity("y", **unknown), quantity("A", "gradient", **unknown), quantity("M", "gradient", **unknown)]

    assert "Not measured for y and the gradients of A and M, which hold NaN or infinity" in " ".join(
        report(accuracy(*spoilt)).split()
    )
    assert "Not measured for y, which holds NaN" in " ".join(report(accuracy(spoilt[0])).split())
    # What the run has may be infinite where the truth is known: then its error is infinite, and measured.
    assert "Not measured" not in report(accuracy(quantity("y", error=float("inf"), not_finite=1)))


def test_several_gradients_that_are_0() -> None:
    zero = {"truth": 0.0, "is_zero": True, "digits": None}
    items = [quantity(name, "gradient", **zero) for name in ("A", "B")]

    assert "The true values of the gradients of A and B are 0: what the run has in their place" in " ".join(
        report(accuracy(*items)).split()
    )


def test_the_short_form_names_the_largest_shares_of_what_it_prints() -> None:
    """Net shares: an op whose errors cancel among themselves may have the largest magnitude and the least share."""
    ops = tuple(Op(name, None, False, False) for name in ("mv", "mv", "mm", "add", "exp"))
    terms = [5e-9, -5e-9, 6e-10, 3e-10, 1e-10]
    text = report(accuracy(quantity(), quantity("A", "gradient", terms=terms), ops=ops))
    words = " ".join(text.split())

    assert "gradient of A (norm of the error 1.0e-09): mm (forward) 60.0 %, add (forward) 30.0 %, exp" in words
    assert "10.0 % and 1 more; the sum over all ops is 100.0 %" in words

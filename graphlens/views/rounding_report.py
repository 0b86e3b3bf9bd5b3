"""How exact the results of a run are, and which ops made their errors, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.accuracy import Accuracy, Attribution, Quantity
from graphlens.analyses.findings import listed
from graphlens.analyses.rounding.shares import Share, shares
from graphlens.graph import printable
from graphlens.units import count_text, significant
from graphlens.views.opening import NOT_MEASURED
from graphlens.views.table import paragraph, table

_MOST_QUANTITIES = 12
_MOST_IN_SHORT = 3
_MOST_SHARES = 4
_Columns = tuple[tuple[str, ...], Callable[[Quantity], tuple[str, ...]]]
_UNITS = "ulp: units in the last place of each entry's own. Right digits: those of the largest entry."
_TRACE = 0.0005  # of a total: it would be printed as 0.0 %


def rounding_parts(accuracy: Accuracy, width: int) -> Iterator[RenderableType]:
    """The errors of all results, then who made them."""
    yield paragraph(_method(accuracy), width=width)
    yield Text("")
    shown = _chosen(accuracy)
    header, row = _HELD if accuracy.method != "sample" else _SAMPLED
    for kind in ("output", "loss", "gradient"):
        rows = [row(item) for item in shown if item.kind == kind]
        if rows:
            yield table((kind, *header), rows)
    if len(accuracy.quantities) > len(shown):
        yield Text(f"… and {len(accuracy.quantities) - len(shown):,} more (--json lists them)")
    if any(item.ulps is not None and item.digits is not None for item in shown):
        yield paragraph(_UNITS, width=width)
    remarks = list(_remarks(accuracy))
    if remarks:
        yield Text("")
    for sentence in remarks:
        yield paragraph(printable(sentence), width=width)
    made = [item for item in shown if item.attribution is not None and item.error]
    for item in made[:1]:
        yield from _made_by(accuracy, item, width)
    if made[1:]:
        yield Text("")
    for item in made[1:]:
        yield paragraph(printable(_made_by_in_short(accuracy, item)), width=width, first="  · ", indent="    ")


def name_of(item: Quantity) -> str:
    """ "g", "gradient of A"."""
    return printable(item.label)


def _method(accuracy: Accuracy) -> str:
    count = count_text(len(accuracy.ops))
    if accuracy.method == "exact":
        return (
            f"True values: all {count} ops of both passes once more in exact arithmetic, on the same inputs "
            f"({accuracy.precision} bits and rational numbers; the enclosures are proved)."
        )
    if accuracy.method == "float64":
        return (
            f"True values: all {count} ops of both passes once more in float64, whose own rounding "
            "(unit roundoff 1.1e-16) is not measured."
        )
    return (
        f"True values are not known. All {count} ops were run again, each result off by a random part of one "
        "unit roundoff: digits in which these runs agree are significant."
    )


def _chosen(accuracy: Accuracy) -> list[Quantity]:
    items = list(accuracy.quantities)
    if len(items) <= _MOST_QUANTITIES:
        return items
    asked = [item for item in items if item.attribution is not None or item.kind != "gradient"]
    return asked[:_MOST_QUANTITIES]


def _held_row(item: Quantity) -> tuple[str, ...]:
    return (
        printable(item.name),
        NOT_MEASURED if item.error is None else _number(item.error),
        "" if item.error is None or not item.truth else _number(item.error / item.truth),
        "" if item.ulps is None or item.is_zero else significant(item.ulps, 2),
        "none" if item.is_zero and item.error else "" if item.digits is None else f"{item.digits:.1f}",
        "" if item.truth is None else "0" if item.is_zero else significant(item.truth, 3),
    )


def _sampled_row(item: Quantity) -> tuple[str, ...]:
    name, size = printable(item.name), significant(item.size, 3)
    if item.significant is None:
        return name, NOT_MEASURED, "", size
    digits, low, high = item.significant
    return name, f"{digits:.1f}", f"{low:.1f} to {high:.1f}", size


_HELD: _Columns = ("largest error", "relative", "in ulp", "right digits", "largest true value"), _held_row
_SAMPLED: _Columns = ("significant digits", "95 % interval", "largest value"), _sampled_row


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _remarks(accuracy: Accuracy) -> Iterator[str]:
    zero = [item for item in accuracy.quantities if item.is_zero and item.error]
    if zero:
        yield (
            f"The true {'value' if len(zero) == 1 else 'values'} of {_results(zero)} "
            f"{'is' if len(zero) == 1 else 'are'} 0: what the run has in {'its' if len(zero) == 1 else 'their'} place "
            "is rounding, and no digit of it means anything."
        )
    unknown = [item for item in accuracy.quantities if item.error is None and item.significant is None]
    spoilt = [item for item in unknown if item.not_finite]
    if spoilt:
        yield (
            f"Not measured for {_results(spoilt)}, which {'holds' if len(spoilt) == 1 else 'hold'} NaN or infinity: "
            "an error is a distance between numbers."
        )
    otherwise = sum(branch.otherwise for branch in accuracy.branches)
    undecided = sum(branch.undecided for branch in accuracy.branches)
    if otherwise:
        yield (
            f"At {_entries(otherwise)} a decision on data (a comparison, a maximum) would go another way in exact "
            "arithmetic; the run's way was followed."
        )
    if undecided:
        yield f"At {_entries(undecided)} a decision on data is so close that the enclosures do not tell its way."
    if accuracy.escaped:
        times = "once" if accuracy.escaped == 1 else f"{accuracy.escaped:,} times"
        yield (
            f"Python read the numbers of tensors {times} (.item(), torch.tensor): what is made of such numbers "
            "counts as exact."
        )
    yield from accuracy.notes


def _results(items: Sequence[Quantity]) -> str:
    """ "g", "the gradient of A", "g and the gradients of A and M"."""
    names = [printable(item.name) for item in items if item.kind == "gradient"]
    gradients = [f"the gradient{'' if len(names) == 1 else 's'} of {listed(names)}"] if names else []
    return listed([printable(item.name) for item in items if item.kind != "gradient"] + gradients)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _made_by(accuracy: Accuracy, item: Quantity, width: int) -> Iterator[RenderableType]:
    made = item.attribution
    assert made is not None
    yield Text("")
    yield Text(f"Who made the error of {name_of(item)}", style="bold")
    if not made.holds:
        yield paragraph(printable(f"Not known. {_beyond(made)}"), width=width)
        return
    rows = shares(accuracy, made)
    header = ("op", "pass", "line", "ops", "net", "magnitude", "share")
    shown = rows[:_MOST_SHARES]
    cells = [_share_row(row) for row in shown]
    if len(rows) > len(shown):
        cells.append(_share_row(_rest(rows[_MOST_SHARES:], made)))
    total = ("sum", "", "", count_text(sum(row.ops for row in rows)), *_numbers(made.net, made.magnitude, made.total))
    yield table(header, cells, left=3, total=total)
    yield paragraph(printable(_check(made)), width=width)


def _made_by_in_short(accuracy: Accuracy, item: Quantity) -> str:
    """The largest shares of a result in one sentence."""
    made = item.attribution
    assert made is not None
    rows = sorted(shares(accuracy, made), key=lambda row: -abs(row.net))
    told = [
        f"{row.op} ({row.during}{', ' + _line(row.line) if row.line else ''}) {_percent(row.share)}"
        for row in rows[:_MOST_IN_SHORT]
    ]
    if len(rows) > len(told):
        told.append(f"{len(rows) - len(told):,} more")
    text = f"{name_of(item)} (norm of the error {_number(item.norm or 0.0)}): {listed(told)}"
    if not made.holds:
        return f"{name_of(item)}: who made its error is not known. {_beyond(made)}"
    if made.total:
        text += f"; the sum over all ops is {_percent(made.net / made.total)} of the true error"
    return f"{text}."


def _line(line: str) -> str:
    """Without the function's name."""
    return line.partition(" (")[0]


def _rest(rows: tuple[Share, ...], made: Attribution) -> Share:
    net = math.fsum(row.net for row in rows)
    magnitude = math.fsum(row.magnitude for row in rows)
    share = net / made.total if made.total else None
    return Share(f"{len(rows)} more", "", "", sum(row.ops for row in rows), net, magnitude, share, ())


def _share_row(row: Share) -> tuple[str, ...]:
    net, magnitude, share = _signed(row.net), _number(row.magnitude), _percent(row.share)
    return printable(row.op), row.during, printable(_line(row.line)), count_text(row.ops), net, magnitude, share


def _numbers(net: float, magnitude: float, total: float | None) -> tuple[str, str, str]:
    return _signed(net), _number(magnitude), _percent(net / total if total else None)


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.1e}"


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    if 0 < abs(share) < _TRACE:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _check(made: Attribution) -> str:
    """What the shares are shares of, how errors cancel, and what is left unexplained."""
    if made.total is None:
        text = f"Measured along {made.functional}; the true total is not known."
    else:
        gap = abs(made.discrepancy or 0.0)
        text = (
            f"Shares are of {made.total:.4g}, the Euclidean norm of the error (the table above has its largest entry). "
            "net: errors that cancel are set off against each other; magnitude: they are not. "
        )
        if made.total:
            text += f"First order leaves out {f'{gap / made.total:.1e}' if gap else 'nothing'} of the error."
    return text + _unmeasured(made)


def _beyond(made: Attribution) -> str:
    """Why the terms of first order do not tell who made an error."""
    total = made.total or 0.0
    off = f"{abs(made.discrepancy or 0.0) / abs(total):.1e} times the error" if total else "more than the error"
    why = "" if made.unmeasured else ", which is too large for it"
    return f"First order is off by {off} ({total:.4g}, its Euclidean norm){why}.{_unmeasured(made)}"


def _unmeasured(made: Attribution) -> str:
    if not made.unmeasured:
        return ""
    return f" Not measured: {listed([f'{name} ({count:,})' for name, count in made.unmeasured.items()])}."

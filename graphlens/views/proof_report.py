"""A program and the shorter one that was written in its place, side by side."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.counts import Stats
from graphlens.analyses.findings import listed
from graphlens.analyses.proof import Gathered, Proof
from graphlens.graph import printable
from graphlens.records import Timing
from graphlens.units import bytes_text, count_text, counted, nodes_text, ratio_text, seconds_text, significant
from graphlens.views.opening import NOT_MEASURED
from graphlens.views.table import heading, paragraph, table


def proof_parts(proof: Proof, width: int) -> Iterator[RenderableType]:
    """What was measured of both, and whether they compute the same."""
    if proof.comparison is None:
        yield heading("\nNo saving can be shown")
        yield paragraph(f"No shorter program can be shown: {printable(proof.refusal)}.", width=width)
        return
    if not proof.is_shown:
        yield heading("\nNo saving")
        for sentence in (*_without_saving(proof), *_same(proof)):
            yield paragraph(printable(sentence), width=width)
        return
    yield heading("\nThe saving, measured" if proof.saved else "\nBefore and after, measured")
    yield table(("", "before", "after", "ratio", "predicted"), _rows(proof))
    yield Text("")
    yield paragraph(
        f"After: the program, written anew with the {count_text(proof.calls)} operations that are left without what "
        f"the findings name{_but(proof)}. Predicted: the nodes that stay, and the sum of the times of their ops, each "
        "run by itself.",
        width=width,
    )
    for sentence in _ranges(proof):
        yield paragraph(sentence, width=width)
    yield Text("")
    yield table(("", "largest difference", "of its size"), _differences(proof), texts=(1, 2))
    for sentence in _sentences(proof):
        yield paragraph(printable(sentence), width=width)


def _rows(proof: Proof) -> Iterator[tuple[str, ...]]:
    comparison, predicted = proof.comparison, proof.prediction
    assert comparison is not None
    assert predicted is not None
    a, b = comparison.stats_a, comparison.stats_b
    if a is not None and b is not None:
        yield (
            "grad_fn nodes",
            count_text(a.nodes),
            count_text(b.nodes),
            ratio_text(a.nodes, b.nodes),
            count_text(predicted.nodes),
        )
        yield (
            "saved for backward",
            _saved(a),
            _saved(b),
            "" if a.total.unknown or b.total.unknown else ratio_text(a.total.storage_bytes, b.total.storage_bytes),
            NOT_MEASURED if predicted.storage_bytes is None else bytes_text(predicted.storage_bytes),
        )
    for name, x, y, told in (
        ("forward", comparison.a.forward, comparison.b.forward, predicted.forward),
        ("backward", comparison.a.backward, comparison.b.backward, predicted.backward),
    ):
        yield (
            name,
            _time(x),
            _time(y),
            ratio_text(x.median, y.median) if x is not None and y is not None else "",
            NOT_MEASURED if told is None else seconds_text(told),
        )


def _saved(stats: Stats) -> str:
    return NOT_MEASURED if stats.total.unknown else bytes_text(stats.total.storage_bytes)


def _time(timing: Timing | None) -> str:
    return NOT_MEASURED if timing is None else seconds_text(timing.median)


def _differences(proof: Proof) -> Iterator[tuple[str, str, str]]:
    comparison = proof.comparison
    assert comparison is not None
    for kind, rows in (("output", comparison.outputs), ("gradient of", comparison.gradients)):
        for row in rows:
            if row.a == row.b == "value" and row.max_abs is not None:
                relative = "" if row.relative is None or not row.max_abs else significant(row.relative, 2)
                text = significant(row.max_abs, 2) if row.max_abs else "equal to the last bit"
                yield f"{kind} {row.name}", text, relative
            elif (row.a, row.b) == ("value", "none"):
                yield f"{kind} {row.name}", "None after: it is not used any more", ""
            elif row.a != row.b:
                yield f"{kind} {row.name}", f"{row.a} before, {row.b} after", ""


def _sentences(proof: Proof) -> Iterator[str]:
    yield from map(_gone, proof.gathered)
    for name in proof.explained:
        yield (
            f"The {name} moves by {significant(proof.noise[name], 2)} when the inputs change in their last digit: so "
            "small a difference tells nothing about the program."
        )
    for trial in proof.trials:
        if trial.failure:
            amount = f" changed by {trial.amount:g}" if trial.amount else ""
            yield f"Other inputs{amount}: {trial.failure}."
            continue
        changed = f"With other inputs (each number changed by about {trial.amount:g} of its size)"
        worst = [value for value in (trial.outputs, trial.gradients) if value is not None]
        if not worst:
            yield f"{changed} no difference is larger than that of such a change: {listed(trial.explained)}."
            continue
        apart = f", the {listed(trial.explained)} apart" if trial.explained else ""
        if not max(worst):
            yield f"{changed} outputs and gradients are equal to the last bit{apart}."
            continue
        yield (
            f"{changed} outputs and gradients differ by at most {significant(max(worst), 2)} of their size{apart}."
        )
    if proof.guards:
        yield (
            f"The program chose its way by {counted(proof.guards, 'value')} of tensors; the shorter one checks that "
            f"{'it is' if proof.guards == 1 else 'they are'} the same, and fails where "
            f"{'it is' if proof.guards == 1 else 'they are'} not."
        )
    if not proof.holds:
        yield f"Not proved: {'; '.join(proof.failures)}."
        return
    yield f"Up to {significant(proof.bound, 2)} of the size a difference is taken for rounding: same values."
    if proof.saved:
        yield f"Saved, with the same values: {listed(proof.saved)}."
    else:
        yield "No saving is claimed: no count falls, and the times of both overlap."


def _without_saving(proof: Proof) -> Iterator[str]:
    """Why nothing is saved: nothing was found that could go, or what is written anew is longer."""
    if proof.by_hand:
        yield (
            f"What {_named(proof)} is not written anew: equal values, work that is undone and copies are left out, and "
            "products put in order, and there is nothing of that here."
        )
    elif not proof.names:
        yield "Nothing to leave out: no finding names anything that is computed in vain."
    if proof.nodes is None:
        return
    before, after = proof.nodes
    if after > before:
        yield (
            f"Written anew out of single ops the program has {count_text(after)} nodes, more than the "
            f"{count_text(before)} of the original: what it writes in place takes more ops so. No shorter program can "
            "be shown."
        )
    elif after < before and proof.gone:
        gone = listed([f"{count_text(count)} {op}" for op, count in proof.gone.items()])
        yield (
            f"Written anew the program has {nodes_text(after)} in place of {count_text(before)}: without {gone}, whose "
            "values others give too or nothing reads. No finding names them, and no saving is claimed."
        )


def _but(proof: Proof) -> str:
    """Which findings the program does not follow."""
    if not proof.by_hand:
        return ""
    return f"; what {_named(proof)} is left as it is"


def _named(proof: Proof) -> str:
    return f"{listed(proof.by_hand)} {'names' if len(proof.by_hand) == 1 else 'name'}"


def _same(proof: Proof) -> Iterator[str]:
    """Whether the program that was written anew gives the same, in a sentence."""
    if not proof.holds:
        yield f"What was written anew does not give the same values: {'; '.join(proof.failures)}."
        return
    comparison = proof.comparison
    assert comparison is not None
    rows = [row for row in (*comparison.outputs, *comparison.gradients) if row.a == row.b == "value"]
    if all(row.max_abs == 0.0 for row in rows):
        yield "Written anew it gives the same values, to the last bit."
    else:
        yield f"Written anew it gives the same values, up to {significant(proof.bound, 2)} of their size."


def _ranges(proof: Proof) -> Iterator[str]:
    comparison = proof.comparison
    assert comparison is not None
    for name, x, y in (
        ("forward", comparison.a.forward, comparison.b.forward),
        ("backward", comparison.a.backward, comparison.b.backward),
    ):
        if x is None or y is None:
            continue
        what = "; they overlap, so that no difference can be claimed" if x.overlaps(y) else ""
        yield f"Times of the {name} pass: {_range(x)} before, {_range(y)} after (medians of {x.repeats} above){what}."


def _range(timing: Timing) -> str:
    return f"{seconds_text(timing.min)} to {seconds_text(timing.max)}"


def _gone(gathered: Gathered) -> str:
    """A gradient that the shorter program does not have: what it was, and what it should be."""
    share = "" if gathered.ratio is None else f", {significant(gathered.ratio, 2)} of that"
    before = (
        f"Before, the gradient of {gathered.name} adds up {count_text(gathered.contributions)} "
        f"contribution{'' if gathered.contributions == 1 else 's'} of {significant(gathered.terms, 3)} together; they "
        f"come to {significant(gathered.largest, 2)}{share}."
    )
    if gathered.truth is None:
        why = gathered.unknown or "that was not tried"
        return f"{before} After, there is none, which stands for 0; its true value was not computed: {why}."
    true = "0" if gathered.is_zero else significant(gathered.truth, 3)
    return f"{before} Its true value, computed in exact arithmetic ({gathered.precision} bits), is {true}."

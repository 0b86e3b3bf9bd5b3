"""GL201: the same value computed again."""

from __future__ import annotations

from collections.abc import Iterator

from graphlens.analyses.findings import Finding, listed
from graphlens.analyses.listing import Listing, Step
from graphlens.analyses.redundancy.numbering import Equalities, Repeat
from graphlens.analyses.redundancy.telling import FREE, Telling, nodes_of, times

_MOST_NAMED = 2  # lines


def repeated_findings(listing: Listing, found: Equalities, telling: Telling) -> Iterator[Finding]:
    """One for each line and op; of steps that are repeated together the last one is named."""
    groups: dict[tuple[str, str], list[Repeat]] = {}
    members = _members(listing, found)
    for repeat in found.repeats:
        if id(repeat) in members:
            groups.setdefault((telling.line(repeat.first) or telling.line(repeat.step), repeat.step.op), []).append(
                repeat
            )
    for repeats in groups.values():
        steps = [step for repeat in repeats for step in members[id(repeat)]]
        nodes = nodes_of(steps)
        # What runs without a gradient has no node, and what only moves dimensions costs next to nothing.
        if nodes and any(step.op not in FREE and step.node is not None for step in steps):
            yield _finding(repeats, steps, nodes, telling)


def _finding(repeats: list[Repeat], steps: list[Step], nodes: set[int], telling: Telling) -> Finding:
    firsts = {id(repeat.first): repeat.first for repeat in repeats}
    first = repeats[0].first
    saving = telling.savings.of(nodes)
    what = telling.expression(first)
    count = len(repeats) + len(firsts)
    lines = dict.fromkeys(line for repeat in repeats if (line := telling.line(repeat.step)))
    again = _elsewhere([line for line in lines if line != telling.line(first)])
    if len(firsts) == 1:
        claim = (
            f"{what} is computed {times(count)} from the same values{again}. All but the first are "
            f"{saving.sentence()}."
        )
    else:
        claim = (
            f"{len(firsts):,} values such as {what} are computed {times(count)} in all{again}. All but the first of "
            f"each are {saving.sentence()}."
        )
    return Finding(
        "GL201",
        "warning",
        claim,
        telling.where(first, nodes),
        {
            "times": count,
            "values": len(firsts),
            "op": first.op,
            "ops_repeated": len(steps),
            "lines": list(lines),
            "equal_to_the_last_bit": True,
            **saving.evidence,
        },
        "compute it once, before the loop or before its first use, and use the result again",
    )


def _elsewhere(lines: list[str]) -> str:
    """ ", again at model.py:20 (Net.loss)": where the repeats are that stand on other lines than the first."""
    if not lines:
        return ""
    more = len(lines) - _MOST_NAMED
    return f", again at {listed(lines[:_MOST_NAMED] + ([f'{more:,} more lines'] if more > 0 else []))}"


def _members(listing: Listing, found: Equalities) -> dict[int, list[Step]]:
    """Per repeat that no other repeat reads alone the steps that are repeated for it."""
    by_output = {value: repeat for repeat in found.repeats for value in repeat.step.outputs if value is not None}
    parent: dict[int, Repeat] = {}
    others: set[int] = set()  # read by a step that is no repeat
    for raw in listing.steps:
        read = [by_output[value] for value in raw.inputs if value in by_output]
        if not read:
            continue
        reader = by_output.get(raw.outputs[0]) if raw.outputs and raw.outputs[0] is not None else None
        if reader is None or reader.step.outputs != raw.outputs:
            others.update(map(id, read))
        else:
            parent.update((id(repeat), reader) for repeat in read)
    members: dict[int, list[Step]] = {}
    root: dict[int, int] = {}
    for repeat in reversed(found.repeats):
        above = parent.get(id(repeat))
        top = id(repeat) if above is None or id(repeat) in others else root[id(above)]
        root[id(repeat)] = top
        members.setdefault(top, []).append(repeat.step)
    return members

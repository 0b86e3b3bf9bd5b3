"""GL202: work that other work undoes."""

from __future__ import annotations

from collections.abc import Iterator, Set

from graphlens.analyses.findings import Finding
from graphlens.analyses.listing import Step
from graphlens.analyses.redundancy.known import Undone
from graphlens.analyses.redundancy.numbering import Equalities
from graphlens.analyses.redundancy.rules import rule_names
from graphlens.analyses.redundancy.telling import FREE, Telling, nodes_of, times

# They move numbers, or keep every digit of them: what comes out is what went in, to the last bit.
_EXACT = FREE | {"_to_copy", "flip", "roll", "neg", "cat", "stack"}
_UNTOLD = frozenset(("view and view",))  # every reshape to and fro inside of torch's own functions is one


def pairs_told() -> list[str]:
    """The names of the rules that GL202 goes by."""
    return [name for name in rule_names() if name not in _UNTOLD]


def cancelling_findings(found: Equalities, gone: Set[int], telling: Telling) -> Iterator[Finding]:
    """One for each rule and pair of lines."""
    groups: dict[tuple[str, str, str], list[tuple[Step, Undone]]] = {}
    for step, gives in found.undone:
        if gives.rule not in _UNTOLD:
            groups.setdefault((gives.rule, telling.line(gives.steps[0]), telling.line(step)), []).append((step, gives))
    for (rule, _, _), pairs in groups.items():
        steps = [step for _, gives in pairs for step in gives.steps]
        nodes = nodes_of(steps) & gone
        if nodes:
            yield _finding(rule, pairs, nodes, found, telling)


def _finding(
    rule: str, pairs: list[tuple[Step, Undone]], nodes: set[int], found: Equalities, telling: Telling
) -> Finding:
    step, gives = pairs[0]
    saving = telling.savings.of(nodes)
    inner = gives.steps[0]
    free = all(each.op in FREE for each in gives.steps)
    exact = all(each.op in _EXACT for each in gives.steps)
    maker = found.made_by.get(gives.value)
    given = telling.value(gives.value, 1) if maker is None else telling.expression(maker)
    count = "" if len(pairs) == 1 else f", and such a pair is run {times(len(pairs))}"
    claim = (
        f"{telling.expression(step, 4)} gives back {'what went in' if given == '…' else given}{count}: "
        f"{saving.sentence()} for nothing."
    )
    return Finding(
        "GL202",
        "info" if free else "warning",
        claim,
        telling.where(step, nodes),
        {
            "rule": rule,
            "pairs": len(pairs),
            "lines": [line for line in dict.fromkeys((telling.line(inner), telling.line(step))) if line],
            **saving.evidence,
        },
        f"leave both out: what goes in comes out again, {'to the last bit' if exact else 'up to rounding'}",
    )

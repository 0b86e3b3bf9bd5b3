"""Planted waste is found with its counts, look-alikes are silent: the table of both is printed with -s."""

from __future__ import annotations

import pytest

from tests.waste.cases import Case, look_into
from tests.waste.healthy import HEALTHY
from tests.waste.planted import PLANTED


def test_the_table_of_all() -> None:
    rows, wrong = [], []
    for name, planted in PLANTED.items():
        result = look_into(planted.program()).result
        found = [finding for finding in result.findings if finding.code == planted.code]
        counts = [{key: finding.evidence[key] for key in planted.counts} for finding in found]
        codes = {finding.code for finding in result.findings}
        right = counts == [dict(planted.counts)] and codes == {planted.code, *planted.besides}
        told = "; ".join(" ".join(f"{key}={value}" for key, value in row.items()) for row in counts)
        rows.append(f"{name:38}{planted.code}   {told}{'' if right else '   WRONG'}")
        wrong += [] if right else [(name, counts, codes)]
    for name, healthy in HEALTHY.items():
        findings = look_into(healthy.program()).result.findings
        rows.append(f"{name:38}{'silent' if not findings else 'FALSE ALARM'}")
        wrong += [(name, finding.claim) for finding in findings]
    print("\n" + "\n".join(rows))

    assert wrong == []
    assert len(PLANTED) >= 25
    assert len(HEALTHY) >= 25
    assert {planted.code for planted in PLANTED.values()} == {f"GL20{k}" for k in range(1, 7)}


@pytest.mark.parametrize("name", [name for name, planted in PLANTED.items() if planted.by_hand])
def test_what_is_left_is_what_a_person_would_write(name: str) -> None:
    planted = PLANTED[name]
    assert planted.by_hand is not None
    looked = look_into(planted.program())

    assert looked.result.left == look_into(Case(planted.by_hand, planted.shapes).program()).nodes < looked.nodes

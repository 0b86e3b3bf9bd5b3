"""GL204: one value that is kept for backward in several storages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from graphlens.analyses.findings import Finding
from graphlens.analyses.listing import Listing
from graphlens.analyses.redundancy.known import Undone
from graphlens.analyses.redundancy.numbering import Equalities
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.analyses.redundancy.telling import Telling
from graphlens.graph import SavedTensor
from graphlens.units import bytes_text, percent_text

_WORTH = 0.01  # of all that is kept: copies of less are not worth a finding
_COPYING = frozenset(("clone", "_to_copy", "lift_fresh_copy"))
_SAME_ENTRIES = frozenset(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "alias", "detach", "lift_fresh"))
_PASSING = _COPYING | _SAME_ENTRIES


class _Group(NamedTuple):
    """What keeps the value `start` or a copy of it: per storage the first record; all but the first are copies."""

    start: int
    records: list[SavedTensor]
    copiers: set[int]  # nodes that made the copies

    @property
    def copied(self) -> int:
        return sum(record.storage_bytes or 0 for record in self.records[1:])


def copied_findings(
    listing: Listing, found: Equalities, telling: Telling, holds: Callable[[int, int, Undone | None], bool],
    otherwise: Otherwise,
) -> Iterator[Finding]:  # fmt: skip
    """One for each pair of lines that keep the same numbers.

    What is computed again is not meant: that is GL201.
    """
    groups = list(_groups(listing, found, telling, holds))
    copying = {step.node: step for step in found.steps if step.op == "clone" and step.node is not None}
    sizes = {record.storage: record.storage_bytes or 0 for record in telling.savings.graph.saved}
    whole = sum(sizes.values())
    by_place: dict[tuple[str, str], list[_Group]] = {}
    for group in groups:
        first, second = (telling.savings.place(record.node)[0] for record in group.records[:2])
        by_place.setdefault((first, second), []).append(group)
    for alike in by_place.values():
        copied = sum(group.copied for group in alike)
        if copied >= _WORTH * whole:
            yield _finding(alike, copied, whole, listing, telling)
            copies = [copying[node] for group in alike for node in group.copiers if node in copying]
            otherwise.copies.update((step.outputs[0] or 0, step.inputs[0]) for step in copies)
            if not all(copying.keys() >= group.copiers for group in alike):
                otherwise.by_hand.add("GL204")


def _groups(
    listing: Listing, found: Equalities, telling: Telling, holds: Callable[[int, int, Undone | None], bool]
) -> Iterator[_Group]:
    origin, copier = _origins(listing, found)
    records: dict[int, list[SavedTensor]] = {}  # by storage
    for record in telling.savings.graph.saved:
        if record.storage is not None and record.view_bytes == record.storage_bytes:
            records.setdefault(record.storage, []).append(record)
    kept: dict[tuple[int, object, object], dict[int, tuple[int, SavedTensor]]] = {}
    for storage, those in records.items():
        values = {listing.saved.get((record.node, record.slot), -1) for record in those}
        starts = {origin(value) for value in values if value >= 0}
        if -1 in values or len(starts) != 1:
            continue
        kept.setdefault((starts.pop(), those[0].shape, those[0].dtype), {})[storage] = min(values), those[0]
    computed = {value for step in found.steps if step.node is not None for value in step.outputs}
    for (start, _, _), storages in kept.items():
        first, _ = next(iter(storages.values()))
        same: dict[int, SavedTensor] = {}
        for value, record in storages.values():
            if value == first or holds(value, first, None):
                same.setdefault(found.first(value) if value in computed else value, record)
        # What is in memory anyway is the one to keep.
        order = sorted(same, key=lambda value: same[value].role not in ("parameter", "input", "buffer"))
        if len(order) > 1:
            copiers = {copier[value] for value in order[1:] if value in copier}
            yield _Group(start, [same[value] for value in order], copiers)


def _origins(listing: Listing, found: Equalities) -> tuple[Callable[[int], int], dict[int, int]]:
    """Of a value what it was copied from, and the node that copied it; constants made again have one origin."""
    again = {a: b for a, b in found.same.items() if listing.values[a].content is not None}
    for repeat in found.repeats:
        if repeat.step.node is None:
            pairs = zip(repeat.step.outputs, repeat.first.outputs, strict=True)
            again.update((a, b) for a, b in pairs if a is not None and b is not None)
    origin: dict[int, int] = {}
    copier: dict[int, int] = {}

    def first(value: int) -> int:
        value = again.get(value, value)
        return origin.get(value, value)

    for step in found.steps:  # each after those that made its inputs
        if step.op not in _PASSING or not step.inputs or len(step.outputs) != 1:
            continue
        result = step.outputs[0]
        if result is not None and listing.values[step.inputs[0]].dtype == listing.values[result].dtype:
            origin[result] = first(step.inputs[0])
            if step.op in _COPYING and step.node is not None:
                copier[result] = step.node
    return first, copier


def _finding(groups: list[_Group], copied: int, whole: int, listing: Listing, telling: Telling) -> Finding:
    first = groups[0]
    storages = sum(len(group.records) for group in groups)
    maker = telling.found.made_by.get(first.start)
    is_constant = first.start not in listing.leaves and (maker is None or not maker.inputs)
    what = f"a {list(first.records[0].shape or ())} constant" if is_constant else telling.value(first.start, 2)
    many = f"{len(groups):,} values such as {what} are" if len(groups) > 1 else f"{what} is"
    saving = telling.savings.of(set().union(*(group.copiers for group in groups)))
    made = f" They are made by {saving.sentence()}." if saving.nodes else ""
    keepers = {record.node for group in groups for record in group.records[1:]}
    copier = min(set().union(*(group.copiers for group in groups)), default=first.records[1].node)
    lines = dict.fromkeys(telling.savings.place(record.node)[0] for group in groups for record in group.records)
    return Finding(
        "GL204",
        "info",
        f"{many} kept for backward in {storages:,} storages with the same numbers: {bytes_text(copied)} are copies, "
        f"{percent_text(copied, whole)} of all that is kept.{made}",
        telling.where_of(copier, keepers),
        {
            "values": len(groups),
            "storages": storages,
            **saving.evidence,
            "saved_storage_bytes": copied,
            "all_storage_bytes": whole,
            "equal_to_the_last_bit": True,
            "lines": [line for line in lines if line],
        },
        "keep one: leave out clone() and contiguous() where nothing is written to, and make constants once",
    )

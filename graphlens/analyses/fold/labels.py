"""What a group is called: after its own leaves where they have names, after its modules or its ops else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import prod

from graphlens.graph import GradGraph

_BACKWARD = re.compile(r"Backward\d*$")
_SHOWN = 4


def short_op(op: str) -> str:
    """An op as people say it: `MvBackward0` → `Mv`."""
    return _BACKWARD.sub("", op) or op


def ops_label(ops: Sequence[str]) -> str:
    """The first ops of a body: "Mv · LinalgInvEx · Mv", "Mul · Add · Tanh · Mul … (12 ops)"."""
    shown = " · ".join(short_op(op) for op in ops[:_SHOWN])
    return shown if len(ops) <= _SHOWN else f"{shown} … ({len(ops)} ops)"


def leaf_label(names: Sequence[str]) -> str:
    """A leaf's name; "h.0.w … h.11.w" for the leaves of several iterations."""
    distinct = list(dict.fromkeys(names))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} … {distinct[-1]}"


def varying_head(name: str, other: str) -> str:
    """ "h.3" for h.3.w against h.2.w: a name up to its one dotted part that differs, "" if not one."""
    parts, others = name.split("."), other.split(".")
    varying = [k for k, (a, b) in enumerate(zip(parts, others, strict=False)) if a != b]
    if len(varying) != 1 or len(parts) != len(others):
        return ""
    return ".".join(parts[: varying[0] + 1])


def common_heads(families: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What names of an iteration's own leaves begin with, one text per iteration; () if nothing.

    Each family holds one leaf's name per iteration: h.0.w, h.1.w … gives "h.0", "h.1" ….
    """
    votes: Counter[tuple[str, ...]] = Counter()
    for names in families:
        heads = _heads(names)
        if heads:
            votes[heads] += 1
    # The most frequent pattern, of several the first: a Counter keeps the order of insertion.
    return votes.most_common(1)[0][0] if votes else ()


def _heads(names: Sequence[str]) -> tuple[str, ...]:
    rows = [name.split(".") for name in names]
    if len({len(row) for row in rows}) > 1 or not all(names):
        return ()
    varying = [k for k, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1:
        return ()
    return tuple(".".join(row[: varying[0] + 1]) for row in rows)


def heads_label(heads: Sequence[str], inside: str) -> str:
    """ "h.0 … h.11", or "attn.{query, key, value}"; without the name of the iteration it is inside."""
    short = [head.removeprefix(f"{inside}.") if inside else head for head in heads]
    lasts = [head.rpartition(".")[2] for head in short]
    if all(last.isdecimal() for last in lasts) or len(short) > _SHOWN:
        return f"{short[0]} … {short[-1]}"
    stem = short[0].removesuffix(lasts[0])
    return f"{stem}{{{', '.join(lasts)}}}"


def compact_label(label: str) -> str:
    """ "h.0…11.ln.weight" for "h.0.ln.weight … h.11.ln.weight"."""
    first, dots, last = label.partition(" … ")
    parts, others = first.split("."), last.split(".")
    if not dots or len(parts) != len(others):
        return label
    return ".".join(a if a == b else f"{a}…{b}" for a, b in zip(parts, others, strict=True))


def paths_label(paths: Sequence[str]) -> str:
    """What several modules are called together: "h.0…11.attn", "h.0…11.{query, key}", or the first and the last."""
    distinct = list(dict.fromkeys(paths))
    rows = [path.split(".") for path in distinct]
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=False)]
    if len({len(row) for row in rows}) > 1 or len(distinct) != prod(map(len, columns)):
        return leaf_label(distinct)
    return ".".join(map(_part_label, columns))


def _part_label(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    if all(part.isdecimal() for part in parts) or len(parts) > _SHOWN:
        return f"{parts[0]}…{parts[-1]}"
    return f"{{{', '.join(parts)}}}"


def call_spans(graph: GradGraph, order: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Per call of a module how many nodes were made in it, and the first and the last position of these.

    Without any, the first position is past the last one. `order` is position → node number.
    """
    calls = graph.calls
    counts, firsts, lasts = [0] * len(calls), [len(order)] * len(calls), [-1] * len(calls)
    for place, number in enumerate(order):
        call = graph.nodes[number].call
        if call is not None:
            counts[call] += 1
            firsts[call] = min(firsts[call], place)
            lasts[call] = place
    for call in reversed(range(len(calls))):  # a caller comes before what it calls
        caller = calls[call].caller
        if caller is not None:
            counts[caller] += counts[call]
            firsts[caller] = min(firsts[caller], firsts[call])
            lasts[caller] = max(lasts[caller], lasts[call])
    return counts, firsts, lasts


class Calls:
    """The calls of modules that made the nodes of a graph, by position in forward order.

    Args:
        graph: a recorded graph.
        order: position → node number.
    """

    def __init__(self, graph: GradGraph, order: Sequence[int]) -> None:
        self._calls = graph.calls
        self._ops = [graph.nodes[number].op for number in order]
        self._of = [graph.nodes[number].call for number in order]
        _, self._first, self._last = call_spans(graph, order)

    def _chain(self, call: int | None) -> list[int]:
        """A call, its caller, the caller of that, …"""
        chain = []
        while call is not None:
            chain.append(call)
            call = self._calls[call].caller
        return chain

    def label(self, starts: Sequence[int], period: int, inside: str) -> tuple[str, tuple[str, ...]]:
        """What iterations are called after the modules that they call, and what each of them is if that is one call.

        The label is "" where they call none, or different ones that have no name together. `inside`
        is the name of the iteration around them.
        """
        outer = self._common_caller({self._of[start + offset] for start in starts for offset in range(period)})
        below: dict[int | None, int | None] = {}
        rows = [self._parts(start, period, outer, below) for start in starts]
        if len({tuple(name if call is None else None for call, name in row) for row in rows}) > 1:
            return "", ()
        columns = [[name for _, name in column] for column in zip(*rows, strict=True)]
        if all(call is None for call, _ in rows[0]):
            return "", ()
        if len(columns) == 1:
            names = columns[0]
            if len(set(names)) > 1 and _heads(names) == tuple(names):
                return heads_label(names, inside), tuple(names)
            if len(set(names)) > 1 and not _heads(names):
                return "", ()
            return paths_label([name.removeprefix(f"{inside}.") if inside else name for name in names]), tuple(names)
        prefix = "" if outer is None else self._calls[outer].path
        parts = []
        for (call, _), names in zip(rows[0], columns, strict=True):
            if len(set(names)) > 1 and not _heads(names):
                return "", ()
            short = [name.removeprefix(f"{prefix}.") if prefix else name for name in names]
            parts.append(names[0] if call is None else paths_label(short))
        shown = " · ".join(parts[:_SHOWN])
        return (shown if len(parts) <= _SHOWN else f"{shown} … ({len(parts)} steps)"), ()

    def _common_caller(self, calls: set[int | None]) -> int | None:
        """The innermost call that all of these were made in, or are; None for none."""
        chains = [self._chain(call)[::-1] for call in calls]
        shared = None
        for column in zip(*chains, strict=False):
            if len(set(column)) > 1:
                break
            shared = column[0]
        return shared

    def _parts(
        self, start: int, period: int, outer: int | None, below: dict[int | None, int | None]
    ) -> list[tuple[int | None, str]]:
        """The calls that an iteration makes, and the ops beside them, in order: (call, its path) or (None, op)."""
        parts: list[tuple[int | None, str]] = []
        for place in range(start, start + period):
            inner = self._of[place]
            if inner not in below:
                chain = self._chain(inner)
                below[inner] = chain[chain.index(outer) - 1] if outer in chain[1:] else None
                if outer is None and chain:
                    below[inner] = chain[-1]
            call = below[inner]
            if call is not None and not start <= self._first[call] <= self._last[call] < start + period:
                call = None  # only part of it is in this iteration
            if call is None:
                parts.append((None, short_op(self._ops[place])))
            elif not parts or parts[-1][0] != call:
                parts.append((call, str(self._calls[call])))
        return parts

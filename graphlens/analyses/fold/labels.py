"""What a group is called: after its own leaves where they have names, after its ops else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

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

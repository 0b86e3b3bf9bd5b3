"""What a group is called: after its own leaves where they have names, after its ops else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_BACKWARD = re.compile(r"Backward\d*$")
_OPS_SHOWN = 4


def short_op(op: str) -> str:
    """An op as people say it: `MvBackward0` → `Mv`."""
    return _BACKWARD.sub("", op) or op


def ops_label(ops: Sequence[str]) -> str:
    """The first ops of a body: "Mv · LinalgInvEx · Mv", "Mul · Add · Tanh · Mul … (12 ops)"."""
    shown = " · ".join(short_op(op) for op in ops[:_OPS_SHOWN])
    return shown if len(ops) <= _OPS_SHOWN else f"{shown} … ({len(ops)} ops)"


def names_label(families: Sequence[Sequence[str]]) -> str:
    """The common pattern of the names that iterations give to their own leaves, "" if there is none.

    Each family holds one leaf's name per iteration: h.0.w, h.1.w … gives "h.0 … h.1".
    """
    votes: Counter[str] = Counter()
    for names in families:
        label = _span(names)
        if label:
            votes[label] += 1
    # The most frequent pattern, of several the first: Counter keeps the order of insertion.
    return votes.most_common(1)[0][0] if votes else ""


def _span(names: Sequence[str]) -> str:
    """ "h.0 … h.11" for h.0.w … h.11.w: up to the one dotted part that changes."""
    if len(set(names)) < 2 or not all(names):
        return ""
    rows = [name.split(".") for name in names]
    if len({len(row) for row in rows}) > 1:
        return ""
    varying = [k for k, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1:
        return ""
    upto = varying[0] + 1
    heads = [".".join(row[:upto]) for row in rows]
    return f"{heads[0]} … {heads[-1]}" if len(heads) > 2 else ", ".join(heads)


def family_label(names: Sequence[str]) -> str:
    """A leaf's name; "h.0.w … h.11.w" for the leaves of several iterations."""
    distinct = list(dict.fromkeys(names))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} … {distinct[-1]}"

"""Where in the code ops are."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.accuracy import Accuracy
from graphlens.analyses.findings import Place


def place_of(accuracy: Accuracy, ops: Sequence[int], also: Sequence[int] = ()) -> Place:
    """The line of the first of some ops that is known to belong to one, and the nodes of all.

    Args:
        also: further ops, whose nodes belong to the finding; their lines only where no other is known.
    """
    graph = accuracy.graph
    numbers = [node for place in (*ops, *also) if (node := accuracy.ops[place].node) is not None]
    for number in numbers:
        first = graph.nodes[number]
        if first.source is not None:
            source = graph.sources[first.source]
            module = "" if first.call is None else graph.calls[first.call].path
            return Place(str(source), source.text, module, tuple(sorted(set(numbers))))
    return Place("", "", "", tuple(sorted(set(numbers))))


def short_place(source: str) -> str:
    """ "chain.py:60" of "/home/me/chain.py:60 (forward)"."""
    return source.split(" (")[0].replace("\\", "/").rpartition("/")[2]

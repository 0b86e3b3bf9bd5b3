"""Let deep graphs be freed without overflowing the C stack, after they have been walked.

Once Python has seen an autograd node, the node keeps its Python wrapper for life, and freeing the
node then frees the nodes before it recursively (measured with torch 2.13: a chain of 50,000 walked
nodes crashes the process when its loss is deleted; one that was never walked does not). So a walk
of a large graph leaves keepers in it. A keeper holds a stretch of nodes in forward order and hangs
on the node right behind it. When that node dies, the stretch is put aside, and later it is let go
from its latest node to its earliest, each of which finds the one before it still held.
"""

from __future__ import annotations

import atexit
import ctypes
import weakref
from collections import deque
from collections.abc import Sequence

from torch.autograd.graph import Node as AutogradNode

# No recursion through so few nodes comes near the usual 8 MB of stack (about 170 bytes a node).
SAFE_NODES = 5_000
# Prime, so that the keepers do not fall on one and the same place of every round of a loop.
_STRETCH = 997
_KEY = "graphlens"


class _Keeper:
    """Holds nodes until the node that carries it dies."""

    def __init__(self, nodes: list[AutogradNode]) -> None:
        self.nodes = nodes
        _keepers.add(self)

    def __del__(self) -> None:
        # The dying node still holds the node before it: nothing can be let go right now.
        _aside.append(self.nodes)
        _Reminder()


class _Reminder:
    """Garbage in a cycle, so that the collector calls `drain` soon, and not in the midst of this."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        drain()


_keepers: weakref.WeakSet[_Keeper] = weakref.WeakSet()
_aside: deque[list[AutogradNode]] = deque()


def keep_for_release(functions: Sequence[AutogradNode]) -> None:
    """Leave keepers in a graph that has just been walked; `functions` in forward order."""
    if len(functions) <= SAFE_NODES:
        return
    for stop in range(_STRETCH, len(functions), _STRETCH):
        # A property, whatever the stub says.
        metadata: dict[str, object] = functions[stop].metadata  # type: ignore[assignment]
        metadata[_KEY] = _Keeper(list(functions[stop - _STRETCH : stop]))
    # Behind the last keeper there are too few nodes to overflow anything.


def drain() -> None:
    """Let go of the nodes that dead keepers have put aside."""
    while _aside:
        nodes = _aside.popleft()
        while nodes:
            nodes.pop()  # a keeper that dies here puts its stretch aside in turn


@atexit.register
def _leave_to_the_system() -> None:
    """At exit the keepers' nodes are never freed: the process ends, and no order would be safe."""
    drain()
    for keeper in list(_keepers):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(keeper.nodes))

"""GL308: results that differ between two runs of the same program from the same state."""

from __future__ import annotations

from graphlens.accuracy import Accuracy, Repeat
from graphlens.analyses.findings import Finding, Place, listed
from graphlens.graph import GradGraph
from graphlens.units import significant

_FIXES = {
    "result": "torch.use_deterministic_algorithms(True) takes another algorithm, or says that there is none; in an "
    "op of your own, look for state that it keeps from call to call",
    "random": "seed the generator that it draws from where the forward pass begins, or keep it in the module",
    "argument": "compute the number once, before the forward pass, or draw it from a generator that is seeded",
    "source": "make the data once, before the forward pass, or draw them from a generator that is seeded",
    "op": "look for what decides between the two: a counter, the time, the order of a set",
}


def differences(accuracy: Accuracy) -> list[Finding]:
    """One finding if a second run parted from the first, at the op where it did."""
    repeat = accuracy.repeats
    if repeat is None or repeat.kind == "same":
        return []
    affected = [item.label for item in repeat.results]
    if affected:
        effect = f"{listed(affected)} {'differs' if len(affected) == 1 else 'differ'}"
    else:
        effect = "no output and no gradient differs"
    return [
        Finding(
            "GL308",
            "warning" if affected else "info",
            f"Of two runs from the same state, {_claim(repeat)}; {effect}.",
            _place(accuracy.graph, repeat.node),
            _evidence(repeat),
            _FIXES["random" if repeat.random and repeat.kind == "result" else repeat.kind],
        )
    ]


def _claim(repeat: Repeat) -> str:
    if repeat.kind == "op":
        first, second = (f"calls {name}" if name else "ends" for name in (repeat.first, repeat.second))
        return f"one {first} where the other {second}"
    if repeat.kind == "argument":
        if repeat.first is None and repeat.second is None:
            return f"one calls {repeat.name} with other arguments than the other"
        return f"one calls {repeat.name} with {repeat.first} where the other has {repeat.second}"
    if repeat.kind == "source":
        return f"{repeat.name} reads data that no op made and that {_by(repeat)}"
    drawn = "draws random numbers" if repeat.random else "makes numbers of the same inputs"
    return f"{repeat.name} {drawn} that {_by(repeat)}"


def _by(repeat: Repeat) -> str:
    if repeat.first is not None or repeat.second is not None:
        return f"have the shape {repeat.first} in one and {repeat.second} in the other"
    size = significant(repeat.difference, 2)
    return f"differ by up to {size}, in {repeat.differing:,} of {repeat.entries:,} entries"


def _evidence(repeat: Repeat) -> dict[str, object]:
    evidence: dict[str, object] = {"kind": repeat.kind, "op": repeat.name, "position": repeat.op, "ops": repeat.ops}
    if repeat.first is not None or repeat.second is not None:
        evidence |= {"first": _plain(repeat.first), "second": _plain(repeat.second)}
    else:
        evidence |= {
            "largest_difference": repeat.difference,
            "largest_entry": repeat.size,
            "entries": repeat.entries,
            "entries_that_differ": repeat.differing,
        }
    evidence["such_differences"] = repeat.origins
    evidence["results"] = {
        item.label: {"largest_difference": item.difference, "largest_entry": item.size} for item in repeat.results
    }
    return evidence


def _plain(item: object) -> object:
    """As JSON can hold it."""
    if isinstance(item, (list, tuple)):
        return list(map(_plain, item))
    return item if item is None or isinstance(item, (bool, int, float, str)) else str(item)


def _place(graph: GradGraph, node: int | None) -> Place:
    if node is None:
        return Place()
    found = graph.nodes[node]
    source = None if found.source is None else graph.sources[found.source]
    module = "" if found.call is None else graph.calls[found.call].path
    return Place("" if source is None else str(source), "" if source is None else source.text, module, (node,))

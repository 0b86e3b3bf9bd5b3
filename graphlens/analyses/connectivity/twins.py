"""GL101, how serious: whether a module is a copy of one that is trained, by its names, its shapes and its values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from graphlens.analyses.connectivity.facts import Facts
from graphlens.observation import LeafFact

# ‖a − b‖² / (‖a‖² + ‖b‖²) is 0 for a copy, and 1 on average for two networks that were drawn apart.
_ALIKE = 0.2

Leaves = Mapping[str, LeafFact]


def leader_of(leaves: Leaves, head: str, tail: str) -> tuple[str, bool]:
    """A trained module with parameters of the same names and shapes, and whether their values are alike.

    Layers of a stack, which differ in their number alone, begin as copies of one another: no sign of anything.

    Args:
        head: the module's name.
        tail: what follows it in the name of one of its parameters.
    """
    own = {name[len(head) :]: leaf for name, leaf in leaves.items() if name.startswith(f"{head}.")}
    heads = sorted(name[: -len(tail)] for name, leaf in leaves.items() if name.endswith(tail) and is_fed(leaf))
    matching = []
    for other in heads:
        if _without_numbers(other) == _without_numbers(head):
            continue
        pairs = [(leaf, leaves.get(other + end)) for end, leaf in own.items()]
        known = [(leaf, twin) for leaf, twin in pairs if twin is not None and is_fed(twin) and twin.shape == leaf.shape]
        if len(known) == len(pairs):
            if _alike(known):
                return other, True
            matching.append(other)
    return (matching[0], False) if matching else ("", False)


def copied_module(leaves: Leaves, name: str) -> str:
    """The outermost module around a parameter that has nearly the values of a trained one; "" if there is none."""
    return next((head for head in modules_around(name) if leader_of(leaves, head, name[len(head) :])[1]), "")


def unfed_module(fed: Collection[str], name: str) -> str:
    """The outermost module around a parameter none of whose parameters receives a gradient; "" if none.

    One of a numbered list is a part of the module that holds the list, others of which do receive one.

    Args:
        fed: the modules in which a parameter does.
    """
    head = next((head for head in modules_around(name) if head not in fed), "")
    return "" if head.rpartition(".")[2].isdigit() else head


def fed_modules(leaves: Leaves) -> set[str]:
    """The modules in which a parameter receives a gradient."""
    return {module for name, leaf in leaves.items() if is_fed(leaf) for module in modules_around(name)}


def modules_around(name: str) -> Iterable[str]:
    """The names of the modules that a parameter is in, the outermost first."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def is_fed(leaf: LeafFact) -> bool:
    """Whether a leaf receives a gradient."""
    return leaf.gradient in ("value", "zero", "nonfinite")


def updated_leaves(facts: Facts) -> set[str]:
    """The lost leaves that the run itself writes the values of trained ones into, as for an average of them."""
    lineage = facts.lineage
    fed = {leaf.name for leaf in facts.wanted if is_fed(leaf)}
    trained = sum(1 << bit for bit, name in enumerate(lineage.names) if name in fed)
    owner = {leaf.value: leaf.name for leaf in facts.lost if leaf.value is not None}
    found = set()
    for step in facts.flow.steps:
        for old, new in zip(step.written, step.outputs, strict=False):
            if old in owner:
                owner[new] = owner[old]
                if lineage.carried[new] & trained:
                    found.add(owner[new])
    return found


def _without_numbers(name: str) -> list[str]:
    return [part for part in name.split(".") if not part.isdigit()]


def _alike(pairs: Sequence[tuple[LeafFact, LeafFact]]) -> bool:
    apart = whole = 0.0
    for one, two in pairs:
        # Biases of 0 and scales of 1 are the same in any two networks.
        if len(one.sample) != len(two.sample) or len(set(one.sample)) < 2 or len(set(two.sample)) < 2:
            continue
        apart += sum((a - b) ** 2 for a, b in zip(one.sample, two.sample, strict=True))
        whole += sum(a * a + b * b for a, b in zip(one.sample, two.sample, strict=True))
    return whole > 0 and apart <= _ALIKE * whole

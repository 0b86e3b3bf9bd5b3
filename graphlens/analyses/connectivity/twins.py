"""GL101, how serious: whether a module is a copy of one that is trained, by its names, its shapes and its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from graphlens.analyses.connectivity.facts import Facts
from graphlens.observation import LeafFact

# ‖a − b‖² / (‖a‖² + ‖b‖²) is 0 for a copy, and 1 on average for two networks that were drawn apart.
_ALIKE = 0.2


class _Known(NamedTuple):
    """A leaf, with ‖a‖² of its sample if that tells anything."""

    leaf: LeafFact
    square: float | None


class Modules:
    """The modules that leaves belong to, with their leaves; and for each the trained one that it may be a copy of.

    Attributes:
        leaves: by name, without the words of wrappers.
        fed: the modules in which a leaf receives a gradient.
    """

    def __init__(self, leaves: Mapping[str, LeafFact]) -> None:
        self.leaves = leaves
        self.fed: set[str] = set()
        # Per module its leaves by the rest of their names; and modules by the rest and the shape of a leaf that is fed.
        self._own: dict[str, dict[str, _Known]] = {}
        self._trained: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        self._leaders: dict[str, tuple[str, bool]] = {}
        for name, leaf in leaves.items():
            known = _Known(leaf, _square(leaf.sample))
            for module in modules_around(name):
                rest = name[len(module) :]
                self._own.setdefault(module, {})[rest] = known
                if is_fed(leaf):
                    self.fed.add(module)
                    self._trained.setdefault((rest, leaf.shape), []).append(module)

    def leader_of(self, head: str) -> tuple[str, bool]:
        """A trained module with parameters of the same names and shapes, and whether their values are alike.

        Layers of a stack, which differ in their number alone, begin as copies of one another: no sign of anything.
        """
        if head not in self._leaders:
            self._leaders[head] = self._leader_of(head)
        return self._leaders[head]

    def _leader_of(self, head: str) -> tuple[str, bool]:
        own = self._own.get(head, {})
        places = [self._trained.get((rest, known.leaf.shape), []) for rest, known in own.items()]
        plain = _without_numbers(head)
        first = ""
        fewest: list[str] = min(places, key=len, default=[])
        for other in sorted(fewest):
            theirs = self._own[other]
            pairs = [(known, theirs[rest]) for rest, known in own.items() if rest in theirs]
            if len(pairs) < len(own) or _without_numbers(other) == plain:
                continue
            if all(is_fed(twin.leaf) and twin.leaf.shape == known.leaf.shape for known, twin in pairs):
                if _alike(pairs):
                    return other, True
                first = first or other
        return first, False

    def copied(self, name: str) -> str:
        """The outermost module around a parameter that has nearly the values of a trained one; "" if there is none."""
        return next((head for head in modules_around(name) if self.leader_of(head)[1]), "")

    def unfed(self, name: str) -> str:
        """The outermost module around a parameter none of whose parameters receives a gradient; "" if none.

        One of a numbered list is a part of the module that holds the list, others of which do receive one.
        """
        head = next((head for head in modules_around(name) if head not in self.fed), "")
        return "" if head.rpartition(".")[2].isdigit() else head


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


def _square(sample: Sequence[float]) -> float | None:
    """‖a‖² of some entries; None of those that are all the same, as biases of 0 and scales of 1 in any two networks."""
    return sum(a * a for a in sample) if len(set(sample)) > 1 else None


def _alike(pairs: Sequence[tuple[_Known, _Known]]) -> bool:
    apart = whole = 0.0
    told = []
    for one, two in pairs:
        if one.square is not None and two.square is not None and len(one.leaf.sample) == len(two.leaf.sample):
            whole += one.square + two.square
            told.append((one.leaf.sample, two.leaf.sample))
    for first, second in told:
        for a, b in zip(first, second, strict=True):
            apart += (a - b) ** 2
            if apart > _ALIKE * whole:
                return False
    return whole > 0

"""GL101, how serious: parameters that stand still by design, those of a target network or a teacher, or for a while."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from graphlens.analyses.connectivity.facts import Facts
from graphlens.flow import REQUIRES_GRAD, SWITCHES, Step
from graphlens.observation import LeafFact

# Names of networks whose parameters follow those of another one, and are not trained. The short
# ones count as words of their own: "threshold" is not old.
_FOLLOWERS = re.compile(
    r"(?i:target|teacher|momentum|averaged?|frozen|reference|prior_policy|shadow)"
    r"|(?:(?<![A-Za-z])|(?<![A-Z])(?=[A-Z]))(?i:ema|swa|avg|ref|moving|slow|old)(?![a-z])"
)
# Those that can hardly mean anything else; the others may: the head of a target domain is trained.
_PLAIN = re.compile(
    r"(?i:averaged?|reference|prior_policy)|(?:(?<![A-Za-z])|(?<![A-Z])(?=[A-Z]))(?i:ema|swa|old)(?![a-z])"
)
# Those that say of themselves that they are not trained, whatever else there is.
_STILL = re.compile(r"(?i:teacher|frozen|pretrained)")
# Wrappers (AveragedModel, DistributedDataParallel, torch.compile) put a word of theirs into every name.
_WRAPPED = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
# ‖a − b‖² / (‖a‖² + ‖b‖²) is 0 for a copy, and 1 on average for two networks that were drawn apart.
_ALIKE = 0.2


class Still(NamedTuple):
    """Modules all of whose parameters stand still; `follows` names the one that each may follow.

    `alike` says whether their names leave no doubt, or their values are nearly those of the modules
    that they follow.
    """

    modules: tuple[str, ...]
    follows: Mapping[str, str]
    alike: bool


def standing_still(facts: Facts, lost: Iterable[str]) -> Still | None:
    """The modules that the lost leaves belong to, if their names or their values say that they stand still, or None."""
    leaves = {_WRAPPED.sub("", leaf.name): leaf for leaf in facts.wanted}
    found: dict[str, str] = {}
    modules: list[str] = []
    alike = True
    for name in lost:
        name = _WRAPPED.sub("", name)
        head = _head(name, _STILL) or _head(name, _FOLLOWERS)
        head = head or next((copy for copy in modules if name.startswith(f"{copy}.")), "") or _copied(leaves, name)
        if not head:
            return None
        if head in modules:
            continue
        modules.append(head)
        leader, near = _leader(leaves, head, name[len(head) :])
        if leader:
            found[head] = leader
        if _STILL.search(head):
            # What receives a gradient in part is trained after all.
            if any(_fed(leaf) for other, leaf in leaves.items() if other.startswith(f"{head}.")):
                return None
            continue
        if not leader:
            return None
        alike &= near or bool(_PLAIN.search(head.rpartition(".")[2]))
    return Still(tuple(modules), found, alike)


def _copied(leaves: Mapping[str, LeafFact], name: str) -> str:
    """The outermost module around a parameter that has nearly the values of a trained one of another name; "" if none.

    Layers of a stack, which differ in their number alone, begin as copies of one another: no sign of anything.
    """
    parts = name.split(".")
    for count in range(1, len(parts)):
        head = ".".join(parts[:count])
        leader, near = _leader(leaves, head, name[len(head) :])
        if near and _without_numbers(head) != _without_numbers(leader):
            return head
    return ""


def _without_numbers(name: str) -> list[str]:
    return [part for part in name.split(".") if not part.isdigit()]


def thawing(facts: Facts, steps: Sequence[int]) -> Step | None:
    """The call that lets the leaves which these steps froze require a gradient again, if each has one."""
    flags, back = facts.flow.values, {}
    for number, step in enumerate(facts.flow.steps):
        if step.function in SWITCHES and step.written and flags[step.outputs[0]] & REQUIRES_GRAD:
            back[step.written[0]] = number
    frozen = [facts.flow.steps[number] for number in steps]
    if not all(step.function in SWITCHES and step.outputs[0] in back for step in frozen):
        return None
    return facts.flow.steps[back[frozen[0].outputs[0]]]


def _head(name: str, pattern: re.Pattern[str]) -> str:
    """The part of a parameter's name up to the innermost module that the pattern fits; "" if none does."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if pattern.search(parts[count - 1]):
            return ".".join(parts[:count])
    return ""


def _leader(leaves: Mapping[str, LeafFact], head: str, tail: str) -> tuple[str, bool]:
    """A trained module with parameters of the same names and shapes, and whether their values are alike."""
    own = {name[len(head) :]: leaf for name, leaf in leaves.items() if name.startswith(f"{head}.")}
    heads = sorted(name[: -len(tail)] for name, leaf in leaves.items() if name.endswith(tail) and _fed(leaf))
    matching = []
    for other in heads:
        pairs = [(leaf, leaves.get(other + end)) for end, leaf in own.items()]
        known = [(leaf, twin) for leaf, twin in pairs if twin is not None and _fed(twin) and twin.shape == leaf.shape]
        if other != head and len(known) == len(pairs):
            if _alike(known):
                return other, True
            matching.append(other)
    return (matching[0], False) if matching else ("", False)


def _fed(leaf: LeafFact) -> bool:
    return leaf.gradient in ("value", "zero", "nonfinite")


def _alike(pairs: Sequence[tuple[LeafFact, LeafFact]]) -> bool:
    apart = whole = 0.0
    for one, two in pairs:
        # Biases of 0 and scales of 1 are the same in any two networks.
        if len(one.sample) != len(two.sample) or len(set(one.sample)) < 2 or len(set(two.sample)) < 2:
            continue
        apart += sum((a - b) ** 2 for a, b in zip(one.sample, two.sample, strict=True))
        whole += sum(a * a + b * b for a, b in zip(one.sample, two.sample, strict=True))
    return whole > 0 and apart <= _ALIKE * whole

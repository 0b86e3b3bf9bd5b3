"""GL101, how serious: parameters that stand still by design, those of a target network or a teacher, or for a while.

A name is a hint and no more: what tells a target network from a module of which a `detach` was
misplaced is what was run, and what becomes of the result.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.purpose import Purpose
from graphlens.analyses.connectivity.twins import Modules, modules_around
from graphlens.flow import REQUIRES_GRAD, SWITCHES, Step

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

_SURE, _UNSURE, _AMISS = "info", "warning", "error"
# What stands still so by design, where a fault would have run the very same calls.
_GENERATOR = "as a generator does in the discriminator's step"
_AIM = "as a network does whose answer another one learns to give"
_ACTOR = "as an actor does whose choice a critic judges"


class Still(NamedTuple):
    """Modules all of whose parameters stand still; `follows` names the one that each may follow.

    `alike` names those of them whose values are nearly those of the modules that they follow; `level` is that of the
    finding: error where what was run contradicts that they stand still by design. `hinted` says whether anything
    besides speaks for it: a name, or that they were run as a whole without gradients. `first` is the first of them
    as the model spells it, with the words that wrappers put in. `like` names what would rightly run the very same
    calls, where that is all that speaks for them.
    """

    modules: tuple[str, ...]
    follows: Mapping[str, str]
    alike: frozenset[str]
    level: str
    hinted: bool
    first: str
    like: str = ""


def standing_still(facts: Facts, lost: Iterable[str], updated: Collection[str], purpose: Purpose) -> Still | None:
    """The modules that the lost leaves belong to and how likely they stand still by design, or None.

    Args:
        updated: the leaves that the run itself writes the values of trained ones into.
    """
    modules = Modules({_WRAPPED.sub("", leaf.name): leaf for leaf in facts.wanted})
    following = {_WRAPPED.sub("", name) for name in updated}
    judges = [_WRAPPED.sub("", name) for name in purpose.through]
    judged = bool(judges) and all(_is_follower(modules, name, following) for name in judges)
    found: dict[str, str] = {}
    levels: dict[str, str] = {}
    near: set[str] = set()
    first = like = ""
    for spelt in lost:
        name = _WRAPPED.sub("", spelt)
        if name not in modules.leaves:
            return None
        head = _head(modules, name, levels)
        if not head or head in modules.fed:  # what receives a gradient in part is trained after all
            return None
        if head in levels:
            continue
        first = first or _spelt(spelt, head)
        leader, alike = modules.leader_of(head)
        if leader:
            found[head] = leader
            near |= {head} if alike else set()
        levels[head] = _level(head, bool(leader), alike, name in following, judged, purpose)
        if levels[head] == _AMISS and not leader:
            like = like or _like(purpose)
            levels[head] = _UNSURE if like else _AMISS
    level = max(levels.values(), key=(_SURE, _UNSURE, _AMISS).index)
    hinted = purpose.unrecorded or any(_FOLLOWERS.search(head) for head in levels)
    return Still(tuple(levels), found, frozenset(near), level, hinted, first, like if level == _UNSURE else "")


def _spelt(name: str, head: str) -> str:
    """A module around a parameter with the words of wrappers in its name."""
    return next(module for module in modules_around(name) if _WRAPPED.sub("", f"{module}.") == f"{head}.")


def _head(modules: Modules, name: str, known: Collection[str]) -> str:
    """The module around a lost parameter that may stand still as a whole; "" if there is none."""
    return (
        _named(name, _STILL)
        or _named(name, _FOLLOWERS)
        or next((head for head in modules_around(name) if head in known), "")
        or modules.copied(name)
        or modules.unfed(name)
    )


def _level(head: str, has_leader: bool, alike: bool, updated: bool, judged: bool, purpose: Purpose) -> str:
    """How serious it is that a module gets no gradient; `judged` says that its result only went to followers."""
    word = head.rpartition(".")[2]
    if updated:
        return _SURE
    recorded = not purpose.unrecorded
    if has_leader and alike:  # a copy, whatever its name; two towers may begin as copies as well
        doubtful = recorded and (purpose.idle or (purpose.feature and not _PLAIN.search(word)))
        return _UNSURE if doubtful and not _STILL.search(word) else _SURE
    if purpose.idle:
        return _AMISS
    if _STILL.search(head):
        return _SURE
    whole = purpose.unrecorded and purpose.apart
    if has_leader and _FOLLOWERS.search(word):
        if purpose.feature:
            return _AMISS
        if not purpose.apart:
            return _AMISS
        return _SURE if whole or _PLAIN.search(word) else _UNSURE
    if purpose.feature:
        # As the generator's images are judged in the discriminator's step, beside those of the data.
        return _SURE if whole and purpose.shared and not has_leader else _AMISS
    # A teacher's answer is compared with the student's, and not added to it as a part of one answer.
    aim = purpose.same_data and purpose.compared and not purpose.part
    return _SURE if whole and (_FOLLOWERS.search(word) or aim or judged) else _AMISS


def _like(purpose: Purpose) -> str:
    """For what the calls would be right that cut off a module which nothing else speaks for; "" if for nothing."""
    if purpose.idle:
        return ""
    if purpose.unrecorded and purpose.with_input:
        return _ACTOR
    if not purpose.apart:
        return ""
    if purpose.feature:
        return _GENERATOR if purpose.shared and not purpose.unrecorded else ""
    # In a block an answer may be weighed by another one as well, as in a cross-entropy that is written out.
    return _AIM if purpose.same_data and (purpose.compared or (purpose.unrecorded and not purpose.part)) else ""


def _is_follower(modules: Modules, name: str, following: Collection[str]) -> bool:
    """Whether a lost parameter belongs to a copy of a trained module, or to one that goes by such a name."""
    if name in following or modules.copied(name):
        return True
    head = _named(name, _FOLLOWERS)
    return bool(head and modules.leader_of(head)[0])


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


def _named(name: str, pattern: re.Pattern[str]) -> str:
    """The part of a parameter's name up to the innermost module that the pattern fits; "" if none does."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if pattern.search(parts[count - 1]):
            return ".".join(parts[:count])
    return ""

"""What a case of the corpus is, and how one is entered into it."""

from __future__ import annotations

import functools
import inspect
import io
import tokenize
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch

from graphlens.subject import Subject

Build = Callable[[], Subject]


@dataclass(frozen=True)
class Case:
    """A small program with one fault, or a sound one that looks like it.

    Attributes:
        name: the case function's name.
        build: makes the subject anew, from a fixed seed.
        code: the finding that must be raised; None for a sound program.
        lost: wanted leaves whose gradient is None: by the fault, or on purpose where a twin network stands still.
        line: where the fault stands in `build`'s file: the call by which the gradient is lost or spoilt.
            None if no single line is at fault.
        mechanism: what does it, in a word or two.
        allowed: further codes that may rightly be raised; beside a sound program, as information only.
        zero: wanted leaves whose gradient is zero throughout because of the fault.
        near: lines that one may point at with equal right: the head of the block around `line`, or the
            other half of a fault in two places.
        level: of the finding, where it is another one than the code's own. Of a sound program "warning" where a
            fault would have run the very same calls: nothing more serious may be raised.
    """

    name: str
    build: Build
    code: str | None
    lost: frozenset[str]
    line: int | None
    mechanism: str
    allowed: frozenset[str]
    zero: frozenset[str] = frozenset()
    near: frozenset[int] = frozenset()
    level: str = ""


FAULTY: list[Case] = []
HEALTHY: list[Case] = []


def faulty(
    code: str,
    lost: Collection[str] = (),
    mechanism: str = "",
    allowed: Collection[str] = (),
    zero: Collection[str] = (),
    level: str = "",
) -> Callable[[Build], Build]:
    """Enters a program with one fault, which stands at the line commented "<- fault"."""

    def enter(function: Build) -> Build:
        marked = _commented_lines(function)
        case = Case(
            name=function.__name__,
            build=_from_seed(function),
            code=code,
            lost=frozenset(lost),
            line=next(iter(marked.get("fault", ())), None),
            mechanism=mechanism,
            allowed=frozenset(allowed),
            zero=frozenset(zero),
            near=frozenset(marked.get("near", ())),
            level=level,
        )
        FAULTY.append(case)
        return case.build

    return enter


def healthy(
    mechanism: str = "", allowed: Collection[str] = (), lost: Collection[str] = (), level: str = ""
) -> Callable[[Build], Build]:
    """Enters a sound program; `lost` names the leaves of a twin that is meant to stand still."""

    def enter(function: Build) -> Build:
        build = _from_seed(function)
        lost_leaves, codes = frozenset(lost), frozenset(allowed)
        HEALTHY.append(Case(function.__name__, build, None, lost_leaves, None, mechanism, codes, level=level))
        return build

    return enter


def _from_seed(function: Build) -> Build:
    @functools.wraps(function)
    def build() -> Subject:
        torch.manual_seed(0)
        # torch.compile switches the checks of distributions off for the whole process.
        torch.distributions.Distribution.set_default_validate_args(True)
        subject = function()
        return subject if subject.name else replace(subject, name=function.__name__)

    return build


def _commented_lines(function: Build) -> dict[str, list[int]]:
    """The file's lines with a comment "<- word", by that word."""
    source, first = inspect.getsourcelines(function)
    found: dict[str, list[int]] = {}
    for token in tokenize.generate_tokens(io.StringIO("".join(source)).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("# <- "):
            found.setdefault(token.string.removeprefix("# <- "), []).append(first + token.start[0] - 1)
    return found

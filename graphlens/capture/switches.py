"""Who switched gradients off, on one thread: blocks and decorators, and what lies inside them."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch

from graphlens.flow import CHECKPOINT, NO_GRAD, SAMPLE

_FOLDER = Path(torch.__file__).parent
_BLOCKS = str(_FOLDER / "autograd" / "grad_mode.py")
_CHECKPOINT = str(_FOLDER / "utils" / "checkpoint.py")
_DISTRIBUTIONS = str(_FOLDER / "distributions" / "")
_DECORATORS = str(_FOLDER / "utils" / "_contextlib.py")
_FRAMES = 6  # between torch's switch and who asked for it


class Switch(NamedTuple):
    """The state of a thread: whether gradients are on, and the function and line that made it so."""

    on: bool
    function: str = ""
    source: int | None = None


class Switches:
    """The blocks without gradients, and with, that are open on a thread.

    Inside a block without gradients another one changes nothing: the outermost is named.
    """

    def __init__(self) -> None:
        self._now = Switch(torch.is_grad_enabled())
        self._outer: list[Switch] = []

    def moved(self, before: bool, here: Switch, *, leaving: bool) -> Switch | None:
        """The state after a call of torch's switch; None if it is that of before, by the same cause.

        Args:
            before: whether gradients were on right before. Custom Functions and inference mode switch unseen.
            here: what the call asks for.
            leaving: whether a block ends with it.
        """
        last = self._now
        if last.on != before:
            last = self._now = Switch(before)
        if leaving:
            outer = self._outer.pop() if self._outer else here
            self._now = outer if outer.on == here.on else Switch(here.on)
        else:
            self._outer.append(last)
            if here.on != before or last.source is None:
                self._now = here
        return None if self._now == last else self._now


def who_switches(frame: FrameType | None) -> tuple[str, CodeType | None, bool]:
    """Who called torch's switch: the function to name, the code that is decorated if any, whether a block ends."""
    leaving = False
    for _ in range(_FRAMES):
        if frame is None:
            break
        file = frame.f_code.co_filename
        leaving |= file == _BLOCKS and frame.f_code.co_name == "__exit__"
        if file == _CHECKPOINT:
            return CHECKPOINT, None, leaving
        if frame.f_code.co_name == "sample" and file.startswith(_DISTRIBUTIONS):
            return SAMPLE, None, leaving
        if file == _DECORATORS and "func" in frame.f_locals:
            return NO_GRAD, getattr(inspect.unwrap(frame.f_locals["func"]), "__code__", None), leaving
        frame = frame.f_back
    return NO_GRAD, None, leaving

"""The recorder: watches one forward pass, so that every node knows its line of code and its module."""

from __future__ import annotations

import contextlib
import sys
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

import torch

from graphlens.capture.attribution import Attribution, Origin, agreed
from graphlens.capture.interpose import eager, hooked, one_at_a_time, standing_in, watched_threads
from graphlens.capture.lane import Lane, placed_warnings
from graphlens.capture.module_calls import ModuleNames, ModuleStack
from graphlens.capture.sites import Sites
from graphlens.capture.values import Values
from graphlens.collector import rarer_collections
from graphlens.flow import Flow, Step
from graphlens.graph import ModuleCall

Probe = Callable[[Sequence[Any], Mapping[str, Any] | None, Any], object]
Replace = Callable[[str, int | None, Any], Any]


class Recorder:
    """A context in which a forward pass is recorded. It can be used once.

    Torch functions are seen by a `TorchFunctionMode`, modules by global hooks, and the few makers
    of tensors that neither sees (custom Functions, `nn.Parameter`, `torch.from_numpy`) by standing
    in for them. Everything is put back at the end. No tensor and no autograd node is kept alive.

    A recording may be made inside another one, on the same thread.

    Attributes:
        steps: what was recorded, in the order in which the calls ended.
        probe: called with the arguments, keyword arguments and result of every recorded call;
            what it returns is kept in `probed`, one item per step.
        replace: called with the function, the line's number and the result of every recorded call;
            what it returns is handed on in the result's place.

    Args:
        stops: the functions that call the user's code, see `Sites`.
        subject: the module that is run, if it is one.
        stacks: record the whole stack of every line.
    """

    def __init__(self, stops: Mapping[CodeType, str], subject: object = None, *, stacks: bool = False) -> None:
        self.on = False
        self.sites = Sites(stops, stacks=stacks)
        self.values = Values()
        self.steps: list[Step] = []
        self.table: list[ModuleCall] = []
        self.notes: list[str] = []
        self.probe: Probe | None = None
        self.probed: list[object] = []
        self.replace: Replace | None = None
        # Module calls that made nodes: thread, first number, end, the call, and its line if it tells theirs.
        self.spans: list[tuple[int, int, int, int, int | None]] = []
        self.thread = threading.get_ident()
        self._names = ModuleNames(subject)
        self._counts: Counter[str] = Counter()
        self._all: list[Lane] = []
        self._lanes: dict[int, Lane] = {}
        self.existing: frozenset[int] = frozenset()  # values that were there before anything was run
        self._watched: dict[str, int] = {}
        self._undo = contextlib.ExitStack()
        self._eager = False

    def __enter__(self) -> Recorder:
        self.thread = threading.get_ident()
        with contextlib.ExitStack() as undo:
            undo.enter_context(one_at_a_time(self))
            undo.enter_context(rarer_collections())
            undo.callback(self._close)
            undo.enter_context(hooked(self))
            undo.enter_context(standing_in(self))
            undo.enter_context(placed_warnings())
            undo.enter_context(watched_threads(self))
            undo.enter_context(self.new_lane().pushed())
            self._undo = undo
            if "torch._dynamo" in sys.modules:
                self.run_eagerly()
            self.on = True
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _close(self) -> None:
        self.on = False
        for lane in self._all:
            lane.close()

    def run_eagerly(self) -> None:
        """Run compiled functions as the Python code that they were compiled from, until the end."""
        if not self._eager:
            self._eager = True
            self._undo.enter_context(eager(self))

    def new_lane(self) -> Lane:
        """A lane for the current thread."""
        lane = Lane(self, len(self._all), ModuleStack(self._names, self.table, self._counts))
        self._all.append(lane)
        self._lanes[threading.get_ident()] = lane
        return lane

    def drop_lane(self) -> None:
        """Forget the current thread's lane."""
        del self._lanes[threading.get_ident()]

    def known_lane(self) -> Lane | None:
        """The lane of the current thread if it is recorded."""
        return self._lanes.get(threading.get_ident()) if self.on else None

    def watch(self, leaves: Mapping[str, torch.Tensor], others: Iterable[torch.Tensor] = ()) -> None:
        """Number these tensors before anything is run, so that they are known even if they are overwritten."""
        self._watched = {name: self.values.of(tensor) for name, tensor in leaves.items()}
        self.existing = frozenset((*self._watched.values(), *map(self.values.of, others)))

    def flow(self, leaves: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor]) -> Flow:
        """What was seen, with the values of these tensors."""
        return Flow(
            tuple(self.steps),
            self.values.flags(),
            {**self.values.numbers(leaves), **self._watched},
            self.values.numbers(outputs),
            self.sites.sources(),
            tuple(self.table),
            len(self._all),
            tuple(dict.fromkeys(self.notes)),
        )

    def attribution(self) -> Attribution:
        """Which call made which node; a call that made several shares its time among them."""
        claims: list[dict[int, Origin]] = [{} for _ in self._all]
        together: list[list[int]] = []
        for step in self.steps:
            if step.end <= step.first:
                continue
            lane = claims[step.thread]
            # A call inside another ends first, and is the one to name.
            own = [number for number in range(step.first, step.end) if number not in lane]
            spent = round(step.ns / len(own)) if own else None
            if len(own) > 1 and not step.thread:
                together.append(own)
            lane.update(dict.fromkeys(own, (step.source, step.call, spent)))
        for thread, lane in enumerate(claims):
            self._fill(thread, lane)
        main = self._all[0]
        origins: dict[int, Origin] = claims[0]
        shared: dict[int, int] = {}
        if len(claims) > 1:
            origins, shared = agreed(claims, [lane.numbers() for lane in self._all])
        return Attribution(self.sites.sources(), tuple(self.table), origins, shared, main.first, main.end, together)

    def _fill(self, thread: int, lane: dict[int, Origin]) -> None:
        """Nodes that no call lays claim to were made by the innermost module that was open then."""
        numbers = self._all[thread].numbers()
        if len(lane) == len(numbers):
            return
        unknown = [number for number in numbers if number not in lane]
        for owner, first, end, call, source in self.spans:
            if owner == thread:
                for number in unknown[bisect_left(unknown, first) : bisect_left(unknown, end)]:
                    lane.setdefault(number, (source, call, None))

"""The recorder: watches one forward pass, so that every node knows its line of code and its module."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from types import CodeType
from typing import Any, TextIO

import torch
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from graphlens.capture.functions import FunctionFacts, facts_of
from graphlens.capture.module_calls import ModuleNames, ModuleStack
from graphlens.capture.sites import Sites, is_outside
from graphlens.capture.values import Values
from graphlens.collector import rarer_collections
from graphlens.flow import Flow, Step
from graphlens.graph import ModuleCall, Source

_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
_frame = sys._getframe
Probe = Callable[[Sequence[Any], Mapping[str, Any] | None, Any], object]
_NO_GRAD = FunctionFacts("torch.no_grad")


@dataclass(frozen=True)
class Attribution:
    """Where nodes come from: per sequence number the line, the module call, and nanoseconds.

    `ambiguous` holds the sequence numbers that calls on several threads lay claim to.
    """

    sources: Sequence[Source]
    calls: Sequence[ModuleCall]
    origins: Mapping[int, tuple[int | None, int | None, int]]
    ambiguous: frozenset[int] = frozenset()


class Recorder:
    """A context in which a forward pass is recorded. It can be used once.

    Torch functions are seen by a `TorchFunctionMode`, modules by global hooks, and the few makers
    of tensors that neither sees (custom Functions, `nn.Parameter`, `torch.from_numpy`) by standing
    in for them. Everything is put back at the end. No tensor and no autograd node is kept alive.

    Attributes:
        steps: what was recorded, in the order in which the calls ended.
        probe: called with the arguments, keyword arguments and result of every recorded call;
            what it returns is kept in `probed`, one item per step.

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
        self._names = ModuleNames(subject)
        self._counts: Counter[str] = Counter()
        self._lanes: dict[int, _Lane] = {}
        self._watched: dict[str, int] = {}
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Recorder:
        with contextlib.ExitStack() as undo:
            undo.enter_context(rarer_collections())
            undo.callback(setattr, self, "on", False)
            undo.enter_context(_hooked(self))
            undo.enter_context(_standing_in(self))
            undo.enter_context(_placed_warnings())
            undo.enter_context(_watched_threads(self))
            undo.enter_context(_eager(self))
            undo.enter_context(self.lane())
            self.on = True
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def lane(self) -> _Lane:
        """The lane of the current thread."""
        thread = threading.get_ident()
        if thread not in self._lanes:
            stack = ModuleStack(self._names, self.table, self._counts)
            self._lanes[thread] = _Lane(self, len(self._lanes), stack)
        return self._lanes[thread]

    def known_lane(self) -> _Lane | None:
        """The lane of the current thread if it is recorded."""
        return self._lanes.get(threading.get_ident()) if self.on else None

    def watch(self, leaves: Mapping[str, torch.Tensor]) -> None:
        """Number these tensors before anything is run, so that they are known even if they are overwritten."""
        self._watched = {name: self.values.of(tensor) for name, tensor in leaves.items()}

    def flow(self, leaves: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor]) -> Flow:
        """What was seen, with the values of these tensors."""
        return Flow(
            tuple(self.steps),
            bytes(self.values.flags),
            {**self.values.numbers(leaves), **self._watched},
            self.values.numbers(outputs),
            self.sites.sources(),
            tuple(self.table),
            len(self._lanes),
            tuple(dict.fromkeys(self.notes)),
        )

    def attribution(self) -> Attribution:
        """Which call made which node; a call that made several shares its time among them."""
        origins: dict[int, tuple[int | None, int | None, int]] = {}
        threads: dict[int, int] = {}
        ambiguous: set[int] = set()
        for step in self.steps:
            if step.end <= step.first:
                continue
            origin = (step.source, step.call, round(step.ns / (step.end - step.first)))
            for number in range(step.first, step.end):
                # A call inside another ends first, and is the one to name.
                if number not in origins:
                    origins[number] = origin
                    threads[number] = step.thread
                elif threads[number] != step.thread:
                    ambiguous.add(number)
        return Attribution(self.sites.sources(), tuple(self.table), origins, frozenset(ambiguous))


class _Lane(TorchFunctionMode):
    """What is recorded on one thread."""

    def __init__(self, recorder: Recorder, thread: int, modules: ModuleStack) -> None:
        super().__init__()
        self.recorder = recorder
        self.modules = modules
        self._thread = thread
        self._facts: dict[Callable[..., Any], FunctionFacts] = {}
        self._inner = 0  # nanoseconds of recorded calls inside the one that is open

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        facts = self._facts.get(func)
        if facts is None:
            facts = self._facts[func] = facts_of(func)
        if facts[1] or not self.recorder.on:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self.call(facts, func, args, kwargs)

    def call(
        self, facts: FunctionFacts, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None
    ) -> Any:
        """Call `func` and record it."""
        recorder = self.recorder
        values = recorder.values
        inputs: list[int] = []
        values.read(args, inputs)
        if kwargs:
            values.read(kwargs.values(), inputs)
        outside, self._inner = self._inner, 0
        first = _sequence_number()
        start = perf_counter_ns()
        made = func(*args, **kwargs) if kwargs else func(*args)
        spent = perf_counter_ns() - start
        end = _sequence_number()
        own, self._inner = spent - self._inner, outside + spent

        written: Sequence[int] = ()
        outputs: Sequence[int]
        if isinstance(made, torch.Tensor) and not facts[2]:
            known = values.find(made)
            if known is None:
                outputs = (values.add(made),)
                if facts[4] and args and isinstance(args[0], torch.Tensor):
                    values.share(made, args[0])
            elif end > first or (kwargs and "out" in kwargs):  # as relu(x, inplace=True) does
                written, outputs = values.write(made)
            else:  # the argument itself, as contiguous() returns it
                return made
        elif facts[2]:
            target = args[0] if args else made
            if not isinstance(target, torch.Tensor):
                return made
            written, outputs = values.write(target)
        elif isinstance(made, (tuple, list)):
            if facts[3]:
                number = values.escape(made)
                outputs = () if number is None else (number,)
            else:
                found: list[int] = []
                fresh = [item for item in made if isinstance(item, torch.Tensor) and values.find(item) is None]
                found.extend(map(values.add, fresh))
                outputs = found
        elif facts[3]:
            number = values.escape(made)
            outputs = () if number is None else (number,)
        elif facts[0] == "torch.set_grad_enabled":
            if not args or args[0]:
                return made
            facts, outputs = _NO_GRAD, ()
        elif end > first or facts[0] in ("Tensor.backward", "torch.autograd.backward"):
            outputs = ()
        else:
            return made
        step = (
            facts[0], recorder.sites.number(_frame(1)), self.modules.open, tuple(inputs), tuple(outputs),
            first, end, own, torch.is_grad_enabled(), self._thread, tuple(written),
        )  # fmt: skip
        recorder.steps.append(_new(Step, step))
        if recorder.probe is not None:
            with torch._C.DisableTorchFunction():  # the probe may call torch itself
                recorder.probed.append(recorder.probe(args, kwargs, made))
        return made


def without_recorder(frames: traceback.StackSummary) -> traceback.StackSummary:
    """A traceback less the recorder's frames at its end, if torch raised while called through them."""
    if not (frames[-1].filename == __file__ and "func(*args" in (frames[-1].line or "")):
        return frames  # an error of the recorder's own is left to be seen
    own = [frame.filename == __file__ for frame in frames]
    return traceback.StackSummary.from_list(frames[: len(frames) - own[::-1].index(False)])


@contextlib.contextmanager
def _hooked(recorder: Recorder) -> Iterator[None]:
    """Global hooks that tell when a module's forward begins and ends."""

    def enter(module: torch.nn.Module, _: object) -> None:
        lane = recorder.known_lane()
        if lane is not None:
            lane.modules.enter(module)

    def leave(module: torch.nn.Module, _: object, __: object) -> None:
        lane = recorder.known_lane()
        if lane is not None:
            lane.modules.leave(module)

    before = torch_module.register_module_forward_pre_hook(enter)
    after = torch_module.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextlib.contextmanager
def _standing_in(recorder: Recorder) -> Iterator[None]:
    """Stand in for what makes tensors without asking the mode."""
    function, parameter = torch.autograd.Function, torch.nn.Parameter
    apply, new, from_numpy = function.__dict__["apply"], parameter.__dict__["__new__"], torch.from_numpy

    def recorded_apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        lane = recorder.known_lane()
        real = apply.__get__(None, cls)
        if lane is None:
            return real(*args, **kwargs)
        return lane.call(FunctionFacts(f"{cls.__name__}.apply"), real, args, kwargs)

    def recorded_new(cls: type, *args: Any, **kwargs: Any) -> Any:
        lane = recorder.known_lane()
        if lane is None:
            return new(cls, *args, **kwargs)
        real = lambda *args, **kwargs: new(cls, *args, **kwargs)  # noqa: E731
        return lane.call(FunctionFacts("torch.nn.Parameter", aliases=True), real, args, kwargs)

    def recorded_from_numpy(array: Any) -> torch.Tensor:
        lane = recorder.known_lane()
        if lane is None:
            return from_numpy(array)
        made: torch.Tensor = lane.call(FunctionFacts("torch.from_numpy"), from_numpy, (array,), None)
        return made

    stand_ins: list[tuple[object, str, object, object]] = [
        (function, "apply", apply, classmethod(recorded_apply)),
        (parameter, "__new__", new, staticmethod(recorded_new)),
        (torch, "from_numpy", from_numpy, recorded_from_numpy),
    ]
    for owner, name, _, stand_in in stand_ins:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, real, _ in stand_ins:
            setattr(owner, name, real)


@contextlib.contextmanager
def _placed_warnings() -> Iterator[None]:
    """Let a warning that torch gives name the line that called torch, not the recorder's."""
    before = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        frame = _frame(1)
        while filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
            if is_outside(frame.f_code):
                filename, lineno = frame.f_code.co_filename, frame.f_lineno
        before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = before


@contextlib.contextmanager
def _watched_threads(recorder: Recorder) -> Iterator[None]:
    """Record also what threads do that are started meanwhile; sequence numbers count per thread."""
    before = threading.getprofile()

    def begin(*_: object) -> None:
        # Called at a new thread's first step, and taken away at once: it costs nothing after that.
        sys.setprofile(before)
        if recorder.on:
            recorder.lane().__enter__()  # type: ignore[no-untyped-call]

    threading.setprofile(begin)
    try:
        yield
    finally:
        threading.setprofile(before)


@contextlib.contextmanager
def _eager(recorder: Recorder) -> Iterator[None]:
    """Run compiled functions as the Python code that they were compiled from."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield

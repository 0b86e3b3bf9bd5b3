"""The recorder: watches one forward pass, so that every node knows its line of code and its module."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from types import CodeType, FrameType
from typing import Any, TextIO

import torch
from torch.autograd.function import _SingleLevelFunction
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from graphlens.capture.functions import FunctionFacts, facts_of
from graphlens.capture.module_calls import ModuleNames, ModuleStack
from graphlens.capture.sites import Sites, is_outside
from graphlens.capture.values import EMPTY, Values
from graphlens.capture.walk import NO_NUMBER
from graphlens.collector import rarer_collections
from graphlens.errors import GraphlensError
from graphlens.flow import CHECKPOINT, NO_GRAD, Flow, Step
from graphlens.graph import ModuleCall, Source

_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
_frame = sys._getframe
_Tensor = torch.Tensor
Probe = Callable[[Sequence[Any], Mapping[str, Any] | None, Any], object]
Replace = Callable[[str, int | None, Any], Any]
Origin = tuple[int | None, int | None, int | None]
_MOST_NESTING = 4

COMPILED = "compiled functions were run as the Python code that they were compiled from"
BEFORE = "made before the recording, or on a thread that was not recorded"
AFTER = "made after the forward pass for views of memory that was written, or on a thread that was not recorded"
THREADS = "made on several threads, whose nodes have the same numbers"
UNRECORDED = "made on a thread that was not recorded"
UNNUMBERED = "made in the place of an op that has no derivative, and without a number"
OUT_OF_SIGHT = "made by code that Python does not see, such as TorchScript or an extension in C++"


@dataclass(frozen=True)
class Attribution:
    """Where nodes come from: per sequence number the line, the module call, and nanoseconds.

    Attributes:
        shared: numbers that were given to nodes of several threads, and of how many. What is known
            of such a number holds for each of its nodes.
        first, end: the numbers of the thread that the recording ran on.
    """

    sources: Sequence[Source]
    calls: Sequence[ModuleCall]
    origins: Mapping[int, Origin]
    shared: Mapping[int, int] = field(default_factory=dict)
    first: int = 0
    end: int = 0

    def origin(self, number: int, count: int = 1) -> Origin:
        """The origin of a node, of which the graph holds `count` with the same number."""
        if count > self.shared.get(number, 1):
            return (None, None, None)
        return self.origins.get(number, (None, None, None))

    def why_unknown(self, number: int, count: int = 1) -> str:
        """Why the line of a node is not known."""
        if number == NO_NUMBER:
            return UNNUMBERED
        if number in self.shared:
            return THREADS
        if count > 1:
            return UNRECORDED
        if number < self.first:
            return BEFORE
        return AFTER if number >= self.end else OUT_OF_SIGHT


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
        self._all: list[_Lane] = []
        self._lanes: dict[int, _Lane] = {}
        self.existing: frozenset[int] = frozenset()  # values that were there before anything was run
        self._watched: dict[str, int] = {}
        self._undo = contextlib.ExitStack()
        self._eager = False

    def __enter__(self) -> Recorder:
        self.thread = threading.get_ident()
        with contextlib.ExitStack() as undo:
            undo.enter_context(_one_at_a_time(self))
            undo.enter_context(rarer_collections())
            undo.callback(self._close)
            undo.enter_context(_hooked(self))
            undo.enter_context(_standing_in(self))
            undo.enter_context(_placed_warnings())
            undo.enter_context(_watched_threads(self))
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
            self._undo.enter_context(_eager(self))

    def new_lane(self) -> _Lane:
        """A lane for the current thread."""
        lane = _Lane(self, len(self._all), ModuleStack(self._names, self.table, self._counts))
        self._all.append(lane)
        self._lanes[threading.get_ident()] = lane
        return lane

    def drop_lane(self) -> None:
        """Forget the current thread's lane."""
        del self._lanes[threading.get_ident()]

    def known_lane(self) -> _Lane | None:
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
        for step in self.steps:
            if step.end <= step.first:
                continue
            lane = claims[step.thread]
            # A call inside another ends first, and is the one to name.
            own = [number for number in range(step.first, step.end) if number not in lane]
            spent = round(step.ns / len(own)) if own else None
            lane.update(dict.fromkeys(own, (step.source, step.call, spent)))
        for thread, lane in enumerate(claims):
            self._fill(thread, lane)
        main = self._all[0]
        origins: dict[int, Origin] = claims[0]
        shared: dict[int, int] = {}
        if len(claims) > 1:
            origins, shared = _agreed(claims, [lane.numbers() for lane in self._all])
        return Attribution(self.sites.sources(), tuple(self.table), origins, shared, main.first, main.end)

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


def _agreed(
    claims: Sequence[Mapping[int, Origin]], ranges: Sequence[range]
) -> tuple[dict[int, Origin], dict[int, int]]:
    """What is known of numbers that several threads may have given: that in which they agree."""
    origins: dict[int, Origin] = {}
    shared: dict[int, int] = {}
    for numbers, lane in zip(ranges, claims, strict=True):
        for number in numbers:
            origin = lane.get(number, (None, None, None))
            if number in origins:
                source, call, _ = origins[number]
                shared[number] = shared.get(number, 1) + 1
                origin = (source if source == origin[0] else None, call if call == origin[1] else None, None)
            origins[number] = origin
    return origins, shared


class _Lane(TorchFunctionMode):
    """What is recorded on one thread.

    Attributes:
        recorder: None when the recording is over; a thread that lives on may still have its lane.
        first, end: the sequence numbers of the thread, as far as they were seen.
    """

    def __init__(self, recorder: Recorder, thread: int, modules: ModuleStack) -> None:
        super().__init__()
        self.recorder: Recorder | None = recorder
        self.modules = modules
        self.first = self.end = _sequence_number()
        self._thread = thread
        self._facts: dict[Callable[..., Any], FunctionFacts] = {}
        self._applied = False  # an `apply` was called that has not made its node yet
        self._inner = 0  # nanoseconds of recorded calls inside the one that is open

    @contextlib.contextmanager
    def pushed(self) -> Iterator[None]:
        """Put the lane on top of the thread's modes; at the end it is taken from wherever it is."""
        self.__enter__()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            self.end = max(self.end, _sequence_number())
            self.pull()

    def pull(self) -> None:
        """Take the lane from the thread's modes. The user's code may have left its own above."""
        above = []
        while torch._C._len_torch_function_stack():
            mode = torch._C._pop_torch_function_stack()
            if mode is self:
                break
            above.append(mode)
        for mode in reversed(above):
            torch._C._push_on_torch_function_stack(mode)

    def close(self) -> None:
        """The recording is over."""
        self.recorder = None

    def numbers(self) -> range:
        """The sequence numbers of this thread's nodes."""
        return range(self.first, self.end)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        facts = self._facts.get(func)
        if facts is None:
            facts = self._facts[func] = facts_of(func)
        recorder = self.recorder
        if recorder is None or facts[1]:
            return func(*args, **kwargs) if kwargs else func(*args)
        values = recorder.values
        known = values.known
        # Before anything is asked of the arguments: that can make a view's node anew.
        first = _sequence_number()
        inputs: list[int] = []
        if values.written:
            values.read(args, inputs)
        else:
            for item in args:
                entry = known.get(id(item))
                if entry is not None and entry[0]() is item:
                    inputs.append(entry[1])
                elif item.__class__ not in EMPTY:
                    values.read((item,), inputs)
        if kwargs:
            values.read(kwargs.values(), inputs)
        outside, self._inner = self._inner, 0
        start = perf_counter_ns()
        try:
            made = func(*args, **kwargs) if kwargs else func(*args)
        except BaseException:
            spent = perf_counter_ns() - start
            own, self._inner = spent - self._inner, outside + spent
            self._failed(recorder, facts, inputs, first, own)
            raise
        spent = perf_counter_ns() - start
        own, self._inner = spent - self._inner, outside + spent

        name = facts[0]
        written: Sequence[int] = ()
        outputs: Sequence[int]
        if (
            facts[2]
            and isinstance(made, _Tensor)
            and ((entry := known.get(id(made))) is None or entry[0]() is not made)
            and not (kwargs and "out" in kwargs)
        ):
            outputs = (values.add(made),)
            end = _sequence_number()
        else:
            found: list[int] = []
            done, written = self._effect(facts, args, kwargs, made, first, found)
            end = _sequence_number()
            if not done and end == first:
                return made
            outputs = tuple(found)
            if name == NO_GRAD and _is_checkpoint(_frame(1)):
                name = CHECKPOINT
        frame = _frame(1)
        lines = recorder.sites.lines.get(id(frame.f_code))
        source = lines.get(frame.f_lasti) if lines is not None else None
        if source is None:
            source = recorder.sites.number(frame)
        step = (
            name, source, self.modules.open, tuple(inputs), outputs,
            first, end, own, _is_grad_enabled(), self._thread, written,
        )  # fmt: skip
        recorder.steps.append(_new(Step, step))
        if end > self.end:
            self.end = end
        if recorder.probe is not None:
            with torch._C.DisableTorchFunction():  # the probe may call torch itself
                recorder.probed.append(recorder.probe(args, kwargs, made))
        if recorder.replace is not None:
            with torch._C.DisableTorchFunction():
                return recorder.replace(facts[0], source, made)
        return made

    def _effect(
        self,
        facts: FunctionFacts,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        made: Any,
        first: int,
        found: list[int],
    ) -> tuple[bool, tuple[int, ...]]:
        """What a call did that is more than making one new tensor.

        Args:
            found: is given the numbers of what it made or wrote.

        Returns:
            Whether it did anything besides making nodes; and what it wrote over.
        """
        assert self.recorder is not None
        values = self.recorder.values
        kwargs = kwargs or {}
        if facts.in_place:
            targets = _tensors(args[0] if args else next(iter(kwargs.values()), made))
            return bool(targets), _write(values, targets, found, memory=facts.memory)
        if facts.escapes and not isinstance(made, _Tensor):
            number = values.escape(made, args[0] if args else None)
            found.extend(() if number is None else (number,))
            return True, ()
        if facts.name == NO_GRAD:
            return bool(args) and not args[0], ()
        results = _tensors(made)
        if kwargs.get("out") is not None:
            return True, _write(values, _tensors(kwargs["out"]), found)
        fresh = [tensor for tensor in results if values.find(tensor) is None]
        if results and not fresh:
            # The argument itself: written, as relu(x, inplace=True) does, or not, as contiguous() returns it.
            if kwargs.get("inplace") or _sequence_number() > first:
                return True, _write(values, results, found)
            return False, ()
        # What it only passes on, as broadcast_tensors does, keeps its number.
        passed_on = len(fresh) < len(results)
        for tensor in results:
            number = values.find(tensor) if passed_on else None
            found.append(values.add(tensor) if number is None else number)
        if facts.aliases and fresh:
            for source in _tensors(args)[:1]:
                values.share(fresh[0], source)
        return bool(fresh) or facts.name == "Tensor.backward", ()

    def _failed(self, recorder: Recorder, facts: FunctionFacts, inputs: list[int], first: int, own: int) -> None:
        """A call that raised may have made nodes all the same, and user code may go on."""
        end = _sequence_number()
        if end > first:
            self.end = max(self.end, end)
            source = recorder.sites.number(_frame(2))
            self._append(recorder, Step(facts[0], source, self.modules.open, tuple(inputs), (), first, end, own,
                                        _is_grad_enabled(), self._thread))  # fmt: skip

    def _append(self, recorder: Recorder, step: Step) -> None:
        recorder.steps.append(step)
        if recorder.probe is not None:
            recorder.probed.append(recorder.probe((), None, None))

    def apply(self, real: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A call of a custom Function's `apply`."""
        outer, self._applied = self._applied, True
        try:
            return self.__torch_function__(real, (), args, kwargs)
        finally:
            self._applied = outer

    def takes_applied(self) -> bool:
        """Whether the `apply` that makes a node now is being recorded; asked once of each."""
        applied, self._applied = self._applied, False
        return applied

    def enter(self, module: torch.nn.Module) -> None:
        """A module's forward begins."""
        self.modules.enter(module, _sequence_number())

    def leave(self, module: torch.nn.Module) -> None:
        """A module's forward has ended, or failed."""
        ended = self.modules.leave(module)
        end = _sequence_number()
        self.end = max(self.end, end)
        recorder = self.recorder
        if ended is not None and ended[1] < end and recorder is not None:
            call, first = ended
            # What TorchScript runs has no line in Python but that of its call.
            scripted = isinstance(module, torch.jit.ScriptModule)
            source = recorder.sites.number(_frame(2)) if scripted else None
            recorder.spans.append((self._thread, first, end, call, source))


_is_grad_enabled = torch.is_grad_enabled


def _is_checkpoint(frame: FrameType | None) -> bool:
    """Whether gradients were switched off by torch.utils.checkpoint, a few frames further out."""
    for _ in range(5):
        if frame is None:
            return False
        if frame.f_code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


_CHECKPOINT = str(Path(torch.__file__).parent / "utils" / "checkpoint.py")


def _tensors(value: Any, nesting: int = _MOST_NESTING) -> list[torch.Tensor]:
    """The tensors of a result, however it is put together."""
    if isinstance(value, _Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not nesting or not isinstance(value, (list, tuple)):
        return []
    return [tensor for item in value for tensor in _tensors(item, nesting - 1)]


def _write(
    values: Values, tensors: Sequence[torch.Tensor], found: list[int], *, memory: bool = True
) -> tuple[int, ...]:
    """Number tensors that were written; returns what they were, in the order of what they are."""
    written: list[int] = []
    rest: list[int] = []
    for tensor in tensors:
        before, after = values.write(tensor, memory=memory)
        written.extend(before[: len(after)])
        rest.extend(before[len(after) :])
        found.extend(after)
    return tuple(written + rest)


def without_recorder(frames: traceback.StackSummary) -> traceback.StackSummary:
    """A traceback less the recorder's frames at its end, if torch raised while called through them."""
    if not (frames[-1].filename == __file__ and "func(*args" in (frames[-1].line or "")):
        return frames  # an error of the recorder's own is left to be seen
    own = [frame.filename == __file__ for frame in frames]
    return traceback.StackSummary.from_list(frames[: len(frames) - own[::-1].index(False)])


@contextlib.contextmanager
def _hooked(recorder: Recorder) -> Iterator[None]:
    """Global hooks that tell when a module's forward begins and ends."""

    visitors: dict[int, _Lane] = {}

    def enter(module: torch.nn.Module, _: object) -> None:
        lane = recorder.known_lane()
        if lane is None:
            if not recorder.on:
                return
            # A thread that was there before the recording: it is watched while a module runs on it.
            lane = visitors[threading.get_ident()] = recorder.new_lane()
            lane.__enter__()  # type: ignore[no-untyped-call]
        lane.enter(module)

    def leave(module: torch.nn.Module, _: object, __: object) -> None:
        thread = threading.get_ident()
        visitor = visitors.get(thread)
        lane = recorder.known_lane() or visitor
        if lane is not None:
            lane.leave(module)
        if visitor is not None and not len(visitor.modules):
            del visitors[thread]
            visitor.pull()
            recorder.drop_lane()

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
    single = _SingleLevelFunction
    before = single.__dict__.get("apply")

    def recorded_apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        lane = recorder.known_lane()
        real = apply.__get__(None, cls)
        return real(*args, **kwargs) if lane is None else lane.apply(real, args, kwargs)

    def seen_apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        # Every apply comes here right before it makes its node, also one that was bound before the
        # recording, as in `apply = MyFunction.apply`.
        lane = recorder.known_lane()
        real = before.__get__(None, cls) if before is not None else super(single, cls).apply  # type: ignore[misc]
        if lane is None or lane.takes_applied() or not issubclass(cls, function):
            return real(*args, **kwargs)
        return lane.__torch_function__(real, (), args, kwargs)

    def make_parameter(cls: type, *args: Any, **kwargs: Any) -> Any:
        return new(cls, *args, **kwargs)

    make_parameter.__name__, make_parameter.__qualname__ = "Parameter", "Parameter"
    make_parameter.__module__ = "torch.nn"

    def recorded_new(cls: type, *args: Any, **kwargs: Any) -> Any:
        lane = recorder.known_lane()
        if lane is None:
            return new(cls, *args, **kwargs)
        return lane.__torch_function__(make_parameter, (), (cls, *args), kwargs)

    def recorded_from_numpy(array: Any) -> torch.Tensor:
        lane = recorder.known_lane()
        if lane is None:
            return from_numpy(array)
        made: torch.Tensor = lane.__torch_function__(from_numpy, (), (array,))
        return made

    def eager_compile(*args: Any, **kwargs: Any) -> Any:
        recorder.run_eagerly()
        return real_compile(*args, **kwargs)

    stand_ins: list[tuple[object, str, object, object]] = [
        (function, "apply", apply, classmethod(recorded_apply)),
        (single, "apply", before, classmethod(seen_apply)),
        (parameter, "__new__", new, staticmethod(recorded_new)),
        (torch, "from_numpy", from_numpy, recorded_from_numpy),
    ]
    real_compile = torch.compile
    if "torch._dynamo" not in sys.modules:  # it takes seconds to load, and is needed for compiled code alone
        stand_ins.append((torch, "compile", real_compile, eager_compile))
    for owner, name, _, stand_in in stand_ins:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, real, _ in stand_ins:
            if real is None:
                delattr(owner, name)
            else:
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

    def begin(*event: Any) -> None:
        # Called at a new thread's first step, and taken away at once: it costs nothing after that.
        sys.setprofile(before)
        if before is not None:
            before(*event)
        if recorder.on:  # a lane of its own, even if the system gives it the number of one that has ended
            recorder.new_lane().__enter__()  # type: ignore[no-untyped-call]

    threading.setprofile(begin)
    try:
        yield
    finally:
        threading.setprofile(before)


@contextlib.contextmanager
def _eager(recorder: Recorder) -> Iterator[None]:
    """Run compiled functions as the Python code that they were compiled from, and note if there are any."""
    from torch._dynamo import eval_frame

    real = eval_frame._callback_from_stance

    def noting(callback: Any) -> Any:
        # Asked for at each call of a compiled function, with what would compile it; by functions that
        # are kept from being compiled as well, with None.
        if recorder.on and callback not in (None, False):
            recorder.notes.append(COMPILED)
        return real(callback)

    with torch.compiler.set_stance("force_eager"):
        eval_frame._callback_from_stance = noting
        try:
            yield
        finally:
            eval_frame._callback_from_stance = real


_recording: list[Recorder] = []
_taking_turns = threading.Lock()


@contextlib.contextmanager
def _one_at_a_time(recorder: Recorder) -> Iterator[None]:
    """Recordings are nested or follow one another: what stands in for torch's functions is put back in turn.

    Raises:
        GraphlensError: another thread is recording.
    """
    with _taking_turns:
        if _recording and _recording[-1].thread != recorder.thread:
            raise GraphlensError(
                "a forward pass is being recorded on another thread; record one after the other, or in processes"
            )
        _recording.append(recorder)
    try:
        yield
    finally:
        _recording.remove(recorder)

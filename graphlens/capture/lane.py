"""What is recorded on one thread: each call of torch as a step, with the values that it read and made."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch.overrides import TorchFunctionMode

from graphlens.capture.functions import FunctionFacts, facts_of
from graphlens.capture.guards import guarding_lines
from graphlens.capture.module_calls import ModuleStack
from graphlens.capture.sites import is_outside
from graphlens.capture.switches import Switch, Switches, who_switches
from graphlens.capture.values import Values, storage_of
from graphlens.flow import COPY, GRAD, NO_GRAD, Step

if TYPE_CHECKING:
    from graphlens.capture.record import Recorder

_sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
_new = tuple.__new__  # what NamedTuple._make calls, less one Python frame per record
_frame = sys._getframe
_Tensor = torch.Tensor
_MOST_NESTING = 4


class Lane(TorchFunctionMode):
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
        self._switches = Switches()
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
            if facts[0] == NO_GRAD:
                self.switch(bool(args[0]), _frame(1))
            return func(*args, **kwargs) if kwargs else func(*args)
        values = recorder.values
        # Before anything is asked of the arguments: that can make a view's node anew.
        first = _sequence_number()
        inputs = values.numbers_in(args, kwargs)
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
            and ((entry := values.known.get(id(made))) is None or entry[0]() is not made)
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
            if name == "Tensor.data" and _frame(1).f_code.co_name == "__deepcopy__":
                name = COPY
            if name == _TRUTH and _is_guard(_frame(1)):
                return made
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
                return recorder.replace(name, source, made)
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
            if _frame(2).f_code is storage_of.__code__:  # a question of the recorder's own
                return False, ()
            number = values.escape(made, args[0] if args else None)
            found.extend(() if number is None else (number,))
            return True, ()
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

    def switch(self, on: bool, frame: FrameType, *, left: bool = False) -> None:
        """Gradients are about to be switched on or off; or they were, as a block without them was left."""
        recorder = self.recorder
        if recorder is None:
            return
        function, decorated, ends = who_switches(frame)
        source = recorder.sites.number(frame)
        if decorated is not None:
            source = recorder.sites.decorator(decorated, source)
        here = Switch(on, GRAD if on else function, source)
        before = False if left else _is_grad_enabled()
        moved = self._switches.moved(before, here, leaving=left or ends)
        if moved is not None:
            number = _sequence_number()
            name = moved.function or (GRAD if moved.on else NO_GRAD)
            self._append(recorder, Step(name, moved.source, self.modules.open, (), (), number, number, 0,
                                        on, self._thread))  # fmt: skip

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


def _is_guard(frame: FrameType) -> bool:
    """Whether the question is only asked to raise an error."""
    return frame.f_lineno in guarding_lines(frame.f_code.co_filename)


_TRUTH = "Tensor.__bool__"


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
def placed_warnings() -> Iterator[None]:
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

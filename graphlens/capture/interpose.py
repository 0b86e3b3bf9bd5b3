"""What stands between the user's code and torch while a recorder is open, and is put back at its end."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import _SingleLevelFunction
from torch.autograd.variable import VariableMeta
from torch.nn.modules import module as torch_module

from graphlens.capture.sites import is_outside
from graphlens.errors import GraphlensError

if TYPE_CHECKING:
    from graphlens.capture.lane import Lane
    from graphlens.capture.record import Recorder

COMPILED = "compiled functions were run as the Python code that they were compiled from"


@contextlib.contextmanager
def hooked(recorder: Recorder) -> Iterator[None]:
    """Global hooks that tell when a module's forward begins and ends."""

    visitors: dict[int, Lane] = {}

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


# Its owner, the name, what is there, and what stands in for it. None is where nothing is there.
_StandIn = tuple[object, str, object, object]


@contextlib.contextmanager
def standing_in(recorder: Recorder) -> Iterator[None]:
    """Stand in for what makes tensors, and for blocks without gradients, where torch does not ask the mode."""
    stand_ins = [*_functions(recorder), *_makers(recorder), *_blocks(recorder), *_compiler(recorder)]
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


def _functions(recorder: Recorder) -> list[_StandIn]:
    """Custom Functions."""
    function, single = torch.autograd.Function, _SingleLevelFunction
    apply, before = function.__dict__["apply"], single.__dict__.get("apply")

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

    return [
        (function, "apply", apply, classmethod(recorded_apply)),
        (single, "apply", before, classmethod(seen_apply)),
    ]


def _makers(recorder: Recorder) -> list[_StandIn]:
    """`nn.Parameter`, the old `Variable`, `torch.from_numpy`, and `Tensor.set_`."""
    parameter, new, from_numpy = torch.nn.Parameter, torch.nn.Parameter.__dict__["__new__"], torch.from_numpy

    def make_parameter(cls: type, *args: Any, **kwargs: Any) -> Any:
        return new(cls, *args, **kwargs)

    def make_variable(cls: type, *args: Any, **kwargs: Any) -> Any:
        return type.__call__(cls, *args, **kwargs)

    # The recorder calls a function by its name and module.
    make_parameter.__name__ = make_parameter.__qualname__ = "Parameter"
    make_parameter.__module__ = "torch.nn"
    make_variable.__name__ = make_variable.__qualname__ = "Variable"
    make_variable.__module__ = "torch.autograd"

    def recorded(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        lane = recorder.known_lane()
        return make(*args, **kwargs) if lane is None else lane.__torch_function__(make, (), args, kwargs)

    def recorded_new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return recorded(make_parameter, cls, *args, **kwargs)

    def recorded_variable(cls: type, *args: Any, **kwargs: Any) -> Any:
        return recorded(make_variable, cls, *args, **kwargs)

    def recorded_from_numpy(array: Any) -> Any:
        return recorded(from_numpy, array)

    set_tensor = torch._C.TensorBase.set_

    def recorded_set(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Torch calls it too: within a call that is recorded itself, as copy.deepcopy, and where it makes fake tensors.
        is_own = torch._C._len_torch_function_stack() and is_outside(sys._getframe(1).f_code)
        return recorded(set_tensor, self, *args, **kwargs) if is_own else set_tensor(self, *args, **kwargs)

    return [
        (parameter, "__new__", new, staticmethod(recorded_new)),
        (VariableMeta, "__call__", VariableMeta.__dict__.get("__call__"), recorded_variable),
        (torch, "from_numpy", from_numpy, recorded_from_numpy),
        (torch.Tensor, "set_", torch.Tensor.__dict__.get("set_"), recorded_set),
    ]


def _blocks(recorder: Recorder) -> list[_StandIn]:
    """Inference mode; the other blocks tell the mode."""
    block = torch.inference_mode
    enter, leave = block.__enter__, block.__exit__

    def recorded_enter(self: Any) -> None:
        lane = recorder.known_lane()
        if lane is not None and self.mode:
            lane.switch(False, sys._getframe(1))
        enter(self)

    def recorded_exit(self: Any, *error: Any) -> None:
        leave(self, *error)
        lane = recorder.known_lane()
        if lane is not None and self.mode:
            lane.switch(torch.is_grad_enabled(), sys._getframe(1), left=True)

    return [(block, "__enter__", enter, recorded_enter), (block, "__exit__", leave, recorded_exit)]


def _compiler(recorder: Recorder) -> list[_StandIn]:
    """`torch.compile`, where nothing was compiled yet: its machinery takes seconds to load."""
    real = torch.compile

    def eager_compile(*args: Any, **kwargs: Any) -> Any:
        recorder.run_eagerly()
        return real(*args, **kwargs)

    return [] if "torch._dynamo" in sys.modules else [(torch, "compile", real, eager_compile)]


@contextlib.contextmanager
def watched_threads(recorder: Recorder) -> Iterator[None]:
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
def eager(recorder: Recorder) -> Iterator[None]:
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
def one_at_a_time(recorder: Recorder) -> Iterator[None]:
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

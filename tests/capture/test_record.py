"""The recorder: what it sees of odd programs, what it costs in memory, and that it puts everything back."""

from __future__ import annotations

import contextlib
import copy
import gc
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import graphlens
from graphlens.capture import interpose, lane, record
from graphlens.capture.attribution import AFTER, BEFORE, OUT_OF_SIGHT, THREADS, UNRECORDED, Attribution
from graphlens.capture.interpose import COMPILED
from graphlens.capture.program import recorder_of, subject_program
from graphlens.capture.record import Recorder
from graphlens.capture.trace import Trace
from graphlens.errors import GraphlensError
from graphlens.graph import Node
from graphlens.subject import Subject
from tests.builders import lesson_loss


def x(*shape: int) -> torch.Tensor:
    return torch.linspace(0.5, 2, int(numpy.prod(shape)) if shape else 1).reshape(shape).requires_grad_()


def functions(trace: Trace) -> list[Node]:
    assert trace.graph is not None
    return [node for node in trace.graph.nodes if node.kind != "leaf"]


def texts(trace: Trace) -> list[str | None]:
    """Per node the text of its line."""
    assert trace.graph is not None
    return [None if n.source is None else trace.graph.sources[n.source].text for n in functions(trace)]


def about_lines(trace: Trace) -> list[str]:
    return [note for note in trace.notes if "attributed" in note]


def recorded(function: Callable[..., Any], *args: Any) -> Recorder:
    """A function recorded by itself, without a backward pass."""
    with recorder_of(subject_program(Subject(function, args))) as recorder:
        function(*args)
    return recorder


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


bound_apply = Doubled.apply


# What is put back


def everything() -> dict[str, object]:
    """All that a recording replaces."""
    from torch._dynamo import eval_frame
    from torch.autograd.function import _SingleLevelFunction
    from torch.nn.modules import module

    return {
        "modes": torch._C._len_torch_function_stack(),
        "hooks": (len(module._global_forward_hooks), len(module._global_forward_pre_hooks)),
        "always": len(module._global_forward_hooks_always_called),
        "apply": torch.autograd.Function.__dict__["apply"],
        "Parameter": torch.nn.Parameter.__dict__["__new__"],
        "from_numpy": torch.from_numpy,
        "set_": "set_" in torch.Tensor.__dict__,
        "compile": torch.compile,
        "made": _SingleLevelFunction.__dict__.get("apply"),
        "stance": eval_frame._stance.stance,
        "callback": eval_frame._callback_from_stance,
        "showwarning": warnings.showwarning,
        "profile": threading.getprofile(),
        "own profile": sys.getprofile(),
        "thresholds": gc.get_threshold(),
        "recording": list(interpose._recording),
    }


class Interrupted(torch.nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(2, 2), Raises(error))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(bound_apply(x))


class Raises(torch.nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_everything_is_put_back_after_a_failure(error: type[BaseException]) -> None:
    before = everything()

    with pytest.raises(error):
        graphlens.trace(Interrupted(error("planted")), x(2, 2))

    assert everything() == before


@pytest.mark.parametrize("place", ["hooked", "standing_in", "placed_warnings", "watched_threads", "eager"])
def test_everything_is_put_back_if_the_recording_cannot_begin(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()

    @contextmanager
    def fails(_: object = None) -> Iterator[None]:
        raise RuntimeError("planted")
        yield

    monkeypatch.setattr(record, place, fails)
    with pytest.raises(RuntimeError, match="planted"):
        graphlens.trace(lambda x: x * 2, x(2))

    assert everything() == before


def test_everything_is_in_place_meanwhile_and_put_back_afterwards() -> None:
    before = everything()
    meanwhile: dict[str, object] = {}

    def forward(x: torch.Tensor) -> torch.Tensor:
        meanwhile.update(everything())
        return x * 2

    graphlens.trace(forward, x(2))

    same = {name for name in before if before[name] == meanwhile[name]}
    assert same <= {"own profile", "compile"}  # torch._dynamo is loaded already
    assert everything() == before


def test_a_failure_inside_a_call_shows_no_frame_of_the_recorder_at_its_end() -> None:
    import traceback

    with pytest.raises(RuntimeError) as caught:
        graphlens.trace(lambda x: x @ torch.ones(7), x(2))
    frames = lane.without_recorder(traceback.extract_tb(caught.value.__traceback__))
    assert frames[-1].filename == __file__


def test_a_mode_that_the_user_leaves_open_stays() -> None:
    mode = Counting()
    try:
        graphlens.trace(lambda x: (mode.__enter__(), x * 2)[1], x(2), backward=False)
        assert torch._C._len_torch_function_stack() == 1
        assert torch._C._get_function_stack_at(0) is mode
    finally:
        mode.__exit__(None, None, None)


# Recordings inside recordings


def test_a_trace_inside_a_traced_forward() -> None:
    inner: list[Trace] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        inner.append(graphlens.trace(lambda y: bound_apply(y).sin() + Doubled.apply(y), x.detach().requires_grad_()))
        return bound_apply(x) * 3

    before = everything()
    outer = graphlens.trace(forward, x(2))

    assert everything() == before
    assert [node.op for node in functions(outer)] == ["DoubledBackward", "MulBackward0", "SumBackward0"]
    assert texts(outer)[:2] == ["return bound_apply(x) * 3"] * 2
    assert len(functions(inner[0])) == 5
    assert None not in texts(inner[0])
    assert not about_lines(outer)
    assert not about_lines(inner[0])


def test_a_recording_on_another_thread_is_refused() -> None:
    errors: list[BaseException] = []

    def other(x: torch.Tensor) -> None:
        try:
            graphlens.trace(lambda x: x * 2, x)
        except GraphlensError as error:
            errors.append(error)

    def forward(x: torch.Tensor) -> torch.Tensor:
        thread = threading.Thread(target=other, args=(x.detach().requires_grad_(),))
        thread.start()
        thread.join()
        return x * 2

    before = everything()
    graphlens.trace(forward, x(2))

    assert ["another thread" in str(error) for error in errors] == [True]
    assert everything() == before


# Custom Functions


def test_an_apply_that_was_bound_before() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = bound_apply(x)
        z = Doubled.apply(y)
        return bound_apply(z).sum()

    trace = graphlens.trace(forward, x(2), times=True)

    assert texts(trace) == ["y = bound_apply(x)", "z = Doubled.apply(y)", *["return bound_apply(z).sum()"] * 2]
    assert all(node.forward_ns is not None for node in functions(trace))
    seen = trace.observation.flow
    bound = [step for step in seen.steps if step.function.endswith(".apply")]
    assert [len(step.inputs) for step in bound] == [len(step.outputs) for step in bound] == [1, 1, 1]
    assert bound[0].outputs == bound[1].inputs


def test_what_a_custom_function_does_inside_belongs_to_it() -> None:
    class Inside(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                y = x.detach().requires_grad_() * 3
            ctx.save_for_backward(y)
            return y.detach() * 1

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * 3

    recorder = recorded(lambda x: Inside.apply(x), x(2))

    claims = recorder.attribution()
    assert claims.end - claims.first == 2
    own, inner = (claims.sources[claims.origin(number)[0]].text for number in range(claims.first, claims.end))
    assert own == "recorder = recorded(lambda x: Inside.apply(x), x(2))"
    assert inner == "y = x.detach().requires_grad_() * 3"


# Compiled code, TorchScript


def test_compiled_code_is_run_as_python_and_works_afterwards() -> None:
    compilations: list[object] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compilations.append(graph)
        return graph.forward

    @torch.compile(backend=backend)
    def f(x: torch.Tensor) -> torch.Tensor:
        return x.sin() * 2

    fresh = graphlens.trace(f, x(2))
    assert compilations == []
    f(x(2))
    assert len(compilations) == 1
    again = graphlens.trace(lambda x: f(x).sum(), x(2))
    f(x(2))

    assert len(compilations) == 1
    for trace in (fresh, again):
        assert texts(trace)[:2] == ["return x.sin() * 2"] * 2
        assert COMPILED in trace.notes
        assert COMPILED in trace.observation.flow.notes


def test_a_compiled_module() -> None:
    module = torch.compile(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), backend="aot_eager")
    trace = graphlens.trace(module, x(2, 2))
    assert list(trace.notes).count(COMPILED) == 1
    assert module(x(2, 2)).requires_grad


def test_no_note_without_compiled_code() -> None:
    import torch._dynamo

    @torch.compile(backend="eager")
    def unused(x: torch.Tensor) -> torch.Tensor:
        return x

    trace = graphlens.trace(lambda x: torch._dynamo.disable(torch.exp)(x).sum() * checkpoint(torch.exp, x).sum(), x(2))
    assert trace.notes == ()


def test_code_that_is_compiled_on_the_way(tmp_path: Path) -> None:
    """The compiler is loaded only if somebody asks for it."""
    script = tmp_path / "late.py"
    script.write_text(
        "import sys, torch, graphlens\n"
        "def forward(x):\n"
        "    return torch.compile(lambda y: y.sin() * 2, backend='eager')(x).sum()\n"
        "x = torch.ones(2, requires_grad=True)\n"
        "graphlens.trace(lambda x: x * 2, x)\n"
        "print('torch._dynamo' in sys.modules)\n"
        "before = torch.compile\n"
        "trace = graphlens.trace(forward, x)\n"
        "print(trace.notes, len(trace.graph), torch.compile is before)\n"
        "from torch._dynamo import eval_frame\n"
        "print(eval_frame._stance.stance)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines() == ["False", f"({COMPILED!r},) 4 True", "default"], done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript() -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scripted = torch.jit.script(torch.nn.Linear(2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.exp()
            return self.scripted(y).sum()

    trace = graphlens.trace(Half(), x(2, 2), times=True)
    assert texts(trace) == ["y = x.exp()", *["return self.scripted(y).sum()"] * 3]
    assert [str(trace.graph.calls[node.call]) for node in functions(trace)] == ["(Half)", *["scripted"] * 2, "(Half)"]
    assert [node.forward_ns is None for node in functions(trace)] == [False, True, True, False]

    @torch.jit.script
    def loose(x: torch.Tensor):
        return x.sin() * 2

    trace = graphlens.trace(lambda x: loose(x).sum(), x(2))
    assert texts(trace)[:2] == [None, None]
    assert about_lines(trace) == [f"2 of 3 nodes are not attributed to a line: {OUT_OF_SIGHT}"]


# Threads


def on_threads(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_run_the_same_code() -> None:
    """Their nodes have the same numbers, and the same line."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        made: dict[int, torch.Tensor] = {}

        def work(k: int) -> None:
            made[k] = x.sin().sum()

        on_threads([lambda k=k: work(k) for k in range(3)])
        return sum(made.values())

    trace = graphlens.trace(forward, x(2), times=True)

    assert [node.op for node in functions(trace)].count("SinBackward0") == 3
    known = [text for text in texts(trace) if text is not None]
    assert known.count("made[k] = x.sin().sum()") == 6 - sum(text is None for text in texts(trace))
    assert trace.observation.flow.threads == 4


def test_threads_that_run_different_code_are_told_apart_or_not_attributed() -> None:
    """In a fresh process the numbers of the main thread and of the others are the same."""
    script = """
import threading, torch, graphlens
x = torch.ones(2, requires_grad=True)
def forward(x):
    made = []
    def one(): made.append(x.exp().sum())
    def two(): made.append(x.sin().tanh().cos().sum())
    for work in (one, two):
        thread = threading.Thread(target=work)
        thread.start(); thread.join()
    return made[0] + made[1] + x.neg().sum()
trace = graphlens.trace(forward, x)
words = {"ExpBackward0": "x.exp", "SinBackward0": "x.sin", "TanhBackward0": "x.sin", "CosBackward0": "x.sin",
         "NegBackward0": "x.neg"}
for node in trace.graph.nodes[1:]:
    text = "" if node.source is None else trace.graph.sources[node.source].text
    print(node.op, "wrong" if text and words.get(node.op, "") not in text else "known" if text else "unknown")
print(*[note for note in trace.notes if "attributed" in note])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    *nodes, notes = done.stdout.splitlines()
    assert not [line for line in nodes if line.endswith("wrong")], done.stdout + done.stderr
    unknown = sum(line.endswith("unknown") for line in nodes)
    assert unknown > 0
    assert notes == f"{unknown} of {len(nodes)} nodes are not attributed to a line: {THREADS}"


def test_a_thread_that_outlives_the_recording_keeps_nothing_of_it() -> None:
    pool = ThreadPoolExecutor(1)
    try:
        recorder = recorded(lambda x: pool.submit(torch.exp, x).result(), x(2))
        assert any(step.function == "torch.exp" and step.thread == 1 for step in recorder.steps)
        steps = len(recorder.steps)
        pool.submit(torch.exp, x(2)).result()
        assert len(recorder.steps) == steps
        gone = weakref.ref(recorder)
        del recorder
        gc.collect()
        assert gone() is None
    finally:
        pool.shutdown()


def test_threads_from_before_are_watched_while_a_module_runs_on_them() -> None:
    module = torch.nn.Linear(2, 2)
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(int).result()
        modes = pool.submit(torch._C._len_torch_function_stack).result()
        recorder = recorded(lambda x: pool.submit(module, x).result(), x(2, 2))
        assert pool.submit(torch._C._len_torch_function_stack).result() == modes == 0
        assert [(step.function, step.thread) for step in recorder.steps] == [("torch.nn.functional.linear", 1)]
        assert [str(call) for call in recorder.table] == ["Linear"]
    finally:
        pool.shutdown()


def test_a_thread_that_was_not_recorded_is_reported() -> None:
    pool = ThreadPoolExecutor(1)
    try:
        # Far more nodes than the main thread has made, or else none: they share no number.
        pool.submit(int).result()
        trace = graphlens.trace(lambda x: pool.submit(lambda: x.sin().sum()).result() + x.sum(), x(2))
    finally:
        pool.shutdown()
    assert texts(trace)[-1] is not None
    assert len(about_lines(trace)) <= 1


def test_numbers_that_two_nodes_of_a_graph_share_are_not_attributed() -> None:
    claims = Attribution((), (), {7: (1, 2, 3), 8: (1, 2, 3)}, {8: 2}, 5, 10)
    assert claims.origin(7) == (1, 2, 3)
    assert claims.origin(7, 2) == (None, None, None)
    assert claims.origin(8, 2) == (1, 2, 3)
    assert claims.origin(9) == (None, None, None)
    whys = [claims.why_unknown(7, 2), claims.why_unknown(8, 2), claims.why_unknown(9), claims.why_unknown(4)]
    assert whys == [UNRECORDED, THREADS, OUT_OF_SIGHT, BEFORE]
    assert claims.why_unknown(10) == AFTER


def test_what_was_made_before_is_reported() -> None:
    made_before = x(2).exp()
    trace = graphlens.trace(lambda y: y.sin().sum(), made_before)
    assert about_lines(trace) == [f"1 of 3 nodes is not attributed to a line: {BEFORE}"]


# Odd programs


class Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Logged(torch.Tensor):
    """Its code runs whenever it is asked for anything."""

    calls: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_subclass_is_not_asked_for_more_than_without_the_recorder() -> None:
    logged = x(2).detach().as_subclass(Logged).requires_grad_()

    def forward(y: torch.Tensor) -> list[str]:
        Logged.calls.clear()
        z = (y * 2).view(-1)
        z[0].mul_(3)
        z.sum()
        return list(Logged.calls)

    plain = forward(logged)
    with Recorder({}) as recorder:
        assert forward(logged) == plain
    assert [step.function for step in recorder.steps if step.end > step.first] == [
        "Tensor.mul", "Tensor.view", "Tensor.__getitem__", "Tensor.mul_", "Tensor.sum"
    ]  # fmt: skip


def under_a_mode(x: torch.Tensor) -> torch.Tensor:
    with Counting() as mode:
        y = x.sin() * 2
    assert mode.count >= 2
    return y


def in_place(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[0].mul_(2)
    y += 1
    torch.nn.functional.relu(y, inplace=True)
    return y


def reentrant(x: torch.Tensor) -> torch.Tensor:
    return checkpoint(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), x, use_reentrant=True)


def not_reentrant(x: torch.Tensor) -> torch.Tensor:
    return checkpoint(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), x, use_reentrant=False)


def mixed_precision(x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return torch.nn.Linear(2, 2)(x) @ x


def without_gradients(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        scale = x.exp().mean()
    with torch.inference_mode():
        x.exp().sum()
    return x * scale


def caught(x: torch.Tensor) -> torch.Tensor:
    try:
        torch.linalg.inv(x * 0)
    except RuntimeError:
        return x * 2
    raise AssertionError


def lazily(x: torch.Tensor) -> torch.Tensor:
    return sum(layer(x) for layer in (torch.nn.Linear(2, 2) for _ in range(3)))


def double_backward(x: torch.Tensor) -> torch.Tensor:
    (grad,) = torch.autograd.grad(x.exp().sum(), x, create_graph=True)
    return grad * x


def nested_tensor(x: torch.Tensor) -> torch.Tensor:
    return torch.nested.as_nested_tensor([x[0], x[1]]).to_padded_tensor(0.0)


def custom_op(x: torch.Tensor) -> torch.Tensor:
    return torch.ops.graphlens_test.twice(x)


@torch.library.custom_op("graphlens_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


twice.register_autograd(lambda ctx, grad: grad * 2)

ODD: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
    "under a mode": (under_a_mode, x(2, 2)),
    "in place": (in_place, x(2, 2)),
    "reentrant checkpoint": (reentrant, x(2, 2)),
    "checkpoint": (not_reentrant, x(2, 2)),
    "autocast": (mixed_precision, x(2, 2)),
    "without gradients": (without_gradients, x(2, 2)),
    "an error that is caught": (caught, x(2, 2)),
    "lazily": (lazily, x(2, 2)),
    "double backward": (double_backward, x(2, 2)),
    "nested tensor": (nested_tensor, x(2, 2)),
    "custom op": (custom_op, x(2, 2)),
    "vmap": (lambda x: torch.func.vmap(lambda row: row.sin().sum())(x), x(2, 2)),
    "grad": (lambda x: torch.func.grad(lambda y: y.sin().sum())(x), x(2, 2)),
    "jacrev": (lambda x: torch.func.jacrev(lambda y: y.sin().sum(0))(x), x(2, 2)),
    "vmap of grad": (lambda x: torch.func.vmap(torch.func.grad(lambda y: (y**3).sum()))(x), x(2, 2)),
    "complex": (lambda x: torch.fft.fft(x).abs(), x(2, 2)),
    "sparse": (lambda x: torch.sparse.mm(torch.eye(2).to_sparse(), x), x(2, 2)),
    "sparse gradient": (lambda x: torch.nn.functional.embedding(torch.tensor([1]), x, sparse=True), x(2, 2)),
    "fake quantised": (lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255), x(2, 2)),
    "quantised": (lambda x: torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.quint8).dequantize() * x, x(2, 2)),
    "meta": (lambda x: (x * 2).add_(1), torch.ones(2, device="meta", requires_grad=True)),
    "subclass": (lambda x: (x * 2).view(-1)[0].exp(), x(2, 2).detach().as_subclass(Logged).requires_grad_()),
    "set_default_device": (lambda x: (torch.set_default_device("cpu"), x * torch.ones(2))[1], x(2, 2)),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore")
def test_odd_programs(name: str) -> None:
    """The same graph as without the recorder, and every node of it has a line of this file."""
    function, argument = ODD[name]
    torch.manual_seed(0)
    before = everything()
    try:
        plain = graphlens.capture(function(argument)).nodes
        torch.manual_seed(0)
        trace = graphlens.trace(function, argument, backward=False)
    finally:
        torch.set_default_device(None)

    assert everything() == before
    seen = [node.op for node in trace.graph.nodes]
    assert seen[: len(plain)] == [node.op for node in plain] or sorted(seen) == sorted(
        [*(node.op for node in plain), *(["SumBackward0"] if len(seen) > len(plain) else [])]
    )
    assert not about_lines(trace)
    files = {trace.graph.sources[node.source].file for node in functions(trace)}
    assert files <= {"tests/capture/test_record.py", "graphlens"}


def test_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        trace = graphlens.trace(lambda x: (x * 2).add_(1).sum(), torch.ones(2, requires_grad=True), backward=False)
    assert len(functions(trace)) == 3
    assert not about_lines(trace)


@pytest.mark.parametrize("module", [torch.nn.LSTM(3, 4, 2), torch.nn.GRU(3, 4, bidirectional=True)])
def test_recurrent_modules(module: torch.nn.Module) -> None:
    trace = graphlens.trace(module, torch.randn(5, 2, 3))
    assert not about_lines(trace)
    assert {trace.graph.calls[node.call].path for node in functions(trace) if node.call is not None} == {""}


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/init", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()))
        trace = graphlens.trace(model, x(2, 2))
    finally:
        torch.distributed.destroy_process_group()
    assert [str(call) for call in trace.graph.calls] == [
        "(DistributedDataParallel)", "module", "module.0", "module.1"
    ]  # fmt: skip
    assert not about_lines(trace)
    assert trace.gradients["module.0.weight"] is not None


def test_a_call_that_fails_leaves_the_times_right() -> None:
    """What it made meanwhile is known, and the call around it is not given its time."""

    class Tries(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            with contextlib.suppress(ValueError):
                Fails.apply(x)
            return x * 2

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            end = time.perf_counter() + 0.3
            while time.perf_counter() < end:
                pass
            raise ValueError("planted")

    recorder = recorded(lambda x: Tries.apply(x), x(2))

    spent = {step.function: step.ns for step in recorder.steps}
    assert spent["Fails.apply"] >= 0.3e9
    assert spent["Tries.apply"] < 0.3e9


def test_a_composite_call_shares_its_time_among_its_nodes() -> None:
    recorder = recorded(lambda x: torch.nn.functional.multi_head_attention_forward(
        x, x, x, 2, 1, torch.ones(6, 2), torch.zeros(6), None, None, False, 0.0, torch.eye(2), None
    ), x(3, 1, 2))  # fmt: skip

    (whole,) = recorder.steps[-1:]
    claims = recorder.attribution()
    shares = [claims.origin(number)[2] for number in range(whole.first, whole.end)]
    assert len(shares) > 5
    assert sum(shares) == pytest.approx(whole.ns, abs=len(shares))


def test_a_nested_call_is_timed_once() -> None:
    recorder = recorded(lambda x: Doubled.apply(x), x(2))
    inner, outer = recorder.steps
    assert (inner.function, outer.function) == ("Tensor.mul", "Doubled.apply")
    assert recorder.attribution().origin(outer.first)[2] == outer.ns


def test_a_warning_names_the_line_that_called_torch(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        graphlens.trace(lambda x: torch.nn.functional.mse_loss(x, torch.zeros(1)), x(2))
    assert [warning.filename for warning in seen] == [__file__]


# Memory


def test_no_tensor_and_no_autograd_node_is_kept() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def forward(y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for _ in range(20):
                y = y * 2
                alive.append(weakref.ref(y))
            assert sum(item() is not None for item in alive) == 1
        for _ in range(20):
            y = (y.detach() * 2).requires_grad_()
            alive.append(weakref.ref(y))
        assert sum(item() is not None for item in alive) == 1
        return y.exp()

    recorder = recorded(forward, x(2))
    gc.collect()
    assert [item() for item in alive] == [None] * 40
    assert len(recorder.steps) > 60


def test_autograd_nodes_get_no_python_objects() -> None:
    """A deep graph whose nodes all have one cannot be freed: the process would crash."""
    script = """
import torch, sys, gc
from graphlens.capture.record import Recorder
x = torch.ones(3, requires_grad=True)
with Recorder({}) as recorder:
    y = x
    for _ in range(150_000):
        y = y * 1.0
    z = y.view(3)
    y.detach().add_(0)
print(len(recorder.steps))
flow, claims = recorder.flow({"x": x}, {"y": y, "z": z}), recorder.attribution()
del y, z
print(len(claims.origins))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "150003\n150001\n"), done.stderr


def test_peak_memory_exceeds_that_of_the_plain_run_by_the_records_alone() -> None:
    script = """
import resource, torch
from graphlens.capture.record import Recorder
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def forward():
    y = torch.ones(2_000_000)  # 8 MB
    with torch.no_grad():
        for _ in range(60):
            y = torch.nn.functional.relu(torch.nn.Linear(1, 1)(y[:, None])[:, 0].mul_(2))
    for _ in range(30):
        torch.nn.Linear(1000, 1000)  # made and forgotten
        y = (y.detach() * 2).numpy() * 2
        y = torch.from_numpy(y)
    return y
forward()
plain = peak()
with Recorder({}) as recorder:
    forward()
print(peak() - plain, len(recorder.steps))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    more, steps = map(float, done.stdout.split())
    assert more < 16, done.stdout  # MB; one tensor has 8, and all of them 1,000
    assert steps > 300


def test_a_record_takes_little_memory() -> None:
    y = torch.ones(2)
    recorder = Recorder({})
    tracemalloc.start()
    try:
        with recorder, torch.no_grad():
            for _ in range(5000):
                y = y * 2
        held = tracemalloc.get_traced_memory()[0] / 5000
    finally:
        tracemalloc.stop()
    assert len(recorder.steps) == 5002  # and the beginning and the end of the block
    assert held < 900  # bytes a call


def test_the_graph_of_a_lesson_is_the_same_with_the_recorder() -> None:
    plain = graphlens.capture(lesson_loss("wasteful", n=3))
    seen = graphlens.trace(graphlens.lesson("wasteful", n=3)).graph
    assert [node[:9] for node in plain.nodes if node.kind != "leaf"] == [
        node[:9] for node in seen.nodes if node.kind != "leaf"
    ]
    assert plain.edges == seen.edges


def test_a_storage_that_is_set_is_recorded_but_not_inside_another_call() -> None:
    source = x(4)

    recorder = recorded(lambda x: torch.empty(0).set_((x * 2).untyped_storage(), 0, (4,)), source)
    assert [step.function for step in recorder.steps] == [
        "torch.empty", "Tensor.mul", "Tensor.untyped_storage", "Tensor.set_",
    ]  # fmt: skip
    made, read = recorder.steps[1].outputs, recorder.steps[2]
    assert read.inputs == made
    assert read.outputs[0] in recorder.steps[3].inputs

    recorder = recorded(lambda x: copy.deepcopy(x) * 2, source)
    assert [step.function for step in recorder.steps] == ["Tensor.__deepcopy__", "Tensor.mul"]
    recorder = recorded(lambda x: copy.deepcopy(torch.nn.Parameter(x)), source)
    assert recorder.steps[1].function == "torch.nn.Parameter.__deepcopy__"

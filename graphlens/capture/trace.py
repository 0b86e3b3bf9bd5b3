"""Run a subject: outputs, backward graph, gradients, and the time of each pass."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from graphlens.capture.build import capture
from graphlens.capture.ledger import dtype_name
from graphlens.capture.outputs import declared_loss, named_leaves, named_tensors
from graphlens.capture.release import drain
from graphlens.capture.walk import is_leaf, paused_collector, walk
from graphlens.errors import TargetError
from graphlens.graph import GradGraph, printable
from graphlens.records import Gradient, RunRecord, TensorValue, Timing
from graphlens.shown import Report
from graphlens.subject import Subject

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Pass:
    """What one forward pass made: its outputs, and the scalars to differentiate."""

    outputs: Mapping[str, torch.Tensor]
    roots: Mapping[str, torch.Tensor]
    loss: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """Something that can be run again and again.

    Attributes:
        leaves: the named tensors that a gradient is wanted for. Others that the graph leads to are
            called leaf[0], leaf[1], … in the order of their first use.
        times_forward: whether a call of `forward` is the forward pass and nothing besides.
        options: what it was built with, for the record.
        subject: where it came from, if that was a subject.
    """

    name: str
    forward: Callable[[], Pass]
    leaves: Mapping[str, torch.Tensor]
    loss_name: str = "loss"
    times_forward: bool = True
    options: Mapping[str, object] = field(default_factory=dict)
    subject: Subject | None = None

    @property
    def meta(self) -> dict[str, object]:
        """What a captured graph says about where it came from."""
        return {"target": printable(self.name), "options": {key: _plain(value) for key, value in self.options.items()}}


@dataclass(frozen=True)
class Timings:
    """Wall-clock time of the forward pass and of the backward pass; None where not measured."""

    forward: Timing | None
    backward: Timing | None


@dataclass(frozen=True)
class Trace(Report):
    """One subject, run once under observation and then timed.

    Attributes:
        graph: the captured backward graph; None where no output has one.
        outputs: the tensors that the module returned, by name, detached.
        loss: the value that was differentiated; None without a graph and without a loss.
        gradients: per input and parameter its gradient, or None where autograd gives None.
        reasons: why a gradient is None.
        notes: what was done on the reader's behalf, e.g. a reduction by `.sum()`.
    """

    name: str
    graph: GradGraph | None
    outputs: Mapping[str, torch.Tensor]
    loss: float | None
    loss_name: str
    gradients: Mapping[str, torch.Tensor | None]
    reasons: Mapping[str, str]
    timings: Timings
    threads: int
    notes: Sequence[str]

    def record(self, name: str = "") -> RunRecord:
        """The trace as plain values, under its own name or another."""
        gradients = {
            name: Gradient(None if tensor is None else value_of(tensor), self.reasons.get(name, ""))
            for name, tensor in self.gradients.items()
        }
        return RunRecord(
            name or self.name,
            self.graph,
            {name: value_of(tensor) for name, tensor in self.outputs.items()},
            self.loss,
            self.loss_name,
            gradients,
            self.timings.forward,
            self.timings.backward,
            self.threads,
            tuple(self.notes),
        )


def trace(
    subject: Subject | Callable[..., Any],
    *args: Any,
    loss: Callable[[Any], torch.Tensor] | None = None,
    backward: bool = True,
    repeats: int = 0,
    **kwargs: Any,
) -> Trace:
    """Run a module (or a `Subject`) once, capture its backward graph, and compute the gradients.

    Args:
        subject: a `Subject`, or a module or callable that is called with `args` and `kwargs`.
        loss: turns the output into the scalar to differentiate. Without it the output's own
            `.loss` is taken, else each output is reduced by `.sum()`.
        backward: whether to run the backward pass.
        repeats: how many further runs to time; the first run is the warm-up.

    Existing `.grad` fields are put back as they were.
    """
    if not isinstance(subject, Subject):
        name = type(subject).__name__ if isinstance(subject, torch.nn.Module) else getattr(subject, "__name__", "call")
        subject = Subject(subject, args, kwargs, loss, name=name)
    return observe(subject_program(subject), backward=backward, repeats=repeats)


def subject_program(subject: Subject) -> Program:
    """A subject as a program: one call of its module, then its loss."""
    leaves = named_leaves(subject.module, subject.args, subject.kwargs)

    def forward() -> Pass:
        output = subject.module(*subject.args, **subject.kwargs)
        outputs = named_tensors("output", output)
        if len(subject.output_names) == len(outputs):
            outputs = dict(zip(subject.output_names, outputs.values(), strict=True))
        if subject.loss is not None:
            loss = subject.loss(output)
            if not isinstance(loss, torch.Tensor):
                raise TargetError(f"{subject.name}: the loss is a {type(loss).__name__}; return a tensor, as .sum() does")
            return _reduce(outputs, {subject.loss_name: loss})
        declared = declared_loss(output)
        return _reduce(outputs, outputs if declared is None else {"loss": declared})

    return Program(subject.name, forward, leaves, subject.loss_name, subject=subject)


def tensors_program(name: str, make: Callable[[], Sequence[torch.Tensor]]) -> Program:
    """A function that returns finished tensors as a program; only their backward can be timed."""

    def forward() -> Pass:
        tensors = make()
        outputs = {"output" if len(tensors) == 1 else f"output[{k}]": tensor for k, tensor in enumerate(tensors)}
        return _reduce(outputs, outputs)

    return Program(name, forward, {}, times_forward=False)


def observe(
    program: Program,
    *,
    backward: bool = True,
    repeats: int = 0,
    progress: Progress = lambda _: None,
) -> Trace:
    """Run a program once for its values and its graph, then `repeats` times against the clock.

    Args:
        progress: called with one line before each step.
    """
    progress(f"{program.name}: running")
    first = program.forward()
    graph = capture(first.roots, program.leaves, meta=program.meta) if first.roots else None
    outputs = {name: tensor.detach().clone() for name, tensor in first.outputs.items()}
    wanted = _wanted(program, first)
    gradients: dict[str, torch.Tensor | None] = dict.fromkeys(wanted)
    notes = list(first.notes)
    if backward and first.roots:
        gradients = _gradients(first.roots, wanted)
    reasons = _reasons(wanted, gradients, graph, ran=backward)
    loss = first.loss
    del first  # so that its graph does not stay in memory beside those of the timed runs
    timings = _time(program, repeats, backward=backward and graph is not None, progress=progress)
    if not program.times_forward:
        notes.append("the forward pass was not timed: the factory returns finished tensors")
    threads = torch.get_num_threads()
    return Trace(
        program.name, graph, outputs, loss, program.loss_name, gradients, reasons, timings, threads, tuple(notes)
    )


def value_of(tensor: torch.Tensor) -> TensorValue:
    """The tensor as plain values; bfloat16 and other types that numpy lacks become float32."""
    shape, dtype = tuple(map(int, tensor.shape)), dtype_name(tensor.dtype)
    floating = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    ulp = torch.finfo(tensor.dtype).eps if floating else 0.0
    try:
        plain = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
        plain = plain.resolve_conj().resolve_neg().cpu()
        if floating and plain.dtype not in (torch.float16, torch.float32, torch.float64, *_COMPLEX):
            plain = plain.float()
        return TensorValue(shape, dtype, plain.numpy().copy(), ulp)
    except (RuntimeError, NotImplementedError, TypeError):
        return TensorValue(shape, dtype, None, ulp)


_COMPLEX = (torch.complex64, torch.complex128)


def _plain(value: object) -> object:
    """An option as JSON can hold it and a report can show it; what it cannot hold, as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {printable(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:
        return value
    return printable(value if isinstance(value, str) else hex(value) if isinstance(value, int) else repr(value))


def _reduce(outputs: Mapping[str, torch.Tensor], ends: Mapping[str, torch.Tensor]) -> Pass:
    """Reduce what is differentiated to scalars, and say so."""
    notes: list[str] = []
    scalars: dict[str, torch.Tensor] = {}
    for name, tensor in ends.items():
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            continue
        if tensor.dtype.is_complex:
            scalars[f"{name}.real.sum() + {name}.imag.sum()"] = torch.view_as_real(tensor).sum()
            notes.append(f"{name} is complex and was reduced by the sum of its real and imaginary parts")
        elif tensor.numel() == 1:
            scalars[name] = tensor
        else:
            scalars[f"{name}.sum()"] = tensor.sum()
            notes.append(f"{name} is no scalar and was reduced by .sum()")
    roots = {name: tensor for name, tensor in scalars.items() if tensor.requires_grad}
    if not roots:
        notes = ["no output has a backward graph, so every gradient is None"]
    return Pass(outputs, roots, _sum(list(scalars.values())), tuple(notes))


def _sum(scalars: Sequence[torch.Tensor]) -> float | None:
    if not scalars or any(tensor.is_meta for tensor in scalars):
        return None
    try:
        return sum(float(tensor.detach()) for tensor in scalars)
    except (RuntimeError, NotImplementedError):  # a fake tensor has no value
        return None


def _wanted(program: Program, made: Pass) -> dict[str, torch.Tensor]:
    """The named leaves, and those without a name that the graph leads to."""
    wanted = dict(program.leaves)
    known = set(map(id, wanted.values()))
    unnamed = (name for name in map("leaf[{}]".format, itertools.count()) if name not in wanted)
    for node in walk(_root(tensor) for tensor in made.roots.values()).nodes:
        if not is_leaf(node):
            break  # leaves come first
        leaf = node.variable  # type: ignore[attr-defined]
        if id(leaf) not in known:
            wanted[next(unnamed)] = leaf
    return wanted


def _root(tensor: torch.Tensor) -> torch.autograd.graph.Node:
    return torch.autograd.graph.get_gradient_edge(tensor).node


def _gradients(
    roots: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor | None]:
    """The gradient of the sum of `roots` for each tensor; the tensors' own `.grad` is kept."""
    with _cleared(wanted.values()):
        _backward(roots, wanted)
        return {name: None if tensor.grad is None else tensor.grad.detach() for name, tensor in wanted.items()}


def _backward(roots: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    # The graph behind an input that is no leaf was made once, and every run goes through it.
    shared = any(tensor.grad_fn is not None for tensor in wanted.values())
    # Not autograd.grad: reentrant checkpoints and some hooks work with a plain backward() only.
    ends = [tensor.reshape(()) if tensor.ndim else tensor for tensor in roots.values()]
    torch.autograd.backward(ends, retain_graph=shared)


@contextmanager
def _cleared(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Take the tensors' `.grad` away for the length of the block, and put it back."""
    able = [tensor for tensor in tensors if tensor.requires_grad]
    kept = [tensor.grad if tensor.is_leaf or tensor.retains_grad else None for tensor in able]
    for tensor in able:
        if not tensor.is_leaf:
            tensor.retain_grad()
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, grad in zip(able, kept, strict=True):
            tensor.grad = grad


def _reasons(
    wanted: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor | None],
    graph: GradGraph | None,
    *,
    ran: bool,
) -> dict[str, str]:
    reached = {item.name for item in graph.inputs if item.node is not None} if graph else set()
    reasons = {}
    for name, tensor in wanted.items():
        if gradients[name] is not None:
            continue
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            reasons[name] = f"{dtype_name(tensor.dtype)} carries no gradient"
        elif not tensor.requires_grad:
            reasons[name] = "does not require a gradient"
        elif graph is None:
            reasons[name] = "no output has a backward graph"
        elif not ran:
            reasons[name] = "the backward pass was not run"
        elif name in reached or name not in {item.name for item in graph.inputs}:
            reasons[name] = "the backward graph leads to it, but a node on the way passed None"
        else:
            reasons[name] = "no path of the backward graph leads to it"
    return reasons


def _time(program: Program, repeats: int, *, backward: bool, progress: Progress) -> Timings:
    forward_seconds: list[float] = []
    backward_seconds: list[float] = []
    for repeat in range(repeats):
        progress(f"{program.name}: timing, run {repeat + 1} of {repeats}")
        # As timeit does: a collection that happens to fall into a run belongs to no run.
        with paused_collector():
            _synchronize()
            start = time.perf_counter()
            made = program.forward()
            _synchronize()
            forward_seconds.append(time.perf_counter() - start)
            if backward:
                wanted = _wanted(program, made)
                with _cleared(wanted.values()):
                    start = time.perf_counter()
                    _backward(made.roots, wanted)
                    _synchronize()
                    backward_seconds.append(time.perf_counter() - start)
            del made
            drain()
    return Timings(timing(forward_seconds if program.times_forward else []), timing(backward_seconds))


def timing(seconds: Sequence[float]) -> Timing | None:
    """Median and range of the measured seconds; None where nothing was measured."""
    if not seconds:
        return None
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def _synchronize() -> None:
    """Wait for work that an accelerator still has in its queue."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()

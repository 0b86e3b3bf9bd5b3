"""Programs: what can be run again and again, and what one forward pass makes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from graphlens.capture.outputs import declared_loss, named_leaves, named_tensors
from graphlens.capture.record import Recorder
from graphlens.capture.walk import is_leaf, walk
from graphlens.errors import GraphlensError, TargetError
from graphlens.graph import printable
from graphlens.subject import Subject


@dataclass(frozen=True)
class Pass:
    """What one forward pass made: its outputs, and the scalars to differentiate.

    Attributes:
        roots: the scalars that have a backward graph.
        ends: what the caller asks to be differentiated, whether it has a graph or not.
    """

    outputs: Mapping[str, torch.Tensor]
    roots: Mapping[str, torch.Tensor]
    loss: float | None
    notes: tuple[str, ...] = ()
    ends: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def differentiated(self) -> Mapping[str, torch.Tensor]:
        """The roots, and what would be one if it had a backward graph."""
        able = {name: tensor for name, tensor in self.ends.items() if _may_have_graph(tensor)}
        severed = {name: tensor for name, tensor in able.items() if not tensor.requires_grad}
        return {**self.roots, **severed} or self.ends or self.outputs


@dataclass(frozen=True)
class Program:
    """Something that can be run again and again.

    Attributes:
        leaves: the named tensors that a gradient is wanted for. Others that the graph leads to are
            called leaf[0], leaf[1], … in the order of their first use.
        times_forward: whether a call of `forward` is the forward pass and nothing besides.
        options: what it was built with, for the record.
        subject: where it came from, if that was a subject.
        anew: forgets what was made to find out what the program is, so that the next pass makes
            everything itself, and a recorder sees it all.
    """

    name: str
    forward: Callable[[], Pass]
    leaves: Mapping[str, torch.Tensor]
    loss_name: str = "loss"
    times_forward: bool = True
    options: Mapping[str, object] = field(default_factory=dict)
    subject: Subject | None = None
    anew: Callable[[], None] = lambda: None

    @property
    def meta(self) -> dict[str, object]:
        """What a captured graph says about where it came from."""
        return {"target": printable(self.name), "options": {key: _plain(value) for key, value in self.options.items()}}


def call_user(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the user's code. An error raised right here is theirs: the call did not fit the function."""
    return function(*args, **kwargs)


def recorder_of(program: Program, *, stacks: bool = False) -> Recorder:
    """A recorder for one forward pass of a program."""
    stops = {call_user.__code__: "", _reduce.__code__: "reduced by .sum()"}
    return Recorder(stops, program.subject.module if program.subject else None, stacks=stacks)


def as_subject(
    subject: Subject | Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    loss: Callable[[Any], torch.Tensor] | None,
) -> Subject:
    """What `trace` and `explain` were called with; a `Subject` has its own arguments."""
    if isinstance(subject, Subject):
        return subject
    name = type(subject).__name__ if isinstance(subject, torch.nn.Module) else getattr(subject, "__name__", "call")
    return Subject(subject, args, kwargs, loss, name=name)


@contextmanager
def noting_lone_sequence(subject: Subject, caller: str) -> Iterator[None]:
    """Where the user's code fails on one tuple or list, note what that may be due to; the error stays theirs."""
    try:
        yield
    except GraphlensError:
        raise
    except Exception as error:
        # A tuple may be what the module takes: that it is not can only be guessed. Notes came with Python 3.11.
        if len(subject.args) == 1 and type(subject.args[0]) in (tuple, list) and hasattr(error, "add_note"):
            kind = type(subject.args[0]).__name__
            error.add_note(
                f"The module was called with one {kind}; if that holds its arguments, pass them one by one: "
                f"graphlens.{caller}(model, *inputs)"
            )
        raise


def subject_program(subject: Subject) -> Program:
    """A subject as a program: one call of its module, then its loss.

    Raises:
        TargetError: there is nothing to call.
    """
    if not callable(subject.module):
        raise TargetError(
            f"{subject.module!r:.60} cannot be called; pass a torch.nn.Module, a function or a graphlens.Subject"
        )
    leaves = named_leaves(subject.module, subject.args, subject.kwargs)

    def forward() -> Pass:
        output = call_user(subject.module, *subject.args, **subject.kwargs)
        outputs = named_tensors("output", output)
        if len(subject.output_names) == len(outputs):
            outputs = dict(zip(subject.output_names, outputs.values(), strict=True))
        if subject.loss is not None:
            loss = call_user(subject.loss, output)
            if not isinstance(loss, torch.Tensor):
                kind = type(loss).__name__
                raise TargetError(f"{subject.name}: the loss is a {kind}; return a tensor, as .sum() does")
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


def wanted_leaves(program: Program, made: Pass) -> dict[str, torch.Tensor]:
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


def run_backward(roots: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Run the backward pass of the sum of `roots`; the gradients land in the tensors' `.grad`."""
    # The graph behind an input that is no leaf was made once, and every run goes through it.
    shared = any(tensor.grad_fn is not None for tensor in wanted.values())
    # Not autograd.grad: reentrant checkpoints and some hooks work with a plain backward() only.
    ends = [tensor.reshape(()) if tensor.ndim else tensor for tensor in roots.values()]
    torch.autograd.backward(ends, retain_graph=shared)


@contextmanager
def cleared_gradients(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
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


def _may_have_graph(tensor: torch.Tensor) -> bool:
    return tensor.dtype.is_floating_point or tensor.dtype.is_complex


def _reduce(outputs: Mapping[str, torch.Tensor], ends: Mapping[str, torch.Tensor]) -> Pass:
    """Reduce what is differentiated to scalars, and say so."""
    notes: list[str] = []
    connected = any(tensor.requires_grad for tensor in ends.values())
    scalars: dict[str, torch.Tensor] = {}
    for name, tensor in ends.items():
        if not _may_have_graph(tensor):
            continue
        if not tensor.requires_grad and connected:
            notes.append(f"{name} has no backward graph and is not differentiated")
        elif tensor.dtype.is_complex:
            scalars[f"{name}.real.sum() + {name}.imag.sum()"] = torch.view_as_real(tensor).sum()
            notes.append(f"{name} is complex and was reduced by the sum of its real and imaginary parts")
        elif tensor.numel() == 1:
            scalars[name] = tensor
        else:
            scalars[f"{name}.sum()"] = tensor.sum()
            notes.append(f"{name} is no scalar and was reduced by .sum()")
    roots = {name: tensor for name, tensor in scalars.items() if tensor.requires_grad}
    if not roots:
        lacking = "the loss" if any(tensor.requires_grad for tensor in outputs.values()) else "no output"
        has = "has no" if lacking == "the loss" else "has a"
        notes = [f"{lacking} {has} backward graph, so every gradient is None"]
    return Pass(outputs, roots, _sum(list(scalars.values())), tuple(notes), ends)


def _sum(scalars: Sequence[torch.Tensor]) -> float | None:
    if not scalars or any(tensor.is_meta for tensor in scalars):
        return None
    try:
        with torch._C.DisableTorchFunction():  # this reading is not the user's
            return sum(float(tensor.detach()) for tensor in scalars)
    except (RuntimeError, NotImplementedError):  # a fake tensor has no value
        return None


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

"""Run a subject: outputs, backward graph, gradients, and the time of each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from graphlens.analyses.connectivity import Connectivity, connectivity
from graphlens.analyses.findings import Finding
from graphlens.capture.build import capture_recorded
from graphlens.capture.ledger import dtype_name
from graphlens.capture.observing import observation_of
from graphlens.capture.program import (
    Program,
    as_subject,
    cleared_gradients,
    noting_lone_sequence,
    recorder_of,
    run_backward,
    subject_program,
    wanted_leaves,
)
from graphlens.capture.start import Start
from graphlens.capture.timing import Progress, Timings, time_programs
from graphlens.graph import GradGraph
from graphlens.observation import Observation
from graphlens.records import Gradient, RunRecord, TensorValue
from graphlens.shown import Report
from graphlens.subject import Subject


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
    observation: Observation

    @cached_property
    def connectivity(self) -> Connectivity:
        """Which inputs and parameters receive a gradient, and where the others lose it."""
        return connectivity(self.observation)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the way the gradients go, or worth knowing; the most serious first."""
        return self.connectivity.findings

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
    times: bool = False,
    stacks: bool = False,
    diagnose: bool = False,
    **kwargs: Any,
) -> Trace:
    """Run a module (or a `Subject`) once, capture its backward graph, and compute the gradients.

    Args:
        subject: a `Subject`, or a module or callable that is called with `args` and `kwargs`.
        loss: turns the output into the scalar to differentiate. Without it the output's own
            `.loss` is taken, else each output is reduced by `.sum()`.
        backward: whether to run the backward pass.
        repeats: how many further runs to time; the first run is the warm-up.
        times: whether the graph's nodes tell the time of their forward op, measured once.
        stacks: whether each line of code knows the line that called its function.
        diagnose: whether a missing or non-finite gradient is followed up by further runs from the
            same state; and whether a backward pass that fails is a finding rather than an error.

    The run is recorded, so that the nodes know their line of code and their module. Existing
    `.grad` fields are put back as they were.

    Raises:
        TargetError: `subject` cannot be called.
    """
    subject = as_subject(subject, args, kwargs, loss)
    program = subject_program(subject)
    with noting_lone_sequence(subject, "trace"):
        return observe(program, backward=backward, repeats=repeats, times=times, stacks=stacks, diagnose=diagnose)


def observe_call(run: Callable[[], Any], module: torch.nn.Module) -> Trace:
    """Run a function without arguments that returns a loss, once and diagnosed.

    Args:
        module: whose parameters the gradients are wanted for; its names are theirs.
    """
    program = replace(
        subject_program(Subject(run, name="the loss")),
        leaves=dict(module.named_parameters()),
        subject=Subject(module),  # whose names its places have, and whose buffers belong to the state
    )
    return observe(program, diagnose=True)


def observe(
    program: Program,
    *,
    backward: bool = True,
    repeats: int = 0,
    times: bool = False,
    stacks: bool = False,
    diagnose: bool = False,
    progress: Progress = lambda _: None,
) -> Trace:
    """Run a program once for its values and its graph, then `repeats` times against the clock.

    Args:
        times, stacks, diagnose: see `trace`.
        progress: called with one line before each step.
    """
    progress(f"{program.name}: running")
    required = {name: tensor.requires_grad for name, tensor in program.leaves.items()}
    if diagnose:
        program.anew()
    start = Start.of(program) if diagnose else None
    recorder = recorder_of(program, stacks=stacks)
    recorder.watch(program.leaves, () if start is None else [item.tensor for item in start.tensors])
    with recorder:
        first = program.forward()
    attribution = recorder.attribution()
    graph = None
    unattributed: list[str] = []
    if first.roots:
        graph, unattributed = capture_recorded(
            first.roots, program.leaves, meta=program.meta, attribution=attribution, times=times
        )
    outputs = {name: tensor.detach().clone() for name, tensor in first.outputs.items()}
    wanted = wanted_leaves(program, first)
    notes = [*first.notes, *dict.fromkeys(recorder.notes)]
    if program.times_forward:  # finished tensors were made before, which goes without saying
        notes.extend(unattributed)
    gradients: dict[str, torch.Tensor | None] = dict.fromkeys(wanted)
    failure = ""
    if backward and first.roots:
        gradients, failure = _gradients_or_failure(first.roots, wanted, diagnose=diagnose)
    ran = backward and bool(first.roots) and not failure
    observation = observation_of(
        program, recorder, first, graph, wanted, required, gradients if ran else None, failure, start
    )
    reasons = _reasons(wanted, gradients, graph, ran=backward)
    loss = first.loss
    del recorder
    del first  # so that its graph does not stay in memory beside those of the timed runs
    known = replace(program, leaves=wanted)
    (timings,) = time_programs([known], repeats, backward=ran, is_warm=True, progress=progress)
    if repeats and not program.times_forward:
        notes.append("the forward pass was not timed: the factory returns finished tensors")
    threads = torch.get_num_threads()
    return Trace(
        program.name, graph, outputs, loss, program.loss_name, gradients, reasons, timings, threads, tuple(notes),
        observation,
    )  # fmt: skip


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


def _gradients_or_failure(
    roots: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, diagnose: bool
) -> tuple[dict[str, torch.Tensor | None], str]:
    """The gradients, or no gradients and torch's words on why not; without a diagnosis its error is raised."""
    try:
        return _gradients(roots, wanted), ""
    except RuntimeError as error:
        if not diagnose:
            raise
        return dict.fromkeys(wanted), str(error)


def _gradients(
    roots: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor | None]:
    """The gradient of the sum of `roots` for each tensor; the tensors' own `.grad` is kept."""
    with cleared_gradients(wanted.values()):
        run_backward(roots, wanted)
        return {name: None if tensor.grad is None else tensor.grad.detach() for name, tensor in wanted.items()}

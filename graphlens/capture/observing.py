"""From a recorded run to an `Observation`: values only, and the further runs that a fault asks for."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from graphlens.capture import diagnose
from graphlens.capture.build import role_of
from graphlens.capture.ledger import look_of
from graphlens.capture.program import Pass, Program
from graphlens.capture.record import Recorder
from graphlens.graph import GradGraph, printable
from graphlens.observation import EndFact, LeafFact, NonFinite, Observation


def observation_of(
    program: Program,
    recorder: Recorder,
    first: Pass,
    graph: GradGraph | None,
    wanted: Mapping[str, torch.Tensor],
    required: Mapping[str, bool],
    gradients: Mapping[str, torch.Tensor | None] | None,
    backward_error: str,
    start: diagnose.Start | None,
) -> Observation:
    """What the run tells; with `start`, also what further runs from the same state tell.

    Args:
        required: which leaves required a gradient before the run, which may freeze them.
        gradients: None if the backward pass was not run, or failed.
    """
    ends = first.roots or first.outputs
    flow = recorder.flow(wanted, {**first.outputs, **ends})
    leaves = [
        LeafFact(
            printable(name),
            role_of(tensor),
            look_of(tensor)[0] or (),
            required.get(name, tensor.requires_grad),
            tensor.dtype.is_floating_point or tensor.dtype.is_complex,
            _verdict(gradients[name]) if gradients is not None else "none" if not first.roots else "not run",
            flow.leaves.get(name),
        )
        for name, tensor in wanted.items()
    ]
    facts = Observation(
        graph,
        flow,
        leaves,
        [_end(name, tensor, flow.outputs.get(name)) for name, tensor in ends.items()],
        [_end(name, tensor, flow.outputs.get(name)) for name, tensor in first.outputs.items()],
        is_forward=program.times_forward,
        backward_error=printable(" ".join(backward_error.split())),
        clobbered=diagnose.clobbered(first.roots.values()) if "inplace operation" in backward_error else (),
    )
    return facts if start is None else _diagnosed(program, facts, wanted, start)


def _diagnosed(
    program: Program, facts: Observation, wanted: Mapping[str, torch.Tensor], start: diagnose.Start
) -> Observation:
    lost = [leaf for leaf in facts.leaves if leaf.requires_grad and leaf.differentiable and leaf.gradient == "none"]
    reached = facts.reached
    stuck = {leaf.name: reached[leaf.name] for leaf in lost if leaf.name in reached}
    stopped: Mapping[str, tuple[int, ...]] = {}
    if facts.graph is not None and stuck:
        stopped = diagnose.stopped_nodes(program, start, facts.graph, stuck)
    zeroing: tuple[int, ...] = ()
    if facts.graph is not None and any(leaf.gradient == "zero" for leaf in facts.leaves):
        zeroing = diagnose.zeroing_nodes(program, start, facts.graph)
    forward: NonFinite | None = None
    backward: NonFinite | None = None
    if any(end.finite is False for end in facts.ends):
        forward = diagnose.forward_fault(program, start, facts.flow)
    elif facts.graph is not None and any(leaf.gradient == "nonfinite" for leaf in facts.leaves):
        backward = diagnose.backward_fault(program, start, facts.graph)
    changed = {leaf.name: wanted[leaf.name] for leaf in lost if leaf.name in wanted and leaf.name not in stuck}
    depends = diagnose.dependence(program, start, changed) if changed else {}
    return Observation(
        facts.graph, facts.flow, facts.leaves, facts.ends, facts.outputs, facts.is_forward, facts.backward_error,
        facts.clobbered, stopped, zeroing, forward, backward, depends, diagnosed=True,
    )  # fmt: skip


def _verdict(gradient: torch.Tensor | None) -> str:
    if gradient is None:
        return "none"
    try:
        numbers = diagnose.numbers_of(gradient)
        if not bool(torch.isfinite(numbers).all()):
            return "nonfinite"
        return "value" if bool((numbers != 0).any()) or not gradient.numel() else "zero"
    except (RuntimeError, NotImplementedError):  # a meta tensor has no value
        return "value"


def _end(name: str, tensor: torch.Tensor, value: int | None) -> EndFact:
    floating = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    finite: bool | None
    try:
        finite = bool(torch.isfinite(tensor.detach()).all()) if floating else True
    except (RuntimeError, NotImplementedError):
        finite = None
    return EndFact(printable(name), tensor.requires_grad, floating, finite, value)

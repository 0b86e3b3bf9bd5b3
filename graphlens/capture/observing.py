"""From a recorded run to an `Observation`: values only, and the further runs that a fault asks for."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from types import FrameType

import torch

from graphlens.analyses.connectivity.facts import Facts
from graphlens.analyses.connectivity.scenes import scenes_to_try, ways
from graphlens.capture import changes, diagnose
from graphlens.capture.build import role_of
from graphlens.capture.ledger import look_of
from graphlens.capture.program import Pass, Program
from graphlens.capture.record import Recorder
from graphlens.capture.start import Start, unexpanded
from graphlens.capture.unlisted import unlisted
from graphlens.flow import LEAF, UNSEEN, Flow
from graphlens.graph import GradGraph, printable
from graphlens.observation import EndFact, LeafFact, Observation

_SAMPLE = 64
_MOST_LEAVES = 32  # made on the way, whose holders are looked for


def observation_of(
    program: Program,
    recorder: Recorder,
    first: Pass,
    graph: GradGraph | None,
    wanted: Mapping[str, torch.Tensor],
    required: Mapping[str, bool],
    gradients: Mapping[str, torch.Tensor | None] | None,
    backward_error: str,
    start: Start | None,
) -> Observation:
    """What the run tells; with `start`, also what further runs from the same state tell.

    Args:
        required: which leaves required a gradient before the run, which may freeze them.
        gradients: None if the backward pass was not run, or failed.
    """
    ends = first.differentiated
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
    if any(leaf.gradient == "none" for leaf in leaves):
        before = {} if start is None else {id(item.tensor): item.value for item in start.tensors}
        leaves = [
            leaf._replace(sample=_sample(before.get(id(tensor), tensor)))
            for leaf, tensor in zip(leaves, wanted.values(), strict=True)
        ]
    facts = Observation(
        graph,
        flow,
        leaves,
        [_end(name, tensor, flow.outputs.get(name)) for name, tensor in ends.items()],
        [_end(name, tensor, flow.outputs.get(name)) for name, tensor in first.outputs.items()],
        is_forward=program.times_forward,
        backward_error=printable(" ".join(backward_error.split())),
        constant=diagnose.constant_nodes(first.roots.values()) if "zero" in {leaf.gradient for leaf in leaves} else (),
        clobbered=diagnose.clobbered(first.roots.values()) if "inplace operation" in backward_error else (),
        held=_held(recorder, flow, wanted),
        existing=recorder.existing,
        unlisted=unlisted(program.subject.module if program.subject else None, wanted, program.leaves),
    )
    return facts if start is None else _diagnosed(program, facts, wanted, start)


def _diagnosed(program: Program, facts: Observation, wanted: Mapping[str, torch.Tensor], start: Start) -> Observation:
    lost = [leaf for leaf in facts.leaves if leaf.requires_grad and leaf.differentiable and leaf.gradient == "none"]
    reached = facts.reached
    stuck = {leaf.name: reached[leaf.name] for leaf in lost if leaf.name in reached}
    told = replace(facts, diagnosed=True)
    if facts.graph is not None and stuck:
        told = replace(told, stopped=diagnose.stopped_nodes(program, start, facts.graph, stuck))
    if facts.graph is not None and any(leaf.gradient == "zero" for leaf in facts.leaves):
        told = replace(told, zeroing=diagnose.zeroing_nodes(program, start, facts.graph))
    if facts.unfinite:
        told = replace(
            told,
            forward_fault=diagnose.forward_fault(program, start, facts.flow),
            spoilt=diagnose.spoilt_before(program, start),
        )
    elif facts.graph is not None and any(leaf.gradient == "nonfinite" for leaf in facts.leaves):
        fault, met = diagnose.backward_fault(program, start, facts.graph, facts.flow)
        told = replace(told, backward_fault=fault, forward_fault=met)
    changed = [leaf.name for leaf in lost if leaf.name in wanted and leaf.name not in stuck]
    return _with_dependence(program, told, wanted, start, changed) if changed else told


def _with_dependence(
    program: Program, told: Observation, wanted: Mapping[str, torch.Tensor], start: Start, names: list[str]
) -> Observation:
    """Runs with other values of the lost leaves; and where that leaves several calls, with other results of these."""
    groups = [(name,) for name in names] if len(names) <= changes.FEW_GROUPS else ways(Facts(told), names)
    found = changes.dependence(program, start, groups, wanted)
    apart = set(range(len(groups))).difference(*found.merged)
    sets = [groups[number] for number in sorted(apart)]
    sets += [tuple(name for number in numbers for name in groups[number]) for numbers in found.merged]
    together = [group for group in sets if len(group) > 1 and found.entries.get(group[0])]
    told = replace(told, dependence=found.entries, untried=found.untried, together=together)
    scenes = scenes_to_try(Facts(told))
    return replace(told, effects=changes.effects(program, start, told.flow, scenes)) if scenes else told


def _held(recorder: Recorder, flow: Flow, wanted: Mapping[str, torch.Tensor]) -> frozenset[int]:
    """The values of leaves made on the way that somebody besides the graph still holds: a module, a hook."""
    known = {leaf for name, leaf in flow.leaves.items() if flow.values[leaf] & UNSEEN}
    made = {value for step in flow.steps for value in step.outputs if flow.values[value] & LEAF} - known
    living = recorder.values.living(made)
    held = []
    for number in sorted(living)[:_MOST_LEAVES]:
        holders = gc.get_referrers(living[number])
        if any(item is not wanted and item is not living and not isinstance(item, FrameType) for item in holders):
            held.append(number)
    return frozenset(held)


def _sample(tensor: torch.Tensor) -> tuple[float, ...]:
    """Up to 64 entries, evenly spaced; none of what cannot be read."""
    if not tensor.dtype.is_floating_point or tensor.layout is not torch.strided or not tensor.numel():
        return ()
    try:
        flat = unexpanded(tensor.detach()).reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(flat.numel(), _SAMPLE), dtype=torch.float64).long()
        return tuple(flat[places.to(flat.device)].double().tolist())
    except (RuntimeError, NotImplementedError):  # a meta tensor has no value
        return ()


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

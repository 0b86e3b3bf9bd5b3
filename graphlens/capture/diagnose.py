"""Further runs that find out where a gradient went: made only where the first run leaves a question."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node as AutogradNode

from graphlens.capture.build import role_of
from graphlens.capture.ledger import op_name
from graphlens.capture.program import Pass, Program, cleared_gradients, recorder_of, run_backward, wanted_leaves
from graphlens.capture.sites import OURS
from graphlens.capture.start import Start
from graphlens.capture.walk import walk
from graphlens.flow import Flow, Step
from graphlens.graph import GradGraph, printable
from graphlens.observation import Clobbered, NonFinite, Range, Spoilt


def clobbered(roots: Iterable[torch.Tensor]) -> tuple[Clobbered, ...]:
    """The saved tensors that were written over since, so that backward must fail."""
    found = []
    for number, node in enumerate(walk(_nodes(roots)).nodes):
        for slot in [name for name in dir(node) if name.startswith("_saved_")]:
            try:
                getattr(node, slot)
            except RuntimeError as error:
                if "modified by an inplace operation" in str(error):
                    message = str(error).partition(". Hint")[0]
                    found.append(Clobbered(number, slot.removeprefix("_saved_"), message, node._sequence_nr()))
    return tuple(found)


def constant_nodes(roots: Iterable[torch.Tensor]) -> tuple[int, ...]:
    """The nodes of ops that normalise over a single entry, and so give the same for every input."""
    found = []
    for number, node in enumerate(walk(_nodes(roots)).nodes):
        if _entries_normalised(node) == 1:
            found.append(number)
    return tuple(found)


def _entries_normalised(node: Any) -> int:
    """Over how many entries a softmax or a layer norm takes the sum of each of its results; 0 of another op."""
    name = op_name(node)
    if name.startswith(("SoftmaxBackward", "LogSoftmaxBackward")):
        shape, dimension = node._input_metadata[0].shape, node._saved_dim
        # A negative dimension comes back without its sign.
        return int(shape[dimension if dimension < 2**63 else dimension - 2**64]) if len(shape) else 1
    return math.prod(node._saved_normalized_shape) if name.startswith("NativeLayerNormBackward") else 0


def stopped_nodes(
    program: Program, start: Start, graph: GradGraph, leaves: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Per leaf the nodes that received a gradient and passed None on towards it.

    Args:
        leaves: the nodes of the leaves that the graph leads to and that got no gradient.
    """
    with start.again():
        made, nodes = _made_again(program, graph)
        if made is None:
            return {}
        towards = {name: _towards(graph, node) for name, node in leaves.items()}
        ends: dict[int, dict[int, int]] = {}
        for edge in graph.edges:
            for slot in edge.slots:
                ends.setdefault(edge.source, {})[slot] = edge.target
        found: dict[str, list[int]] = {name: [] for name in leaves}

        def watch(
            number: int, grads_in: Sequence[torch.Tensor | None], grads_out: Sequence[torch.Tensor | None]
        ) -> None:
            if all(grad is None for grad in grads_out):
                return
            for slot, grad in enumerate(grads_in):
                target = ends[number].get(slot)
                for name, cone in towards.items():
                    if grad is None and target in cone:
                        found[name].append(number)

        _backward_under(made, program, dict.fromkeys(ends, watch), nodes)
        return {name: tuple(sorted(set(numbers))) for name, numbers in found.items()}


def zeroing_nodes(program: Program, start: Start, graph: GradGraph) -> tuple[int, ...]:
    """The nodes that received a gradient other than 0 and passed nothing but 0 on."""
    with start.again():
        made, nodes = _made_again(program, graph)
        if made is None:
            return ()
        found: set[int] = set()

        def watch(
            number: int, grads_in: Sequence[torch.Tensor | None], grads_out: Sequence[torch.Tensor | None]
        ) -> None:
            if _any_nonzero(grads_out) and not _any_nonzero(grads_in):
                found.add(number)

        functions = {number: watch for number, node in enumerate(graph.nodes) if node.kind != "leaf"}
        _backward_under(made, program, functions, nodes)
        return tuple(sorted(found))


def _made_again(program: Program, graph: GradGraph) -> tuple[Pass | None, Sequence[AutogradNode]]:
    """Another forward pass and its nodes; None where it fails now, or does not give the same graph."""
    try:
        made = program.forward()
    except Exception:  # the user's code may be made to run once, and say so in its own way
        return None, ()
    found = walk(_nodes(made.roots.values()))
    same = found.edges == list(graph.edges) and [op_name(node) for node in found.functions] == [
        node.op for node in graph.nodes if node.kind != "leaf"
    ]
    return (made, found.nodes) if same else (None, ())


def _any_nonzero(grads: Sequence[torch.Tensor | None]) -> bool:
    return any(grad is not None and bool((numbers_of(grad) != 0).any()) for grad in grads)


def numbers_of(tensor: torch.Tensor) -> torch.Tensor:
    """What a tensor holds; of a sparse one the entries that it names."""
    if tensor.layout is torch.sparse_coo:
        return tensor.coalesce().values()
    return tensor if tensor.layout is torch.strided else tensor.values()


def forward_fault(program: Program, start: Start, first: Flow) -> NonFinite | None:
    """The first call, of those that the result came from, that made NaN (or else infinity) from numbers without.

    Args:
        first: the first run, whose step is named. None is where it did something else.
    """
    with start.again(), recorder_of(program) as recorder:
        recorder.probe = _ranges_of_call
        try:
            made = program.forward()
        except Exception:  # the user's code may be made to run once, and say so in its own way
            return None
    flow = recorder.flow({}, {**made.outputs, **made.differentiated})
    fault = _first_fault(recorder.probed, flow)  # type: ignore[arg-type]
    if fault is None or fault.step is None:
        return fault
    step = _same_step(flow, fault.step, first)
    origin = None if fault.origin is None else _same_step(flow, fault.origin, first)
    return None if step is None else fault._replace(step=step, origin=origin)


def spoilt_before(program: Program, start: Start) -> tuple[Spoilt, ...]:
    """Inputs, parameters and buffers that were not finite before the first run."""
    module = program.subject.module if program.subject else None
    buffers = dict(module.named_buffers()) if isinstance(module, torch.nn.Module) else {}
    roles = [*((name, item, "buffer") for name, item in buffers.items())]
    roles += [(name, item, role_of(item)) for name, item in program.leaves.items()]
    before = {id(item.tensor): item.value for item in start.tensors}
    found: dict[int, Spoilt] = {}
    for name, tensor, role in roles:
        value = before.get(id(tensor))
        if value is not None:
            for item in _ranges([value]):
                if item.nan or item.infinite:
                    found[id(tensor)] = Spoilt(printable(name), role, item)
    return tuple(found.values())


def _same_step(flow: Flow, number: int, other: Flow) -> int | None:
    """The step of another run that is the same call; None where its line was not run as often."""

    def same(run: Flow) -> list[int]:
        return [place for place, step in enumerate(run.steps) if call_of(run, step) == call]

    call = call_of(flow, flow.steps[number])
    here, there = same(flow), same(other)
    return there[here.index(number)] if len(here) == len(there) else None


def call_of(flow: Flow, step: Step) -> tuple[str, str]:
    """A step's function and line, by which calls of two runs are held against each other."""
    return step.function, "" if step.source is None else str(flow.sources[step.source])


_Probed = Sequence[tuple[tuple[Range, ...], tuple[Range, ...]]]


def _first_fault(probed: _Probed, flow: Flow) -> NonFinite | None:
    cone = _behind(flow, set(flow.outputs.values()), len(flow.steps))
    made = _first_made(probed, flow, cone)
    if made is not None:
        return made
    # Infinite values that were asked for, as in masks, are harmless until they are all there is.
    masked = False
    for number in cone:
        inputs, outputs = probed[number]
        if any(map(_unfinite, outputs)) and _extent(outputs) < _extent(inputs):  # a reduction
            if any(map(_nan, inputs)):
                return None  # NaN that was there before the first call
            if not _is_ours(flow, flow.steps[number]):
                return NonFinite("infinity", number, None, inputs, outputs)
            masked = True
    return NonFinite("asked for", None, None, (), ()) if masked else None


def _first_made(probed: _Probed, flow: Flow, cone: Sequence[int]) -> NonFinite | None:
    """The first of these calls that made NaN, or else infinity, from numbers without."""
    for what, count in (("NaN", _nan), ("infinity", _unfinite)):
        for number in cone:
            inputs, outputs = probed[number]
            if any(map(count, outputs)) and not any(map(count, inputs)):
                origin = _origin(probed, flow, number) if any(map(_unfinite, inputs)) else None
                first = () if origin is None else probed[origin][0]
                return NonFinite(what, number, None, inputs, outputs, origin, first)
    return None


def _is_ours(flow: Flow, step: Step) -> bool:
    """Whether a call reduces an output on graphlens' behalf."""
    return step.source is not None and (flow.sources[step.source].file, flow.sources[step.source].line) == OURS


def _behind(flow: Flow, needed: set[int], end: int) -> list[int]:
    """The steps before number `end` that these values were computed by, in forward order."""
    cone = []
    for number in range(end - 1, -1, -1):
        step = flow.steps[number]
        if needed.intersection(step.outputs):
            needed.update(step.inputs)
            cone.append(number)
    return cone[::-1]


def _origin(probed: _Probed, flow: Flow, number: int) -> int | None:
    """The first call that made the infinity which a call makes NaN of; None if it was asked for, or was there."""
    for earlier in _behind(flow, set(flow.steps[number].inputs), number):
        inputs, outputs = probed[earlier]
        if any(map(_unfinite, outputs)) and not any(map(_unfinite, inputs)):
            return earlier
    return None


def _extent(ranges: Sequence[Range]) -> tuple[int, int]:
    return max(((math.prod(item.shape), len(item.shape)) for item in ranges), default=(0, 0))


def backward_fault(
    program: Program, start: Start, graph: GradGraph, first: Flow
) -> tuple[NonFinite | None, NonFinite | None]:
    """The first node of the backward pass that made NaN (or infinity) from gradients without.

    And the call of the forward pass by which the node's own call had met NaN or infinity before, in numbers that do
    not reach the result; None if it met none. Its step is that of the first run.
    """
    with start.again():
        with recorder_of(program) as recorder:
            recorder.probe = _ranges_of_call
            made, nodes = _made_again(program, graph)
        if made is None:
            return None, None
        found: list[NonFinite] = []

        def watch(
            number: int, grads_in: Sequence[torch.Tensor | None], grads_out: Sequence[torch.Tensor | None]
        ) -> None:
            if found:
                return
            inputs, outputs = _ranges(grads_out), _ranges(grads_in)
            for what, count in (("NaN", _nan), ("infinity", _unfinite)):
                if any(map(count, outputs)) and not any(map(count, inputs)):
                    found.append(NonFinite(what, None, number, inputs, outputs))
                    return

        functions = {number: watch for number, node in enumerate(graph.nodes) if node.kind != "leaf"}
        _backward_under(made, program, functions, nodes)
        if not found:
            return None, None
        flow = recorder.flow({}, {**made.outputs, **made.differentiated})
        sequence = nodes[found[0].node or 0]._sequence_nr()
        return found[0], _met_before(recorder.probed, flow, sequence, first)  # type: ignore[arg-type]


def _met_before(probed: _Probed, flow: Flow, sequence: int, first: Flow) -> NonFinite | None:
    """The first call that made what is not finite among the numbers that a node's call reads or makes."""
    call = next((number for number, step in enumerate(flow.steps) if step.first <= sequence < step.end), None)
    if call is None or not any(map(_unfinite, (*probed[call][0], *probed[call][1]))):
        return None
    made = _first_made(probed, flow, _behind(flow, set(flow.steps[call].outputs), call + 1))
    if made is None or made.step is None:
        return None
    step = _same_step(flow, made.step, first)
    origin = None if made.origin is None else _same_step(flow, made.origin, first)
    return None if step is None else made._replace(step=step, origin=origin)


def _nodes(tensors: Iterable[torch.Tensor]) -> list[AutogradNode]:
    return [torch.autograd.graph.get_gradient_edge(tensor).node for tensor in tensors]


def _towards(graph: GradGraph, node: int) -> set[int]:
    cone = {node}
    for edge in graph.edges:  # sorted by source: what a node leads to is known before it is met
        if edge.target in cone:
            cone.add(edge.source)
    return cone


Watch = Callable[[int, Sequence[Any], Sequence[Any]], None]


def _backward_under(made: Pass, program: Program, watches: Mapping[int, Watch], nodes: Sequence[AutogradNode]) -> None:
    handles = [
        nodes[number].register_hook(
            lambda grads_in, grads_out, number=number, watch=watch: watch(number, grads_in, grads_out)
        )
        for number, watch in watches.items()
    ]
    try:
        leaves = wanted_leaves(program, made)
        with cleared_gradients(leaves.values()), contextlib.suppress(RuntimeError):
            run_backward(made.roots, leaves)
    finally:
        for handle in handles:
            handle.remove()


def _ranges_of_call(args: Any, kwargs: Any, made: Any) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    return _ranges([args, list((kwargs or {}).values())]), _ranges([made])


def _ranges(items: Any, nesting: int = 4) -> tuple[Range, ...]:
    found: list[Range] = []
    for item in items:
        if isinstance(item, torch.Tensor):
            if item.dtype.is_floating_point and item.layout is torch.strided and not item.is_meta:
                found.append(_range(item.detach()))
        elif isinstance(item, float) and math.isinf(item):  # masked_fill(mask, -inf) is asked for infinity
            found.append(Range((), None, None, 0, 1))
        elif isinstance(item, (list, tuple)) and nesting:
            found.extend(_ranges(item, nesting - 1))
    return tuple(found)


def _range(tensor: torch.Tensor) -> Range:
    finite = tensor[torch.isfinite(tensor)]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (None, None)
    return Range(tuple(tensor.shape), low, high, int(tensor.isnan().sum()), int(tensor.isinf().sum()))


def _nan(item: Range) -> int:
    return item.nan


def _unfinite(item: Range) -> int:
    return item.nan + item.infinite

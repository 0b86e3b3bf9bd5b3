"""Further runs that find out where a gradient went: made only where the first run leaves a question."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import Node as AutogradNode
from torch.nn.parameter import is_lazy

from graphlens.capture.ledger import op_name
from graphlens.capture.program import Pass, Program, cleared_gradients, recorder_of, run_backward, wanted_leaves
from graphlens.capture.walk import walk
from graphlens.flow import Flow, Step
from graphlens.graph import GradGraph
from graphlens.observation import Clobbered, NonFinite, Range

_MOST_LEAVES = 8  # whose values are changed by little, one run each
_MOST_RUNS = 24  # with values that are changed by much
_MOST_ENTRIES = 64
# A whole number that a value is cast to needs a large change, and a sign a negative factor.
_LITTLE = (1.03, 0.02)
_MUCH = ((2.0, 1.0), (-2.0, -1.0))


@dataclass(frozen=True)
class Start:
    """The state before a first run: what is needed to make the same run again.

    Leaves and buffers are put back, and so is the generator of random numbers on the CPU; state
    that a module keeps elsewhere is not. A buffer that a run wrote its graph into keeps the values
    and loses the graph.
    """

    values: Sequence[tuple[torch.Tensor, torch.Tensor, bool]]
    random: torch.Tensor

    @classmethod
    def of(cls, program: Program) -> Start:
        """The state now."""
        module = program.subject.module if program.subject else None
        buffers = module.buffers() if isinstance(module, torch.nn.Module) else ()
        every = [tensor for tensor in (*program.leaves.values(), *buffers) if not is_lazy(tensor)]
        tensors = {id(tensor): tensor for tensor in every if tensor.is_leaf}
        return cls(_copies(tensors.values()), torch.get_rng_state())

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The same state for the length of the block; afterwards things are as they were."""
        now = Start(_copies(tensor for tensor, _, _ in self.values), torch.get_rng_state())
        try:
            self._restore()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # each was given in the first run
                yield
        finally:
            now._restore()

    def _restore(self) -> None:
        for tensor, value, requires_grad in self.values:
            if not tensor.is_leaf:
                with contextlib.suppress(RuntimeError):  # a view stays part of its graph
                    tensor.detach_()
            # What shares memory within itself in another way than by expand() cannot be written.
            with torch.no_grad(), contextlib.suppress(RuntimeError):
                place = _unexpanded(tensor.data)
                if place.shape == value.shape and not tensor.is_inference():
                    place.copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
        torch.set_rng_state(self.random)


def _copies(tensors: Iterable[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor, bool]]:
    # A tensor that became part of a graph requires a gradient on that account; as a leaf it did not.
    return [(item, _unexpanded(item.detach()).clone(), item.requires_grad and item.is_leaf) for item in tensors]


def _unexpanded(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor less the dimensions along which one place in memory is repeated."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return tensor
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def clobbered(roots: Iterable[torch.Tensor]) -> tuple[Clobbered, ...]:
    """The saved tensors that were written over since, so that backward must fail."""
    found = []
    for number, node in enumerate(walk(_nodes(roots)).nodes):
        for slot in [name for name in dir(node) if name.startswith("_saved_")]:
            try:
                getattr(node, slot)
            except RuntimeError as error:
                if "modified by an inplace operation" in str(error):
                    found.append(Clobbered(number, slot.removeprefix("_saved_"), str(error).partition(". Hint")[0]))
    return tuple(found)


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
    flow = recorder.flow({}, {**made.outputs, **made.roots})
    fault = _first_fault(recorder.probed, flow)  # type: ignore[arg-type]
    if fault is None or fault.step is None:
        return None
    step = _same_step(flow, fault.step, first)
    return None if step is None else fault._replace(step=step)


def _same_step(flow: Flow, number: int, other: Flow) -> int | None:
    """The step of another run that is the same call; None where its line was not run as often."""

    def same(run: Flow) -> list[int]:
        return [place for place, step in enumerate(run.steps) if _call_of(run, step) == call]

    call = _call_of(flow, flow.steps[number])
    here, there = same(flow), same(other)
    return there[here.index(number)] if len(here) == len(there) else None


def _call_of(flow: Flow, step: Step) -> tuple[str, str]:
    return step.function, "" if step.source is None else str(flow.sources[step.source])


def _first_fault(probed: Sequence[tuple[tuple[Range, ...], tuple[Range, ...]]], flow: Flow) -> NonFinite | None:
    needed = set(flow.outputs.values())
    cone = []
    for number in range(len(flow.steps) - 1, -1, -1):
        step = flow.steps[number]
        if needed.intersection(step.outputs):
            needed.update(step.inputs)
            cone.append(number)
    for what, count in (("NaN", _nan), ("infinity", _infinite)):
        for number in reversed(cone):
            inputs, outputs = probed[number]
            if any(map(count, outputs)) and not any(map(count, inputs)):
                return NonFinite(what, number, None, inputs, outputs)
    # Infinite values that were asked for, as in masks, are harmless until they are all there is.
    for number in reversed(cone):
        inputs, outputs = probed[number]
        if any(map(_infinite, outputs)) and _extent(outputs) < _extent(inputs):  # a reduction
            return NonFinite("infinity", number, None, inputs, outputs)
    return None


def _extent(ranges: Sequence[Range]) -> tuple[int, int]:
    return max(((math.prod(item.shape), len(item.shape)) for item in ranges), default=(0, 0))


def backward_fault(program: Program, start: Start, graph: GradGraph) -> NonFinite | None:
    """The first node of the backward pass that made NaN (or infinity) from gradients without."""
    with start.again():
        made, nodes = _made_again(program, graph)
        if made is None:
            return None
        found: list[NonFinite] = []

        def watch(
            number: int, grads_in: Sequence[torch.Tensor | None], grads_out: Sequence[torch.Tensor | None]
        ) -> None:
            if found:
                return
            inputs, outputs = _ranges(grads_out), _ranges(grads_in)
            for what, count in (("NaN", _nan), ("infinity", _infinite)):
                if any(map(count, outputs)) and not any(map(count, inputs)):
                    found.append(NonFinite(what, None, number, inputs, outputs))
                    return

        functions = {number: watch for number, node in enumerate(graph.nodes) if node.kind != "leaf"}
        _backward_under(made, program, functions, nodes)
        return found[0] if found else None


def dependence(program: Program, start: Start, leaves: Mapping[str, torch.Tensor]) -> dict[str, dict[str, list[int]]]:
    """Which entries of which output change when a leaf's value is changed.

    First by a few per cent, one leaf at a time. Those that change nothing so are changed together by
    more, and by halves where something changes. Leaves for which this cannot be told are left out:
    where two runs of the same state differ or give no values, or where a changed run fails. An entry
    that does not change may still depend on the leaf.
    """
    one = _outputs(program, start)
    if not one or _difference(one, _outputs(program, start)) != {}:
        return {}
    found: dict[str, dict[str, list[int]]] = {}
    for name, tensor in list(leaves.items())[:_MOST_LEAVES]:
        entries = _difference(one, _outputs(program, start, [tensor], _LITTLE))
        if entries:
            found[name] = entries
    silent = [name for name in leaves if name not in found]
    groups = [silent] if silent else []
    left = _MOST_RUNS
    while groups and left > 0:
        group = groups.pop()
        tensors = [leaves[name] for name in group]
        seen: list[dict[str, list[int]] | None] = []
        while len(seen) < len(_MUCH) and not any(seen):
            seen.append(_difference(one, _outputs(program, start, tensors, _MUCH[len(seen)])))
            left -= 1
        if not any(seen) and None not in seen:
            found.update((name, {}) for name in group)
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
        elif seen[-1]:
            found[group[0]] = seen[-1]
    return found


_Outputs = dict[str, torch.Tensor]


def _outputs(
    program: Program, start: Start, changed: Sequence[torch.Tensor] = (), change: tuple[float, float] = _LITTLE
) -> _Outputs | None:
    """What a run gives with some leaves changed; None where it fails, or gives no values."""
    with start.again():
        try:
            with torch.no_grad():
                for tensor in changed:
                    _unexpanded(tensor.data).mul_(change[0]).add_(change[1])
            made = program.forward()
        except Exception:  # the user's code may refuse the changed value in its own way
            return None
        found = {name: tensor.detach().clone() for name, tensor in {**made.outputs, **made.roots}.items()}
        return None if any(tensor.is_meta for tensor in found.values()) else found


def _difference(one: _Outputs, two: _Outputs | None) -> dict[str, list[int]] | None:
    """The entries that differ, by output; None where the outputs cannot be compared."""
    if two is None or one.keys() != two.keys():
        return None
    try:
        entries = {name: _changed(one[name], two[name]) for name in one}
    except (RuntimeError, NotImplementedError):  # a nested tensor, for instance
        return None
    return {name: numbers for name, numbers in entries.items() if numbers}


def _changed(one: torch.Tensor, two: torch.Tensor) -> list[int]:
    if one.shape != two.shape:
        return list(range(max(one.numel(), two.numel())))[:_MOST_ENTRIES]
    one, two = (item if item.layout is torch.strided else item.to_dense() for item in (one, two))
    same = (one == two) | ((one != one) & (two != two))
    numbers: list[int] = (~same).flatten().nonzero().flatten()[:_MOST_ENTRIES].tolist()
    return numbers


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


def _infinite(item: Range) -> int:
    return item.nan + item.infinite

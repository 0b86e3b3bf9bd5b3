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

from graphlens.capture.program import Pass, Program, cleared_gradients, recorder_of, run_backward
from graphlens.capture.walk import walk
from graphlens.graph import GradGraph
from graphlens.observation import Clobbered, NonFinite, Range

_MOST_LEAVES = 8  # whose values are changed, one run each
_MOST_ENTRIES = 64


@dataclass(frozen=True)
class Start:
    """The state before a first run: what is needed to make the same run again.

    Leaves and buffers are put back, and so is the generator of random numbers on the CPU; state
    that a module keeps elsewhere is not.
    """

    values: Sequence[tuple[torch.Tensor, torch.Tensor, bool]]
    random: torch.Tensor

    @classmethod
    def of(cls, program: Program) -> Start:
        """The state now."""
        module = program.subject.module if program.subject else None
        buffers = module.buffers() if isinstance(module, torch.nn.Module) else ()
        tensors = {id(tensor): tensor for tensor in (*program.leaves.values(), *buffers) if tensor.is_leaf}
        kept = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors.values()]
        return cls(kept, torch.get_rng_state())

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The same state for the length of the block; afterwards things are as they were."""
        now = Start([(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor, _, _ in self.values],
                    torch.get_rng_state())  # fmt: skip
        self._restore()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # each was given in the first run
                yield
        finally:
            now._restore()

    def _restore(self) -> None:
        for tensor, value, requires_grad in self.values:
            with torch.no_grad():
                if tensor.shape == value.shape and not tensor.is_inference():
                    tensor.data.copy_(value)
            tensor.requires_grad_(requires_grad)
        torch.set_rng_state(self.random)


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
        made = program.forward()
        nodes = walk(_nodes(made.roots.values())).nodes
        if len(nodes) != len(graph.nodes):
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
        made = program.forward()
        nodes = walk(_nodes(made.roots.values())).nodes
        if len(nodes) != len(graph.nodes):
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


def _any_nonzero(grads: Sequence[torch.Tensor | None]) -> bool:
    return any(grad is not None and bool((grad != 0).any()) for grad in grads)


def forward_fault(program: Program, start: Start) -> NonFinite | None:
    """The first call, of those that the result came from, that made NaN (or else infinity) from numbers without."""
    with start.again(), recorder_of(program) as recorder:
        recorder.probe = _ranges_of_call
        made = program.forward()
    flow = recorder.flow({}, {**made.outputs, **made.roots})
    probed: list[tuple[tuple[Range, ...], tuple[Range, ...]]] = recorder.probed  # type: ignore[assignment]
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
        made = program.forward()
        nodes = walk(_nodes(made.roots.values())).nodes
        if len(nodes) != len(graph.nodes):
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
    """Which entries of which output change when a leaf's value is changed by a few per cent.

    Leaves for which this cannot be told are left out: where two runs of the same state differ, or
    where the changed run fails. An entry that does not change may still depend on the leaf.
    """
    try:
        one, two = _outputs(program, start), _outputs(program, start)
    except RuntimeError:
        return {}
    if one.keys() != two.keys() or any(_changed(one[name], two[name]) for name in one):
        return {}
    found = {}
    for name, tensor in list(leaves.items())[:_MOST_LEAVES]:
        try:
            changed = _outputs(program, start, tensor)
        except Exception:  # the user's code may refuse the changed value in its own way
            continue
        if changed.keys() == one.keys():
            entries = {output: _changed(one[output], changed[output]) for output in one}
            found[name] = {output: numbers for output, numbers in entries.items() if numbers}
    return found


def _outputs(program: Program, start: Start, changed: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    with start.again():
        if changed is not None:
            with torch.no_grad():
                changed.data.mul_(1.03).add_(0.02)
        made = program.forward()
        return {name: tensor.detach().clone() for name, tensor in {**made.outputs, **made.roots}.items()}


def _changed(one: torch.Tensor, two: torch.Tensor) -> list[int]:
    if one.shape != two.shape:
        return []
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
        with cleared_gradients(program.leaves.values()), contextlib.suppress(RuntimeError):
            run_backward(made.roots, program.leaves)
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

"""What is left of a run when values that are equal are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch

from graphlens.analyses.listing import followed, leaf_names
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.capture.tape import Call, Ref, Tape
from graphlens.errors import ProofError
from graphlens.graph import GradGraph
from graphlens.proof.rewrite import rewritten

aten = torch.ops.aten
_CHECKS = frozenset((aten._linalg_check_errors.default,))  # what is computed afterwards checks its inputs itself


@dataclass(frozen=True)
class Simplified:
    """The calls of a forward pass that are left, in order; each reads what is left too.

    Attributes:
        tape: whose values they are.
        guards: of the calls, those that looked at a tensor to choose the way on, with what they saw.
        leaves, outputs, roots: values by name; of the leaves those that are still read.
        stay: nodes of the graph, leaves among them, that a gradient still comes to.
        first: the value that stands for a value.
        changed: results of calls that another way was written for.
    """

    tape: Tape
    calls: tuple[Call, ...]
    guards: Mapping[int, bool | int]
    leaves: Mapping[str, int]
    outputs: Mapping[str, int]
    roots: Mapping[str, int]
    stay: frozenset[int]
    first: Callable[[int], int]
    changed: Set[int] = frozenset()


def simplify(
    tape: Tape, graph: GradGraph, same: Mapping[int, int], otherwise: Otherwise | None = None, *, holds: bool = False
) -> Simplified:
    """Put equal values in each other's place, and leave out what nothing needs any more.

    Args:
        graph: of the run; the tape knows its nodes.
        same: per value an earlier one that it is equal to.
        otherwise: what is to be done another way besides; the tape then is one `with_room`.
        holds: whether random numbers that were drawn for data are constants, as far as they all can be.

    Raises:
        ProofError: the run did something that its ops do not say.
    """
    _refuse(tape, graph)
    otherwise = otherwise or Otherwise()
    equal = _Equal(tape, {**_laid_out_alike(otherwise.copies, tape), **same})
    leaves = set(tape.leaves.values())
    forward, changed = rewritten(_reading_first(tape, equal), tape, otherwise)
    drawn = _drawn(tape) if holds else frozenset()
    needed = {equal[value] for value in (*tape.outputs.values(), *tape.roots.values())}
    kept: list[Call] = []
    looked: dict[int, bool | int] = {}
    numbers = _numbers_given(forward)
    for call in reversed(forward):
        if call.function is aten._local_scalar_dense.default:
            seen = _seen(tape, call, numbers)
            value = equal[call.inputs[0]]
            if seen is None or value in looked:
                continue
            looked[value] = seen
        elif not any(value not in leaves and (call.random or value in needed) for value in call.outputs):
            continue  # what draws random numbers stays: those that come after it depend on it
        if call.function in _CHECKS or not drawn.isdisjoint(call.outputs):
            continue
        call = call._replace(args=equal.put(call.args), kwargs=equal.put_all(call.kwargs))
        needed.update(call.inputs)
        kept.append(call)
    kept.reverse()
    roots = {name: equal[value] for name, value in tape.roots.items()}
    return Simplified(
        tape,
        tuple(kept),
        looked,
        {name: value for name, value in tape.leaves.items() if value in needed},
        {name: equal[value] for name, value in tape.outputs.items()},
        roots,
        _stay(kept, roots, tape, graph),
        equal.__getitem__,
        changed,
    )


def _reading_first(tape: Tape, equal: _Equal) -> list[Call]:
    """The forward calls on the first of equal values; what Python saw is left as it saw it."""
    return [
        call
        if call.function is aten._local_scalar_dense.default
        else call._replace(args=equal.put(call.args), kwargs=equal.put_all(call.kwargs))
        for call in tape.calls
        if not call.backward
    ]


def _drawn(tape: Tape) -> frozenset[int | None]:
    """What random calls gave that leads back to no leaf; nothing if one of them reads what has a gradient.

    A target that makes its data may seed the generator, which is no op: run again, the calls would draw others.
    """
    leaves = set(tape.leaves.values())
    draws = [call for call in tape.calls if call.random and not call.backward and leaves.isdisjoint(call.outputs)]
    if any(not tape.requiring.isdisjoint((*call.inputs, *call.outputs)) for call in draws):
        return frozenset()
    return frozenset(value for call in draws for value in call.outputs)


def _laid_out_alike(copies: Mapping[int, int], tape: Tape) -> dict[int, int]:
    """Of copies those that lie in memory as what they are copies of: what reads them takes that as well."""
    tensors = tape.tensors
    return {copy: value for copy, value in copies.items() if tensors[copy].stride() == tensors[value].stride()}


def _stay(kept: list[Call], roots: Mapping[str, int], tape: Tape, graph: GradGraph) -> frozenset[int]:
    def carries(value: int) -> bool:
        dtype = tape.tensors[value].dtype
        return dtype.is_floating_point or dtype.is_complex

    calls, values = followed(
        kept, roots.values(), lambda call: call.tracked and call.function is not aten.detach.default, carries
    )
    names = {name for name, value in tape.leaves.items() if value in values}
    leaves = {number for number, name in leaf_names(graph).items() if name in names}
    return frozenset(leaves | {call.node for call in calls if call.node is not None})


def _refuse(tape: Tape, graph: GradGraph) -> None:
    custom = next((node for node in graph.nodes if node.kind == "custom"), None)
    if custom is not None:
        where = "" if custom.source is None else f" at {graph.sources[custom.source]}"
        raise ProofError(f"{custom.op}{where} is a custom Function, whose backward is not known from its forward ops")
    if tape.written:
        names = tape.buffers | {value: name for name, value in tape.leaves.items()}
        value = tape.written[0]
        tensor = tape.tensors[value]
        dtype = str(tensor.dtype).removeprefix("torch.")
        what = names.get(value) or f"a {dtype} tensor of shape {list(tensor.shape)} that was there before"
        raise ProofError(f"the forward pass writes to {what}, which outlives the run; a shorter program would not")
    if tape.opaque:
        name = next(iter(tape.opaque))
        raise ProofError(f"it does something that no function of its values does: {name}")
    if any(call.function is aten.native_batch_norm.default and call.args[5] for call in tape.calls):
        # It writes them without saying so.
        raise ProofError("it keeps running statistics, which outlive the run; put the module into eval mode")


def _numbers_given(calls: list[Call]) -> frozenset[float]:
    """All numbers among the arguments, by value."""
    found = set()
    stack: list[Any] = [value for call in calls for value in (call.args, tuple(call.kwargs.values()))]
    while stack:
        item = stack.pop()
        if isinstance(item, Ref):
            continue
        if isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, float):
            found.add(item)
    return frozenset(found)


def _seen(tape: Tape, call: Call, numbers: frozenset[float]) -> bool | int | None:
    """What the program saw in a tensor and may have gone by; None where it cannot have."""
    tensor = tape.tensors[call.inputs[0]]
    if tensor.dtype is torch.bool:
        return bool(tensor)
    if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex:
        return int(tensor)
    value = tensor.item()
    if isinstance(value, float) and not math.isnan(value) and value in numbers and value != round(value):
        raise ProofError(
            f"it reads the number {value:.6g} from a tensor and goes on with it outside of the graph; a program that "
            "held it would be right for these inputs alone"
        )
    return None


class _Equal:
    """Which value stands for which."""

    def __init__(self, tape: Tape, same: Mapping[int, int]) -> None:
        self.same = same
        self.gradient = tape.requiring

    def __getitem__(self, value: int) -> int:
        """The earliest value that it is known to be equal to.

        One with a gradient stands only for one with a gradient: the others were cut off on purpose.
        """
        while value in self.same and (self.same[value] in self.gradient) == (value in self.gradient):
            value = self.same[value]
        return value

    def put(self, item: Any) -> Any:
        """Arguments with what stands for them."""
        if isinstance(item, Ref):
            return Ref(self[item.value])
        if isinstance(item, (list, tuple)):
            return type(item)(self.put(part) for part in item)
        return item

    def put_all(self, items: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self.put(value) for key, value in items.items()}

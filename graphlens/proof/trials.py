"""Both programs on other inputs, and what the last digit of the inputs does to the original's results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from graphlens.analyses.proof import ROUNDINGS, Trial
from graphlens.capture.program import Program, cleared_gradients, run_backward

_AMOUNTS = (1e-2, 1e-4, 1e-6)  # relative changes of the inputs; a smaller one where a larger one takes another way
_DRAWS = 3

Results = dict[str, torch.Tensor]


def trials(before: Program, after: Program, bound: float) -> Iterator[Trial]:
    """Both programs on changed inputs, as far as the original takes them from its leaves.

    Args:
        bound: relative differences beyond it are held against what the last digit of the inputs does.
    """
    if not _can_be_changed(before):
        yield Trial(0.0, failure="the target makes its tensors itself, so that others cannot be put in")
        return
    for amount in _AMOUNTS:
        with _changed(after.leaves, amount, seed=1):
            try:
                expected = _run(before, after.leaves)
            except (RuntimeError, ValueError) as error:
                yield Trial(amount, failure=f"the original fails: {first_line(error)}")
                continue
            try:
                found = _run(after, after.leaves)
            except (RuntimeError, ValueError) as error:
                yield Trial(amount, failure=first_line(error))
                continue
            spread = noise(before, after.leaves)
        apart = _relative_differences(expected, found)
        explained = [
            name
            for name, (relative, difference) in apart.items()
            if relative > bound and difference <= ROUNDINGS * spread.get(name, 0.0)
        ]
        outputs, gradients = (
            max(
                (pair[0] for name, pair in apart.items() if name.startswith(kind) and name not in explained),
                default=None,
            )
            for kind in ("output", "gradient of")
        )
        yield Trial(amount, outputs, gradients, explained=tuple(explained))
        return


def noise(program: Program, leaves: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """How far each output and gradient moves when the inputs change in their last digit; empty if they cannot.

    No program computes them more exactly than that: a gradient that is 0 in exact arithmetic, as that of a key's
    bias in attention, is nothing else.
    """
    if not _can_be_changed(program):
        return {}
    moved: dict[str, list[float]] = {}
    try:
        here = _run(program, leaves)
        for draw in range(_DRAWS):
            with _changed(leaves, None, seed=2 + draw):
                there = _run(program, leaves)
            for name in here.keys() & there.keys():
                if here[name].shape == there[name].shape:
                    moved.setdefault(name, []).append(_largest(here[name] - there[name]))
    except (RuntimeError, ValueError):
        return {}
    # The median, because one draw may take the program another way.
    return {name: statistics.median(found) for name, found in sorted(moved.items())}


def first_line(error: Exception) -> str:
    """What went wrong, without the rest."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _can_be_changed(program: Program) -> bool:
    return bool(program.leaves) and program.times_forward


def _run(program: Program, leaves: Mapping[str, torch.Tensor]) -> Results:
    """Floating-point outputs and gradients, named as the proof names them; from one state of the random numbers."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        made = program.forward()
        with cleared_gradients(leaves.values()):
            run_backward(made.roots, leaves)
            found = {
                f"gradient of {name}": leaf.grad.detach() for name, leaf in leaves.items() if leaf.grad is not None
            }
    finally:
        torch.set_rng_state(state)
    found.update((f"output {name}", tensor.detach()) for name, tensor in made.outputs.items())
    return {name: tensor for name, tensor in found.items() if tensor.dtype.is_floating_point and tensor.numel()}


@contextmanager
def _changed(leaves: Mapping[str, torch.Tensor], amount: float | None, *, seed: int) -> Iterator[None]:
    """Change each floating-point leaf by a random relative amount (None: by its last digit) while the block runs."""
    generator = torch.Generator().manual_seed(seed)
    able: Sequence[torch.Tensor] = [leaf for leaf in leaves.values() if leaf.is_leaf and leaf.dtype.is_floating_point]
    kept = [leaf.detach().clone() for leaf in able]
    try:
        with torch.no_grad():
            for leaf in able:
                size = torch.finfo(leaf.dtype).eps if amount is None else amount
                factor = 1 + size * torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
                leaf.copy_(leaf.double() * factor)
        yield
    finally:
        with torch.no_grad():
            for leaf, value in zip(able, kept, strict=True):
                leaf.copy_(value)


def _relative_differences(expected: Results, found: Results) -> dict[str, tuple[float, float]]:
    """Of what both have: the largest difference as a share of the tensor's size, and the difference itself."""
    apart = {}
    for name in sorted(expected.keys() & found.keys()):
        size, difference = _largest(expected[name]), _largest(expected[name] - found[name])
        apart[name] = (difference / size if size else difference, difference)
    return apart


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0

"""Every kernel against torch in float64: its balls are narrow, and the float result lies at rounding's distance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from flint import ctx, fmpq
from torch.utils._pytree import tree_map

from graphlens.capture.tape import Call, Ref, Tape, flat_outputs, refs
from graphlens.numerics.affine import Affine, evaluate
from graphlens.numerics.arguments import argument, arguments
from graphlens.numerics.balls import ball, doubles, from_tensor, is_real, shaped, wrapped
from graphlens.numerics.exact import replay
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.registry import Site
from tests.numerics.kernel_cases import CASES, NUMBERLESS, TOLERANCE, Case, seed_numbers


def tape_of(case: Case) -> Tape:
    """A tape with a single call."""
    function, *args = case
    kwargs = args.pop() if isinstance(args[-1], dict) else {}
    tensors: list[torch.Tensor] = []

    def refer(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            return Ref(len(tensors) - 1)
        return value

    referred = tree_map(refer, (tuple(args), kwargs))
    sources = list(range(len(tensors)))
    made = flat_outputs(function(*args, **kwargs))
    outputs = []
    for tensor in made:
        outputs.append(len(tensors) if isinstance(tensor, torch.Tensor) else None)
        if isinstance(tensor, torch.Tensor):
            tensors.append(tensor)
    random = torch.Tag.nondeterministic_seeded in function.tags
    return Tape([Call(function, *referred, tuple(outputs), random=random)], tensors, sources)


def assert_near(tape: Tape, tolerance: float = 2e-13) -> int:
    """Each result of the run is as near to the exact one as rounding explains; how many were compared."""
    exact = replay(tape)
    assert exact.uncovered == {}
    assert exact.departures == ()
    assert exact.is_tight
    compared = 0
    for value in tape.calls[0].outputs:
        if value is None or not is_real(tape.tensors[value]):
            continue
        given, true = doubles(tape.tensors[value]), exact.values[value]
        assert true.shape == given.shape
        np.testing.assert_allclose(given, true.midpoint(), rtol=tolerance, atol=tolerance)
        compared += given.size
    return compared


def test_every_kernel_has_a_case() -> None:
    assert set(CASES) | NUMBERLESS == set(KERNELS)
    assert not set(CASES) & NUMBERLESS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(CASES))
def test_kernels_agree_with_torch(name: str, seed: int) -> None:
    seed_numbers(seed)
    for make in CASES[name]:
        tape = tape_of(make())
        assert tape.calls[0].function._schema.name == f"aten::{name}"
        assert_near(tape, TOLERANCE.get(name, 2e-13))


def test_the_cases_compare_numbers() -> None:
    seed_numbers(0)
    counts = {name: sum(assert_near(tape_of(make()), 1e-6) for make in CASES[name]) for name in CASES}

    assert [name for name, count in counts.items() if not count] == ["gt", "ge", "lt", "le", "eq", "ne"]


@pytest.mark.parametrize("name", ["tanh", "mm", "linalg_inv_ex", "sum", "_softmax_backward_data", "select_backward"])
def test_a_kernel_that_is_wrong_by_a_trillionth_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KERNELS[name]

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return [None if part is None else part + part / 10**12 for part in kernel(*args, **kwargs)]

    monkeypatch.setitem(KERNELS, name, type(kernel)(name, wrong))
    seed_numbers(0)
    tape = tape_of(CASES[name][0]())
    with pytest.raises(AssertionError):
        assert_near(tape)


def steps(array: Any) -> Any:
    return shaped([fmpq(k + 1, 7) for k in range(array.size)], array.shape)


def noisy(item: Any, tensors: list[torch.Tensor], wrap: Callable[[Any], Any]) -> Any:
    """An argument with something in the place of each array of numbers."""
    if isinstance(item, Ref):
        array = from_tensor(tensors[item.value])
        return wrap(array) if array.dtype == object else array
    return [noisy(part, tensors, wrap) for part in item] if isinstance(item, list) else item


@pytest.mark.parametrize("name", sorted(name for name in CASES if KERNELS[name].linear))
def test_linear_kernels_carry_noise_as_it_is(name: str) -> None:
    """Arguments x + δ ε, those of one set together: the result at ε = 1 is what comes of x + δ itself."""
    seed_numbers(0)
    kernel = KERNELS[name]
    for make, group in itertools.product(CASES[name], kernel.linear):
        tape = tape_of(make())
        (call,), tensors = tape.calls, tape.tensors
        if not any(is_real(tensors[value]) for k, item in enumerate(call.args) if k in group for value in refs(item)):
            continue
        outputs = [None if value is None else tensors[value] for value in call.outputs]
        site = Site(call.function, partial(argument, call, tensor_of=tensors.__getitem__), outputs)
        _, kwargs = arguments(call, lambda item: item)
        given, shifted = (
            tuple(noisy(item, tensors, wrap if k in group else np.copy) for k, item in enumerate(call.args))
            for wrap in (lambda x: Affine(x, {0: steps(x)}), lambda x: wrapped(x + steps(x)))
        )
        made = evaluate(kernel, site, given, kwargs, itertools.count(1))
        for found, true in zip(made, kernel(site, *shifted, **kwargs), strict=True):
            if true is None:
                continue
            assert not isinstance(found, Affine) or set(found.noise) == {0}
            total = found.mid + found.noise[0] if isinstance(found, Affine) else found
            with ctx.workprec(400):
                assert all(
                    ball(a - b).contains(0) for a, b in zip(wrapped(total).flat, wrapped(true).flat, strict=True)
                )

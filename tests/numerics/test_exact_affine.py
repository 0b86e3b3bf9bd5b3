"""Values with noise: every op contains what it gives for every value that the noise allows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

from graphlens.numerics.affine import LIFTED_ENTRIES, MAX_SYMBOLS, Affine, evaluate, flattened, settled
from graphlens.numerics.balls import Array, ball, shaped
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.registry import Site

aten = torch.ops.aten
small = st.integers(-8, 8).map(lambda k: fmpq(k, 3))


def site(function: Any, *tensors: Any) -> Site:
    """A call whose float inputs are the midpoints."""
    given = [torch.tensor([float(int(e.p) / int(e.q)) for e in (t.mid if isinstance(t, Affine) else t).flat])
             .double().reshape((t.mid if isinstance(t, Affine) else t).shape) for t in tensors]  # fmt: skip
    made = function(*given)
    return Site(function, lambda place: given[place] if isinstance(place, int) else None, [made])


def vector(entries: list[fmpq]) -> Array:
    return shaped(list(entries), (len(entries),))


@st.composite
def affines(draw: Any, size: int, symbols: tuple[int, ...]) -> Affine:
    row = st.lists(small, min_size=size, max_size=size).map(vector)
    return Affine(draw(row), {symbol: draw(row) / fmpq(50) for symbol in symbols})


def at(value: Affine, where: dict[int, fmpq]) -> Array:
    """The value for one choice of the unknowns."""
    made = value.mid
    for symbol, part in value.noise.items():
        made = made + part * where.get(symbol, fmpq(0))
    return made


OPS = {
    "add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor, "div": aten.div.Tensor,
    "dot": aten.dot.default, "maximum": aten.maximum.default, "stack": lambda a, b: aten.stack.default([a, b]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OPS))
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_op_contains_its_value_for_every_choice_of_noise(name: str, data: Any) -> None:
    a, b = data.draw(affines(3, (0, 1))), data.draw(affines(3, (1, 2)))
    if name == "div":
        b = Affine(shaped([entry + (9 if entry >= 0 else -9) for entry in b.mid], (3,)), b.noise)
    fresh = itertools.count(3)
    function = (getattr(OPS[name], "overloadpacket", None) and OPS[name]) or aten.stack.default
    if name == "stack":
        made = settled(evaluate(KERNELS["stack"], site_of_stack(a, b), ([a, b],), {}, fresh)[0], fresh)
    else:
        made = settled(evaluate(KERNELS[name], site(function, a, b), (a, b), {}, fresh)[0], fresh)
    enclosure = flattened(made)
    choose = st.sampled_from([fmpq(-1), fmpq(1), fmpq(0), fmpq(1, 3)])
    where = {symbol: data.draw(choose) for symbol in (0, 1, 2)}
    x, y = at(a, where), at(b, where)
    truth = {
        "add": lambda: x + y, "sub": lambda: x - y, "mul": lambda: x * y, "div": lambda: x / y,
        "dot": lambda: np.asarray((x * y).sum(), dtype=object), "stack": lambda: np.stack([x, y]),
        # The branch is the one of the midpoints.
        "maximum": lambda: np.where([p >= q for p, q in zip(a.mid, b.mid, strict=True)], x, y),
    }[name]()  # fmt: skip

    for true, found in zip(truth.flat, enclosure.flat, strict=True):
        assert ball(found).contains(ball(true)) or found == true


def site_of_stack(a: Affine, b: Affine) -> Site:
    return Site(aten.stack.default, lambda place: None, [torch.zeros(2, *a.mid.shape)])


def test_linear_ops_cancel_what_is_shared() -> None:
    x = Affine(vector([fmpq(1), fmpq(2)]), {0: vector([fmpq(1, 7), fmpq(3)])})
    made = evaluate(KERNELS["sub"], site(aten.sub.Tensor, x, x), (x, x), {}, itertools.count(1))[0]

    assert not isinstance(made, Affine)  # no noise is left
    assert made.tolist() == [0, 0]


def test_a_reciprocal_times_its_number_is_nearly_one() -> None:
    x = Affine(vector([fmpq(3)]), {0: vector([fmpq(1, 10**20)])})
    one = evaluate(KERNELS["div"], site(aten.div.Tensor, x, x), (x, x), {}, itertools.count(1))[0]

    # The first order cancels: what is left is of the order of (1e-20 ÷ 3)².
    assert ball(flattened(one)[0]).contains(1)
    assert float(ball(flattened(one)[0]).rad()) < 1e-39


def test_a_number_that_is_added_has_no_noise() -> None:
    x = Affine(vector([fmpq(1)]), {0: vector([fmpq(1, 2)])})
    fresh = itertools.count(1)
    made = evaluate(KERNELS["add"], site(lambda t: t + 5, x), (x, 5), {"alpha": 2}, fresh)[0]

    assert (made.mid.tolist(), made.noise[0].tolist()) == ([11], [fmpq(1, 2)])


def test_balls_of_small_results_become_symbols() -> None:
    made = settled(shaped([arb(2).sqrt(), fmpq(1)], (2,)), itertools.count())

    assert isinstance(made, Affine)
    assert list(made.noise) == [0]
    assert ball(flattened(made)[0]).contains(arb(2).sqrt())
    assert flattened(made)[1] == 1


def test_large_results_stay_balls() -> None:
    size = LIFTED_ENTRIES + 1
    made = settled(shaped([arb(2).sqrt()] * size, (size,)), itertools.count())

    assert not isinstance(made, Affine)


def test_too_many_symbols_are_merged() -> None:
    noise = {symbol: vector([fmpq(1, 1000 + symbol)]) for symbol in range(MAX_SYMBOLS + 1)}
    made = settled(Affine(vector([fmpq(1)]), noise), itertools.count(99))

    assert list(made.noise) == [99]
    assert made.noise[99][0] + abs(made.mid[0] - 1) >= sum((part[0] for part in noise.values()), fmpq(0))


def test_a_ball_with_a_huge_exponent_is_no_rational() -> None:
    made = settled(shaped([arb(0, 1) * arb(2) ** (10**9)], (1,)), itertools.count())

    assert not isinstance(made, Affine)

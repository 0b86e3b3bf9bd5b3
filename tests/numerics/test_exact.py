"""Replays enclose the truth: against rational arithmetic, against mpmath, and on classical examples."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
import torch
from flint import arb, ctx, fmpq
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import graphlens
from graphlens.capture.program import subject_program, tensors_program
from graphlens.capture.tape import Call, Ref, Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.balls import Balls, ball
from graphlens.numerics.exact import Exact, replay
from graphlens.numerics.kernels_all import KERNELS

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def precise() -> Iterator[None]:
    """What the tests themselves compute with balls has more bits than any replay here."""
    with ctx.workprec(6000):
        yield


def taped(make: Callable[[], torch.Tensor]) -> Tape:
    return record_tape(tensors_program("made", lambda: (make(),)))


def lesson_tape(name: str, **options: Any) -> Tape:
    return record_tape(subject_program(graphlens.lesson(name, **options)))


def results(tape: Tape) -> set[int]:
    return {*tape.outputs.values(), *tape.roots.values(), *tape.gradients.values()}


def double(*entries: Any, grad: bool = False) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64, requires_grad=grad)


def fractions(exact: Exact, value: int) -> list[Fraction]:
    return [Fraction(int(entry.p), int(entry.q)) for entry in exact.values[value].entries.flat]


def contains(found: Balls, truth: list[sympy.Rational]) -> bool:
    """Whether the balls contain these rational numbers, and the rational entries are them."""
    return found.contains(np.array([fmpq(int(number.p), int(number.q)) for number in truth], dtype=object))


# Random programs


UNARY: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "exp": (torch.exp, mpmath.exp), "sin": (torch.sin, mpmath.sin), "tanh": (torch.tanh, mpmath.tanh),
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))), "neg": (torch.neg, operator.neg),
    "square": (torch.square, lambda x: x * x), "erf": (torch.erf, mpmath.erf),
    "root": (lambda t: torch.sqrt(t * t + 1), lambda x: mpmath.sqrt(x * x + 1)),
}  # fmt: skip
BINARY: dict[str, Any] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(st.sampled_from([*UNARY, *BINARY, "quotient", "matrix"]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1, max_size=12,
)  # fmt: skip


def run_on_tensors(program: list[Step], x: torch.Tensor) -> torch.Tensor:
    values = [x]
    for name, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        a, b = a.clamp(-4, 4), b.clamp(-4, 4)
        if name in UNARY:
            values.append(UNARY[name][0](a))
        elif name == "quotient":
            values.append(a / (b * b + 1))
        elif name == "matrix":
            values.append(MATRIX @ a)
        else:
            values.append(BINARY[name](a, b))
    return values[-1].sum()


MATRIX = torch.tensor([[1.0, 0.1, -2.0], [0.3, 0.7, 0.2], [-0.9, 1.1, 0.5]], dtype=torch.float64)


def run_on_mpmath(program: list[Step], x: list[Any]) -> Any:
    def clamp(v: Any) -> Any:
        return min(max(v, mpmath.mpf(-4)), mpmath.mpf(4))

    values = [x]
    for name, i, j in program:
        a, b = ([clamp(v) for v in values[k % len(values)]] for k in (i, j))
        if name in UNARY:
            values.append([UNARY[name][1](v) for v in a])
        elif name == "quotient":
            values.append([v / (w * w + 1) for v, w in zip(a, b, strict=True)])
        elif name == "matrix":
            values.append([sum(mpmath.mpf(m) * v for m, v in zip(row, a, strict=True)) for row in MATRIX.tolist()])
        else:
            values.append([BINARY[name](v, w) for v, w in zip(a, b, strict=True)])
    return sum(values[-1])


def as_arb(number: Any) -> arb:
    """A number of mpmath, exactly."""
    sign, mantissa, exponent, _ = number._mpf_
    return arb(-int(mantissa) if sign else int(mantissa)) * arb(2) ** int(exponent)


@settings(max_examples=150, deadline=None)
@given(steps, st.lists(st.floats(-3, 3).map(lambda v: round(v, 3)), min_size=3, max_size=3))
def test_random_programs_lie_inside_their_balls(program: list[Step], entries: list[float]) -> None:
    tape = taped(lambda: run_on_tensors(program, double(*entries, grad=True)))
    exact = replay(tape, wanted=set(tape.outputs.values()))
    assume(not exact.departures)  # at a kink the run may have gone another way than mpmath goes
    (output,) = tape.outputs.values()
    with mpmath.workprec(4 * exact.precision):
        truth = as_arb(run_on_mpmath(program, [mpmath.mpf(v) for v in entries]))

    entry = ball(exact.values[output].entries[()])
    slack = arb(2) ** (-3 * exact.precision) * (1 + abs(truth))  # for the rounding of mpmath itself
    assert abs(truth - entry.mid()) <= entry.rad() + slack
    assert exact.is_tight
    assert exact.uncovered == {}


@settings(max_examples=80, deadline=None)
@given(steps, st.lists(st.floats(-3, 3).map(lambda v: round(v, 3)), min_size=3, max_size=3))
def test_more_bits_give_balls_inside_balls_for_every_value(program: list[Step], entries: list[float]) -> None:
    tape = taped(lambda: run_on_tensors(program, double(*entries, grad=True)))
    rough, fine = replay(tape, precision=128, highest=128), replay(tape, precision=512, highest=512)

    for value, found in rough.values.items():
        if value not in rough.unknown:
            assert all(map(overlap, found.entries.flat, fine.values[value].entries.flat))


def overlap(a: Any, b: Any) -> bool:
    return bool(a == b or ball(a).overlaps(ball(b)))


def test_a_wrong_kernel_leaves_its_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KERNELS["exp"]
    wrong = type(kernel)("exp", lambda site, self: kernel.compute(site, self) * (1 + fmpq(1, 10**30)))
    tape = taped(lambda: double(0.5, grad=True).exp().sum())
    monkeypatch.setitem(KERNELS, "exp", wrong)
    exact = replay(tape, wanted=results(tape))

    with mpmath.workprec(512):
        truth = as_arb(mpmath.exp(mpmath.mpf(0.5)))
    found = ball(exact.values[tape.outputs["output"]].entries[()])
    assert abs(found.mid() - truth) > 2**20 * found.rad()


# The exercise


def rational(tensor: torch.Tensor) -> sympy.Matrix:
    matrix = tensor.detach() if tensor.ndim == 2 else tensor.detach().reshape(-1, 1)
    return sympy.Matrix(*matrix.shape, [sympy.Rational(Fraction(v).numerator, Fraction(v).denominator)
                                        for v in matrix.ravel().tolist()])  # fmt: skip


def test_the_chain_is_exactly_what_it_stands_for() -> None:
    """g = M⁻¹ f_T(M x), φ = ‖x − g‖² and its gradients, by sympy's rational arithmetic."""
    subject = graphlens.lesson("wasteful", n=40)
    tape = record_tape(subject_program(subject))
    exact = replay(tape, wanted=results(tape))
    x, M, T = rational(subject.args[0]), rational(subject.module.M), sympy.Rational(*Fraction(3.14).as_integer_ratio())
    y = M * x
    kept = sympy.diag(*[1 if abs(v) > T else 0 for v in y])
    threshold = sympy.Matrix([v - T if v > T else v + T if v < -T else 0 for v in y])
    g = M.inv() * threshold
    seed = 2 * (g - x)  # dφ/dg
    sent = kept * M.inv().T * seed  # dφ/dy
    expected = {
        "x": M.T * sent - seed,
        "M": sent * x.T - M.inv().T * seed * g.T,
        "A": sympy.zeros(5, 5),
    }

    assert fractions(exact, tape.outputs["g"]) == [Fraction(int(v.p), int(v.q)) for v in g]
    for name, matrix in expected.items():
        assert contains(exact.values[tape.gradients[name]], list(matrix)), name
    assert contains(exact.values[tape.roots["phi"]], [((x - g).T * (x - g))[0]])
    assert exact.is_tight
    assert (exact.departures, exact.uncovered, exact.opaque, exact.unknown) == ((), {}, {}, frozenset())


def test_the_gradient_that_is_noise_is_proved_to_be_zero() -> None:
    tape = lesson_tape("wasteful", n=200)
    exact = replay(tape, wanted={tape.gradients["A"]})
    found = exact.values[tape.gradients["A"]]

    assert tape.tensors[tape.gradients["A"]].abs().max() > 0
    assert (found.midpoint().any(), found.max_radius()) == (False, 0.0)


@pytest.mark.parametrize("options", [{"d": 12}, {"d": 20}, {"form": "vectorised"}, {"dtype": "float32"}], ids=str)
def test_the_chain_gives_what_the_efficient_form_gives(options: dict[str, Any]) -> None:
    chain, short = (lesson_tape(name, n=5, **options) for name in ("wasteful", "efficient"))
    a, b = (replay(tape, wanted=results(tape)) for tape in (chain, short))

    for ends, others in ((chain.outputs, short.outputs), (chain.gradients, short.gradients)):
        for name in others:
            mine, theirs = a.values[ends[name]], b.values[others[name]]
            assert all(map(overlap, mine.entries.flat, theirs.entries.flat)), name
    assert a.is_tight
    assert b.is_tight


def test_the_inverse_of_the_exercise_encloses_the_identity() -> None:
    A = graphlens.lesson("wasteful").args[1].detach()
    for matrix in (A, torch.block_diag(A, A, A, A)):  # the larger one is computed with balls
        tape = taped(lambda matrix=matrix: torch.linalg.inv(matrix.clone().requires_grad_()).sum())  # type: ignore[misc]
        call = next(call for call in tape.calls if "inv" in str(call.function))
        exact = replay(tape)
        X = exact.values[call.outputs[0]].entries
        product = exact.values[call.inputs[0]].entries @ X
        identity = np.eye(len(matrix), dtype=int)
        assert all(ball(p).contains(int(i)) for p, i in zip(product.flat, identity.flat, strict=True))


# Classical examples


def test_the_inverse_of_a_hilbert_matrix_scaled_to_integers_is_known() -> None:
    """The Hilbert matrix times lcm(1…2n−1) is whole; its inverse is Hilbert's whole inverse over that number."""
    size, scale = 8, int(np.lcm.reduce(np.arange(1, 16)))
    matrix = double(*[[scale / (i + j + 1) for j in range(size)] for i in range(size)], grad=True)
    tape = taped(lambda: torch.linalg.inv(matrix).sum())
    call = next(call for call in tape.calls if "inv" in str(call.function))
    exact = replay(tape)
    inverse = sympy.Matrix(size, size, lambda i, j: sympy.Rational(1, i + j + 1)).inv()

    assert all(entry.is_integer for entry in inverse)
    found = [fraction * scale for fraction in fractions(exact, call.outputs[0])]
    assert found == [Fraction(int(entry)) for entry in inverse]


def test_muller_s_recurrence_converges_to_six_in_exact_arithmetic() -> None:
    """x ← 111 − (1130 − 3000/x₋₂)/x₋₁ from 5.5 and 61/11 goes to 6, and to 100 in floating point."""

    def run() -> torch.Tensor:
        a, b = double(2.0, grad=True), double(-4.0, grad=True)
        for _ in range(25):
            a, b = b, 111 - 1130 / b + 3000 / (a * b)
        return b.sum()

    x, y = Fraction(2), Fraction(-4)
    for _ in range(25):
        x, y = y, 111 - Fraction(1130) / y + 3000 / (x * y)
    tape = taped(run)
    exact = replay(tape, wanted=set(tape.outputs.values()))

    assert fractions(exact, tape.outputs["output"]) == [y]
    assert abs(float(y) - 6) < 0.5 < 90 < tape.tensors[tape.outputs["output"]].item()


def test_a_chaotic_map_gets_the_bits_it_needs() -> None:
    """400 rounds of 3.9 x (1 − x) lose about 0.7 bits each: 128 bits are not enough."""

    def run() -> torch.Tensor:
        x = double(0.3, grad=True)
        y = x
        for _ in range(400):
            y = 3.9 * y * (1 - y)
        return y.sum()

    tape = taped(run)
    exact = replay(tape, wanted=set(tape.outputs.values()))
    with mpmath.workprec(3000):
        y = mpmath.mpf(0.3)
        for _ in range(400):
            y = mpmath.mpf(3.9) * y * (1 - y)
        truth = as_arb(y)

    assert exact.precision > 128
    assert exact.is_tight
    found = ball(exact.values[tape.outputs["output"]].entries[()])
    assert abs(found.mid() - truth) <= found.rad() * 2


def test_cancellation_in_one_minus_cosine() -> None:
    tape = taped(lambda: ((1 - torch.cos(x := double(1e-9, grad=True))) / x**2).sum())
    exact = replay(tape, wanted=results(tape))

    assert tape.tensors[tape.outputs["output"]].item() == 0
    assert exact.values[tape.outputs["output"]].midpoint() == pytest.approx(0.5, rel=1e-15)
    # The derivative of (1 − cos x)/x² near 0 is −x/12.
    assert exact.values[next(iter(tape.gradients.values()))].midpoint()[0] == pytest.approx(-1e-9 / 12, rel=1e-12)


# Branches, unknown values, limits


def one_call(function: Any, args: tuple[Any, ...], outputs: list[Any]) -> Tape:
    """A tape whose result is planted."""
    tensors = [item for item in args if isinstance(item, torch.Tensor)]
    refs = iter(map(Ref, range(len(tensors))))
    referred = tuple(next(refs) if isinstance(item, torch.Tensor) else item for item in args)
    numbers = tuple(range(len(tensors), len(tensors) + len(outputs)))
    return Tape([Call(function, referred, {}, numbers)], [*tensors, *outputs], list(range(len(tensors))))


def test_a_comparison_that_exact_arithmetic_decides_otherwise_is_told() -> None:
    x = double(1e16, grad=True)
    tape = taped(lambda: torch.where((x + 1) - x > 0.5, x, 2 * x).sum())
    exact = replay(tape, wanted=results(tape))
    comparison = next(k for k, call in enumerate(tape.calls) if "gt" in str(call.function))

    # In float64 1e16 + 1 is 1e16: the run took 2x.
    assert [(d.call, d.op, d.otherwise, d.undecided) for d in exact.departures] == [(comparison, "gt", 1, 0)]
    assert exact.values[tape.outputs["output"]].midpoint() == 2e16


@pytest.mark.parametrize(
    ("function", "args", "outputs", "followed"),
    [
        (aten.gt.Scalar, (double(1.0, 2.0), 1.5), [torch.tensor([True, True])], None),
        (aten.eq.Tensor, (double(1.0), double(1.0)), [torch.tensor([False])], None),
        (aten.max.dim, (double([1.0, 2.0]), 1), [double(1.0), torch.tensor([0])], [1.0]),
        (aten.sort.default, (double(2.0, 1.0),), [double(1.0, 2.0), torch.tensor([0, 1])], [2.0, 1.0]),
        (aten.floor.default, (double(2.5),), [double(3.0)], [3.0]),
    ],
    ids=lambda value: str(value) if isinstance(value, torch._ops.OpOverload) else "",
)
def test_a_planted_wrong_decision_is_followed_and_told(
    function: Any, args: Any, outputs: list[Any], followed: list[float] | None
) -> None:
    tape = one_call(function, args, outputs)
    exact = replay(tape)

    assert [(d.call, d.otherwise, d.undecided) for d in exact.departures] == [(0, 1, 0)]
    if followed is not None:
        assert exact.values[len(args) if len(args) == 1 else 1].midpoint().tolist() == followed


def test_what_balls_cannot_decide_is_told() -> None:
    """√2·√2 − 2 is 0, which no enclosure can prove to be ≤ 0."""
    tape = taped(lambda: torch.relu(double(2.0, grad=True).sqrt() ** 2 - double(2.0).sqrt() * double(2.0).sqrt()).sum())
    exact = replay(tape, wanted=results(tape), highest=256)

    assert {d.op for d in exact.departures} == {"relu"}
    assert {(d.otherwise, d.undecided) for d in exact.departures} == {(0, 1)}


def test_an_uncovered_op_is_named_and_only_what_depends_on_it_is_unknown() -> None:
    x = double(0.5, 1.5, grad=True)
    tape = taped(lambda: torch.special.i0(x[0]) + x[1].exp())
    exact = replay(tape)
    exponential = next(c.outputs[0] for c in tape.calls if c.function is aten.exp.default)

    assert exact.uncovered["aten.i0.default"] == 1
    assert tape.outputs["output"] in exact.unknown
    assert exponential not in exact.unknown
    gradient = exact.values[tape.gradients["leaf[0]"]]
    assert np.isnan(gradient.midpoint()).tolist() == [True, False]
    assert gradient.radius()[0] == np.inf
    assert gradient.midpoint()[1] == pytest.approx(np.exp(1.5), rel=1e-15)


def test_a_matrix_that_is_singular_only_in_exact_arithmetic_is_said() -> None:
    """The float inverse exists by luck; the exact one does not."""
    matrix = double([1.0, 2.0], [2.0, 4.0])
    tape = one_call(
        aten.linalg_inv_ex.default, (matrix,), [torch.ones(2, 2).double(), torch.tensor(0, dtype=torch.int32)]
    )
    exact = replay(tape)

    assert exact.uncovered == {"aten.linalg_inv_ex.default": 1}
    assert 1 in exact.unknown


def test_complex_numbers_are_not_covered() -> None:
    z = torch.tensor([1 + 2j, 3j], dtype=torch.complex128, requires_grad=True)
    tape = taped(lambda: (z * z).abs().sum())
    exact = replay(tape, wanted=results(tape))

    assert "aten.abs.default" in exact.uncovered
    assert tape.outputs["output"] in exact.unknown


def test_random_numbers_are_the_run_s() -> None:
    def run() -> torch.Tensor:
        x = torch.ones(8, dtype=torch.float64, requires_grad=True)
        return (torch.nn.functional.dropout(x, 0.5) * torch.rand(8, dtype=torch.float64)).sum()

    tape = taped(run)
    exact = replay(tape, wanted=results(tape))

    (output,) = tape.outputs.values()
    assert exact.uncovered == {}
    assert exact.values[output].midpoint() == pytest.approx(tape.tensors[output].item(), rel=1e-15)


def test_casts_do_not_round() -> None:
    tape = taped(lambda: double(0.1, grad=True).to(torch.bfloat16).float().sum())
    exact = replay(tape, wanted=results(tape))

    (output,) = tape.outputs.values()
    assert fractions(exact, output) == [Fraction(0.1)]
    assert abs(exact.values[output].error_of(tape.tensors[output])) > 1e-5


def test_only_what_is_wanted_is_computed() -> None:
    tape = lesson_tape("wasteful", n=30)
    exact = replay(tape, wanted={tape.outputs["g"]})

    assert set(exact.values) == {tape.outputs["g"]}
    assert set(replay(tape).values) >= results(tape)


def test_the_time_allowed_is_kept() -> None:
    tape = lesson_tape("wasteful", n=500)
    exact = replay(tape, wanted=results(tape), seconds=0.05)

    assert exact.out_of_time
    assert not exact.is_tight
    assert set(tape.gradients.values()) <= exact.unknown


def test_the_precision_of_flint_is_put_back() -> None:
    before = ctx.prec
    tape = lesson_tape("efficient")
    replay(tape)

    assert ctx.prec == before


def test_every_value_of_a_run_is_kept_if_all_are_wanted() -> None:
    tape = lesson_tape("wasteful", n=10)
    exact = replay(tape)
    real = {k for k, tensor in enumerate(tape.tensors) if tensor.is_floating_point()}

    assert set(exact.values) == real
    # The iterate comes back to M x after each round, exactly.
    rounds = [call.outputs[0] for call in tape.calls if call.function is aten.mv.default and not call.backward][:-1]
    start, *_, end = (exact.values[value].entries.tolist() for value in rounds[::2])
    assert start == end
    assert not np.array_equal(tape.tensors[rounds[0]], tape.tensors[rounds[-1]])


def test_a_result_that_a_kernel_leaves_out_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KERNELS["exp"]
    monkeypatch.setitem(KERNELS, "exp", type(kernel)("exp", lambda site, self: None))
    tape = taped(lambda: double(0.5, grad=True).exp().sum())

    assert tape.outputs["output"] in replay(tape).unknown


def test_a_result_of_another_shape_than_the_run_s_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KERNELS["exp"]
    monkeypatch.setitem(KERNELS, "exp", type(whole)("exp", lambda site, self: whole.compute(site, self)[:1]))
    tape = taped(lambda: double(0.5, 1.5, grad=True).exp() * 2)
    exact = replay(tape, wanted=set(tape.outputs.values()))

    assert exact.uncovered == {"aten.exp.default": 1}
    assert set(tape.outputs.values()) <= exact.unknown

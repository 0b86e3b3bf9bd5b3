"""Runs that are rounded at random: deviations worked out by hand, digits that are known, and their intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

import graphlens
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.numerics.exact import replay
from graphlens.numerics.random_rounding import at_random
from graphlens.numerics.reference import ExactReference, Reference, ShadowReference
from graphlens.numerics.sampling import Varied, _side_by_side, sample
from graphlens.numerics.shadow import in_float64, is_number, wide, wide_call
from graphlens.numerics.significance import Moments, Significance, chi_square, deviation_bounds, significance
from graphlens.numerics.study import targets_of
from graphlens.subject import Subject
from tests.numerics import narrow_models as models

U32, U64 = 2.0**-24, 2.0**-53
DIGITS32, DIGITS64 = -math.log10(U32), -math.log10(U64)
UNIFORM = 1 / math.sqrt(3)  # the standard deviation of a uniform variable in [-1, 1]


def tape_of(run: Callable[..., Any], *args: torch.Tensor) -> Tape:
    return record_tape(subject_program(Subject(run, args)))


def output_of(run: Callable[..., Any], *args: torch.Tensor, runs: int = 20, seed: int = 0) -> Significance:
    tape = tape_of(run, *args)
    (value,) = tape.outputs.values()
    return sample(tape, targets_of(tape), runs, seed)[value]


def numbers(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).uniform(0.5, 1.5, count)).to(dtype).requires_grad_()


def one_by_one(x: torch.Tensor) -> torch.Tensor:
    total = x[0]
    for k in range(1, len(x)):
        total = total + x[k]
    return total


@pytest.mark.parametrize(("dtype", "unit", "most"), [(torch.float32, U32, 1.06), (torch.float64, U64, 1.5)])
def test_a_sum_of_n_numbers_deviates_by_the_root_of_its_partial_sums_squared(
    dtype: torch.dtype, unit: float, most: float
) -> None:
    """Each addition moves its partial sum by up to u of it; float64 rounds the moved sum besides."""
    x = numbers(30, dtype)
    found = output_of(one_by_one, x, runs=1500)
    partial = np.cumsum(x.detach().double().numpy())[1:]
    by_hand = unit * UNIFORM * math.sqrt(float((partial**2).sum()))

    assert 0.94 * by_hand <= found.deviation <= most * by_hand


def test_a_sum_in_one_op_deviates_by_its_terms_and_by_its_result() -> None:
    x = numbers(30)
    found = output_of(lambda x: x.sum(), x, runs=1500)
    terms = x.detach().double().numpy()
    by_hand = U32 * UNIFORM * math.sqrt(float((terms**2).sum() + terms.sum() ** 2))

    assert found.deviation == pytest.approx(by_hand, rel=0.06)


def test_a_sum_that_cancels_in_one_op_loses_the_digits_that_cancel() -> None:
    x = torch.tensor([1e6, 1.0, -1e6], requires_grad=True)
    found = output_of(lambda x: x.sum(), x)

    assert found.overall is not None
    assert found.overall.low <= -math.log10(1e6 * math.sqrt(2) * U32 * UNIFORM) <= found.overall.high


@pytest.mark.parametrize("near", [1e-2, 1e-4, 1e-6])
def test_a_subtraction_that_cancels_loses_the_predicted_digits(near: float) -> None:
    x = torch.tensor([0.7], requires_grad=True)
    found = output_of(lambda x: x * 1.3 - 0.7 * 1.3 * (1 - near), x, runs=200)
    predicted = -math.log10(U32 * UNIFORM / near)

    assert found.overall is not None
    assert found.overall.digits == pytest.approx(predicted, abs=0.12)


def muller(steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(x: torch.Tensor) -> torch.Tensor:
        before, now = x * 4.0, x * 4.25
        for _ in range(steps):
            before, now = now, 108 - (815 - 1500 / before) / now
        return now

    return run


def test_mullers_recurrence_has_no_digit() -> None:
    """Its true limit is 5, and every rounding leads to 100."""
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = output_of(muller(13), one)

    assert found.overall is not None
    assert found.overall.digits < 0.5
    # Further on all runs have arrived at the same wrong limit, and look sure of it.
    late = output_of(muller(60), one)
    assert late.size == pytest.approx(100)
    assert late.overall is not None
    assert late.overall.digits > 10


def test_a_stable_program_has_all_digits() -> None:
    found = output_of(lambda x: (x * 0.3).exp() / 3, numbers(5))

    assert found.overall is not None
    assert found.overall.high == DIGITS32
    assert found.overall.low > DIGITS32 - 0.5
    assert found.worst is not None
    assert found.worst.low > DIGITS32 - 0.6


def test_a_result_that_is_0_in_every_run_has_no_digits_to_count() -> None:
    found = output_of(lambda x: x - x, numbers(3))

    assert (found.overall, found.worst, found.norm, found.deviation) == (None, None, None, 0.0)


def test_noise_around_0_has_0_digits() -> None:
    found = output_of(lambda x: (x * 0.3) - (x * 0.1) * 3, numbers(3))

    assert found.overall is not None
    assert found.overall.digits < 1.2


def test_the_same_op_on_the_same_values_rounds_alike() -> None:
    """As it does in floating point, where it is the same number."""
    assert output_of(lambda x: x / 3 - x / 3, numbers(3)).deviation == 0.0
    twice = output_of(lambda x: x / 3 + x / 3, torch.ones(1, requires_grad=True), runs=1500)
    by_hand = U32 * UNIFORM * 2 / 3 * math.sqrt(2)  # both terms together, and the sum

    assert twice.deviation == pytest.approx(by_hand, rel=0.06)


def test_what_moves_chooses_and_negates_does_not_round() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([-x.reshape(2, 3).T.flatten(), x.relu()])[1:]
        return torch.where(y > 0, y.abs(), y.sort().values).clamp(-1, 1).flip(0).expand(2, -1).double()

    assert output_of(run, numbers(6)).deviation == 0.0


def test_a_cast_to_a_narrower_format_rounds_and_one_to_a_wider_does_not() -> None:
    x = torch.full((1,), 1.1, requires_grad=True)
    found = output_of(lambda x: x.bfloat16().float(), x, runs=1500)

    assert found.deviation == pytest.approx(1.1 * 2.0**-8 * UNIFORM / 1, rel=0.06)


def test_constants_round_where_the_format_does_not_hold_them() -> None:
    x = numbers(2)

    assert output_of(lambda x: torch.cat([x, torch.full((2,), 0.5)]), x).deviation == 0.0
    assert output_of(lambda x: torch.cat([x, torch.full((2,), 0.1)]), x).deviation > 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_torch_adds_up_half_precision_in_float32(dtype: torch.dtype) -> None:
    """As the samples take it to; in the format itself a sum of ones would stop at 256, or 2,048."""
    ones = torch.ones(4096, dtype=dtype)

    assert ones.sum() == ones @ ones == (ones[None] @ ones[:, None])[0, 0] == 4096


def test_random_numbers_and_decisions_are_those_of_the_run() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        kept = torch.nn.functional.dropout(x, 0.5)
        return torch.where(kept > 0, torch.ones(50), -torch.ones(50))

    assert output_of(run, numbers(50)).deviation == 0.0


def test_an_infinity_that_every_run_has_is_no_noise() -> None:
    mask = torch.tensor([0.0, -math.inf])
    found = output_of(lambda x: x + mask, numbers(2))

    assert found.overall is not None
    assert found.overall.low > DIGITS32 - 0.6


def test_an_op_whose_result_is_the_runs_is_named() -> None:
    found = output_of(lambda x: torch.native_dropout(x * 0.3, 0.5, True)[0] * 2, numbers(8))

    assert found.taken == {"native_dropout": 1}
    assert output_of(lambda x: x * 2, numbers(8)).taken == {}


def test_the_same_seed_gives_the_same_digits() -> None:
    x = numbers(9)
    first, second, other = (output_of(one_by_one, x, seed=seed) for seed in (3, 3, 4))

    assert first == second
    assert first.deviation != other.deviation


def test_nothing_is_told_when_time_is_up() -> None:
    tape = tape_of(one_by_one, numbers(9))

    assert sample(tape, targets_of(tape), deadline=time.perf_counter() - 1) == {}
    with pytest.raises(ValueError, match="2 runs are too few"):
        sample(tape, targets_of(tape), runs=2)


@pytest.mark.parametrize("unit", [U64, U32, 2.0**-9])
def test_numbers_are_moved_without_a_bias_and_with_the_variance_of_a_uniform_error(unit: float) -> None:
    """Also where float64 holds no number in between; 1.0 and 1.99 lie at both ends of a binade."""
    generator = np.random.default_rng(0)
    for number in (1.0, 1.99, -3e-300, 1e300):
        moved = at_random(torch.full((200_000,), number, dtype=torch.float64), unit, generator)
        relative = ((moved - number) / (number * unit)).numpy()
        assert np.abs(relative).max() <= 2  # one spacing of float64, which is 2u at most
        assert relative.mean() == pytest.approx(0, abs=0.01)
        assert relative.var() == pytest.approx(1 / 3, rel=0.03)


def test_0_and_what_is_not_finite_stay() -> None:
    generator = np.random.default_rng(0)
    given = torch.tensor([0.0, math.inf, -math.inf, math.nan], dtype=torch.float64)
    for unit in (U64, U32):
        assert torch.equal(at_random(given, unit, generator).nan_to_num(nan=5.0), given.nan_to_num(nan=5.0))


@pytest.mark.parametrize("probability", [1e-9, 1e-4, 0.025, 0.5, 0.975, 1 - 1e-6])
@pytest.mark.parametrize("freedom", [2, 19, 99])
def test_chi_square_is_the_inverse_of_its_distribution(freedom: int, probability: float) -> None:
    value = chi_square(freedom, probability)
    below = mpmath.gammainc(mpmath.mpf(freedom) / 2, 0, mpmath.mpf(value) / 2, regularized=True)

    assert float(below) == pytest.approx(probability, rel=1e-6)


def test_the_interval_of_20_runs_is_the_textbooks() -> None:
    below, above = deviation_bounds(20)  # χ² with 19 degrees of freedom: 8.907 and 32.852

    assert below == pytest.approx(math.sqrt(19 / 32.852), rel=1e-4)
    assert above == pytest.approx(math.sqrt(19 / 8.907), rel=1e-4)


def test_intervals_hold_the_true_digits_in_95_of_100_cases() -> None:
    """Of normal variables, where that is what the intervals say."""
    generator = np.random.default_rng(1)
    true, held = 4.0, 0
    for _ in range(2000):
        moments = Moments(())
        for value in generator.normal(1.0, 10**-true, 12):
            moments.add(np.asarray(value))
        found = significance(moments, U64, {}).overall
        assert found is not None
        held += found.low <= true <= found.high

    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_intervals_for_the_worst_of_many_entries_hold_it_at_least_as_often() -> None:
    generator = np.random.default_rng(1)
    deviations = 10.0 ** generator.uniform(-6, -4, 40)
    true, held = -math.log10(deviations.max()), 0
    for _ in range(500):
        moments = Moments((40,))
        for _ in range(12):
            moments.add(generator.normal(1.0, deviations))
        found = significance(moments, U64, {}).worst
        assert found is not None
        held += found.low <= true <= found.high

    assert held / 500 >= 0.95


def test_intervals_of_sampled_programs_hold_the_digits_by_hand() -> None:
    x = numbers(14)
    tape = tape_of(one_by_one, x)
    (value,) = tape.outputs.values()
    partial = np.cumsum(x.detach().double().numpy())
    true = -math.log10(U32 * UNIFORM * math.sqrt(float((partial[1:] ** 2).sum())) / partial[-1])
    targets = [target for target in targets_of(tape) if target.value == value]
    held = 0
    for seed in range(300):
        found = sample(tape, targets, 8, seed)[value].overall
        assert found is not None
        held += found.low <= min(true, DIGITS32) <= found.high

    assert 0.92 <= held / 300 <= 0.99


def test_moments_are_those_of_numpy() -> None:
    runs = np.random.default_rng(0).normal(3, 2, (9, 4))
    runs[:, 3] = np.inf
    moments = Moments((4,))
    for values in runs:
        moments.add(values)

    np.testing.assert_allclose(moments.mean[:3], runs[:, :3].mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.deviation[:3], runs[:, :3].std(0, ddof=1), rtol=1e-14)
    assert (moments.mean[3], moments.deviation[3]) == (np.inf, 0.0)


def test_an_entry_that_is_infinite_in_some_runs_has_0_digits() -> None:
    moments = Moments((2,))
    for last in (1.0, np.inf, 1.0):
        moments.add(np.array([1.0, last]))
    found = significance(moments, U32, {})

    assert found.worst == (0.0, 0.0, 0.0)
    assert found.overall == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "model", [models.convolutions, models.lstm, models.factorisations, models.in_half_precision],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_samples_deviate_as_much_as_the_run_is_off_in_narrow_formats(model: Callable[[], Subject]) -> None:
    tape = record_tape(subject_program(models.made(model)))
    assert_as_large(tape, ShadowReference(tape, in_float64(tape)))


def test_samples_deviate_as_much_as_the_run_is_off_where_one_rounding_is_repeated() -> None:
    """The error of a computed inverse that is used again and again grows like n, not like its root."""
    tape = record_tape(subject_program(graphlens.lesson("wasteful", n=60)))
    assert_as_large(tape, ExactReference(tape, replay(tape, wanted={target.value for target in targets_of(tape)})))


@pytest.mark.parametrize(
    "model", [models.llama, models.convolutions, models.normalisations, models.lstm, models.factorisations],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_runs_side_by_side_are_the_runs_one_by_one(model: Callable[[], Subject]) -> None:
    tape = record_tape(subject_program(models.made(model)))
    generator = np.random.default_rng(0)
    seen, together = set(), 0
    for call in tape.calls:
        given = [wide(tape.tensors[value]) for value in call.inputs]
        key = (call.function, *(x.shape for x in given))
        if key in seen or call.random or "empty" in str(call.function) or not any(map(is_number, given)):
            continue
        seen.add(key)
        pairs = [[at_random(x, 1e-3, generator) for _ in range(2)] if is_number(x) else [x, x] for x in given]
        varied = [Varied(torch.stack(pair), True) for pair in pairs]
        made = _side_by_side(call, varied)
        if made is None:  # then they are made one by one
            continue
        together += 1
        for run in range(2):
            alone = wide_call(call, [pair[run] for pair in pairs])
            assert alone is not None
            for one, all_runs in zip(alone, made, strict=True):
                if isinstance(one, torch.Tensor) and is_number(one) and one.numel():
                    torch.testing.assert_close(all_runs[run], one, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert together > 0.8 * len(seen)


def test_one_by_one_samples_deviate_as_those_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record_tape(subject_program(models.made(models.attention)))
    together = sample(tape, targets_of(tape), 60)
    monkeypatch.setattr("graphlens.numerics.sampling._MOST_AT_ONCE", 1)
    alone = sample(tape, targets_of(tape), 60)

    for value, found in together.items():
        assert found.deviation == pytest.approx(alone[value].deviation, rel=0.5)


def assert_as_large(tape: Tape, reference: Reference) -> None:
    checked = 0
    targets = targets_of(tape)
    found = sample(tape, targets)
    for target in targets:
        error, size = reference.error(target.value), tape.tensors[target.value].numel()
        if error is None or size < 3:  # one number may be right by chance
            continue
        assert 0.1 <= float(np.abs(error).max()) / found[target.value].deviation <= 10, target
        checked += 1
    assert checked >= 2

"""Growth laws against hand arithmetic, numpy, and data that were planted."""

from __future__ import annotations

import math
import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphlens.analyses.differences import Difference
from graphlens.analyses.fits import Line, exact_line, fit_line, fit_power, student_t
from graphlens.analyses.growth import Law, larger, laws, series
from graphlens.analyses.sweep_points import Gap, Point, Side, Sweep, from_plain, gap, is_numeric, to_plain
from graphlens.records import Timing


def sweep(xs, *, key="n", names=("t",), **columns) -> Sweep:
    """A sweep along one option; a column is a list of one quantity, None where it was not measured."""
    points = []
    for k, x in enumerate(xs):
        side = {name: values[k] for name, values in columns.items()}
        points.append(Point({key: x}, (Side(**side),) * len(names)))
    return Sweep(names, {key: list(xs)}, tuple(points))


def law(xs, **columns) -> Law:
    (found,) = laws(sweep(xs, **columns))
    return found


def timings(medians, spread=0.0) -> list[Timing]:
    return [Timing(y, y * (1 - spread / 2), y * (1 + spread / 2), 3) for y in medians]


# Least squares


def test_a_line_by_hand() -> None:
    # x̄ = 2, ȳ = 3; Sxx = 2, Sxy = 3 → slope 3/2, intercept 0; residuals 0.5, −1, 0.5 → RSS = 1.5;
    # Syy = 6 → R² = 1 − 1.5/6; s² = 1.5/(3 − 2); SE slope = √(1.5/2), SE intercept = √(1.5·(1/3 + 4/2)).
    line = fit_line([1, 2, 3], [2, 2, 5])

    assert (line.slope, line.intercept) == pytest.approx((1.5, 0.0), abs=1e-15)
    assert line.r_squared == pytest.approx(0.75)
    assert line.slope_error == pytest.approx(math.sqrt(0.75))
    assert line.intercept_error == pytest.approx(math.sqrt(3.5))
    assert (line.points, line.low, line.high, line.is_exact) == (3, 1, 3, False)


def test_a_power_by_hand() -> None:
    # Powers of e: log x = 0, 1, 2 and log y = 0, 2, 2 → p = 1, log a = 1/3;
    # residuals −1/3, 2/3, −1/3 → RSS = 2/3; Sxx = 2 → SE = √(2/3 ÷ 1 ÷ 2); Syy = 8/3 → R² = 3/4.
    power = fit_power([1, math.e, math.e**2], [1, math.e**2, math.e**2])

    assert power.exponent == pytest.approx(1.0)
    assert power.factor == pytest.approx(math.exp(1 / 3))
    assert power.error == pytest.approx(math.sqrt(1 / 3))
    assert power.r_squared == pytest.approx(0.75)


@given(
    st.lists(st.floats(0.1, 1e6), min_size=4, max_size=12, unique=True),
    st.floats(-3, 3),
    st.integers(0, 2**32),
)
def test_fits_against_numpy(xs: list[float], exponent: float, seed: int) -> None:
    noise = random.Random(seed)
    ys = [x**exponent * math.exp(noise.gauss(0, 0.1)) for x in xs]
    logs = numpy.log(xs), numpy.log(ys)
    if logs[0].std() < 1e-3:
        return
    (slope, intercept), covariance = numpy.polyfit(*logs, 1, cov=True)

    power = fit_power(xs, ys)

    assert power.exponent == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert power.factor == pytest.approx(math.exp(intercept), rel=1e-6)
    assert power.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-5)
    assert power.r_squared == pytest.approx(numpy.corrcoef(*logs)[0, 1] ** 2, rel=1e-5, abs=1e-7)


def test_errors_of_a_line_against_numpy() -> None:
    xs, ys = [10, 30, 100, 300, 1000], [1.0, 2.9, 10.4, 28.0, 101.0]
    (slope, intercept), covariance = numpy.polyfit(xs, ys, 1, cov=True)

    line = fit_line(xs, ys)

    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert (line.slope_error, line.intercept_error) == pytest.approx(tuple(numpy.sqrt(numpy.diag(covariance))))


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_a_line_at_any_scale(scale: float) -> None:
    line = fit_line([1.0, 2.0, 3.0], [2 * scale, 2 * scale, 5 * scale])

    assert line.slope == pytest.approx(1.5 * scale)
    assert line.slope_error == pytest.approx(math.sqrt(0.75) * scale)


def test_exact_lines() -> None:
    assert exact_line([10, 30, 100], [45, 105, 315]) == Line(3, 0.0, 15, 0.0, 1.0, 3, 10, 100, True)
    assert exact_line([0, 5, 7], [3, -7, -11]) == Line(-2, 0.0, 3, 0.0, 1.0, 3, 0, 7, True)
    assert exact_line([10, 30, 100], [45, 105, 316]) is None  # off by one at one point
    assert exact_line([2, 4, 6], [1, 2, 3]) is None  # half a node for each step
    assert exact_line([10, 30], [45, 105]) is None  # two points always lie on a line
    assert exact_line([1.0, 2.0, 3.0], [1, 2, 3]) is None  # steps of an option that is no whole number
    big = 10**20
    assert exact_line([1, 2, 3], [big + 1, big + 2, big + 3]) == Line(1, 0.0, big, 0.0, 1.0, 3, 1, 3, True)
    assert exact_line([1, 2, 3], [big + 1, big + 2, big + 4]) is None  # floats could not tell


def test_student_t() -> None:
    for freedom, value in {1: 12.706, 2: 4.303, 10: 2.228, 11: 2.201, 20: 2.086, 60: 2.000, 1000: 1.962}.items():
        assert student_t(freedom) == pytest.approx(value, abs=0.02)


# Laws


def test_exactly_linear_counts() -> None:
    found = law([10, 30, 100, 300, 1000], nodes=[3 * n + 15 for n in (10, 30, 100, 300, 1000)])

    assert found.line == Line(3, 0.0, 15, 0.0, 1.0, 5, 10, 1000, True)
    assert (found.power.low, found.power.high, found.power.points) == (100, 1000, 3)
    assert found.power.exponent == pytest.approx(0.98, abs=0.01)
    assert (found.constant, found.note) == (None, "")


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_planted_powers(degree: int) -> None:
    xs = [10, 30, 100, 300, 1000]
    found = law(xs, saved=[7 * x**degree for x in xs])

    assert found.power.exponent == pytest.approx(degree, abs=1e-9)
    assert found.power.factor == pytest.approx(7)
    assert found.power.error < 1e-9
    assert found.power.r_squared == pytest.approx(1)
    assert found.line.is_exact == (degree == 1)


def test_the_small_points_do_not_bend_the_exponent() -> None:
    xs = [1, 3, 10, 1000, 3000, 10000]
    found = law(xs, nodes=[1000 + x * x for x in xs])

    assert (found.power.low, found.power.points) == (1000, 3)
    assert found.power.exponent == pytest.approx(2, abs=0.01)


def test_how_many_points_a_power_law_takes() -> None:
    assert [larger(count) for count in (3, 4, 5, 6, 7, 8, 20)] == [3, 3, 3, 3, 4, 4, 10]


def test_a_constant_is_said_to_be_one() -> None:
    found = law([1, 10, 100], nodes=[14, 14, 14])

    assert (found.constant, found.power, found.line) == (14, None, None)
    assert found.note == "the same at every point"
    assert law([1, 10, 100], nodes=[0, 0, 0]).note == "0 at every point"


@pytest.mark.parametrize("count", [1, 2])
def test_no_law_from_fewer_than_three_points(count: int) -> None:
    xs = [10, 100][:count]
    found = law(xs, nodes=[3 * x for x in xs])

    assert (found.power, found.line, found.constant) == (None, None, None)
    assert "a law needs at least 3" in found.note


def test_points_without_a_value_are_not_counted() -> None:
    found = law([1, 10, 100, 1000], nodes=[5, None, 500, None])

    assert found.note == "2 points (2 more without a value): a law needs at least 3"
    assert laws(sweep([1, 2, 3], nodes=[None, None, None])) == ()  # never measured: no law to speak of


def test_failed_points_are_left_out() -> None:
    whole = sweep([1, 10, 100, 1000], nodes=[4, 31, 301, 3001])
    failed = Point({"n": 10}, failure="A is singular")
    found = laws(Sweep(("t",), whole.over, (whole.points[0], failed, *whole.points[2:])))

    assert found[0].line.is_exact
    assert found[0].points == 3


def test_zero_has_no_logarithm() -> None:
    found = law([0, 1, 2, 3], nodes=[1, 3, 5, 7])

    assert found.line == Line(2, 0.0, 1, 0.0, 1.0, 4, 0, 3, True)
    assert found.power.low == 1
    assert "there are 2" in law([0, 1, 2], nodes=[0, 2, 4]).note


def test_lower_bounds_tell_no_law() -> None:
    found = law([1, 10, 100], saved=[8, 80, 800], unsized=[0, 1, 0])

    assert (found.power, found.line) == (None, None)
    assert found.note == "some sizes are lower bounds, which tell no law"


def test_points_in_any_order() -> None:
    assert law([100, 1, 10], nodes=[301, 4, 31]).line.is_exact


# Times and differences: what stands out of the noise


def test_times_that_grow() -> None:
    xs = [10, 30, 100, 300, 1000]
    found = law(xs, forward=timings([1e-6 * x for x in xs], spread=0.1))

    assert found.power.exponent == pytest.approx(1)
    assert found.line.slope == pytest.approx(1e-6)
    assert found.note == ""


def test_times_whose_change_is_below_the_spread_of_the_clock() -> None:
    found = law([10, 100, 1000], forward=timings([100e-6, 130e-6, 160e-6], spread=0.3))

    # 60 µs of change against 48 µs of spread at the last point.
    assert (found.power, found.line) == (None, None)
    assert found.note == (
        "from n = 10 to 1,000 the median changes by 60.0 µs, no more than twice the spread of 48.0 µs at a single "
        "point, so that no growth can be claimed"
    )


def test_a_machine_drifts_between_points() -> None:
    found = law([10, 100, 1000], backward=timings([100e-6, 120e-6, 140e-6], spread=0.01))

    assert (found.power, found.line) == (None, None)
    assert "less than 1.5 times the smallest" in found.note


def test_times_that_scatter() -> None:
    found = law([1, 10, 100, 1000, 10_000], forward=timings([1e-3, 9e-3, 1.1e-3, 8e-3, 2e-3]))

    assert (found.power, found.line) == (None, None)
    assert "the exponent through the 3 larger points is" in found.note
    assert "which of so few is not told apart from 0 at 95 %; no slope stands out of the scatter" in found.note


@pytest.mark.parametrize("seed", range(30))
def test_noise_is_seldom_called_a_law(seed: int) -> None:
    noise = random.Random(seed)
    medians = [1e-4 * math.exp(noise.gauss(0, 0.1)) for _ in range(6)]
    found = law([10, 30, 100, 300, 1000, 3000], forward=timings(medians, spread=0.2))

    assert (found.power, found.line) == (None, None)


def test_differences_belong_to_the_pair() -> None:
    points = tuple(
        Point({"n": n}, (Side(), Side()), Gap(1e-15 * n**2, None), Gap(0.0, None)) for n in (10, 100, 1000)
    )
    output, gradient = laws(Sweep(("a", "b"), {"n": [10, 100, 1000]}, points))

    assert (output.side, output.quantity.key) == (None, "output_difference")
    assert output.power.exponent == pytest.approx(2)
    assert (gradient.constant, gradient.note) == (0.0, "0 at every point")


# Options


def test_a_law_for_each_setting_of_the_other_options() -> None:
    points = tuple(
        Point({"n": n, "d": d}, (Side(nodes=n * d + d),)) for d in (3, 5) for n in (1, 2, 4)
    )
    found = laws(Sweep(("t",), {"n": [1, 2, 4], "d": [3, 5]}, points))

    along_n = [(one.where, one.line.slope, one.line.intercept) for one in found if one.over == "n"]
    assert along_n == [({"d": 3}, 3, 3), ({"d": 5}, 5, 5)]
    assert [one.where for one in found if one.over == "d"] == [{"n": 1}, {"n": 2}, {"n": 4}]
    assert all("2 points" in one.note for one in found if one.over == "d")


def test_no_law_along_words() -> None:
    assert laws(sweep(["a", "b", "c"], key="form", nodes=[1, 2, 3])) == ()
    assert laws(sweep([True, False], key="bias", nodes=[1, 2])) == ()
    assert [one.xs for one in series(sweep(["a", "b"], key="form", nodes=[1, 2]), "form")] == [("a", "b")]


def test_what_is_a_number() -> None:
    assert is_numeric([1, 2.5, -3])
    for values in (["a", 1], [True, False], [None], [(1, 2)], [10**400]):
        assert not is_numeric(values)


# Differences of many tensors


def test_the_gap_is_the_largest_one() -> None:
    rows = [
        Difference("x", "value", "value", 1e-3, 1e-6),
        Difference("y", "value", "value", 1e-4, 1e-5),
        Difference("A", "value", "none", largest=0.5),
        Difference("b", "none", "none"),
    ]

    assert gap(rows) == Gap(1e-3, 1e-5, {"A": 0.5})


def test_a_gap_that_cannot_be_formed() -> None:
    nan = Difference("y", "value", "value", note="1 entry has no finite difference")

    assert gap([Difference("x", "value", "value", 1.0), nan]) == Gap(
        None, None, {}, "y: 1 entry has no finite difference"
    )
    assert gap([Difference("A", "value", "none")]).note == "no tensor has a value for both"
    assert gap([Difference("x", "value", "value", 0.0)]) == Gap(0.0, None)


def test_a_point_comes_back_from_json() -> None:
    side = Side(3, 4, 2, 80, 1, Timing(0.1, 0.05, 0.2, 3), None, math.inf, 2, {"n": 3}, ("a note",))
    point = Point({"n": 3}, (side, Side()), Gap(1.0, None, {"A": math.inf}), None, 3)

    assert from_plain({"n": 3}, to_plain(point)) == point


@pytest.mark.parametrize("damage", [{}, {"sides": 3}, {"sides": [{}]}, {"output": [1]}, {"repeats": "x"}])
def test_what_is_no_point_is_refused(damage: dict) -> None:
    plain = to_plain(Point({}, (Side(),), Gap(0.0, 0.0)))

    with pytest.raises(ValueError, match="no "):
        from_plain({}, {**plain, **damage} if damage else {})

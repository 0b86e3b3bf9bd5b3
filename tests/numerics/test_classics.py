"""The classic examples of numerical analysis, examples/rounding/*.py, against what the textbooks say of them."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import graphlens
from graphlens.accuracy import Quantity
from graphlens.analyses.explanation import Explanation
from graphlens.analyses.findings import Finding

FOLDER = Path(__file__).parents[2] / "examples" / "rounding"
U32, U64 = 2.0**-24, 2.0**-53


@functools.cache
def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rounding_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def explained(name: str, factory: str, *options: tuple[str, int]) -> Explanation:
    return graphlens.explain(getattr(example(name), factory)(**dict(options)), topics=["rounding"])


def result(found: Explanation, label: str) -> Quantity:
    assert found.accuracy is not None
    (item,) = (item for item in found.accuracy.quantities if item.label == label)
    return item


def relative(found: Explanation, label: str) -> float:
    item = result(found, label)
    assert item.error is not None
    assert item.truth
    return item.error / item.truth


def plain(found: Explanation) -> str:
    """The report as one line."""
    return " ".join(str(found).split())


def about(found: Explanation, label: str, code: str = "GL3") -> list[Finding]:
    """The findings by which a result lost digits."""
    chosen = []
    for finding in found.rounding:
        results = finding.evidence.get("results", {})
        assert isinstance(results, dict)
        if finding.code.startswith(code) and label in results:
            chosen.append(finding)
    return chosen


def test_a_running_sum_loses_small_terms_and_kahan_keeps_them() -> None:
    naive, compensated = explained("summation", "naive"), explained("summation", "compensated")
    (finding,) = about(naive, "total")

    assert result(naive, "total").size == 1.0  # every term was lost
    assert relative(naive, "total") == pytest.approx(1500 * 5.5e-8, rel=1e-3)
    assert (finding.code, finding.evidence["calls"]) == ("GL305", 1500)
    (growth,) = (item for item in naive.rounding if item.code == "GL301")
    assert growth.evidence["verdict"] == "stalled"
    assert "while the true value moves on" in growth.claim
    assert "compensated summation" in growth.fix
    assert "total = total + term" in finding.where.text
    # Kahan's bound is 2u + O(n·u²) (Higham 2002, (4.8)).
    assert relative(compensated, "total") <= 2 * U32
    assert about(compensated, "total") == []


def test_one_minus_cosine_keeps_no_digit() -> None:
    naive, stable = explained("cosine", "naive"), explained("cosine", "stable")
    (finding,) = about(naive, "value")

    assert result(naive, "value").size == pytest.approx(0.77, abs=0.01)
    assert (finding.code, finding.level) == ("GL304", "error")
    # κ of the difference: Σ|terms| ÷ |Σ terms| is (1 + cos x) ÷ (1 − cos x), some 4 ÷ x² in float64's own numbers.
    assert 1e16 <= float(str(finding.evidence["factor"])) <= 2e16
    # −x/12, which is far below the error and not 0 for all that
    assert result(naive, "gradient of x").truth == pytest.approx(1.2e-8 / 12, rel=1e-6)
    assert not result(naive, "gradient of x").is_zero
    assert relative(stable, "value") <= 4 * U64
    assert about(stable, "value") == []


def test_the_small_root_of_a_quadratic() -> None:
    naive, stable = explained("quadratic", "naive"), explained("quadratic", "stable")
    (finding,) = about(naive, "root")

    assert result(naive, "root").size == 2.0**-27  # the famous −7.45e-9 in place of −1e-8
    assert (finding.code, finding.where.text) == ("GL304", "return (root - b) / 2")
    assert relative(stable, "root") <= 4 * U64
    assert stable.rounding == ()


def test_the_variance_of_three_numbers_is_0_in_one_pass_and_1_in_two() -> None:
    one, two = explained("variance", "one_pass"), explained("variance", "two_passes")
    (finding,) = about(one, "variance")

    assert (result(one, "variance").size, result(two, "variance").size) == (0.0, 1.0)
    assert result(one, "variance").truth == result(two, "variance").truth == 1.0
    assert (finding.code, finding.level) == ("GL304", "error")
    assert two.rounding == ()


def test_log_sum_exp_overflows_unless_the_largest_is_taken_out() -> None:
    naive, shifted = explained("log_sum_exp", "naive"), explained("log_sum_exp", "shifted")
    (finding,) = naive.rounding

    assert (finding.code, finding.level, finding.where.text) == ("GL306", "error", "powers = torch.exp(x)")
    assert result(naive, "value").truth == result(shifted, "value").truth, "infinite, and yet the truth is not 0"
    assert not result(naive, "value").is_zero
    assert result(naive, "value").attribution is None, "what is infinite has no error that adds up"
    assert finding.evidence["true_log10"] == pytest.approx(1000 / math.log(10))
    assert result(shifted, "value").truth == pytest.approx(1000 + math.log(1 + math.e), rel=1e-15)
    assert relative(shifted, "value") <= U64
    assert shifted.rounding == ()


@pytest.mark.parametrize("n", [6, 8, 10])
def test_a_hilbert_system_costs_a_digit_and_a_half_for_every_row(n: int) -> None:
    found = explained("hilbert", "monomials", ("n", n))
    (finding,) = about(found, "gradient of moments", "GL303")
    kappa = finding.evidence["kappa"]
    i = torch.arange(n, dtype=torch.float64)

    assert isinstance(kappa, float)
    assert kappa == pytest.approx(float(torch.linalg.cond(1 / (i[:, None] + i + 1))), rel=1e-3)
    # (1 + √2)^(4n) ÷ √n, up to a factor (Higham 2002, section 28.1)
    assert 0.01 <= kappa / ((1 + math.sqrt(2)) ** (4 * n) / math.sqrt(n)) <= 1
    assert 1e-5 * kappa * U64 <= relative(found, "gradient of moments") <= kappa * U64
    assert explained("hilbert", "legendre", ("n", n)).rounding == ()


def test_a_small_hilbert_system_does_no_harm() -> None:
    found = explained("hilbert", "monomials", ("n", 3))

    assert relative(found, "gradient of moments") <= 1e3 * U64
    assert found.rounding == ()


def test_a_matrix_that_is_singular_for_float64_is_told_as_at_least() -> None:
    found = explained("hilbert", "monomials", ("n", 14))

    assert any(item.evidence["at_least"] for item in found.rounding if item.code == "GL303")


def test_power_iteration_forgets_the_error_of_its_first_step() -> None:
    first, last = explained("power_iteration", "first_step"), explained("power_iteration", "iterated")
    (finding,) = about(first, "vector")
    a = example("power_iteration").matrix()
    dominant = torch.linalg.eigvals(a.detach()).abs().max().item()

    assert (finding.code, finding.level, finding.where.text) == ("GL304", "error", "y = a @ x")
    assert relative(first, "vector") > 0.1
    assert result(last, "eigenvalue").size == pytest.approx(dominant, rel=1e-12)
    assert max(relative(last, "vector"), relative(last, "eigenvalue")) <= 4 * U64
    assert about(last, "vector") == about(last, "eigenvalue") == []


def test_mullers_recurrence_tends_to_100_in_place_of_5() -> None:
    few, many = explained("muller", "few_steps"), explained("muller", "recurrence")

    # In closed form x_n = (3ⁿ⁺¹ + 5ⁿ⁺¹) ÷ (3ⁿ + 5ⁿ).
    assert result(few, "x").truth == pytest.approx((3**4 + 5**4) / (3**3 + 5**3), rel=1e-15)
    assert result(many, "x").truth == pytest.approx((3**26 + 5**26) / (3**25 + 5**25), rel=1e-15)
    assert result(many, "x").size == pytest.approx(100, abs=1e-6)
    assert result(many, "x").digits == 0.0
    assert relative(few, "x") <= 1e3 * U64
    (growth,) = (item for item in many.rounding if item.code == "GL301")
    assert growth.evidence["verdict"] == "amplified"
    assert growth.where.text == "older, newer = newer, 108 - (815 - 1500 / older) / newer"
    # Next to the fixed point 5 a round is of slope 100 ÷ 5, next to it on the way there a little more.
    assert growth.evidence["factor_per_round"] == pytest.approx(20, rel=0.05)
    assert growth.evidence["measured_factor_per_round"] == pytest.approx(20, rel=0.05)
    # The error has left first order behind: to name ops with shares of it would be false.
    assert "Who made the error of x Not known. First order is off by" in plain(many)
    assert "times the error" in plain(many)
    assert "which is too large for it." in plain(many)
    assert {item.where.text for item in few.rounding} == set()
    # No op loses more than its one rounding: the growth of the error is to blame, and no op by itself.
    assert [item for item in many.rounding if item.code in ("GL303", "GL304", "GL305", "GL306", "GL307")] == []


def test_cross_entropy_of_large_logits() -> None:
    spelt_out, halfway = explained("softmax", "spelt_out"), explained("softmax", "log_of_softmax")
    right = explained("softmax", "log_softmax")

    assert [(item.code, item.level, item.where.text) for item in spelt_out.rounding] == [
        ("GL306", "error", "powers = torch.exp(logits)")
    ]
    assert [(item.code, item.level, item.where.text) for item in halfway.rounding] == [
        ("GL306", "error", "shares = torch.softmax(logits, 1)")
    ]
    assert result(right, "loss").truth == pytest.approx(119.5, rel=1e-9)
    assert relative(right, "loss") <= U32
    assert right.rounding == ()


# The two longest are explained above, factory by factory.
@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.py")} - {"summation", "power_iteration"}))
def test_every_example_says_what_its_factories_lose(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    example(name).main()

    assert capsys.readouterr().out.count("right digits") >= 2

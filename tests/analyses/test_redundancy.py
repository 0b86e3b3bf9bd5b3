"""Planted waste is found with its count, and look-alikes are not."""

from __future__ import annotations

import pytest
import torch

from graphlens.analyses.catalogue import PAGES, page_of
from graphlens.analyses.findings import Finding
from graphlens.proof.prove import prove
from tests.waste.cases import Case, Forward, look_into


def found(case: Case, *codes: str) -> list[Finding]:
    findings = look_into(case.program()).result.findings
    return [finding for finding in findings if finding.code in (codes or ("GL201", "GL202", "GL206"))]


SQUARE = {"A": (4, 4), "y": (4,)}
TWO = {"x": (3, 4), "w": (3, 4)}


def chain(rounds: int) -> Forward:
    def forward(A: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for _ in range(rounds):
            y = torch.linalg.inv(A) @ (A @ y)
        return y.sum()

    return forward


@pytest.mark.parametrize("rounds", [2, 7])
def test_the_inverse_in_a_loop(rounds: int) -> None:
    looked = look_into(Case(chain(rounds), SQUARE).program())
    result = looked.result
    repeated, undone = (next(f for f in result.findings if f.code == code) for code in ("GL201", "GL202"))

    assert repeated.evidence["times"] == rounds
    assert repeated.evidence["nodes"] == rounds - 1
    assert f"inv(A) is computed {'twice' if rounds == 2 else f'{rounds} times'}" in repeated.claim
    assert undone.evidence["pairs"] == rounds
    assert undone.evidence["nodes"] == 2 * rounds
    assert repeated.where.text == undone.where.text == "y = torch.linalg.inv(A) @ (A @ y)"
    assert result.left == looked.nodes - 3 * rounds - 1  # A is a leaf that nothing reads any more


PAIRS: dict[str, Case] = {
    "product with the inverse, from the left": Case(lambda A, y: (A @ (torch.linalg.inv(A) @ y)).sum(), SQUARE),
    "matrices": Case(lambda A, y: (torch.linalg.inv(A) @ (A @ y)).sum(), {"A": (4, 4), "y": (4, 2)}),
    "from the right": Case(lambda A, y: ((y @ A) @ torch.linalg.inv(A)).sum(), {"A": (4, 4), "y": (2, 4)}),
    "batches": Case(
        lambda A, y: (torch.bmm(torch.linalg.inv(A + 3 * torch.eye(4)), torch.bmm(A + 3 * torch.eye(4), y))).sum(),
        {"A": (2, 4, 4), "y": (2, 4, 3)},
    ),
    "solve": Case(lambda A, y: torch.linalg.solve(A, A @ y).sum(), SQUARE | {"y": (4, 2)}),
    "product of a solution": Case(lambda A, y: (A @ torch.linalg.solve(A, y)).sum(), SQUARE | {"y": (4, 2)}),
    "the inverse of the inverse": Case(lambda A, y: (torch.linalg.inv(torch.linalg.inv(A)) @ y).sum(), SQUARE),
    "exp and log": Case(lambda x, w: (x.exp().log() * w).sum(), TWO),
    "log and exp": Case(lambda x, w: (x.sigmoid().log().exp() * w).sum(), TWO),
    "neg": Case(lambda x, w: (x.neg().neg() * w).sum(), TWO),
    "reciprocal": Case(lambda x, w: (x.reciprocal().reciprocal() * w).sum(), TWO),
    "root and square": Case(lambda x, w: (x.exp().sqrt() ** 2 * w).sum(), TWO),
    "square and root": Case(lambda x, w: ((x.sigmoid() ** 2).sqrt() * w).sum(), TWO),
    "added and taken away": Case(lambda x, w: (((x + w) - w).tanh() * w).sum(), TWO),
    "taken away and added": Case(lambda x, w: ((x - 2.5) + 2.5).tanh().sum() * w.sum(), TWO),
    "multiplied and divided": Case(lambda x, w: ((x * 3) / 3).tanh().sum() * w.sum(), TWO),
    "flip": Case(lambda x, w: (x.flip(0).flip(0) * w).sum(), TWO),
    "roll": Case(lambda x, w: (x.roll(2, 1).roll(-2, 1) * w).sum(), TWO),
    "transposes": Case(lambda x, w: (x.t().t().tanh() * w).sum(), TWO),
    "permutes": Case(lambda x, w: (x[None].permute(1, 2, 0).permute(2, 0, 1)[0] * w).sum(), TWO),
    "cut and joined": Case(lambda x, w: (torch.cat(x.chunk(2, dim=1), dim=1).tanh() * w).sum(), TWO),
    "unbound and stacked": Case(lambda x, w: (torch.stack(x.unbind(1), 1).tanh() * w).sum(), TWO),
    "a cast and back": Case(lambda x, w: (x.float().double().float().tanh().double() * w).sum(), TWO),
}


@pytest.mark.parametrize("name", PAIRS)
def test_work_that_is_undone(name: str) -> None:
    (finding,) = found(PAIRS[name], "GL202")

    assert finding.evidence["pairs"] == 1
    assert "test_redundancy.py" in finding.where.source


@pytest.mark.parametrize("name", PAIRS)
def test_without_what_is_undone_the_program_is_the_same(name: str) -> None:
    looked = look_into(PAIRS[name].program())
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, repeats=1)

    assert proof.holds, proof.failures
    assert proof.comparison is not None
    assert proof.comparison.b.graph is not None
    assert len(proof.comparison.b.graph) == looked.result.left < looked.nodes


LAYER = torch.nn.Linear(4, 4, dtype=torch.float64)

REPEATS: dict[str, tuple[Case, int]] = {
    "an op": (Case(lambda x, w: (x.exp() * w).sum() + x.exp().sum(), TWO), 2),
    "in a loop": (Case(lambda x, w: sum((w * k * x.tanh().cosh()).sum() for k in range(5)), TWO), 5),
    "a layer": (Case(lambda x, w: (LAYER(x) * LAYER(x)).sum() + w.sum(), TWO), 2),
    "a product": (Case(lambda x, w: sum((x @ w.t()).sum() * k for k in range(3)), TWO), 3),
    "constants that are equal": (
        Case(lambda x, w: sum((x * torch.arange(4.0)).sum() for _ in range(3)) + w.sum(), TWO),
        3,
    ),
    "a softmax": (Case(lambda x, w: (x.softmax(-1) * w).sum() + x.softmax(-1).max(), TWO), 2),
}


@pytest.mark.parametrize("name", REPEATS)
def test_what_is_computed_again(name: str) -> None:
    case, count = REPEATS[name]
    finding = found(case, "GL201")[0]

    assert finding.evidence["times"] == count
    assert finding.evidence["values"] == 1


def test_an_inverse_that_is_only_multiplied_with() -> None:
    (finding,) = found(Case(lambda A, y: (torch.linalg.inv(A) @ y).sum(), {"A": (4, 4), "y": (4, 2)}), "GL203")
    # 2 n³ + 2 n² k against 2/3 n³ + 2 n² k, n = 4, k = 2
    assert finding.evidence["flops"] == 192
    assert finding.evidence["flops_of_solving"] == 42 + 64
    assert found(Case(lambda A, y: (torch.linalg.inv(A) @ y).sum() + torch.linalg.inv(A).sum(), SQUARE), "GL203") == []


def test_a_product_in_a_dear_order() -> None:
    shapes = {"A": (6, 5), "B": (5, 7), "v": (7,)}
    (finding,) = found(Case(lambda A, B, v: ((A @ B) @ v).sum(), shapes), "GL206")

    assert finding.evidence["flops"] == 2 * (6 * 5 * 7 + 6 * 7)
    assert finding.evidence["flops_of_the_other_order"] == 2 * (5 * 7 + 6 * 5)
    assert "A @ (B @ v)" in finding.claim


def test_flops_of_both_orders_are_those_of_torchs_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    A, B, C = torch.randn(6, 5), torch.randn(5, 7), torch.randn(7, 2)
    counted = []
    for forward in (lambda: (A @ B) @ C, lambda: A @ (B @ C)):
        with FlopCounterMode(display=False) as counter:
            forward()
        counted.append(counter.get_total_flops())
    (finding,) = found(Case(lambda A, B, v: ((A @ B) @ v).sum(), {"A": (6, 5), "B": (5, 7), "v": (7, 2)}), "GL206")

    assert [finding.evidence["flops"], finding.evidence["flops_of_the_other_order"]] == counted


def test_a_loop_over_entries() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([value * 2 + 1 if value > 0 else value * 0.1 for value in x]).sum()

    (finding,) = found(Case(forward, {"x": (6,)}), "GL205")
    assert finding.evidence["parts"] == 6


def test_equal_numbers_by_chance_are_not_equal_values() -> None:
    """relu gives back what went in, for these numbers."""
    case = Case(lambda x, w: ((x * x).relu() * w).sum(), TWO)
    assert found(case) == []


def test_the_page_lists_the_rules_that_there_are() -> None:
    from graphlens.analyses.redundancy.rules import RULES

    names = {rule.name for rules in RULES.values() for rule in rules}
    assert set(page_of("GL202").cases) == names - {"view and view"}
    assert len(names) > 25
    assert page_of("GL201") is PAGES["GL201"]


def test_the_rule_is_named_as_on_the_page() -> None:
    (finding,) = found(Case(lambda x, w: (((x + w) - w).tanh() * w).sum(), TWO), "GL202")
    assert finding.evidence["rule"] == "add and sub"
    assert finding.evidence["rule"] in page_of("GL202").cases


def test_random_numbers_that_are_equal_by_chance_are_not_equal_values() -> None:
    """With a probability of 1 both masks are the same numbers."""
    case = Case(lambda x, w: (torch.bernoulli(x * 0 + 1) * w.exp() * torch.bernoulli(x * 0 + 1)).sum(), TWO)
    # What the masks are made of is the same, and said to be; the masks are not.
    assert {finding.evidence["op"] for finding in found(case, "GL201")} <= {"mul", "add"}
    assert all("bernoulli" not in finding.claim for finding in found(case, "GL201"))


def test_copies_of_next_to_nothing_are_not_told() -> None:
    """The same small copy is worth a finding beside little, and not beside a hundred times as much."""

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        return (y.clone().sin() + y).sum() + w.exp().tanh().sum()

    assert len(found(Case(forward, {"x": (3, 4), "w": (3, 4)}), "GL204")) == 1
    assert found(Case(forward, {"x": (3, 4), "w": (300, 4)}), "GL204") == []


def test_parts_that_meet_are_no_loop_over_entries() -> None:
    def each(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (torch.stack([part.exp() * 2 for part in x]) * w).sum()

    def neighbours(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        parts = list(x)
        return (torch.stack([(a * b).exp() for a, b in zip(parts, [*parts[1:], parts[0]], strict=True)]) * w).sum()

    eight = {"x": (8,), "w": (8,)}
    assert len(found(Case(each, eight), "GL205")) == 1
    assert found(Case(neighbours, eight), "GL205") == []


@pytest.mark.parametrize(("columns", "count"), [(3, 0), (1, 1)])
def test_another_order_is_told_where_it_halves_the_work(columns: int, count: int) -> None:
    """(P Q) R with P 8×8, Q 8×8: 512 + 64 p multiply-adds against 128 p: 704 and 384 at p = 3, 576 and 128 at p = 1."""
    case = Case(lambda P, Q, R: (P @ Q @ R).tanh().sum(), {"P": (8, 8), "Q": (8, 8), "R": (8, columns)})
    assert len(found(case, "GL206")) == count


def test_a_false_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that says that sin undoes cos finds nothing: the numbers speak against it."""
    from graphlens.analyses.redundancy import rules

    wrong = {
        **rules.RULES,
        "sin": (rules.Rule("cos and sin", rules._pair("cos")),),
        "relu": (rules.Rule("abs and relu", rules._pair("abs")),),
    }
    monkeypatch.setattr(rules, "RULES", wrong)

    assert found(Case(lambda x, w: (x.cos().sin() * w).sum(), TWO), "GL202") == []
    # With positive numbers it holds, and for no others.
    positive = Case(lambda x, w: ((x * 0 + 2 - w * w * 0.01).abs().relu()).sum(), TWO)
    assert len(found(positive, "GL202")) <= 1


def test_hundreds_of_thousands_of_steps_are_read_in_one_go() -> None:
    from graphlens.analyses.listing import Listing, Step, Value
    from graphlens.analyses.redundancy.numbering import equalities

    count = 300_000
    steps = [Step("sin" if k % 3 else "cos", "", "·", {}, (k,), (k + 1,), None) for k in range(count)]
    listing = Listing(steps, [Value((2,), "float64", 16)] * (count + 1), {0: "x"}, [count], frozenset())

    assert equalities(listing, lambda *_: True).same == {}


def test_the_places_that_a_person_has_to_change_are_named() -> None:
    """The second of two lines that compute the same, the line of a clone, and the side of an inverse."""

    def twice(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        one = x.exp() * w
        other = x.exp() + w
        return (one + other).sum()

    def cloned(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x.tanh()
        safe = y.clone()
        return (safe.cos() + y).sum() + w.sum()

    (again,) = found(Case(twice, TWO), "GL201")
    assert again.where.text == "one = x.exp() * w"
    assert f"from the same values, again at {again.evidence['lines'][0]}. All" in again.claim  # type: ignore[index]
    (copy,) = found(Case(cloned, TWO), "GL204")
    assert copy.where.text == "safe = y.clone()"
    (left,) = found(Case(lambda A, y: (torch.linalg.inv(A) @ y).sum(), SQUARE), "GL203")
    assert left.fix == "torch.linalg.solve(A, b) for inv(A) @ b"
    (right,) = found(Case(lambda M, y: (y @ torch.linalg.inv(M)).sum(), {"M": (4, 4), "y": (2, 4)}), "GL203")
    assert right.fix == "torch.linalg.solve(M, b, left=False) for b @ inv(M)"


def test_a_remedy_says_whether_rounding_stays() -> None:
    (exact,) = found(Case(lambda x, w: (x.float().double().float().double() * w).sum(), TWO), "GL202")
    (rounded,) = found(Case(lambda x, w: (x.exp().log() * w).sum(), TWO), "GL202")

    assert exact.fix.endswith("to the last bit")
    assert rounded.fix.endswith("up to rounding")

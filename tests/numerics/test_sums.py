"""Gradients that come in parts: the parts are found, and what is said of them is what numpy says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphlens
from graphlens.numerics.sums import parts_of, term_sums
from tests.numerics.loop_programs import of, taped


@pytest.mark.parametrize("n", [1, 7, 3000])
def test_the_gradient_of_the_exercises_matrix_is_products_against_inverses(n: int) -> None:
    subject = graphlens.lesson("wasteful", n=n)
    tape, graph = taped(subject)
    (found,) = [each for each in term_sums(tape, graph) if each.leaf == "A"]
    assert found.terms == 2 * n
    assert sorted((op, count) for op, count, _, _ in found.groups) == [("LinalgInvEx", n), ("Mv", n)]
    # Independently: every product and every inverse sends one (5, 5) part; the products' are outer products.
    products, inverses = [], []
    for call in tape.calls:
        name = str(call.function)
        if call.node is None or not call.backward or call.accumulates or call.outputs[0] is None:
            continue
        tensor = tape.tensors[call.outputs[0]]
        op = graph.nodes[call.node].op
        if op == "LinalgInvExBackward0" and name == "aten.neg.default":
            inverses.append(tensor.numpy())
        if op == "MvBackward0" and name == "aten.mul.Tensor" and tensor.shape == (5, 5):
            products.append(tensor.numpy())
    # Of the products half have A as their matrix, those before each inverse; M and the last inverse have the others.
    size = sum(np.abs(part) for part in inverses[-n:])
    reach = {op: (total, norms) for op, _, total, norms in found.groups}
    assert reach["LinalgInvEx"][0] == pytest.approx(np.linalg.norm(sum(inverses[-n:])), rel=1e-9)
    total = np.abs(tape.tensors[tape.gradients["A"]].numpy())
    assert found.magnitude == pytest.approx(2 * size.flat[total.argmax()], rel=1e-6)
    assert found.kept * found.magnitude == pytest.approx(total.max(), rel=1e-12)
    assert found.opposite == pytest.approx(-1.0, abs=1e-9)
    assert found.left < 1e-10
    assert len(products) >= n


def test_parts_by_hand() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    tape, graph = taped(of(lambda x: (3.0 * x - 2.5 * x + x.square()).sum(), x))
    (found,) = term_sums(tape, graph)
    # Gradients 3, −2.5 and 2x; their sum at x = (1, 2) is (2.5, 4.5), of magnitudes (7.5, 9.5).
    assert found.terms == 3
    assert found.magnitude == 9.5
    assert found.left == 4.5 / 9.5
    groups = {op: (count, total, norms) for op, count, total, norms in found.groups}
    assert groups["Mul"] == (2, pytest.approx(0.5 * 2**0.5), pytest.approx(5.5 * 2**0.5))
    assert groups["Pow"] == (1, pytest.approx(20**0.5), pytest.approx(20**0.5))
    # The two largest groups are (0.5, 0.5) and (2, 4).
    assert found.opposite == pytest.approx(3 / (0.5 * 2**0.5 * 20**0.5))


def test_what_is_told_of_is_one_entry() -> None:
    """The largest of the sum, which need not be that with the largest parts, nor that of which most is left."""
    x = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    many, few = torch.tensor([100.0, 8.0, 1.0]), torch.tensor([99.0, 5.0, 0.0])
    tape, graph = taped(of(lambda x: (many * x - few * x).sum(), x))
    (found,) = term_sums(tape, graph)
    assert (found.magnitude, found.kept) == (13.0, 3 / 13)
    assert found.left == 1.0


def test_one_part_is_no_sum() -> None:
    tape, graph = taped(of(lambda x: x.sin().sum(), torch.ones(2, requires_grad=True)))
    assert term_sums(tape, graph) == []


def test_the_parts_add_up_to_the_gradient() -> None:
    tape, _ = taped(graphlens.lesson("wasteful", n=50))
    made_by = tape.made_by()
    for name in tape.gradients:
        parts = parts_of(tape, tape.gradients[name], made_by)
        whole = torch.stack([tape.tensors[value] for value in parts.values])
        assert torch.allclose(whole.sum(0), tape.tensors[tape.gradients[name]], rtol=0, atol=1e-10 * whole.abs().sum())
        assert len(parts.calls) == len(parts.values) - 1

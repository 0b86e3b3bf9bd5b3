"""Times, FLOPs and bytes per node, against a planted slow node, FlopCounterMode and hand arithmetic."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import graphlens
from graphlens.capture.cost import FORMULAS, count_costs
from graphlens.capture.costing import measure_costs
from graphlens.capture.program import subject_program
from graphlens.errors import MeasureError
from graphlens.subject import Subject


class Sleeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        time.sleep(0.02)
        return grad


def measured(subject: Subject, repeats: int = 2) -> tuple[graphlens.GradGraph, Any, Any]:
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return measure_costs(subject_program(subject), graph, repeats)


def test_a_planted_slow_node_is_the_slowest() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            x = x.sin()
        x = Sleeps.apply(x)
        for _ in range(50):
            x = x.cos()
        return x.sum()

    graph, run, times = measured(Subject(forward, (torch.ones(3, requires_grad=True),)))
    slowest = max(range(len(graph)), key=lambda number: graph.nodes[number].backward_ns or 0)

    assert graph.nodes[slowest].op == "SleepsBackward"
    assert graph.nodes[slowest].backward_ns >= 20_000_000
    assert graph.sources[graph.nodes[slowest].source].text == "x = Sleeps.apply(x)"
    assert sorted(times.order) == list(range(len(graph)))
    assert list(times.starts) == sorted(times.starts)
    assert run.repeats == 2


def counted(subject: Subject) -> tuple[Counter[str], Counter[str]]:
    """FLOPs by pass as FlopCounterMode counts them."""
    program = subject_program(subject)
    with FlopCounterMode(display=False) as forward:
        made = program.forward()
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(list(made.roots.values()))
    return tuple(
        Counter({str(op).rpartition(".")[2]: flops for op, flops in mode.get_flop_counts()["Global"].items()})
        for mode in (forward, backward)
    )  # type: ignore[return-value]


OPS = {"AddmmBackward0", "BmmBackward0", "MmBackward0", "ConvolutionBackward0"}


@pytest.mark.parametrize("name", ["mlp", "convolutions", "gpt2"])
def test_flops_equal_those_that_the_counter_counts(name: str) -> None:
    torch.manual_seed(0)
    if name == "mlp":
        module: torch.nn.Module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
        subject = Subject(module, (torch.randn(3, 5, requires_grad=True),))
    elif name == "convolutions":
        module = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3, stride=2))
        subject = Subject(module, (torch.randn(2, 2, 9, 9, requires_grad=True),))
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, bos_token_id=1, eos_token_id=1)
        module = transformers.GPT2LMHeadModel(config).eval()
        subject = Subject(module, (), {"input_ids": torch.arange(8)[None], "labels": torch.arange(8)[None]})
    graph = graphlens.trace(subject).graph
    assert graph is not None
    costs = count_costs(subject_program(subject), graph)
    forward, backward = counted(subject)

    own = [number for number, node in enumerate(graph.nodes) if node.op in OPS]
    adds = {"AddmmBackward0": 0}
    assert sum(costs.forward[number].flops for number in own) == sum(forward.values()) + sum(adds.values()) > 0
    products = sum(costs.backward[number].flops for number in own)
    # Beside its products a node of addmm sums the gradient of the bias up, and one of conv does it inside.
    sums = sum(graph.nodes[number].shape[0] * graph.nodes[number].shape[1] for number in own
               if graph.nodes[number].op == "AddmmBackward0")  # fmt: skip
    assert sum(backward.values()) <= products <= sum(backward.values()) + sums


def test_by_hand() -> None:
    A = torch.eye(4, dtype=torch.float64).mul(2).requires_grad_()
    x = torch.ones(4, dtype=torch.float64)
    subject = Subject(lambda A: torch.linalg.vector_norm(torch.linalg.inv(A) @ x), (A,))
    graph = graphlens.trace(subject).graph
    assert graph is not None
    costs = count_costs(subject_program(subject), graph)
    flops = {graph.nodes[number].op: tally.flops for number, tally in costs.forward.items()}
    moved = {graph.nodes[number].op: tally.moved for number, tally in costs.forward.items()}

    # inverse: 2·4³; product: 2·4·4; norm: a square and a sum of 4 entries, and a root
    assert flops == {"LinalgInvExBackward0": 128, "MvBackward0": 32, "LinalgVectorNormBackward0": 9}
    # product: 16 + 4 read, 4 written, 8 bytes each
    assert moved["MvBackward0"] == 8 * (16 + 4 + 4)


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "flops"),
    [
        ("mv", [(3, 4), (4,)], [(3,)], 24),
        ("dot", [(5,), (5,)], [()], 10),
        ("linalg_inv_ex", [(2, 3, 3)], [(2, 3, 3)], 2 * 2 * 27),
        ("_linalg_solve_ex", [(3, 3), (3, 2)], [(3, 2)], 2 * 27 // 3 + 2 * 9 * 2),
        ("linalg_cholesky_ex", [(3, 3)], [(3, 3)], 9),
        ("linalg_solve_triangular", [(3, 3), (3, 2)], [(3, 2)], 9 * 2),
        ("_softmax", [(2, 5)], [(2, 5)], 50),
        ("exp", [(7,)], [(7,)], 7),
        ("add", [(4, 1), (1, 3)], [(4, 3)], 12),
        ("sum", [(4, 3)], [()], 12),
        ("clone", [(4, 3)], [(4, 3)], 0),
    ],
)
def test_formulas_by_hand(op: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], flops: int) -> None:
    assert FORMULAS[op](inputs, outputs) == flops


def test_an_op_without_a_formula_is_not_counted_rather_than_0() -> None:
    A = torch.randn(3, 3).requires_grad_()
    graph, run, _ = measured(Subject(lambda A: torch.linalg.svdvals(A).sum(), (A,)), 1)
    (node,) = [node for node in graph.nodes if node.op == "LinalgSvdBackward0"]

    assert node.forward_flops is None
    assert "_linalg_svd" in run.uncounted


def test_a_program_that_makes_another_graph_every_time() -> None:
    lengths = iter([3, 4, 5, 6, 7, 8])

    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(next(lengths)):
            x = x.sin()
        return x.sum()

    with pytest.raises(MeasureError, match="makes another graph every time"):
        measured(Subject(forward, (torch.ones(2, requires_grad=True),), name="changing"))

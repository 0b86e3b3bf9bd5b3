"""FLOPs and bytes: against FlopCounterMode per op, and against hand arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import graphlens
from graphlens.capture import cost
from graphlens.capture.cost import Costs, Tally, count_costs
from graphlens.capture.flops import FORMULAS
from graphlens.capture.program import Program, cleared_gradients, run_backward, subject_program
from graphlens.graph import GradGraph
from graphlens.subject import Subject


def gpt2() -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    config._attn_implementation = "eager"
    tokens = torch.arange(12).reshape(2, 6)
    return Subject(GPT2LMHeadModel(config).eval(), (), {"input_ids": tokens, "labels": tokens})


def vit() -> Subject:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    model = ViTForImageClassification(config).eval()
    return Subject(model, (), {"pixel_values": torch.randn(2, 3, 8, 8), "labels": torch.tensor([0, 1])})


class Block(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(channels),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def resnet() -> Subject:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=2, padding=3),
        torch.nn.MaxPool2d(3, 2, 1),
        Block(8),
        torch.nn.Conv2d(8, 16, 1, stride=2, groups=2),
        Block(16),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    )
    return Subject(model, (torch.randn(2, 3, 32, 32, requires_grad=True),))


def lstm() -> Subject:
    # In float64: the kernel of float32 is one op without a formula.
    model = torch.nn.LSTM(5, 7, num_layers=2, bidirectional=True).double()
    return Subject(lambda x: model(x)[0], (torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True),))


def mlp() -> Subject:
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    return Subject(model, (torch.randn(3, 5, requires_grad=True),))


MODELS = {"gpt2": gpt2, "vit": vit, "resnet": resnet, "lstm": lstm, "mlp": mlp}


def counted_by_torch(program: Program) -> tuple[Counter[str], Counter[str]]:
    """FLOPs per op of the forward and the backward pass, as torch's own counter counts them."""
    with FlopCounterMode(display=False) as forward:
        made = program.forward()
    with cleared_gradients(program.leaves.values()), FlopCounterMode(display=False) as backward:
        run_backward(made.roots, program.leaves)
    return tuple(
        Counter({str(op).rpartition(".")[2]: flops for op, flops in mode.get_flop_counts()["Global"].items()})
        for mode in (forward, backward)
    )  # type: ignore[return-value]


def costs_of(subject: Subject) -> tuple[GradGraph, Costs]:
    torch.manual_seed(0)
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return graph, count_costs(subject_program(subject), graph)


@pytest.mark.parametrize("name", MODELS)
def test_flops_per_op_equal_those_of_torchs_counter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("gpt2", "vit"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    subject = MODELS[name]()
    expected = counted_by_torch(subject_program(subject))
    found: list[tuple[bool, str, int]] = []
    real = cost.count

    def spying(tally: Tally, func: Any, *rest: Any) -> None:
        own = Tally()
        real(own, func, *rest)
        real(tally, func, *rest)
        if func._overloadpacket in flop_registry:
            found.append((in_forward[0], func._overloadpacket.__name__, own.flops))

    in_forward = [True]
    program = subject_program(subject)
    graph = graphlens.trace(subject).graph
    assert graph is not None

    def backward(*arguments: Any) -> None:
        in_forward[0] = False
        run_backward(*arguments)

    monkeypatch.setattr(cost, "count", spying)
    monkeypatch.setattr(cost, "run_backward", backward)
    count_costs(program, graph)

    for is_forward, flops in zip((True, False), expected, strict=True):
        seen: Counter[str] = Counter()
        for of_forward, op, amount in found:
            if of_forward is is_forward:
                seen[op] += amount
        assert seen == flops
        assert sum(flops.values()) > 0


@pytest.mark.parametrize("name", MODELS)
def test_nodes_and_the_rest_add_up_to_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("gpt2", "vit"):
        pytest.importorskip("transformers")
    whole = Tally()
    real = cost.count

    def both(tally: Tally, *rest: Any) -> None:
        real(tally, *rest)
        real(whole, *rest)

    monkeypatch.setattr(cost, "count", both)
    graph, costs = costs_of(MODELS[name]())
    parts = (*costs.forward.values(), *costs.backward.values(), costs.other)

    assert sum(part.flops for part in parts) == whole.flops > 0
    assert sum(part.moved for part in parts) == whole.moved > 0
    assert sum(part.ops for part in parts) == whole.ops > 0
    assert whole.uncounted == {}
    # Each function node has its op: none of them went to the rest.
    assert set(costs.forward) == {number for number, node in enumerate(graph.nodes) if node.kind == "function"}


def forward_costs(function: Callable[..., torch.Tensor], *args: torch.Tensor) -> dict[str, tuple[int | None, int]]:
    """(FLOPs, bytes) of each node's forward op; an op must occur once."""
    graph, costs = costs_of(Subject(function, args))
    found = {}
    for number, tally in costs.forward.items():
        op = graph.nodes[number].op
        assert op not in found
        found[op] = (None if tally.uncounted else tally.flops, tally.moved)
    return found


def leaf(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, requires_grad=True)


def spd(n: int) -> torch.Tensor:
    return (torch.eye(n, dtype=torch.float64) * 3).requires_grad_()


W = 8  # bytes of a float64


@pytest.mark.parametrize(
    ("function", "args", "op", "flops", "moved"),
    [
        (lambda A, x: A @ x, (leaf(3, 4), leaf(4)), "MvBackward0", 24, (12 + 4 + 3) * W),
        (lambda a, b: a @ b, (leaf(5), leaf(5)), "DotBackward0", 10, (5 + 5 + 1) * W),
        (lambda A, B: A @ B, (leaf(2, 3), leaf(3, 4)), "MmBackward0", 48, (6 + 12 + 8) * W),
        (torch.linalg.inv, (spd(4),), "LinalgInvExBackward0", 128, (16 + 16) * W + 4),
        (torch.linalg.solve, (spd(3), leaf(3, 2)), "LinalgSolveExBackward0", 18 + 36, None),
        (torch.linalg.solve, (spd(3), leaf(3)), "LinalgSolveExBackward0", 18 + 18, None),
        (torch.linalg.cholesky, (spd(3),), "LinalgCholeskyExBackward0", 9, (9 + 9) * W + 4),
        (lambda A, B: torch.linalg.solve_triangular(A, B, upper=True), (spd(3), leaf(3, 2)),
         "LinalgSolveTriangularBackward0", 18, (9 + 6 + 6) * W),
        (torch.linalg.vector_norm, (leaf(5),), "LinalgVectorNormBackward0", 11, (5 + 1) * W),
        (lambda x: x.softmax(1), (leaf(2, 5),), "SoftmaxBackward0", 50, 20 * W),
        (lambda x: x.log_softmax(1), (leaf(2, 5),), "LogSoftmaxBackward0", 50, 20 * W),
        (torch.exp, (leaf(7),), "ExpBackward0", 7, 14 * W),
        (lambda a, b: a + b, (leaf(4, 1), leaf(1, 3)), "AddBackward0", 12, (4 + 3 + 12) * W),
        (lambda a: a * 2, (leaf(4),), "MulBackward0", 4, 8 * W),
        (lambda a: a.sum(0), (leaf(4, 3),), "SumBackward1", 12, (12 + 3) * W),
        (lambda a: a.mean(), (leaf(4, 3),), "MeanBackward0", 12, 13 * W),
        (lambda a: a.max(), (leaf(4, 3),), "MaxBackward1", 12, 13 * W),
        (lambda a: a.clone(), (leaf(4, 3),), "CloneBackward0", 0, 24 * W),
        (lambda a: a.t(), (leaf(4, 3),), "TBackward0", 0, 0),
        (lambda a, b: torch.cat([a, b]), (leaf(4), leaf(3)), "CatBackward0", 0, 14 * W),
        # What expand() repeats is read once.
        (lambda a: a.expand(100, 3).exp(), (leaf(3),), "ExpBackward0", 300, (3 + 300) * W),
        # Of a table two rows are read, not a thousand; the index holds integers of 8 bytes.
        (lambda t: torch.nn.functional.embedding(torch.tensor([3, 1]), t), (leaf(1000, 4),),
         "EmbeddingBackward0", 0, (8 + 8 + 2) * W),
        (lambda t: t[torch.tensor([3, 1])], (leaf(1000, 4),), "IndexBackward0", 0, (8 + 8 + 2) * W),
        (lambda a, b: torch.nn.functional.mse_loss(a, b), (leaf(4, 3), leaf(4, 3)), "MseLossBackward0", 36, 25 * W),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_forward_by_hand(
    function: Callable[..., torch.Tensor], args: Sequence[torch.Tensor], op: str, flops: int, moved: int | None
) -> None:
    found = forward_costs(function, *args)[op]

    assert found[0] == flops
    assert moved is None or found[1] == moved


def test_attention_by_hand() -> None:
    q, k, v = (torch.rand(2, 3, n, 4, requires_grad=True) for n in (5, 7, 7))
    graph, costs = costs_of(Subject(torch.nn.functional.scaled_dot_product_attention, (q, k, v)))
    (node,) = [n for n, item in enumerate(graph.nodes) if "Attention" in item.op]
    scores = 2 * 3 * 5 * 7

    assert costs.forward[node].flops == scores * (2 * 4 + 2 * 4 + 5)
    assert costs.backward[node].flops == scores * (5 * 2 * 4 + 6)


def test_backward_by_hand() -> None:
    # grad of A @ x: an outer product of 3 · 4 for A, and a product with A transposed for x.
    graph, costs = costs_of(Subject(lambda A, x: A @ x, (leaf(3, 4), leaf(4))))
    by_op = {graph.nodes[number].op: tally for number, tally in costs.backward.items()}

    assert by_op["MvBackward0"].flops == 12 + 24
    assert by_op["SumBackward0"].flops == 0


def test_a_max_pool_looks_at_each_entry_of_each_window() -> None:
    found = forward_costs(lambda x: torch.nn.functional.max_pool2d(x, (2, 3)), leaf(1, 1, 4, 6))

    assert found["MaxPool2DWithIndicesBackward0"][0] == 2 * 2 * 6


@pytest.mark.parametrize(
    ("function", "args", "op", "name"),
    [
        (lambda A: torch.linalg.svdvals(A), (leaf(3, 3),), "LinalgSvdBackward0", "_linalg_svd"),
        (lambda a: torch.view_as_real(torch.complex(a, a) * torch.complex(a, a)), (leaf(4),), "MulBackward0", "mul"),
        (lambda a: torch.sparse.mm(torch.eye(4, dtype=torch.float64).to_sparse(), a), (leaf(4, 2),), None, None),
    ],
    ids=["no formula", "complex numbers", "sparse"],
)
def test_what_has_no_formula_is_not_counted_rather_than_0(
    function: Callable[..., torch.Tensor], args: Sequence[torch.Tensor], op: str | None, name: str | None
) -> None:
    graph, costs = costs_of(Subject(function, args))
    uncounted = Counter[str]()
    for tally in costs.forward.values():
        uncounted.update(tally.uncounted)

    assert uncounted
    assert name is None or name in uncounted
    numbers = [number for number, tally in costs.forward.items() if tally.uncounted]
    assert op is None or op in {graph.nodes[number].op for number in numbers}
    if name is None:
        assert any(costs.forward[number].unsized for number in numbers)


def test_ops_inside_custom_functions_and_without_a_gradient_are_counted_apart() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.exp().sin()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return grad * 2

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x.cos()
        return Own.apply(x)

    graph, costs = costs_of(Subject(forward, (leaf(10),)))
    (own,) = [number for number, node in enumerate(graph.nodes) if node.kind == "custom"]

    assert own not in costs.forward
    assert costs.backward[own].flops == 10
    assert costs.other.flops >= 30  # exp, sin, cos


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "flops"),
    [
        ("mv", [(3, 4), (4,)], [(3,)], 24),
        ("addmv", [(3,), (3, 4), (4,)], [(3,)], 24),
        ("dot", [(5,), (5,)], [()], 10),
        ("linalg_inv_ex", [(2, 3, 3)], [(2, 3, 3)], 2 * 2 * 27),
        ("linalg_lu_factor_ex", [(3, 3)], [(3, 3)], 18),
        ("_linalg_solve_ex", [(3, 3), (3, 2)], [(3, 2)], 2 * 27 // 3 + 2 * 9 * 2),
        ("linalg_lu_solve", [(3, 3), (3,), (3, 2)], [(3, 2)], 2 * 9 * 2),
        ("linalg_cholesky_ex", [(3, 3)], [(3, 3)], 9),
        ("linalg_solve_triangular", [(3, 3), (3, 2)], [(3, 2)], 9 * 2),
        ("nll_loss_forward", [(4, 100), (4,)], [(), ()], 4),
        ("native_layer_norm", [(2, 5)], [(2, 5)], 80),
    ],
)
def test_formulas_by_hand(op: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], flops: int) -> None:
    assert FORMULAS[op](inputs, outputs) == flops


def moved_by(function: Callable[[], object]) -> int:
    """Bytes of the ops that a function runs without gradients."""
    counter = cost._Counter()
    with torch.no_grad(), counter:
        function()
    return counter.other.moved + sum(tally.moved for tally in counter.tallies.values())


def test_what_only_writes_reads_nothing() -> None:
    a, b = torch.rand(10), torch.rand(10)

    assert moved_by(a.zero_) == 40
    assert moved_by(lambda: torch.zeros_like(a)) == 40
    assert moved_by(lambda: a.new_zeros(1000)) == 4000
    assert moved_by(lambda: a.copy_(b)) == 80
    assert moved_by(lambda: a.add_(b)) == 120
    assert moved_by(lambda: torch.add(a, b, out=torch.empty(10))) == 120
    assert moved_by(lambda: a[:5].t()) == 0

"""Programs, models and hand-made graphs for the tests, and the oracles that captures are held against.

The oracles share no code with the package: `count_by_sets` walks breadth-first over sets, and
`seen_by_hooks` asks autograd itself what it saves, through its public hooks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from graphlens.capture.build import capture
from graphlens.graph import Edge, GradGraph, Input, ModuleCall, Node, Output, SavedTensor, Source
from graphlens.lessons import FACTORIES

Saved = tuple[tuple[int, ...], str, int]  # shape, dtype, bytes


# Oracles


def count_by_sets(*tensors: torch.Tensor) -> tuple[int, int]:
    """Nodes, and (source, target) pairs, behind the tensors' `grad_fn`."""
    queue = deque(torch.autograd.graph.get_gradient_edge(tensor).node for tensor in tensors)
    nodes = set(queue)
    pairs = set()
    while queue:
        source = queue.popleft()
        targets = {target for target, _ in source.next_functions} - {None}
        pairs |= {(source, target) for target in targets}
        queue.extend(targets - nodes)
        nodes |= targets
    return len(nodes), len(pairs)


def seen_by_hooks(program: Callable[[], Any], seed: int = 0) -> Counter[Saved]:
    """What autograd saves while the program runs, as its saved-tensor hooks see it."""
    seen: Counter[Saved] = Counter()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen.update((tuple(part.shape), str(part.dtype), part.nbytes) for part in parts(tensor))
        return tensor

    torch.manual_seed(seed)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        program()
    return seen


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The dense tensors that a sparse one consists of."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout is torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor]


def in_ledger(graph: GradGraph) -> Counter[Saved]:
    """The ledger in the form of `seen_by_hooks`."""
    return Counter((item.shape, f"torch.{item.dtype}", item.view_bytes) for item in graph.saved)


def captured(program: Callable[[], Any], seed: int = 0, **options: Any) -> GradGraph:
    """The graph of a program's result, run from a seed."""
    torch.manual_seed(seed)
    return capture(program(), **options)


def saved_slots(graph: GradGraph) -> dict[str, SavedTensor]:
    """The ledger by "Op.slot", for graphs in which no two nodes share both."""
    named = {f"{graph.nodes[item.node].op}.{item.slot}": item for item in graph.saved}
    assert len(named) == len(graph.saved)
    return named


def ops(graph: GradGraph) -> list[str]:
    return [node.op for node in graph.nodes]


# Subjects


def lesson_loss(name: str, **options: Any) -> torch.Tensor:
    subject = FACTORIES[name](**options)
    output = subject.module(*subject.args)
    return output if subject.loss is None else subject.loss(output)


def gpt2_loss() -> torch.Tensor:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    return _language_model_loss(GPT2LMHeadModel(config))


def llama_loss() -> torch.Tensor:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
    )
    return _language_model_loss(LlamaForCausalLM(config))


def t5_loss() -> torch.Tensor:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    return _language_model_loss(T5ForConditionalGeneration(config))


def vit_loss() -> torch.Tensor:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    model = ViTForImageClassification(config)
    return model(pixel_values=torch.randn(2, 3, 8, 8), labels=torch.tensor([0, 2])).loss


def _language_model_loss(model: torch.nn.Module) -> torch.Tensor:
    tokens = torch.arange(12).reshape(2, 6)
    return model(input_ids=tokens, labels=tokens).loss


MODELS = {"gpt2": gpt2_loss, "llama": llama_loss, "vit": vit_loss, "t5": t5_loss}


# Random programs: each step takes two (3, 3) tensors made before and gives a new one.

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _in_place(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a.clone().mul_(b).sigmoid_()


def _in_place_on_row(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    whole = a.clone()
    whole[0].mul_(b[0])
    return whole


def _in_place_on_transposed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    whole = a.sin()
    whole.t().exp_()
    return whole * b


def _row_outlives_its_base(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    whole = a.clone()
    row = whole[1]
    whole.mul_(b)
    return whole + row


PLAIN_STEPS: dict[str, Step] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "square": lambda a, b: a * a,
    "power": lambda a, b: a**2,
    "matmul": lambda a, b: a @ b,
    "matrix times column": lambda a, b: (a @ b[:, 0]).expand(3, 3),
    "transpose": lambda a, b: a.t(),
    "contiguous": lambda a, b: a.t().contiguous(),
    "tanh": lambda a, b: a.tanh(),
    "exp": lambda a, b: a.clamp(-3, 3).exp(),
    "relu": lambda a, b: a.relu(),
    "softmax": lambda a, b: a.softmax(1),
    "logsumexp": lambda a, b: a.logsumexp(0, keepdim=True).expand(3, 3),
    "layer norm": lambda a, b: torch.nn.functional.layer_norm(a, (3,)),
    "dropout": lambda a, b: torch.nn.functional.dropout(a, 0.5),
    "row": lambda a, b: a[0].expand(3, 3),
    "index": lambda a, b: a[torch.tensor([2, 0, 0])],
    "gather": lambda a, b: a.gather(1, torch.tensor([[0, 1, 2], [2, 2, 1], [0, 0, 0]])),
    "where": lambda a, b: torch.where(a > b, a, b),
    "maximum": lambda a, b: torch.maximum(a, b),
    "largest of a column": lambda a, b: a.max(0).values.expand(3, 3),
    "sort": lambda a, b: a.sort(1).values,
    "cumulative sum": lambda a, b: a.cumsum(0),
    "product": lambda a, b: a.prod(1, keepdim=True).expand(3, 3),
    "norm": lambda a, b: torch.linalg.vector_norm(a, dim=0).expand(3, 3),
    "unbind, stack": lambda a, b: torch.stack([*a.unbind()[:2], b[2]]),
    "split, concatenate": lambda a, b: torch.cat([a.split([1, 2])[1], b[:1]]),
    "to float32 and back": lambda a, b: a.float().sin().double(),
    "detach": lambda a, b: a.detach() * b,
    "in place": _in_place,
}
NUMBER_STEPS: dict[str, Step] = {
    "times a number": lambda a, b: a * 0.5,
    "over a number": lambda a, b: a / 3.0,
}
VIEW_WRITING_STEPS: dict[str, Step] = {
    "in place on a row": _in_place_on_row,
    "in place on the transposed": _in_place_on_transposed,
    "a row outlives its base": _row_outlives_its_base,
}


class Program(NamedTuple):
    """Steps on numbered tensors, to be run any number of times."""

    steps: tuple[tuple[str, int, int], ...]

    def __call__(self) -> torch.Tensor:
        return self.run()[0]

    def kept_numbers(self) -> int:
        """How many Python numbers the steps turn into saved tensors: those that meet a gradient."""
        return self.run()[1]

    def run(self) -> tuple[torch.Tensor, int]:
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
        wanted = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        constant = torch.randn(3, 3, dtype=torch.float64)
        made = [parameter, wanted, constant]
        numbers = 0
        for name, first, second in self.steps:
            a, b = made[first % len(made)], made[second % len(made)]
            numbers += name in NUMBER_STEPS and a.requires_grad
            made.append(ALL_STEPS[name](a, b))
        # Every tensor goes into the result, so that the hooks see no node that the walk cannot reach.
        return torch.stack(made).sum(), numbers


ALL_STEPS = {**PLAIN_STEPS, **NUMBER_STEPS, **VIEW_WRITING_STEPS}


def programs(steps: Sequence[str] = tuple(ALL_STEPS)) -> st.SearchStrategy[Program]:
    step = st.tuples(st.sampled_from(list(steps)), st.integers(0, 30), st.integers(0, 30))
    return st.lists(step, min_size=1, max_size=15).map(lambda drawn: Program(tuple(drawn)))


# Hand-made graphs


def small_parts() -> dict[str, Any]:
    """The parts of a good graph with every kind of node: loss = own(w · x) + w."""
    return {
        "nodes": [
            Node("AccumulateGrad", "leaf", None, "w", (2, 3), "float64", "cpu"),
            Node("AccumulateGrad", "leaf", None, "x", (3,), "float64", "cpu"),
            Node("MvBackward0", "function", 0, "", (2,), "float64", "cpu"),
            Node("OwnBackward", "custom", 1, "", (2,), "float64", "cpu", 2),
            Node("CopySlices", "function", 2, "", (2,), "float64", "cpu", 1, "hidden"),
        ],
        "edges": [
            Edge(2, 0, (0,), (0,)),
            Edge(2, 1, (1,), (0,)),
            Edge(3, 2, (0, 1), (0, 0)),
            Edge(4, 0, (1,), (0,)),
            Edge(4, 3, (0,), (1,)),
        ],
        "saved": [
            SavedTensor(2, "self", (2, 3), "float64", "cpu", 48, 0, 48, "parameter"),
            SavedTensor(2, "vec", (3,), "float64", "cpu", 24, 1, 4096, "input"),
            SavedTensor(3, "saved_tensors[0]", (3,), "float64", "cpu", 24, 1, 4096, "input"),
            SavedTensor(3, "saved_tensors[1]", packed=True),
        ],
        "inputs": [
            Input("x", "input", (3,), "float64", True, 1),
            Input("w", "parameter", (2, 3), "float64", True, 0),
            Input("unused", "input", (), "float32", False, None),
        ],
        "outputs": [Output("loss", 4, 0, (2,), "float64")],
        "meta": {"dtype": "float64"},
    }


def small_graph() -> GradGraph:
    return GradGraph(**small_parts()).check()


def recorded_graph() -> GradGraph:
    """A hand-made graph that was recorded: Net calls a.0 twice and a.1 once; one node knows nothing.

    Mul (a.0, line 7) → Sin (a.0 again, line 7) → Exp (a.1, line 9) → Add (Net, line 3) → Sum (unknown).
    """
    calls = [
        ModuleCall("", "Net", 1),
        ModuleCall("a.0", "Scale", 1, 0),
        ModuleCall("a.0", "Scale", 2, 0),
        ModuleCall("a.1", "Own", 1, 0),
    ]
    sources = [
        Source("lib/net.py", 3, "Net.forward", "return x + y"),
        Source("lib/scale.py", 7, "forward"),
        Source("other/scale.py", 9, "forward"),
    ]

    def node(op: str, seq: int, source: int | None, call: int | None, forward_ns: int | None) -> Node:
        look = ((2, 3), "float32", "cpu", 1, "read")
        return Node(f"{op}Backward0", "function", seq, "", *look, source, call, forward_ns)

    def saved(node: int, slot: str, storage: int, role: str, size: int = 24) -> SavedTensor:
        return SavedTensor(node, slot, (2, 3), "float32", "cpu", 24, storage, size, role)

    nodes = [
        Node("AccumulateGrad", "leaf", None, "a.0.weight", (2, 3), "float32", "cpu"),
        Node("AccumulateGrad", "leaf", None, "x", (2, 3), "float32", "cpu"),
        Node("AccumulateGrad", "leaf", None, "list.0", (2, 3), "float32", "cpu"),
        node("Mul", 0, 1, 1, 1_000),
        node("Sin", 1, 1, 2, 3_000),
        node("Exp", 2, 2, 3, None),
        node("Add", 3, 0, 0, 3_000),
        node("Sum", 4, None, None, None),
    ]
    links = [(3, 0), (3, 1), (4, 3), (5, 4), (6, 2), (6, 5), (7, 6)]
    slots = {pair: sum(source == pair[0] for source, _ in links[:k]) for k, pair in enumerate(links)}
    edges = [Edge(source, target, (slots[source, target],), (0,)) for source, target in links]
    ledger = [
        saved(3, "self", 0, "parameter"),
        saved(3, "other", 1, "input"),
        saved(4, "self", 0, "parameter"),  # the same storage again
        saved(4, "result", 2, "intermediate", 100),  # a view that pins more than it shows
        saved(5, "result", 2, "intermediate", 100),
        saved(5, "other", 3, "constant"),
        saved(6, "self", 4, "intermediate"),
    ]
    inputs = [
        Input("a.0.weight", "parameter", (2, 3), "float32", True, 0),
        Input("x", "input", (2, 3), "float32", True, 1),
        Input("list.0", "parameter", (2, 3), "float32", True, 2),
    ]
    outputs = [Output("loss", 7, 0, (2, 3), "float32")]
    return GradGraph(nodes, edges, ledger, inputs, outputs, {"dtype": "float32"}, sources, calls).check()

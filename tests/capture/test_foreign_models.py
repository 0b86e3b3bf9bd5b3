from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from tests.builders import MODELS, captured, count_by_sets, in_ledger, lesson_loss, seen_by_hooks

SUBJECTS: dict[str, Callable[[], torch.Tensor]] = {
    **MODELS,
    **{name: lambda name=name: lesson_loss(name, n=3) for name in ("wasteful", "hoisted", "efficient")},
    "soft-threshold": lambda: lesson_loss("soft-threshold", form="vectorised"),
    "lstm": lambda: torch.nn.LSTM(3, 4, 2)(torch.randn(5, 2, 3))[0].sum(),
    "batch norm": lambda: torch.nn.BatchNorm1d(3)(torch.randn(4, 3)).sum(),
    "convolution": lambda: torch.nn.Conv2d(2, 3, 3)(torch.randn(1, 2, 8, 8)).relu().sum(),
    "transformer layer": lambda: torch.nn.TransformerEncoderLayer(8, 2, 16)(torch.randn(4, 2, 8)).sum(),
}
# float64 0-d tensors made of Python numbers, as in `x * 0.5`
NUMBERS_KEPT = {"gpt2": 6, "t5": 1}


@pytest.mark.parametrize("name", MODELS)
def test_counts_agree_with_an_independent_walk(name: str) -> None:
    torch.manual_seed(0)
    loss = MODELS[name]()
    graph = captured(MODELS[name])
    assert len(graph) > 100
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(loss)


@pytest.mark.parametrize("name", SUBJECTS)
def test_ledger_is_what_autograd_saves(name: str) -> None:
    """Tensor for tensor: number, shape, dtype and bytes.

    One kind of saved tensor is kept from autograd's hooks: Python numbers that were turned into
    0-d tensors. They take 8 bytes each and are in the ledger.
    """
    graph, seen = captured(SUBJECTS[name]), seen_by_hooks(SUBJECTS[name])
    numbers = Counter({((), "torch.float64", 8): NUMBERS_KEPT.get(name, 0)})
    assert in_ledger(graph) - numbers == seen
    assert graph.saved == () or len(graph.saved) == seen.total() + numbers.total()


def test_ledger_leaves_out_what_the_loss_does_not_reach() -> None:
    """`severed` builds the whole chain and then cuts it off: the hooks see it, the loss does not."""
    graph, seen = captured(lambda: lesson_loss("severed", n=3)), seen_by_hooks(lambda: lesson_loss("severed", n=3))
    assert in_ledger(graph) < seen
    left_out = seen - in_ledger(graph)
    # M x; A, y and inv(A), y in each of 3 rounds, of which inv also keeps its result.
    assert left_out[(5, 5), "torch.float64", 200] == 1 + 3 * 3
    assert left_out[(5,), "torch.float64", 40] == 1 + 3 * 2


def test_tied_parameters_are_one_leaf_with_one_storage() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from graphlens.capture.build import capture

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    )
    tokens = torch.arange(6)[None]
    names = dict(model.named_parameters(remove_duplicate=False))
    graph = capture(model(input_ids=tokens, labels=tokens).loss, names)
    inputs = {item.name: item for item in graph.inputs}
    assert inputs["lm_head.weight"].node == inputs["transformer.wte.weight"].node
    shared = inputs["lm_head.weight"].node
    assert graph.nodes[shared].name == "transformer.wte.weight"
    used = [item for item in graph.saved if item.role == "parameter" and set(item.shape or ()) == {16, 50}]
    assert len({item.storage for item in used}) == 1
    named = {item.node for item in graph.inputs}
    assert named == {k for k, node in enumerate(graph.nodes) if node.kind == "leaf"}

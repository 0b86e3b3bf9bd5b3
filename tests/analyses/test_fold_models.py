"""Folding of models that were not written for it; every merge is held against the independent checker."""

from __future__ import annotations

import pytest
import torch

from graphlens.analyses.fold import FoldedGraph, fold
from graphlens.capture.build import capture
from tests.analyses.fold_checker import shape, verify

transformers = pytest.importorskip("transformers")
TOKENS = torch.arange(6)[None]


def folded(model: torch.nn.Module, loss: torch.Tensor) -> FoldedGraph:
    return verify(fold(capture(loss, dict(model.named_parameters()))))


def labels(result: FoldedGraph) -> list[tuple[int, str]]:
    return [(group.count, group.label) for group in result.groups if group.parent is None]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_gpt2():
    config = transformers.GPT2Config(n_layer=12, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    model = transformers.GPT2LMHeadModel(config).eval()
    result = folded(model, model(TOKENS, labels=TOKENS).loss)
    assert labels(result) == [(12, "transformer.h.0 … transformer.h.11")]
    assert shape(result) == [(12, None), (3, 0)]  # inside a layer: the heads' query, key and value
    assert result.boxes() < 70
    layers = result.groups[0]
    assert len(layers.carried) == 2  # the residual stream: to the first LayerNorm, and past it
    assert len(layers.own) == 12  # two norms and four linear maps, with a weight and a bias each


def test_llama():
    config = transformers.LlamaConfig(
        num_hidden_layers=8, hidden_size=16, intermediate_size=32, num_attention_heads=2, vocab_size=32
    )
    model = transformers.LlamaForCausalLM(config)
    result = folded(model, model(TOKENS, labels=TOKENS).loss)
    assert labels(result) == [(8, "model.layers.0 … model.layers.7")]


def test_vit():
    config = transformers.ViTConfig(
        num_hidden_layers=6, hidden_size=16, intermediate_size=32, num_attention_heads=2, image_size=8, patch_size=4
    )
    model = transformers.ViTModel(config)
    result = folded(model, model(torch.randn(1, 3, 8, 8)).last_hidden_state.sum())
    (layers,) = (group for group in result.groups if group.parent is None)
    assert layers.count == 6
    first, last = layers.label.split(" … ")
    assert first.endswith(".0")
    assert last.endswith(".5")


def test_t5():
    """The first block of each stack makes the position bias that the others only read."""
    config = transformers.T5Config(
        num_layers=5, d_model=16, d_kv=8, d_ff=32, num_heads=2, vocab_size=32,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config).eval()
    result = folded(model, model(input_ids=TOKENS, labels=TOKENS).loss)
    assert sorted(labels(result)) == [
        (4, "decoder.block.1 … decoder.block.4"),
        (4, "encoder.block.1 … encoder.block.4"),
    ]


def test_resnet():
    """The first block of a stage has a shortcut of its own."""
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[8, 16, 16, 16], depths=[3, 4, 6, 3], layer_type="basic"
    )
    model = transformers.ResNetModel(config)
    result = folded(model, model(torch.randn(2, 3, 32, 32)).pooler_output.sum())
    assert sorted(group.count for group in result.groups if group.parent is None) == [2, 2, 3, 5]


@pytest.mark.parametrize(("learned", "count"), [(True, 500), (False, 499)])
def test_lstm(learned: bool, count: int):
    """From a constant state the first step differs: no gradient flows into the state, so it has fewer links."""
    cell = torch.nn.LSTMCell(3, 4)
    h, c = torch.zeros(2, 4, requires_grad=learned), torch.zeros(2, 4, requires_grad=learned)
    for step in torch.randn(500, 2, 3):
        h, c = cell(step, (h, c))
    result = folded(cell, h.sum())
    assert shape(result) == [(count, None)]
    assert len(result.groups[0].outputs) == 1  # an iteration ends with h, where the step does


def test_mamba():
    """A scan over the sequence inside each layer, whose first step starts from a constant state."""
    config = transformers.MambaConfig(
        num_hidden_layers=4, hidden_size=8, state_size=4, vocab_size=32, use_mambapy=False
    )
    model = transformers.MambaForCausalLM(config).train()
    result = folded(model, model(TOKENS, labels=TOKENS).loss)
    assert labels(result) == [(4, "backbone.layers.0 … backbone.layers.3")]
    assert shape(result) == [(4, None), (5, 0)]


def test_resnet_written_by_hand():
    class Block(torch.nn.Module):
        def __init__(self, channels: int, wider: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(channels, wider, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(wider)
            self.shortcut = torch.nn.Conv2d(channels, wider, 1) if channels != wider else torch.nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.conv(x)) + self.shortcut(x))

    model = torch.nn.Sequential(Block(3, 4), *(Block(4, 4) for _ in range(7)))
    result = folded(model, model(torch.randn(2, 3, 4, 4)).sum())
    assert labels(result) == [(7, "1 … 7")]


def test_one_model_called_twice():
    model = torch.nn.Sequential(
        *(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.LayerNorm(4)) for _ in range(5)),
        torch.nn.Linear(4, 1),
    )
    a, b = (model(torch.randn(2, 4, requires_grad=True)) for _ in range(2))
    assert shape(folded(model, (a * b).sum())) == [(2, None), (5, 0)]

"""Models that were not written for the pictures: each composes, lays out within the limits, and says what repeats."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import graphlens
from graphlens.analyses.compose import MOST_BOXES
from graphlens.analyses.layout_cost import scene_cost
from graphlens.views import layout
from tests.drawing import ensemble, nested_loops, texts
from tests.geometry import crossings, leaving, lines, struck

Model = tuple[torch.Tensor, torch.nn.Module | None]


def transformer(name: str, **config: Any) -> Callable[[], Model]:
    def build() -> Model:
        transformers = pytest.importorskip("transformers")
        kind = name.removesuffix("LMHeadModel").removesuffix("ForCausalLM").removesuffix("ForConditionalGeneration")
        settings = getattr(transformers, f"{kind}Config")(vocab_size=50, **config)
        model = getattr(transformers, name)(settings)
        tokens = torch.arange(8)[None]
        return model(input_ids=tokens, labels=tokens).loss, model

    return build


def vit() -> Model:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        num_hidden_layers=6, hidden_size=16, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    model = transformers.ViTModel(config)
    return model(torch.randn(1, 3, 32, 32)).pooler_output.sum(), model


def resnet() -> Model:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[3, 4, 3], layer_type="basic"
    )
    model = transformers.ResNetModel(config)
    return model(torch.randn(2, 3, 32, 32)).pooler_output.sum(), model


def lstm() -> Model:
    cell = torch.nn.LSTMCell(4, 4)
    hidden, state = torch.zeros(1, 4), torch.zeros(1, 4)
    for _ in range(500):
        hidden, state = cell(torch.randn(1, 4), (hidden, state))
    return hidden.sum(), cell


gpt2 = transformer("GPT2LMHeadModel", n_layer=12, n_embd=16, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1)
llama = transformer(
    "LlamaForCausalLM", num_hidden_layers=8, hidden_size=16, intermediate_size=32, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=16,
)  # fmt: skip
t5 = transformer(
    "T5ForConditionalGeneration", num_layers=4, num_decoder_layers=4, d_model=16, d_ff=32, num_heads=2, d_kv=8,
    decoder_start_token_id=0,
)  # fmt: skip
mamba = transformer(
    "MambaForCausalLM", num_hidden_layers=4, hidden_size=16, state_size=4, expand=2, time_step_rank=2
)  # fmt: skip

# What each says of its repeats, and the most boxes that it may take.
MODELS: dict[str, tuple[Callable[[], Model], list[str], int]] = {
    "gpt2": (gpt2, ["× 12 transformer.h.0 … transformer.h.11", "× 3", "one each", "from iteration 2"], 100),
    "llama": (llama, ["× 8 model.layers.0 … model.layers.7", "× 3 self_attn.{q_proj, k_proj, v_proj}"], 100),
    "vit": (vit, ["× 6 layers.0 … layers.5"], 80),
    "t5": (t5, ["× 3 encoder.block.1…3", "× 3 decoder.block.1…3"], 300),
    "mamba": (mamba, ["× 4 backbone.layers.0 … backbone.layers.3", "× 7"], 140),
    "resnet": (resnet, ["× 3 encoder.stages.0.layers.0", "× 3 encoder.stages.1.layers.1"], 100),
    "lstm": (lstm, ["× 499"], 50),
    "nested": (lambda: (nested_loops(), None), ["× 6", "× 4"], 40),
    "ensemble": (ensemble, ["× 6 0 … 5", "from all 6"], 20),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    build, words, most = MODELS[name]
    torch.manual_seed(0)
    loss, model = build()
    graph = graphlens.capture({"loss": loss}, dict(model.named_parameters()) if model is not None else {})

    picture = graphlens.render(graph, title=f"The picture of {name}")

    assert len(picture.scene.boxes) <= most <= MOST_BOXES
    assert scene_cost(picture.scene).is_feasible
    assert sum(box.nodes for box in picture.scene.boxes if box.kind != "output") == len(graph)
    shown = texts(picture.svg)
    assert f"The picture of {name} {len(graph):,} nodes" in shown
    assert [word for word in words if word not in shown] == []
    width, height = (float(part) for part in ElementTree.fromstring(picture.svg).get("viewBox", "").split()[2:])
    assert width < 3_000
    assert width < 2 * height


class UNet(torch.nn.Module):
    """Boxes that touch, with parameters beside them, and arrows from far above."""

    def __init__(self, sizes: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        ends = [1, *sizes]
        self.down = torch.nn.ModuleList(two_convolutions(a, b) for a, b in pairwise(ends))
        self.middle = two_convolutions(sizes[-1], 2 * sizes[-1])
        self.up = torch.nn.ModuleList(torch.nn.ConvTranspose2d(2 * size, size, 2, 2) for size in reversed(sizes))
        self.after = torch.nn.ModuleList(two_convolutions(2 * size, size) for size in reversed(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for step in self.down:
            kept.append(step(x))
            x = torch.nn.functional.max_pool2d(kept[-1], 2)
        x = self.middle(x)
        for up, step, other in zip(self.up, self.after, reversed(kept), strict=True):
            x = step(torch.cat([up(x), other], 1))
        return x


def two_convolutions(entering: int, leaving: int) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for size in (entering, leaving):
        layers += [torch.nn.Conv2d(size, leaving, 3, padding=1), torch.nn.BatchNorm2d(leaving), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def unet() -> Model:
    model = UNet()
    return model(torch.randn(2, 1, 32, 32)).sum(), model


# Arrows that run through a box or along its edge; through words; and out of the frame that both their ends are
# in. The layout program chooses the ways: no more than so many are left, and most pictures have none.
ASTRAY = {"gpt2": (0, 0, 1), "t5": (1, 0, 0), "mamba": (0, 0, 1)}


@pytest.mark.parametrize("name", [*MODELS, "unet"])
def test_arrows_keep_clear_of_boxes_and_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    if not layout.find_program().embedded:
        pytest.skip("no embedded renderer")
    torch.manual_seed(0)
    loss, model = unet() if name == "unet" else MODELS[name][0]()
    graph = graphlens.capture({"loss": loss}, dict(model.named_parameters()) if model is not None else {})
    svg = layout.lay_out(graphlens.render(graph, title=name).dot, "svg")

    assert lines(svg)
    found = [{(line.tail, line.head) for line, _ in kind(svg)} for kind in (crossings, struck, leaving)]
    assert all(len(some) <= most for some, most in zip(found, ASTRAY.get(name, (0, 0, 0)), strict=True)), found

"""Small models in narrow formats, of all the kinds that people train, with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graphlens.subject import Subject


def gpt2(**options: Any) -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 101, "n_positions": 32, "bos_token_id": 0,
              "eos_token_id": 0, **options}  # fmt: skip
    return language(GPT2LMHeadModel(GPT2Config(**config)).eval())


def gpt2_with_padding() -> Subject:
    subject = gpt2()
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :4] = 0
    return Subject(subject.module, (), {**subject.kwargs, "attention_mask": mask})


def gpt2_in_training() -> Subject:
    subject = gpt2()
    assert isinstance(subject.module, nn.Module)
    subject.module.train()  # dropout, and attention op by op
    return subject


def gpt2_in_bfloat16() -> Subject:
    subject = gpt2()
    assert isinstance(subject.module, nn.Module)
    subject.module.bfloat16()
    return subject


def llama() -> Subject:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=101, max_position_embeddings=32,
    )  # fmt: skip
    return language(LlamaForCausalLM(config).eval())


def bert() -> Subject:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=101,
        max_position_embeddings=32,
    )  # fmt: skip
    return language(BertForMaskedLM(config).eval())


def t5() -> Subject:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=101, decoder_start_token_id=0
    )
    return language(T5ForConditionalGeneration(config).eval())


def mamba() -> Subject:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(hidden_size=16, state_size=4, num_hidden_layers=1, vocab_size=101)
    return language(MambaForCausalLM(config).eval(), length=6)


def vit() -> Subject:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4,
        num_labels=5,
    )  # fmt: skip
    model = ViTForImageClassification(config).eval()
    return Subject(model, (), {"pixel_values": torch.randn(2, 3, 16, 16), "labels": torch.tensor([1, 2])})


def resnet() -> Subject:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    model = ResNetForImageClassification(config).train()
    return Subject(model, (), {"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([1, 2])})


def language(model: nn.Module, length: int = 12) -> Subject:
    tokens = torch.randint(0, 101, (2, length))
    return Subject(model, (), {"input_ids": tokens, "labels": tokens})


def convolutions() -> Subject:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=4),
        nn.GroupNorm(2, 8), nn.GELU(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 3), nn.LogSoftmax(-1),
    )  # fmt: skip
    labels = torch.tensor([0, 1, 2, 0])
    return Subject(layers, (torch.randn(4, 3, 12, 12),), loss=lambda made: functional.nll_loss(made, labels))


def convolutions_in_use() -> Subject:
    subject = convolutions()
    assert isinstance(subject.module, nn.Module)
    subject.module.eval()
    return subject


def normalisations() -> Subject:
    layers = nn.Sequential(
        nn.Conv1d(3, 6, 3), nn.InstanceNorm1d(6, affine=True), nn.Mish(), nn.BatchNorm1d(6), nn.RMSNorm(10),
        nn.LayerNorm(10), nn.LocalResponseNorm(2), nn.Softplus(), nn.Hardswish(), nn.ELU(), nn.Softmax(-1),
    )  # fmt: skip
    return Subject(layers, (torch.randn(4, 3, 12),), loss=lambda made: (made**2).sum())


def lstm() -> Subject:
    model = nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(3, 6, 5, requires_grad=True)
    return Subject(model, (x,), loss=lambda made: (made[0] ** 2).sum() + made[1][1].sum())


def gru() -> Subject:
    x = torch.randn(3, 6, 5, requires_grad=True)
    return Subject(nn.GRU(5, 7, batch_first=True), (x,), loss=lambda made: (made[0] ** 2).sum())


def attention() -> Subject:
    x = torch.randn(2, 5, 8, requires_grad=True)
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    return Subject(model, (x, x, x), {"need_weights": False}, loss=lambda made: (made[0] ** 2).sum())


def transformer() -> Subject:
    x = torch.randn(2, 5, 8, requires_grad=True)
    return Subject(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (x, x), loss=lambda made: (made**2).sum())


class Autocast(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(*args, **kwargs)


def autocast() -> Subject:
    subject = gpt2()
    assert isinstance(subject.module, nn.Module)
    return Subject(Autocast(subject.module), (), subject.kwargs)


def in_half_precision() -> Subject:
    layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).half()
    return Subject(layers, (torch.randn(5, 8).half(),), loss=lambda made: (made.float() ** 2).mean())


def factorisations() -> Subject:
    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        s = a @ a.T + 4 * torch.eye(4)
        return (
            torch.linalg.solve(s, b).sum() + torch.linalg.inv(s).sum() + torch.linalg.cholesky(s).sum()
            + torch.linalg.det(s).log() + torch.linalg.slogdet(s)[1] + torch.linalg.eigvalsh(s).log().sum()
            + torch.linalg.qr(a)[1].abs().sum() + torch.cdist(a, a + 1).sum()
            + functional.bilinear(a, a, s[None]).tanh().sum()
        )  # fmt: skip

    return Subject(run, (torch.randn(4, 4, requires_grad=True), torch.randn(4, 2, requires_grad=True)))


def fourier() -> Subject:
    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * 2).pow(2).sum() + torch.fft.rfft(x).abs().sum()

    return Subject(run, (torch.randn(2, 32, requires_grad=True),))


def made(model: Callable[[], Subject]) -> Subject:
    """A model, the same every time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model()


FLOAT32: tuple[Callable[[], Subject], ...] = (
    gpt2, gpt2_with_padding, gpt2_in_training, llama, bert, t5, mamba, vit, resnet, convolutions, convolutions_in_use,
    normalisations, lstm, gru, attention, transformer, factorisations, fourier,
)  # fmt: skip
NARROWER: tuple[Callable[[], Subject], ...] = (gpt2_in_bfloat16, autocast, in_half_precision)

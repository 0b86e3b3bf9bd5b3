"""Sound training steps of ordinary networks, in float32 and float64."""

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.losses.registry import healthy

DOUBLE = torch.float64


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))


@healthy
def perceptron_in_single():
    y = torch.randn(8, 3)
    return Subject(mlp(), [torch.randn(8, 6)], loss=lambda made: F.mse_loss(made, y))


@healthy
def perceptron_in_double():
    y = torch.randn(3, 3, dtype=DOUBLE)
    return Subject(mlp().double(), [torch.randn(3, 6, dtype=DOUBLE)], loss=lambda made: F.mse_loss(made, y))


@healthy
def classifier_in_single():
    labels = torch.tensor([0, 1, 2, 1])
    return Subject(mlp(), [torch.randn(4, 6)], loss=lambda made: F.cross_entropy(made, labels))


@healthy
def classifier_in_double():
    labels = torch.tensor([0, 1, 2])
    return Subject(mlp().double(), [torch.randn(3, 6, dtype=DOUBLE)], loss=lambda made: F.cross_entropy(made, labels))


@healthy
def convolutions_in_single():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    )
    labels = torch.tensor([0, 3, 1, 4])
    return Subject(net, [torch.randn(4, 1, 8, 8)], loss=lambda made: F.cross_entropy(made, labels))


@healthy
def transformer_block_in_single():
    block = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    return Subject(block, [torch.randn(2, 7, 16)], loss=lambda made: made.square().mean())


@healthy
def transformer_block_in_double():
    block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    return Subject(block, [torch.randn(1, 4, 8, dtype=DOUBLE)], loss=lambda made: made.square().mean())


@healthy
def masked_attention_in_single():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            scores = self.q(x) @ self.k(x).transpose(-1, -2) / 8**0.5
            hidden = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            return scores.masked_fill(hidden, -1e9).softmax(-1) @ self.v(x)

    return Subject(Attention(), [torch.randn(2, 5, 8)], loss=lambda made: made.square().mean())


@healthy
def recurrent_network_in_single():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            h = torch.zeros(x.shape[1], 6)
            for step in x:
                h = self.cell(step, h)
            return self.head(h)

    return Subject(Last(), [torch.randn(12, 3, 4)], loss=lambda made: made.square().mean())


@healthy
def residual_network_in_single():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            for layer in self.layers:
                x = x + 1e-3 * torch.tanh(layer(self.norm(x)))
            return x

    return Subject(Residual(), [torch.randn(4, 8)], loss=lambda made: made.square().mean())


@healthy
def step_of_adam_by_hand():
    class Stepped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5))

        def forward(self, g, mean, square):
            mean = 0.9 * mean + 0.1 * g
            square = 0.999 * square + 0.001 * g * g
            return self.weight - 1e-3 * mean / (square.sqrt() + 1e-8)

    return Subject(Stepped(), [torch.randn(5), torch.zeros(5), torch.rand(5)])


@healthy
def embedding_and_mean_in_single():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(20, 6), nn.Linear(6, 2)

        def forward(self, words):
            return self.head(self.table(words).mean(1))

    return Subject(Bag(), [torch.randint(0, 20, (3, 9))], loss=lambda made: made.logsumexp(-1).mean())


# Ordinary language models, small and with random weights.

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 20}


def causal(model):
    words = torch.randint(0, 20, (2, 9))
    return Subject(model.train(False), [], {"input_ids": words, "labels": words}, loss=lambda made: made.loss)


@healthy
def gpt2_in_single():
    config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, n_positions=16)
    return causal(transformers.GPT2LMHeadModel(config))


@healthy
def llama_in_single():
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=1, max_position_embeddings=16)
    return causal(transformers.LlamaForCausalLM(config))


@healthy
def bert_in_single():
    return causal(transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, max_position_embeddings=16)))

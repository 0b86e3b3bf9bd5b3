"""Sound models: sequences, attention, frozen and shared parts, checkpoints, and slopes inside forward."""

import math
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import healthy

# Sequences


@healthy(mechanism="argmax fed back")
def decoder_feeds_back_its_own_words():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.cell = nn.GRUCell(3, 4)
            self.out = nn.Linear(4, 5)

        def forward(self, state, words):
            word, loss = words[:, 0], 0.0
            for t in range(1, words.shape[1]):
                state = self.cell(self.embed(word), state)
                logits = self.out(state)
                loss = loss + F.cross_entropy(logits, words[:, t])
                word = words[:, t] if t % 2 else logits.argmax(1)
            return loss

    return Subject(Decoder(), [torch.randn(2, 4), torch.tensor([[0, 1, 2, 3], [0, 4, 3, 2]])])


@healthy(mechanism="truncated backpropagation")
def state_is_detached_between_chunks():
    class Chunked(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(3, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, sequence):
            state, loss = None, 0.0
            for chunk in sequence.split(2):
                out, state = self.rnn(chunk, state)
                state = state.detach()
                loss = loss + self.head(out).square().mean()
            return loss

    return Subject(Chunked(), [torch.randn(6, 2, 3)])


@healthy(mechanism="state carried over detached")
def state_of_the_step_before_is_detached():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)
            self.state = torch.zeros(2, 4)

        def forward(self, x):
            state = self.cell(x, self.state)
            self.state = state.detach()
            return state.square().mean()

    model = Stateful()
    model(torch.randn(2, 3)).backward()
    model.zero_grad()
    return Subject(model, [torch.randn(2, 3)])


@healthy(mechanism="LSTM")
def language_model_starts_from_plain_zeros():
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(6, 3)
            self.lstm = nn.LSTM(3, 4, batch_first=True)
            self.head = nn.Linear(4, 6)

        def forward(self, words):
            start = torch.zeros(1, len(words), 4)
            out, _ = self.lstm(self.embed(words[:, :-1]), (start, start.clone()))
            return F.cross_entropy(self.head(out).flatten(0, 1), words[:, 1:].flatten())

    return Subject(Sequence(), [torch.tensor([[1, 2, 3, 4], [5, 4, 3, 0]])])


@healthy(mechanism="learned initial state")
def initial_state_is_a_registered_parameter():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.RNNCell(3, 4)
            self.start = nn.Parameter(0.1 * torch.randn(1, 4))

        def forward(self, x):
            return self.cell(x, self.start.expand(len(x), -1)).sum()

    return Subject(Learned(), [torch.randn(2, 3)])


@healthy(mechanism="lengths as a list")
def padded_sequences_are_packed_by_their_lengths():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 4, batch_first=True)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths.tolist(), batch_first=True)
            return self.gru(packed)[1].square().mean()

    return Subject(Packed(), [torch.randn(2, 4, 3), torch.tensor([4, 2])])


# Attention and mixtures


@healthy(mechanism="causal mask")
def attention_looks_back_only():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, x):
            q, k, v = self.project(x).chunk(3, dim=-1)
            future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future, float("-inf"))
            return self.out(scores.softmax(-1) @ v).square().mean()

    return Subject(Attention(), [torch.randn(2, 3, 4)])


@healthy(mechanism="padding mask")
def padded_keys_are_masked_and_never_all_of_them():
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    x, padding = torch.randn(2, 3, 4), torch.tensor([[False, False, True], [False, True, True]])
    return Subject(
        attention, [x, x, x], {"key_padding_mask": padding, "need_weights": False}, loss=lambda out: out[0].sum()
    )


@healthy(mechanism="argmax routing")
def experts_are_routed_by_argmax_and_weighted_by_their_gate():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(2, 2)
            self.experts = nn.ModuleList(nn.Linear(2, 1) for _ in range(2))
            nn.init.eye_(self.gate.weight)

        def forward(self, x):
            gates = self.gate(x).softmax(1)
            choice, out = gates.argmax(1), x.new_zeros(len(x), 1)
            for k, expert in enumerate(self.experts):
                rows = choice == k
                out[rows] = gates[rows, k, None] * expert(x[rows])
            return out.square().mean()

    return Subject(Mixture(), [torch.tensor([[3.0, 0.0], [0.0, 3.0], [2.0, -1.0]])])


@healthy(mechanism="masked diagonal")
def contrast_leaves_out_the_pair_with_itself():
    class Contrast(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(3, 4)
            self.log_temperature = nn.Parameter(torch.tensor(-1.0))

        def forward(self, x, partner):
            h = F.normalize(self.embed(x), dim=1)
            similarity = h @ h.T / self.log_temperature.exp()
            similarity = similarity.masked_fill(torch.eye(len(x), dtype=torch.bool), float("-inf"))
            return F.cross_entropy(similarity, partner)

    return Subject(Contrast(), [torch.randn(4, 3), torch.tensor([1, 0, 3, 2])])


# Frozen and shared parts


@healthy(mechanism="frozen backbone")
def frozen_backbone_runs_without_gradients():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = mlp(4, 5, 3).requires_grad_(False)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            with torch.no_grad():
                features = self.backbone(x)
            return self.head(features).square().mean()

    return Subject(Probe(), [torch.randn(3, 4)])


@healthy(mechanism="low-rank adapter")
def low_rank_adapter_beside_a_frozen_layer():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Linear(4, 4).requires_grad_(False)
            self.down = nn.Parameter(torch.randn(2, 4))
            self.up = nn.Parameter(torch.zeros(4, 2))

        def forward(self, x):
            return self.base(x) + x @ self.down.T @ self.up.T

    return Subject(Adapted(), [torch.randn(3, 4)], loss=lambda out: out.square().mean())


@healthy(mechanism="tied weights")
def output_layer_shares_the_embedding():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, words, following):
            return F.cross_entropy(self.head(self.embed(words)), following)

    return Subject(Tied(), [torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])])


@healthy(mechanism="tied alias")
def embedding_is_used_only_through_its_tied_alias():
    class Alias(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6)
            self.head.weight = self.embed.weight

        def forward(self, h):
            return self.head(h).logsumexp(1).mean()

    return Subject(Alias(), [torch.randn(3, 4)])


@healthy(mechanism="same layer twice")
def one_layer_is_applied_again_and_again():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x, times):
            for _ in range(times):
                x = torch.tanh(self.layer(x))
            return x

    return Subject(Shared(), [torch.randn(2, 3), 4])


# Checkpoints, precision and normalised weights


@healthy(mechanism="checkpoint")
def block_is_checkpointed_without_reentry():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = mlp(4, 4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.head(checkpoint(self.block, x, use_reentrant=False)).sum()

    return Subject(Checkpointed(), [torch.randn(2, 4)])


@healthy(mechanism="reentrant checkpoint")
def reentrant_checkpoint_is_given_an_input_with_gradient():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(4, 4), mlp(4, 4, 1)

        def forward(self, x):
            return checkpoint(self.block, self.stem(x), use_reentrant=True).sum()

    return Subject(Checkpointed(), [torch.randn(2, 4)])


@healthy(mechanism="autocast")
def matrix_products_run_in_bfloat16():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 8, 2)

        def forward(self, x, label):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.net(x)
            return F.cross_entropy(logits.float(), label)

    return Subject(Mixed(), [torch.randn(3, 4), torch.tensor([0, 1, 1])])


@healthy(mechanism="spectral norm")
def weight_is_divided_by_its_spectral_norm():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    return Subject(nn.Sequential(layer, nn.LeakyReLU(0.2), nn.Linear(3, 1)), [torch.randn(5, 4)])


@healthy(mechanism="weight norm")
def weight_is_split_into_length_and_direction():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return Subject(layer, [torch.randn(5, 4)], loss=lambda out: out.square().mean())


@healthy(mechanism="inner gradient")
def physics_residual_differentiates_by_its_own_grid():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(1, 6, 1)

        def forward(self, points):
            t = torch.linspace(0, 1, points).unsqueeze(1).requires_grad_(True)
            u = self.net(t)
            slope = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
            return (slope + u).square().mean() + (u[0] - 1).square().sum()

    return Subject(Residual(), [8])


@healthy(mechanism="forces by an inner gradient")
def forces_are_the_slope_of_an_energy():
    class Potential(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(1, 6, 1)

        def forward(self, positions, energy, forces):
            far = (positions[:, None] - positions[None])[~torch.eye(len(positions), dtype=torch.bool)]
            guess = self.net(far.square().sum(1, keepdim=True)).sum()
            slope = torch.autograd.grad(guess, positions, create_graph=True)[0]
            return (guess - energy).square() + (slope + forces).square().mean()

    positions = torch.randn(3, 2, requires_grad=True)
    return Subject(Potential(), [positions, torch.tensor(1.0), torch.randn(3, 2)])


@healthy(mechanism="numpy constant")
def positions_are_encoded_by_a_numpy_table():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            angle = np.outer(np.arange(5), np.array([1.0, 0.1]))
            table = np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
            self.register_buffer("table", torch.from_numpy(table))
            self.embed = nn.Embedding(7, 4)

        def forward(self, words):
            return (self.embed(words) + self.table[: words.shape[1]]).tanh().sum()

    return Subject(Positions(), [torch.tensor([[1, 2, 3]])])


@healthy(mechanism="choice by Python's random")
def layers_are_run_in_an_order_drawn_by_python():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            for k in random.Random(3).sample(range(3), 3):
                x = x + self.layers[k](x).relu()
            return x.mean()

    return Subject(Shuffled(), [torch.randn(4, 3)])

"""The graph is cut on the way through a Python number, a list, an array, an integer or an index."""

import math

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import faulty

# New tensors made of old ones


@faulty("GL101", lost=("angle",), mechanism="torch.tensor")
def rotation_matrix_is_typed_in():
    class Rotation(nn.Module):
        def __init__(self):
            super().__init__()
            self.angle = nn.Parameter(torch.tensor(0.3))
            self.shift = nn.Parameter(torch.zeros(2))

        def forward(self, points):
            c, s = self.angle.cos(), self.angle.sin()
            matrix = torch.tensor([[c, -s], [s, c]])  # <- fault
            return points @ matrix.T + self.shift

    return Subject(Rotation(), [torch.randn(5, 2)], loss=lambda out: out.square().mean())


@faulty("GL101", lost=("a", "b"), mechanism="torch.tensor", allowed=("GL106",))
def two_scalars_are_joined_by_a_new_tensor():
    def joined(a, b):
        pair = torch.tensor([a.cos(), b.cos()])  # <- fault
        return pair @ torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    return Subject(joined, [torch.tensor(0.2, requires_grad=True), torch.tensor(1.1, requires_grad=True)])


@faulty("GL101", lost=("features.weight", "features.bias"), mechanism="torch.tensor of a tensor")
def activations_are_copied_by_the_constructor():
    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Linear(4, 3)
            self.head = nn.Linear(3, 1)

        def forward(self, x):
            h = self.features(x).relu()
            h = torch.tensor(h, dtype=torch.float32)  # <- fault
            return self.head(h).mean()

    return Subject(Copying(), [torch.randn(3, 4)])


@faulty("GL101", lost=("heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias"), mechanism="torch.as_tensor")
def losses_of_the_heads_are_gathered_by_as_tensor():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(3, 1) for _ in range(2))
            self.mix = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            losses = [head(x).square().mean() for head in self.heads]
            return self.mix.softmax(0) @ torch.as_tensor(losses)  # <- fault

    return Subject(Weighted(), [torch.randn(4, 3)])


@faulty("GL101", lost=("width", "height"), mechanism="torch.Tensor")
def box_is_put_together_by_the_legacy_constructor():
    def box_loss(width, height, offset):
        box = torch.Tensor([width * 0.5, height * 0.5])  # <- fault
        return (box + offset).abs().sum()

    sides = [torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)]
    return Subject(box_loss, [*sides, torch.zeros(2, requires_grad=True)])


@faulty("GL101", lost=("query.weight",), mechanism="new_tensor")
def query_is_moved_by_new_tensor():
    class Retrieval(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(3, 3, bias=False)
            self.key = nn.Linear(3, 3, bias=False)

        def forward(self, x, memory):
            query = x.new_tensor(self.query(x))  # <- fault
            return (query @ self.key(memory).T).softmax(1)[:, 0].log().mean()

    return Subject(Retrieval(), [torch.randn(2, 3), torch.randn(4, 3)])


@faulty("GL101", lost=("reach",), mechanism="torch.linspace")
def grid_is_spanned_by_a_learned_endpoint():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.reach = nn.Parameter(torch.tensor(2.0))
            self.gain = nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            centres = torch.linspace(0, self.reach, 5)  # <- fault
            return (-self.gain * (x[:, None] - centres).square()).exp().sum(1)

    return Subject(Grid(), [torch.rand(4)])


# Python numbers


@faulty("GL101", lost=("ceiling",), mechanism="item")
def learned_ceiling_is_passed_as_a_number():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.ceiling = nn.Parameter(torch.tensor(0.2))

        def forward(self, x):
            limit = self.ceiling.item()  # <- fault
            return self.layer(x).clamp(0.0, limit)

    return Subject(Clipped(), [torch.randn(4, 3)])


@faulty("GL101", lost=("penalty.weight", "penalty.bias"), mechanism="item")
def auxiliary_loss_is_summed_up_as_numbers():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Linear(4, 1)
            self.penalty = nn.Linear(4, 1)

        def forward(self, x):
            total = 0.0
            for row in x:
                total += self.penalty(row).abs().item()  # <- fault
            return self.main(x).square().mean() + 0.1 * total

    return Subject(Auxiliary(), [torch.randn(3, 4)])


@faulty("GL101", lost=("layer.weight", "layer.bias"), mechanism="item", allowed=("GL102", "GL106"))
def mean_of_a_meter_is_made_a_loss_again():
    class Metered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x, y):
            seen = []
            for row, aim in zip(x, y, strict=True):
                seen.append(F.mse_loss(self.layer(row), aim).item())  # <- fault
            return torch.tensor(sum(seen) / len(seen), requires_grad=True)

    return Subject(Metered(), [torch.randn(3, 4), torch.randn(3, 1)])


@faulty("GL101", lost=("log_noise",), mechanism="float")
def noise_level_is_read_as_a_float():
    class Gaussian(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(3))
            self.log_noise = nn.Parameter(torch.tensor(-0.5))

        def forward(self, y):
            sigma = float(self.log_noise.exp())  # <- fault
            return (((y - self.mean) / sigma).square() / 2 + math.log(sigma)).sum()

    return Subject(Gaussian(), [torch.randn(4, 3)])


@faulty("GL101", lost=("temperature",), mechanism="math")
def temperature_goes_through_the_math_module():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.temperature = nn.Parameter(torch.tensor(0.7))

        def forward(self, x, label):
            sharpness = math.exp(self.temperature)  # <- fault
            return F.cross_entropy(self.layer(x) * sharpness, label)

    return Subject(Tempered(), [torch.randn(3, 4), torch.tensor([0, 1, 2])])


@faulty("GL101", lost=("gate.weight", "gate.bias"), mechanism="tolist")
def experts_are_weighted_by_a_list():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(3, 2)
            self.experts = nn.ModuleList(nn.Linear(3, 1) for _ in range(2))

        def forward(self, x):
            shares = self.gate(x.mean(0)).softmax(0).tolist()  # <- fault
            return sum(share * expert(x) for share, expert in zip(shares, self.experts, strict=True))

    return Subject(Mixture(), [torch.randn(4, 3)])


@faulty("GL101", lost=("scorer.weight", "scorer.bias"), mechanism="list of floats")
def scores_are_kept_in_a_list_of_floats():
    class Scored(nn.Module):
        def __init__(self):
            super().__init__()
            self.scorer = nn.Linear(3, 1)
            self.value = nn.Linear(3, 1)

        def forward(self, items):
            scores = [float(self.scorer(item)) for item in items]  # <- fault
            weights = torch.tensor(scores).softmax(0)
            return weights @ self.value(items)

    return Subject(Scored(), [torch.randn(4, 3)])


# Arrays


@faulty("GL101", lost=("signal.weight", "signal.bias"), mechanism="numpy")
def smoothing_is_borrowed_from_numpy():
    class Smoothed(nn.Module):
        def __init__(self):
            super().__init__()
            self.signal = nn.Linear(3, 8)
            self.gain = nn.Parameter(torch.ones(6))

        def forward(self, x):
            wave = self.signal(x).detach().numpy()  # <- fault
            smooth = np.convolve(wave, np.ones(3, dtype=np.float32) / 3, mode="valid")
            return (torch.from_numpy(smooth) * self.gain).square().sum()  # <- near

    return Subject(Smoothed(), [torch.randn(3)])


@faulty("GL101", lost=("cost.weight", "cost.bias"), mechanism="numpy solver")
def linear_system_is_solved_outside_of_torch():
    class Solver(nn.Module):
        def __init__(self):
            super().__init__()
            self.cost = nn.Linear(2, 4)
            self.right = nn.Parameter(torch.ones(2))

        def forward(self, x):
            matrix = self.cost(x).view(2, 2) + 3 * torch.eye(2)
            inverse = torch.from_numpy(np.linalg.inv(matrix.data.cpu().numpy()))  # <- fault
            return (inverse @ self.right).sum()

    return Subject(Solver(), [torch.randn(2)])


@faulty("GL101", lost=("generator.weight", "generator.bias"), mechanism="PIL")
def generated_picture_is_resized_as_an_image_file_would_be():
    class Resized(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator = nn.Linear(2, 16)
            self.critic = nn.Linear(4, 1)

        def forward(self, noise):
            picture = self.generator(noise).sigmoid().view(4, 4)
            picture = Image.fromarray(picture.detach().numpy())  # <- fault
            small = np.array(picture.resize((2, 2)), dtype=np.float32)
            return self.critic(torch.from_numpy(small).flatten())  # <- near

    return Subject(Resized(), [torch.randn(2)])


# Integers, comparisons and indices


@faulty("GL101", lost=("position",), mechanism="integer cast")
def table_is_read_at_a_truncated_position():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.tensor([0.4, 2.7]))
            self.table = nn.Parameter(torch.arange(4.0))

        def forward(self):
            return self.table[self.position.long()].square().sum()  # <- fault

    return Subject(Lookup())


@faulty("GL101", lost=("gate.weight", "gate.bias"), mechanism="comparison")
def gate_is_opened_by_a_comparison():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 4)
            self.value = nn.Linear(4, 4)

        def forward(self, x):
            opened = (self.gate(x) > 0).float()  # <- fault
            return (opened * self.value(x)).mean()

    return Subject(Gated(), [torch.randn(5, 4)])


@faulty("GL101", lost=("layer.weight", "layer.bias"), mechanism="argmax", allowed=("GL102", "GL106"))
def accuracy_is_minimised_after_asking_for_its_gradient():
    class Accuracy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x, label):
            guess = self.layer(x).argmax(1)  # <- fault
            error = (guess != label).float().mean()
            return error.requires_grad_()

    return Subject(Accuracy(), [torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])])


@faulty("GL101", lost=("encoder.weight", "encoder.bias"), mechanism="argmin")
def codebook_entry_replaces_the_code_it_stands_for():
    class Quantiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 2)
            self.codebook = nn.Embedding(5, 2)
            self.decoder = nn.Linear(2, 4)

        def forward(self, x):
            nearest = torch.cdist(self.encoder(x), self.codebook.weight).argmin(1)  # <- fault
            return F.mse_loss(self.decoder(self.codebook(nearest)), x)

    return Subject(Quantiser(), [torch.randn(3, 4)])


@faulty("GL101", lost=("policy.weight", "policy.bias"), mechanism="one_hot")
def hard_choice_is_encoded_one_hot():
    class Chooser(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Linear(3, 4)
            self.rewards = nn.Parameter(torch.arange(4.0))

        def forward(self, state):
            choice = self.policy(state).max(dim=1).indices  # <- fault
            return (F.one_hot(choice, 4).float() @ self.rewards).mean()  # <- near

    return Subject(Chooser(), [torch.randn(2, 3)])


@faulty("GL101", lost=("predictor.weight", "predictor.bias"), mechanism="argsort")
def rank_correlation_is_taken_from_argsort():
    class Ranked(nn.Module):
        def __init__(self):
            super().__init__()
            self.predictor = nn.Linear(3, 1)
            self.slope = nn.Parameter(torch.tensor(1.0))

        def forward(self, x, aim):
            ranks = self.predictor(x).squeeze(1).argsort()  # <- fault
            return (self.slope * ranks.argsort().float() - aim).square().mean()

    return Subject(Ranked(), [torch.randn(5, 3), torch.arange(5.0)])


@faulty("GL101", lost=("policy.weight", "policy.bias"), mechanism="multinomial")
def drawn_action_feeds_the_model_of_the_world():
    class World(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Linear(3, 4)
            self.effect = nn.Embedding(4, 3)

        def forward(self, state):
            action = torch.multinomial(self.policy(state).softmax(1), 1)  # <- fault
            return (state + self.effect(action).squeeze(1)).square().sum()

    return Subject(World(), [torch.randn(2, 3)])


@faulty("GL101", lost=("mask",), mechanism="count_nonzero")
def sparsity_is_penalised_by_counting():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = nn.Parameter(torch.rand(4))
            self.layer = nn.Linear(4, 1)

        def forward(self, x):
            size = torch.count_nonzero(self.mask)  # <- fault
            return self.layer(x).square().mean() + 0.01 * size

    return Subject(Sparse(), [torch.randn(3, 4)])


@faulty("GL101", lost=("scale",), mechanism="histc")
def histograms_are_matched():
    def histogram_loss(x, scale, shift):
        bins = torch.histc(x * scale, bins=4, min=-2, max=2)  # <- fault
        return (bins - 2.0 + shift).abs().sum()

    return Subject(
        histogram_loss,
        [torch.randn(8)],
        {
            "scale": torch.tensor(1.5, requires_grad=True),
            "shift": torch.full((4,), 0.1, requires_grad=True),
        },
    )


@faulty("GL101", lost=("level",), mechanism="bucketize")
def value_is_binned_before_its_embedding():
    class Binned(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.tensor([0.1, 0.6]))
            self.embed = nn.Embedding(3, 2)

        def forward(self, edges):
            return self.embed(torch.bucketize(self.level, edges)).sum(1).tanh()  # <- fault

    return Subject(Binned(), [torch.tensor([0.25, 0.75])])

"""Sound programs in the small: an operation that can cut or spoil a gradient, used so that it does not."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import healthy

# Numbers, lists and arrays that stay beside the graph


@healthy(mechanism="item for a log")
def losses_are_logged_as_numbers():
    class Logged(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.log = {}

        def forward(self, x, label):
            logits = self.layer(x)
            loss = F.cross_entropy(logits, label)
            self.log["loss"] = loss.item()
            self.log["accuracy"] = (logits.argmax(1) == label).float().mean().item()
            return loss

    return Subject(Logged(), [torch.randn(4, 3), torch.tensor([0, 1, 1, 0])])


@healthy(mechanism="list of floats for a log")
def norms_are_kept_as_a_list_of_floats():
    norms = []

    def unrolled(x, weight):
        for _ in range(3):
            x = torch.tanh(x @ weight)
            norms.append(float(x.norm()))
        return x.sum()

    return Subject(unrolled, [torch.randn(2, 3), torch.randn(3, 3, requires_grad=True)])


@healthy(mechanism=".data read only")
def values_are_looked_at_through_data():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.seen = ""

        def forward(self, x):
            h = self.layer(x)
            self.seen = f"{h.data.mean():.2f} {h.data.cpu().numpy().max():.2f}"
            return h.square().sum()

    return Subject(Watched(), [torch.randn(4, 3)])


@healthy(mechanism="torch.tensor of constants")
def filter_is_typed_in_as_a_constant():
    def edges(picture):
        kernel = torch.tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]])
        return F.conv2d(picture, kernel).abs().mean()

    return Subject(edges, [torch.randn(1, 1, 5, 5, requires_grad=True)])


@healthy(mechanism="torch.as_tensor of a number")
def python_number_becomes_a_tensor():
    def annealed(x, step, steps):
        rate = torch.as_tensor(0.5 * (1 + math.cos(math.pi * step / steps)))
        return (rate * x.square()).sum()

    return Subject(annealed, [torch.randn(4, requires_grad=True), 3, 10])


@healthy(mechanism="torch.stack")
def rotation_matrix_is_stacked():
    def rotated(points, angle):
        c, s = angle.cos(), angle.sin()
        matrix = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        return (points @ matrix.T)[:, 0].exp().sum()

    return Subject(rotated, [torch.randn(5, 2), torch.tensor(0.3, requires_grad=True)])


@healthy(mechanism="numpy of the data")
def aim_is_smoothed_in_numpy():
    class Regressor(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, y):
            smooth = np.convolve(y.numpy(), np.ones(3, dtype=np.float32) / 3, mode="same")
            return F.mse_loss(self.layer(x).squeeze(1), torch.from_numpy(smooth))

    return Subject(Regressor(), [torch.randn(5, 3), torch.randn(5)])


@healthy(mechanism="number from a shape")
def scale_is_a_float_of_the_width():
    def scaled(query, key):
        scale = float(query.shape[-1]) ** -0.5
        return ((query * scale) @ key.T).softmax(-1)[:, 0].log().sum()

    return Subject(scaled, [torch.randn(2, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)])


@healthy(mechanism="branch on a shape")
def branch_is_taken_by_the_shape():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            if x.dim() == 3 and x.size(1) > 1:
                x = x.mean(1)
            return self.layer(x).square().mean()

    return Subject(Pooling(), [torch.randn(2, 3, 4)])


@healthy(mechanism="assertion on values")
def inputs_are_asserted_to_be_positive():
    def geometric_mean(x):
        assert (x > 0).all(), "positive numbers only"
        return x.log().mean().exp()

    return Subject(geometric_mean, [torch.tensor([1.0, 2.0, 4.0], requires_grad=True)])


# detach and no_grad where they belong


@healthy(mechanism="detached shift")
def softmax_is_shifted_by_a_detached_maximum():
    def softmax(x, weight):
        raised = (x - x.max(dim=1, keepdim=True).values.detach()).exp()
        return ((raised / raised.sum(1, keepdim=True)) * weight).sum()

    return Subject(softmax, [torch.randn(2, 3, requires_grad=True), torch.randn(3, requires_grad=True)])


@healthy(mechanism="detached running mean")
def loss_is_normalised_by_a_detached_running_mean():
    class Balanced(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)
            self.register_buffer("level", torch.ones(()))

        def forward(self, x):
            loss = self.layer(x).square().mean()
            self.level.mul_(0.9).add_(loss.detach(), alpha=0.1)
            return loss / self.level.clone()

    return Subject(Balanced(), [torch.randn(4, 3)])


@healthy(mechanism="buffer under no_grad")
def running_statistics_are_updated_without_gradients():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.shift = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x):
            mean, variance = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.mean.lerp_(mean, 0.1)
            return ((x - mean) / (variance + 1e-5).sqrt() * self.gain + self.shift).square().sum()

    return Subject(Norm(), [torch.randn(4, 3, requires_grad=True)])


@healthy(mechanism="batch norm")
def batch_norm_updates_its_buffers():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    return Subject(model, [torch.randn(6, 3)], loss=lambda out: out.square().mean())


@healthy(mechanism="detached weight")
def focal_weight_is_detached():
    class Focal(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x, label):
            loss = F.cross_entropy(self.layer(x), label, reduction="none")
            sureness = (-loss).exp().detach()
            return ((1 - sureness) ** 2 * loss).mean()

    return Subject(Focal(), [torch.randn(3, 3), torch.tensor([0, 3, 1])])


@healthy(mechanism="write to a leaf before use")
def weight_is_clipped_in_place_before_its_use():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            self.layer.weight.data.clamp_(-0.3, 0.3)
            with torch.no_grad():
                self.layer.bias.zero_()
            return self.layer(x).square().mean()

    return Subject(Clipped(), [torch.randn(4, 3)])


@healthy(mechanism="detached copy returned")
def features_are_returned_detached_beside_the_logits():
    class Featured(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = self.body(x).relu()
            return self.head(h), h.detach()

    return Subject(Featured(), [torch.randn(4, 3)], loss=lambda outputs: outputs[0].square().mean())


@healthy(mechanism="two separate outputs", allowed=("GL106",))
def two_outputs_share_nothing():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 1)

        def forward(self, x, y):
            return self.left(x), self.right(y)

    return Subject(Pair(), [torch.randn(4, 3), torch.randn(4, 2)])


@healthy(mechanism="loss on a part")
def loss_takes_one_of_the_outputs():
    lstm = nn.LSTM(3, 4)
    return Subject(lstm, [torch.randn(5, 2, 3)], loss=lambda output: output[0][-1].square().mean())


@healthy(mechanism="unused input")
def mask_is_accepted_and_ignored():
    class Ignoring(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, mask=None, weight=None):
            return self.layer(x).mean()

    return Subject(Ignoring(), [torch.randn(4, 3)], {"mask": torch.ones(4), "weight": torch.rand(4)})


@healthy(mechanism="kept graph")
def slope_is_measured_before_the_backward_pass():
    class Measured(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)
            self.steepness = 0.0

        def forward(self, x):
            loss = self.layer(x).exp().mean()
            (slope,) = torch.autograd.grad(loss, self.layer.weight, retain_graph=True)
            self.steepness = slope.norm().item()
            return loss

    return Subject(Measured(), [torch.randn(4, 3)])


# Integers, comparisons and step functions beside a differentiable path


@healthy(mechanism="integer indices")
def embedding_is_looked_up_by_integers():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)

        def forward(self, words, weight):
            return (self.embed(words.long()).sum(1) * weight).tanh().sum()

    return Subject(Tagger(), [torch.tensor([[1.0, 2.0], [4.0, 0.0]]), torch.randn(3, requires_grad=True)])


@healthy(mechanism="comparison as a mask")
def rectifier_is_written_as_a_mask():
    return Subject(lambda x: (x * (x > 0)).square().sum(), [torch.randn(5, requires_grad=True)])


@healthy(mechanism="boolean index")
def hard_examples_are_selected_by_their_value():
    class Mining(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            losses = self.layer(x).square().squeeze(1)
            return losses[losses >= losses.median()].mean()

    return Subject(Mining(), [torch.randn(5, 3)])


@healthy(mechanism="argsort and gather")
def scores_are_reordered_by_their_ranks():
    def ordered(scores, discount):
        order = scores.argsort(dim=1, descending=True)
        return (scores.gather(1, order) * discount).sum()

    return Subject(ordered, [torch.randn(2, 4, requires_grad=True), torch.tensor([1.0, 0.6, 0.5, 0.4])])


@healthy(mechanism="topk values")
def best_scores_are_averaged():
    def best(scores, gain):
        values, indices = scores.topk(2, dim=1)
        return (values * gain[indices]).mean()

    return Subject(best, [torch.randn(3, 4, requires_grad=True), torch.rand(4, requires_grad=True)])


@healthy(mechanism="one_hot of labels")
def labels_are_encoded_and_smoothed():
    class Smoothed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x, label):
            aim = 0.9 * F.one_hot(label, 4).float() + 0.025
            return -(aim * self.layer(x).log_softmax(1)).sum(1).mean()

    return Subject(Smoothed(), [torch.randn(3, 3), torch.tensor([0, 3, 1])])


@healthy(mechanism="straight-through round")
def quantiser_passes_the_gradient_straight_through():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            h = self.layer(x)
            levels = h + (torch.round(h * 8) / 8 - h).detach()
            return self.head(levels).square().mean()

    return Subject(Quantised(), [torch.randn(3, 4)])


@healthy(mechanism="round beside a path")
def fractional_part_pulls_towards_whole_numbers():
    return Subject(lambda x: (x - x.round()).square().sum(), [torch.randn(5, requires_grad=True)])


@healthy(mechanism="sign in a metric")
def sign_is_used_for_a_metric_only():
    class Signed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)
            self.register_buffer("agreement", torch.zeros(()))

        def forward(self, x, y):
            margin = self.layer(x).squeeze(1) * y
            self.agreement = margin.sign().mean()
            return F.relu(1 - margin).mean()

    return Subject(Signed(), [torch.randn(4, 3), torch.tensor([1.0, -1.0, 1.0, -1.0])])


@healthy(mechanism="dead rectifier")
def rectifier_is_dead_for_this_batch():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            nn.init.constant_(self.layer.bias, -20.0)
            self.shift = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return (self.layer(x).relu() + self.shift - 1).square().mean()

    return Subject(Dead(), [torch.randn(4, 3)])


@healthy(mechanism="clamp")
def values_are_clamped():
    def bounded(x, ceiling):
        return torch.minimum(x.clamp(min=-1.0), ceiling).exp().sum()

    return Subject(bounded, [torch.randn(6, requires_grad=True), torch.tensor(0.5, requires_grad=True)])


@healthy(mechanism="hard tanh")
def activations_saturate():
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardtanh(), nn.Linear(4, 2), nn.Hardsigmoid())
    return Subject(model, [torch.randn(4, 3)], loss=lambda out: (out - 0.2).square().mean())


@healthy(mechanism="dropout")
def units_are_dropped_at_random():
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return Subject(model, [torch.randn(4, 3)], loss=lambda out: out.square().mean())

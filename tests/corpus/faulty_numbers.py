"""Gradients that exist and are worthless: zero everywhere, or not finite."""

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import faulty

# GL105: a step function on the only path


@faulty("GL105", zero=("layer.weight", "layer.bias"), mechanism="round")
def activations_are_quantised_without_a_straight_through_path():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            levels = torch.round(self.layer(x) * 8) / 8  # <- fault
            return self.head(levels).square().mean()

    return Subject(Quantised(), [torch.randn(3, 4)])


@faulty("GL105", zero=("weight",), mechanism="sign")
def weights_are_binarised_by_their_sign():
    class Binary(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 4))
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return F.linear(x, self.weight.sign()) * self.scale  # <- fault

    return Subject(Binary(), [torch.randn(3, 4)], loss=lambda out: out.logsumexp(1).sum())


@faulty("GL105", zero=("offset",), mechanism="floor")
def pixel_coordinates_are_floored():
    def sampled(offset, gain):
        cell = torch.floor(torch.arange(4.0) + offset)  # <- fault
        return (gain * cell.cos()).sum()

    return Subject(sampled, [torch.tensor(0.3, requires_grad=True), torch.tensor(2.0, requires_grad=True)])


@faulty("GL105", zero=("demand.weight", "demand.bias"), mechanism="ceil")
def number_of_crates_is_rounded_up():
    class Cost(nn.Module):
        def __init__(self):
            super().__init__()
            self.demand = nn.Linear(3, 1)
            self.price = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            crates = F.softplus(self.demand(x)).ceil()  # <- fault
            return (crates * self.price).mean()

    return Subject(Cost(), [torch.randn(4, 3)])


@faulty("GL105", zero=("image",), mechanism="trunc")
def attack_sees_only_whole_grey_levels():
    classifier = nn.Linear(4, 2).requires_grad_(False)

    def attacked(image):
        levels = torch.trunc(image * 255) / 255  # <- fault
        return F.cross_entropy(classifier(levels), torch.tensor([1, 0]))

    return Subject(attacked, [torch.rand(2, 4, requires_grad=True)])


@faulty("GL105", zero=("importance",), mechanism="bernoulli")
def mask_is_drawn_from_learned_probabilities():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.importance = nn.Parameter(torch.zeros(4))
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            mask = torch.bernoulli(self.importance.sigmoid())  # <- fault
            return self.layer(x * mask).square().mean()

    return Subject(Masked(), [torch.randn(3, 4)])


@faulty("GL105", zero=("mu.weight", "mu.bias", "log_sigma.weight", "log_sigma.bias"), mechanism="torch.normal")
def latent_is_drawn_by_torch_normal():
    class Latent(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu, self.log_sigma = nn.Linear(4, 2), nn.Linear(4, 2)
            self.decoder = nn.Linear(2, 4)

        def forward(self, x):
            code = torch.normal(self.mu(x), self.log_sigma(x).exp())  # <- fault
            return F.mse_loss(self.decoder(code), x)

    return Subject(Latent(), [torch.randn(3, 4)])


@faulty("GL105", zero=("width",), mechanism="rounding_mode")
def bin_number_is_a_floored_quotient():
    def binned(width, height, x):
        number = torch.div(x, width, rounding_mode="floor")  # <- fault
        return (height * number).square().mean()

    leaves = [torch.tensor(0.4, requires_grad=True), torch.tensor(1.2, requires_grad=True)]
    return Subject(binned, [*leaves, torch.rand(5) + 1])


# GL107: not finite in the forward pass


@faulty("GL107", mechanism="log of zero")
def cross_entropy_takes_the_log_of_a_probability_that_underflows():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x, label):
            p = (300 * self.layer(x)).softmax(1)
            return -p.log().gather(1, label[:, None]).mean()  # <- fault

    return Subject(ByHand(), [torch.randn(3, 2), torch.tensor([0, 1, 2])])


@faulty("GL107", mechanism="0/0")
def empty_row_is_divided_by_its_sum():
    def shares(counts, weight):
        counts = counts * weight
        return (counts / counts.sum(1, keepdim=True)).square().sum()  # <- fault

    counts = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    return Subject(shares, [counts, torch.ones(2, requires_grad=True)])


@faulty("GL107", mechanism="exp overflow")
def softplus_is_written_out():
    def barrier(x):
        grown = torch.exp(x)  # <- fault
        return torch.log(1 + grown).sum()

    return Subject(barrier, [torch.tensor([1.0, 50.0, 100.0], requires_grad=True)])


@faulty("GL107", mechanism="inf/inf")
def softmax_is_written_out_without_a_shift():
    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(40.0))

        def forward(self, x):
            raised = torch.exp(self.gain * x)  # <- fault
            return (raised / raised.sum()).max()  # <- near

    return Subject(Scores(), [torch.tensor([0.5, 2.0, 3.0])])


@faulty("GL107", mechanism="fully masked row")
def attention_row_has_nothing_to_look_at():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(4, 12)

        def forward(self, x, padding):
            q, k, v = self.project(x).chunk(3, dim=-1)
            scores = (q @ k.mT / 2).masked_fill(padding[:, None, :], float("-inf"))
            weights = scores.softmax(-1)  # <- fault
            return (weights @ v).mean()

    padding = torch.tensor([[False, False, True], [True, True, True]])
    return Subject(Attention(), [torch.randn(2, 3, 4), padding])


@faulty("GL107", mechanism="std of one")
def batch_of_one_is_standardised():
    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            h = self.layer(x)
            spread = h.std(dim=0)  # <- fault
            return ((h - h.mean(0)) / (spread + 1e-5)).square().mean()

    return Subject(Standardised(), [torch.randn(1, 3)])


@faulty("GL107", mechanism="float16 overflow")
def sum_of_squares_does_not_fit_into_half_precision():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            h = self.layer(x).half()
            return h.square().float().mean()  # <- fault

    return Subject(Half(), [torch.full((2, 3), 2000.0)])


@faulty("GL107", mechanism="negative base")
def gamma_correction_meets_a_negative_value():
    def corrected(image, gamma):
        return (image**gamma).mean()  # <- fault

    return Subject(corrected, [torch.tensor([0.2, 0.7, -0.01]), torch.tensor(0.45, requires_grad=True)])


# GL107: finite in the forward pass, and not in the backward pass


@faulty("GL107", mechanism="sqrt at zero")
def distance_of_a_point_to_itself_is_a_bare_root():
    def spread(points):
        gaps = points[:, None] - points[None]
        return gaps.square().sum(-1).sqrt().mean()  # <- fault

    return Subject(spread, [torch.randn(3, 2, requires_grad=True)])


@faulty("GL107", mechanism="norm of zero")
def zero_vector_is_normalised_by_hand():
    class Directions(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(2, 3, bias=False)

        def forward(self, x):
            v = self.embed(x)
            length = v.pow(2).sum(-1, keepdim=True).pow(0.5)  # <- fault
            return (v / (length + 1e-8)).sum()

    return Subject(Directions(), [torch.tensor([[0.0, 0.0], [1.0, 2.0]])])


@faulty("GL107", mechanism="where, dead branch")
def dead_branch_takes_the_log_of_zero():
    def entropy(p):
        return -torch.where(p > 0, p * p.log(), torch.zeros_like(p)).sum()  # <- fault

    return Subject(entropy, [torch.tensor([0.5, 0.5, 0.0], requires_grad=True)])


@faulty("GL107", mechanism="where, dead branch")
def dead_branch_divides_by_zero():
    def sinc(x):
        ratio = x.sin() / x  # <- fault
        return torch.where(x == 0, torch.ones_like(x), ratio).sum()

    return Subject(sinc, [torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)])


@faulty("GL107", mechanism="acos at one")
def angle_between_a_vector_and_itself():
    def angle(first, second):
        cosine = (first * second).sum() / (first.norm() * second.norm())
        return torch.acos(cosine)  # <- fault

    return Subject(angle, [torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([3.0, 4.0])])


@faulty("GL107", mechanism="0 times inf")
def mask_is_multiplied_onto_an_infinite_penalty():
    class Penalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(3, 4)

        def forward(self, x, forbidden):
            penalty = torch.where(forbidden, torch.inf, 0.0)
            chosen = self.score(x).softmax(-1) * ~forbidden
            return (chosen * penalty).sum() - chosen.sum().log()  # <- fault

    return Subject(Penalised(), [torch.randn(3), torch.tensor([True, False, False, False])])


@faulty("GL107", mechanism="logsumexp of nothing")
def contrast_without_any_negative():
    def contrast(features):
        similarity = features @ features.T
        same = torch.eye(len(features), dtype=torch.bool)
        others = similarity.masked_fill(same, float("-inf"))
        return (others.logsumexp(1) - similarity.diagonal()).mean()  # <- fault

    return Subject(contrast, [torch.randn(1, 3, requires_grad=True)])


@faulty("GL107", mechanism="fully masked row, masked again")
def rows_of_padding_are_set_to_zero_after_the_attention():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, padding):
            scores = self.query(x) @ self.key(x).transpose(1, 2) / 2
            weights = scores.masked_fill(padding[:, None, :], float("-inf")).softmax(-1)  # <- fault
            return (weights @ self.value(x)).masked_fill(padding[..., None], 0.0).sum()

    padding = torch.tensor([[False, False, True], [True, True, True]])
    return Subject(Attend(), [torch.randn(2, 3, 4), padding])

"""Sound training steps: adversaries, latent codes, twins that stand still, and policies."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import healthy

# Generative models


@healthy(mechanism="reparametrisation")
def variational_autoencoder_draws_its_noise_apart():
    class Variational(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(5, 4)
            self.decoder = nn.Linear(2, 5)

        def forward(self, x):
            mu, log_var = self.encoder(x).chunk(2, dim=1)
            code = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
            divergence = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(1).mean()
            return F.mse_loss(self.decoder(code), x) + divergence

    return Subject(Variational(), [torch.randn(3, 5)])


@healthy(mechanism="rsample")
def latent_is_drawn_by_rsample():
    class Latent(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = nn.Parameter(torch.zeros(2))
            self.log_sigma = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            code = torch.distributions.Normal(self.mu, self.log_sigma.exp()).rsample()
            return (x - code).square().mean()

    return Subject(Latent(), [torch.randn(3, 2)])


@healthy(mechanism="detach beside a live path")
def discriminator_sees_detached_images_and_generator_the_live_ones():
    class Adversaries(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = mlp(2, 4, 3), mlp(3, 4, 1)

        def forward(self, noise, real):
            fake = self.generator(noise)
            of_real, of_fake = self.discriminator(real), self.discriminator(fake.detach())
            judging = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
            return judging + F.softplus(-self.discriminator(fake)).mean()

    return Subject(Adversaries(), [torch.randn(3, 2), torch.randn(3, 3)])


@healthy(mechanism="inner gradient")
def gradient_penalty_differentiates_between_real_and_fake():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(3, 4, 1)

        def forward(self, real, fake):
            share = torch.rand(len(real), 1)
            between = (share * real + (1 - share) * fake).requires_grad_(True)
            slope = torch.autograd.grad(self.net(between).sum(), between, create_graph=True)[0]
            penalty = (slope.norm(dim=1) - 1).square().mean()
            return self.net(fake).mean() - self.net(real).mean() + 10 * penalty + self.net(real).square().mean()

    return Subject(Critic(), [torch.randn(3, 3), torch.randn(3, 3)])


@healthy(mechanism="straight-through")
def vector_quantiser_copies_the_gradient_past_the_codebook():
    class Quantiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)
            self.codebook = nn.Embedding(5, 2)

        def forward(self, x):
            code = self.encoder(x)
            entry = self.codebook(torch.cdist(code, self.codebook.weight).argmin(1))
            through = code + (entry - code).detach()
            commitment = F.mse_loss(code, entry.detach()) + F.mse_loss(entry, code.detach())
            return F.mse_loss(self.decoder(through), x) + commitment

    return Subject(Quantiser(), [torch.randn(3, 4)])


@healthy(mechanism="gumbel-softmax")
def hard_choice_is_relaxed_by_gumbel_noise():
    class Chooser(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Linear(3, 4)
            self.rewards = nn.Parameter(torch.arange(4.0))

        def forward(self, state):
            choice = F.gumbel_softmax(self.policy(state), hard=True)
            return (choice @ self.rewards).mean()

    return Subject(Chooser(), [torch.randn(2, 3)])


# Twins that stand still


@healthy(mechanism="twin", lost=("target.weight", "target.bias"), allowed=("GL101",))
def q_learning_aims_at_a_target_network():
    class QLearner(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = nn.Linear(4, 3)
            self.target = copy.deepcopy(self.online)

        def forward(self, state, action, reward, following):
            chosen = self.online(state).gather(1, action[:, None]).squeeze(1)
            with torch.no_grad():
                aim = reward + 0.9 * self.target(following).max(1).values
            return F.smooth_l1_loss(chosen, aim)

    action = torch.tensor([0, 2, 1])
    return Subject(QLearner(), [torch.randn(3, 4), action, torch.randn(3), torch.randn(3, 4)])


@healthy(mechanism="twin", lost=("teacher.weight", "teacher.bias"), allowed=("GL101",))
def teacher_is_an_average_of_the_student():
    class MeanTeacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = nn.Linear(4, 3)
            self.teacher = copy.deepcopy(self.student)

        def forward(self, x):
            with torch.no_grad():
                for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    old.mul_(0.99).add_(new, alpha=0.01)
                aim = self.teacher(x).softmax(1)
            return F.kl_div(self.student(x + 0.1).log_softmax(1), aim, reduction="batchmean")

    return Subject(MeanTeacher(), [torch.randn(3, 4)])


@healthy(
    mechanism="twin", lost=("target.0.weight", "target.0.bias", "target.2.weight", "target.2.bias"), allowed=("GL101",)
)
def bootstrapped_views_predict_a_detached_twin():
    class Bootstrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = mlp(4, 5, 3)
            self.target = copy.deepcopy(self.online)
            self.predictor = nn.Linear(3, 3)

        def forward(self, first, second):
            guess = self.predictor(self.online(first))
            return 2 - 2 * F.cosine_similarity(guess, self.target(second).detach(), dim=1).mean()

    return Subject(Bootstrap(), [torch.randn(3, 4), torch.randn(3, 4)])


@healthy(mechanism="stop-gradient")
def siamese_stops_the_target_on_both_sides():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(6, 4)
            self.predictor = nn.Linear(4, 4)

        def forward(self, first, second):
            a, b = self.encoder(first), self.encoder(second)
            near = F.cosine_similarity(self.predictor(a), b.detach(), dim=1).mean()
            return -near - F.cosine_similarity(self.predictor(b), a.detach(), dim=1).mean()

    return Subject(Siamese(), [torch.randn(3, 6), torch.randn(3, 6)])


# Reinforcement learning


@healthy(mechanism="log-probability of a sample")
def policy_gradient_samples_and_scores():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor, self.critic = nn.Linear(3, 4), nn.Linear(3, 1)

        def forward(self, state, gain):
            choice = torch.distributions.Categorical(logits=self.actor(state))
            value = self.critic(state).squeeze(1)
            advantage = (gain - value).detach()
            return F.mse_loss(value, gain) - (choice.log_prob(choice.sample()) * advantage).mean()

    return Subject(Policy(), [torch.randn(5, 3), torch.randn(5)])


@healthy(mechanism="detached old probability")
def clipped_policy_compares_itself_with_its_past():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = nn.Linear(3, 4)

        def forward(self, state, action, advantage):
            new = self.actor(state).log_softmax(1).gather(1, action[:, None]).squeeze(1)
            ratio = (new - new.detach()).exp()
            bounded = ratio.clamp(0.8, 1.2) * advantage
            return -torch.minimum(ratio * advantage, bounded).mean()

    return Subject(Clipped(), [torch.randn(3, 3), torch.tensor([0, 1, 2]), torch.randn(3)])

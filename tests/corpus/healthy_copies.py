"""Sound programs with copies of a network under any name, parts frozen for one pass, and questions that only guard."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import healthy


@healthy(mechanism="twin", lost=("encoder_k.0.weight", "encoder_k.0.bias", "encoder_k.2.weight", "encoder_k.2.bias"),
         allowed=("GL101",))  # fmt: skip
def keys_are_encoded_by_a_slow_copy():
    class Contrast(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder_q = mlp(4, 8, 3)
            self.encoder_k = copy.deepcopy(self.encoder_q)
            self.register_buffer("queue", F.normalize(torch.randn(3, 7), dim=0))

        @torch.no_grad()
        def follow(self):
            for query, key in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
                key.data = key.data * 0.99 + query.data * 0.01

        def forward(self, one, two):
            query = F.normalize(self.encoder_q(one), dim=1)
            with torch.no_grad():
                self.follow()
                key = F.normalize(self.encoder_k(two), dim=1)
            scores = torch.cat([(query * key).sum(1, keepdim=True), query @ self.queue], 1)
            return F.cross_entropy(scores / 0.07, torch.zeros(len(query), dtype=torch.long))

    return Subject(Contrast(), [torch.randn(5, 4), torch.randn(5, 4)])


@healthy(mechanism="twin", lost=("b.weight", "b.bias"), allowed=("GL101",))
def aim_comes_from_a_copy_with_a_plain_name():
    class Bootstrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 2)
            self.b = copy.deepcopy(self.a)

        def forward(self, x, reward):
            return F.mse_loss(self.a(x), reward + 0.9 * self.b(x).detach())

    return Subject(Bootstrap(), [torch.randn(5, 4), torch.randn(5, 2)])


@healthy(mechanism="twin", lost=("critic.0.weight", "critic.0.bias", "critic.2.weight", "critic.2.bias"),
         allowed=("GL101",))  # fmt: skip
def critic_is_frozen_while_the_actor_is_trained():
    class Actor(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = mlp(4, 8, 2)
            self.critic = mlp(6, 8, 1)

        def forward(self, state):
            self.critic.requires_grad_(False)
            loss = -self.critic(torch.cat([state, self.actor(state)], -1)).mean()
            self.critic.requires_grad_(True)
            return loss

    return Subject(Actor(), [torch.randn(5, 4)])


@healthy(mechanism="validated distribution")
def arguments_of_a_distribution_are_validated():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(4, 8, 3)

        def forward(self, state, gain):
            choice = torch.distributions.Categorical(logits=self.body(state))
            return -(choice.log_prob(choice.sample()) * gain).mean() - 0.01 * choice.entropy().mean()

    return Subject(Policy(), [torch.randn(5, 4), torch.randn(5)])


@healthy(mechanism="question that guards")
def loss_that_diverges_stops_the_training():
    class Guarded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x):
            loss = self.layer(x).square().mean()
            if (
                torch.isnan(loss)
                or loss > 1e6
            ):  # fmt: skip
                message = "diverged"
                raise RuntimeError(message)
            return loss

    return Subject(Guarded(), [torch.randn(5, 4)])


@healthy(mechanism="leaf of an inner loop")
def adversary_takes_two_steps_from_leaf_to_leaf():
    class Robust(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp(4, 8, 2)

        def forward(self, x, y):
            shift = torch.zeros_like(x, requires_grad=True)
            for _ in range(2):
                (grad,) = torch.autograd.grad(F.cross_entropy(self.model(x + shift), y), shift)
                shift = (shift + 0.1 * grad.sign()).clamp(-0.2, 0.2).detach().requires_grad_()
            return F.cross_entropy(self.model(x + shift.detach()), y)

    return Subject(Robust(), [torch.randn(4, 4), torch.tensor([0, 1, 1, 0])])


@healthy(mechanism="softmax over two entries")
def softmax_of_one_row_has_two_classes():
    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return -torch.softmax(self.layer(x), 1)[0, 0].log()

    return Subject(Classes(), [torch.randn(1, 4)])

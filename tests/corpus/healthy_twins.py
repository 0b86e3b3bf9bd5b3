"""Sound programs in which a module stands still by design, though its parameters require a gradient."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import healthy


def names(*modules: str) -> tuple[str, ...]:
    """The parameters of modules that `mlp` made with one hidden layer."""
    return tuple(f"{module}.{layer}.{kind}" for module in modules for layer in (0, 2) for kind in ("weight", "bias"))


# Networks that follow another one


@healthy(mechanism="twin", lost=names("key_encoder"), allowed=("GL101",))
def momentum_contrast_moves_its_keys_in_the_pass():
    class Contrast(nn.Module):
        def __init__(self):
            super().__init__()
            # Not copied: it becomes an average within the first few hundred steps.
            self.query_encoder, self.key_encoder = mlp(4, 8, 3), mlp(4, 8, 3)

        @torch.no_grad()
        def follow(self):
            for query, key in zip(self.query_encoder.parameters(), self.key_encoder.parameters(), strict=True):
                key.lerp_(query, 0.01)

        def forward(self, one, two):
            self.follow()
            keys = F.normalize(self.key_encoder(two), dim=1).detach()
            scores = F.normalize(self.query_encoder(one), dim=1) @ keys.T
            return F.cross_entropy(scores / 0.2, torch.arange(len(one)))

    return Subject(Contrast(), [torch.randn(5, 4), torch.randn(5, 4)])


@healthy(mechanism="twin", lost=(*names("target_encoder"), "target_projector.weight", "target_projector.bias"),
         allowed=("GL101",))  # fmt: skip
def bootstrapped_projections_aim_at_a_drifted_target():
    class Bootstrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.online_encoder, self.online_projector = mlp(4, 8, 6), nn.Linear(6, 3)
            self.target_encoder = copy.deepcopy(self.online_encoder)
            self.target_projector = copy.deepcopy(self.online_projector)
            self.predictor = mlp(3, 4, 3)
            with torch.no_grad():  # the online network went on
                for parameter in (*self.online_encoder.parameters(), *self.online_projector.parameters()):
                    parameter += 0.05 * torch.randn_like(parameter)

        def forward(self, one, two):
            guess = self.predictor(self.online_projector(self.online_encoder(one)))
            with torch.no_grad():
                aim = self.target_projector(self.target_encoder(two))
            return -F.cosine_similarity(guess, aim, dim=1).mean()

    return Subject(Bootstrap(), [torch.randn(5, 4), torch.randn(5, 4)])


@healthy(mechanism="twin", lost=names("target_net"), allowed=("GL101",))
def target_network_is_copied_by_the_trainer_later():
    class DoubleQ(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy_net, self.target_net = mlp(4, 8, 3), mlp(4, 8, 3)

        def forward(self, state, action, reward, following):
            value = self.policy_net(state).gather(1, action[:, None]).squeeze(1)
            with torch.no_grad():
                best = self.policy_net(following).argmax(1, keepdim=True)
                aim = reward + 0.99 * self.target_net(following).gather(1, best).squeeze(1)
            return F.smooth_l1_loss(value, aim)

    action = torch.tensor([0, 2, 1])
    return Subject(DoubleQ(), [torch.randn(3, 4), action, torch.randn(3), torch.randn(3, 4)])


@healthy(mechanism="twin", lost=names("second"), allowed=("GL101",))
def mean_teacher_goes_by_another_name():
    class Consistency(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = mlp(4, 8, 3)
            self.second = copy.deepcopy(self.first)

        def forward(self, x, y):
            scores = self.first(x)
            drift = (scores - self.second(x + 0.1).detach()).square().mean()
            return F.cross_entropy(scores, y) + 3.0 * drift

    return Subject(Consistency(), [torch.randn(3, 4), torch.tensor([0, 1, 2])])


@healthy(mechanism="twin", lost=names("average"), allowed=("GL101",))
def average_of_the_weights_is_moved_after_its_use():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.average = mlp(4, 8, 2), mlp(4, 8, 2)

        def forward(self, x):
            aim = self.average(x).softmax(1).detach()
            loss = F.kl_div(self.net(x).log_softmax(1), aim, reduction="batchmean")
            with torch.no_grad():
                for mean, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                    mean.copy_(0.999 * mean + 0.001 * new)
            return loss

    return Subject(Averaged(), [torch.randn(3, 4)])


@healthy(mechanism="twin", lost=names("old_actor"), allowed=("GL101",))
def new_policy_stays_near_the_old_one():
    class Proximal(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor, self.old_actor = mlp(4, 8, 3), mlp(4, 8, 3)
            self.critic = mlp(4, 8, 1)

        def forward(self, state, action, gain):
            before = self.old_actor(state).log_softmax(1).gather(1, action[:, None]).squeeze(1).detach()
            ratio = (self.actor(state).log_softmax(1).gather(1, action[:, None]).squeeze(1) - before).exp()
            value = self.critic(state).squeeze(1)
            advantage = (gain - value).detach()
            clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            return F.mse_loss(value, gain) - clipped.mean()

    return Subject(Proximal(), [torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.randn(3)])


# Networks that were trained before


@healthy(mechanism="twin", lost=names("large"), allowed=("GL101",))
def small_network_learns_from_a_large_one_without_a_telling_name():
    class Distillation(nn.Module):
        def __init__(self):
            super().__init__()
            self.large, self.small = mlp(4, 32, 3), nn.Linear(4, 3)

        def forward(self, x, y):
            with torch.no_grad():
                soft = (self.large(x) / 4).softmax(1)
            scores = self.small(x)
            return F.cross_entropy(scores, y) + 16 * F.kl_div((scores / 4).log_softmax(1), soft, reduction="batchmean")

    return Subject(Distillation(), [torch.randn(3, 4), torch.tensor([0, 1, 2])])


@healthy(mechanism="twin", lost=("ref_model.0.weight", "ref_model.1.weight", "ref_model.1.bias"), allowed=("GL101",))
def preferences_are_held_against_a_reference_of_another_size():
    class Preference(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
            self.ref_model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))

        def log_prob(self, net, tokens):
            return net(tokens).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1).sum(1)

        def forward(self, chosen, rejected):
            margin = self.log_prob(self.policy, chosen) - self.log_prob(self.policy, rejected)
            with torch.no_grad():
                before = self.log_prob(self.ref_model, chosen) - self.log_prob(self.ref_model, rejected)
            return -F.logsigmoid(0.1 * (margin - before)).mean()

    return Subject(Preference(), [torch.randint(20, (2, 5)), torch.randint(20, (2, 5))])


@healthy(mechanism="twin", lost=("frozen_backbone.weight", "frozen_backbone.bias"), allowed=("GL101",))
def head_is_trained_on_features_of_a_frozen_backbone():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen_backbone, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x, y):
            return F.cross_entropy(self.head(self.frozen_backbone(x).relu().detach()), y)

    return Subject(Probe(), [torch.randn(3, 4), torch.tensor([0, 1, 2])])


# Modules that another step trains


@healthy(mechanism="twin", lost=names("generator"), allowed=("GL101",))
def discriminator_judges_images_made_in_a_block():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = mlp(2, 4, 3), mlp(3, 4, 1)

        def forward(self, noise, real):
            with torch.no_grad():
                fake = self.generator(noise)
            return F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()

    return Subject(Step(), [torch.randn(3, 2), torch.randn(3, 3)])


@healthy(mechanism="twin", lost=names("actor", "first_target", "second_target"), allowed=("GL101",))
def critics_are_trained_while_the_actor_only_acts():
    class SoftCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = mlp(4, 8, 2)
            self.first, self.second = mlp(6, 8, 1), mlp(6, 8, 1)
            self.first_target, self.second_target = copy.deepcopy(self.first), copy.deepcopy(self.second)

        def forward(self, state, action, reward, following):
            with torch.no_grad():
                both = torch.cat([following, self.actor(following).tanh()], 1)
                aim = reward + 0.99 * torch.minimum(self.first_target(both), self.second_target(both)).squeeze(1)
            given = torch.cat([state, action], 1)
            return F.mse_loss(self.first(given).squeeze(1), aim) + F.mse_loss(self.second(given).squeeze(1), aim)

    return Subject(SoftCritic(), [torch.randn(3, 4), torch.randn(3, 2), torch.randn(3), torch.randn(3, 4)])


@healthy(mechanism="twin", lost=names("g"), allowed=("GL101",), level="warning")
def discriminator_judges_detached_images_of_a_network_without_a_telling_name():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.g, self.d = mlp(2, 8, 3), mlp(3, 8, 1)

        def forward(self, real, z):
            fake = self.g(z).detach()
            return F.softplus(-self.d(real)).mean() + F.softplus(self.d(fake)).mean()

    return Subject(Step(), [torch.randn(5, 3), torch.randn(5, 2)])


@healthy(mechanism="twin", lost=names("fixed"), allowed=("GL101",), level="warning")
def network_that_is_never_trained_is_predicted_and_the_error_is_a_bonus():
    class Curious(nn.Module):
        def __init__(self):
            super().__init__()
            self.fixed, self.guess = mlp(4, 16, 6), mlp(4, 8, 6)
            self.policy = nn.Linear(4, 3)

        def forward(self, state, action):
            want = self.fixed(state).detach()
            surprise = (self.guess(state) - want).square().mean(-1)
            bonus = surprise.detach()
            chosen = self.policy(state).log_softmax(-1).gather(1, action[:, None])[:, 0]
            return surprise.mean() - (chosen * (bonus - bonus.mean())).mean()

    return Subject(Curious(), [torch.randn(6, 4), torch.randint(3, (6,))])


@healthy(mechanism="twin", lost=names("mu"), allowed=("GL101",), level="warning")
def critic_aims_at_its_own_value_of_the_next_choice():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu, self.q = mlp(3, 8, 2), mlp(5, 8, 1)

        def forward(self, state, action, reward, following):
            with torch.no_grad():
                choice = self.mu(following)
                aim = reward + 0.9 * self.q(torch.cat([following, choice], -1))
            return F.mse_loss(self.q(torch.cat([state, action], -1)), aim)

    return Subject(Step(), [torch.randn(5, 3), torch.rand(5, 2), torch.randn(5, 1), torch.randn(5, 3)])


@healthy(mechanism="twin", lost=names("chooser"), allowed=("GL101",), level="warning")
def critic_learns_the_value_of_what_a_network_would_do():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.chooser, self.q = mlp(3, 8, 2), mlp(5, 8, 1)

        def forward(self, state, gain):
            with torch.no_grad():
                choice = self.chooser(state)
            return F.mse_loss(self.q(torch.cat([state, choice], -1)), gain)

    return Subject(Step(), [torch.randn(5, 3), torch.randn(5, 1)])


@healthy(mechanism="twin", lost=names("smooth"), allowed=("GL104",))
def average_is_moved_in_the_pass_and_used_elsewhere():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(2, 8, 2)
            self.smooth = copy.deepcopy(self.net)

        def forward(self, x, noise):
            loss = F.mse_loss(self.net(x + noise), noise)
            with torch.no_grad():
                for mean, new in zip(self.smooth.parameters(), self.net.parameters(), strict=True):
                    mean.lerp_(new, 0.01)
            return loss

    return Subject(Averaged(), [torch.randn(5, 2), torch.randn(5, 2)])

"""Sound programs that carry state, keep leaves, or let a copy of a network stand still under any name."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import healthy

# Copies


@healthy(mechanism="twin", lost=("ema.module.weight", "ema.module.bias"), allowed=("GL101",))
def averaged_model_gives_the_aim():
    class Averaging(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)
            self.ema = torch.optim.swa_utils.AveragedModel(self.net)

        def forward(self, x):
            with torch.no_grad():
                aim = self.ema(x) + 1
            return F.mse_loss(self.net(x), aim)

    return Subject(Averaging(), [torch.randn(5, 4)])


@healthy(mechanism="twin", lost=("ref_model.0.weight", "ref_model.1.weight", "ref_model.1.bias"), allowed=("GL101",))
def policy_stays_near_its_reference():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
            self.ref_model = copy.deepcopy(self.policy)

        def forward(self, tokens, advantage):
            now = self.log_prob(self.policy, tokens)
            with torch.no_grad():
                before = self.log_prob(self.ref_model, tokens)
            return -(now * advantage).mean() + 0.1 * (now - before).mean()

        def log_prob(self, net, tokens):
            return net(tokens).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)

    return Subject(Policy(), [torch.randint(20, (2, 5)), torch.randn(2, 5)])


@healthy(mechanism="twin", lost=("teacher.0.weight", "teacher.0.bias", "teacher.2.weight", "teacher.2.bias"),
         allowed=("GL101",))  # fmt: skip
def small_student_learns_from_a_large_teacher():
    class Distillation(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 3))
            self.student = nn.Linear(4, 3)

        def forward(self, x):
            with torch.no_grad():
                aim = self.teacher(x).softmax(-1)
            return F.kl_div(self.student(x).log_softmax(-1), aim, reduction="batchmean")

    return Subject(Distillation(), [torch.randn(3, 4)])


@healthy(mechanism="twin", lost=("pi_target.weight", "pi_target.bias", "q_target.weight", "q_target.bias"),
         allowed=("GL101",))  # fmt: skip
def target_policy_is_smoothed_by_samples():
    class Smoothed(nn.Module):
        def __init__(self):
            super().__init__()
            self.pi = nn.Linear(4, 2)
            self.q = nn.Linear(6, 1)
            self.pi_target, self.q_target = copy.deepcopy(self.pi), copy.deepcopy(self.q)

        def forward(self, state, action, reward, following):
            noisy = torch.distributions.Normal(self.pi_target(following), torch.tensor(0.2)).sample().clamp(-1, 1)
            aim = (reward + 0.99 * self.q_target(torch.cat([following, noisy], -1)).squeeze(-1)).detach()
            critic = F.mse_loss(self.q(torch.cat([state, action], -1)).squeeze(-1), aim)
            return critic - self.q(torch.cat([state, self.pi(state)], -1)).mean()

    return Subject(Smoothed(), [torch.randn(5, 4), torch.randn(5, 2), torch.randn(5), torch.randn(5, 4)])


# Leaves


@healthy(mechanism="frozen for a while")
def critic_is_frozen_while_the_generator_is_judged():
    class Adversary(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator = nn.Linear(2, 4)
            self.critic = nn.Linear(4, 1)

        def forward(self, noise, real):
            fake = self.generator(noise)
            for parameter in self.critic.parameters():
                parameter.requires_grad_(False)
            generator_loss = -self.critic(fake).tanh().mean()
            for parameter in self.critic.parameters():
                parameter.requires_grad_(True)
            critic_loss = self.critic(fake.detach()).mean() - self.critic(real).square().mean()
            return generator_loss + critic_loss

    return Subject(Adversary(), [torch.randn(5, 2), torch.randn(5, 4)])


@healthy(mechanism="inner gradient")
def saliency_is_read_from_a_leaf_that_the_module_keeps():
    class Saliency(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)
            self.image = None

        def forward(self, x):
            self.image = x.detach().requires_grad_()  # its .grad is read after backward()
            return self.layer(self.image).tanh().sum()

    return Subject(Saliency(), [torch.randn(3, 4)])


@healthy(mechanism="inner gradient", allowed=("GL102",))
def part_of_the_input_is_asked_for_a_gradient():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, waves):
            waves = waves[:, None]
            waves.requires_grad = True  # for reentrant checkpoints further in
            return self.head(self.features(waves)).tanh().sum()

    return Subject(Asking(), [torch.randn(3, 4)])


@healthy(mechanism="gradient inside a hook")
def equilibrium_is_differentiated_in_a_hook():
    class Equilibrium(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def step(self, z, x):
            return torch.tanh(self.layer(z) * 0.5 + x)

        def forward(self, x):
            with torch.no_grad():
                z = torch.zeros_like(x)
                for _ in range(15):
                    z = self.step(z, x)
            z = self.step(z, x)
            z0 = z.clone().detach().requires_grad_()
            f0 = self.step(z0, x)

            def solved(grad):
                y = grad
                for _ in range(10):
                    y = torch.autograd.grad(f0, z0, y, retain_graph=True)[0] + grad
                return y

            if z.requires_grad:
                z.register_hook(solved)
            return self.head(z).mean()

    return Subject(Equilibrium(), [torch.randn(3, 4)])


# State


@healthy(mechanism="counter in Python")
def logged_loss_is_smoothed_with_a_counter():
    class Smoothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)
            self.steps, self.smooth, self.history = 0, 0.0, []

        def forward(self, x):
            loss = self.layer(x).square().mean()
            self.steps += 1
            self.smooth = 0.9 * self.smooth + 0.1 * loss.item() / self.steps
            self.history.append(f"{loss:.3f}")
            return loss

    return Subject(Smoothing(), [torch.randn(3, 4)])


@healthy(mechanism="broadcast_tensors")
def broadcast_returns_the_argument_itself():
    class Broadcast(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))

        def forward(self, x):
            mean, scale, noise = torch.broadcast_tensors(self.mean(x), self.scale, torch.ones(3, 4))
            return (mean + scale * noise).tanh().sum()

    return Subject(Broadcast(), [torch.randn(3, 4)])


# Lists


@healthy(mechanism="layers in a list as well")
def layers_are_listed_and_kept_in_a_list_as_well():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 1)
            self.order = [self.first, self.second]
            self.scales = [torch.ones(()), torch.full((), 0.5)]

        def forward(self, x):
            for layer, scale in zip(self.order, self.scales, strict=True):
                x = torch.tanh(layer(x)) * scale
            return x.mean()

    return Subject(Deep(), [torch.randn(5, 4)])

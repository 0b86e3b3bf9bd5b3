"""The graph is cut where a recorder of torch's functions does not see it, or where two runs differ of themselves."""

import io
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import faulty


class Two(nn.Module):
    """An encoder, which is lost, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)


ENCODER = ("encoder.weight", "encoder.bias")

# Runs that differ unless their state is put back


@faulty("GL101", lost=ENCODER, mechanism="item beside a step counter")
def weight_is_a_number_that_grows_with_the_steps():
    class Warming(Two):
        steps = 0

        def forward(self, x):
            self.steps += 1
            weight = self.encoder(x).pow(2).mean().item() * (1 + 0.1 * self.steps)  # <- fault
            return self.head(x).mean() * weight

    return Subject(Warming(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="item beside noise of NumPy")
def weight_is_a_number_with_noise():
    class Noisy(Two):
        def __init__(self):
            super().__init__()
            self.source = np.random.default_rng(0)

        def forward(self, x):
            weight = self.encoder(x).pow(2).mean().item() * 2 + self.source.normal() * 0.1  # <- fault
            return self.head(x).mean() * weight

    return Subject(Noisy(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="item beside a generator")
def weight_is_a_number_and_every_run_is_another():
    def schedule():
        step = 0
        while True:
            step += 1
            yield 1 + 0.1 * step

    class Scheduled(Two):
        def __init__(self):
            super().__init__()
            self.schedule = schedule()  # which nobody can put back

        def forward(self, x):
            weight = self.encoder(x).pow(2).mean().item() * next(self.schedule)  # <- fault
            return self.head(x).mean() * weight

    return Subject(Scheduled(), [torch.randn(3, 4)])


# Out of sight


@faulty("GL101", lost=ENCODER, mechanism="TorchScript")
def scripted_function_detaches():
    @torch.jit.script
    def gate(h: torch.Tensor):
        return h.detach().relu()

    class Scripted(Two):
        def forward(self, x):
            h = gate(self.encoder(x))  # <- fault
            return self.head(h).mean()

    return Subject(Scripted(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="vmap")
def comparison_under_vmap():
    class Mapped(Two):
        def forward(self, x):
            h = torch.vmap(lambda row: (self.encoder(row) > 0).float())(x)  # <- fault
            return self.head(h).mean()

    return Subject(Mapped(), [torch.randn(3, 4)])


@faulty("GL101", lost=("rows",), mechanism="vmap")
def detach_under_vmap():
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(torch.randn(5, 4))
            self.shift = nn.Parameter(torch.zeros(5))

        def forward(self, x):
            y = torch.vmap(lambda row: (x @ row.detach()).tanh())(self.rows)  # <- fault
            return (y.mean(1) + self.shift).sum()

    return Subject(Mapped(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="text")
def number_is_read_back_from_its_text():
    class Parsed(Two):
        def forward(self, x):
            scale = float(f"{self.encoder(x).mean():.4f}")  # <- fault
            return self.head(x).mean() * scale

    return Subject(Parsed(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="storage")
def tensor_is_built_on_the_storage_of_another():
    class Aliased(Two):
        def forward(self, x):
            h = torch.empty(0).set_(self.encoder(x).untyped_storage(), 0, (3, 4))  # <- fault
            return self.head(h).mean()

    return Subject(Aliased(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="a storage")
def storage_is_kept_and_set_later():
    class Stored(Two):
        def forward(self, x):
            activations = self.encoder(x)
            memory = activations.untyped_storage()  # <- fault
            h = torch.empty(0)
            h.set_(memory, 0, (3, 4), (4, 1))
            return self.head(h).mean()

    return Subject(Stored(), [torch.randn(3, 4)])


@faulty("GL106", mechanism="no derivative")
def tensor_is_set_to_another_tensor():
    class Set(Two):
        def forward(self, x):
            h = torch.empty(0)
            h.set_(self.encoder(x))  # <- fault
            return self.head(h).mean()

    return Subject(Set(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="save and load", allowed=("GL102",))
def activations_go_through_a_file():
    class Cached(Two):
        def forward(self, x):
            file = io.BytesIO()
            torch.save(self.encoder(x), file)  # <- fault
            file.seek(0)
            return self.head(torch.load(file)).mean()

    return Subject(Cached(), [torch.randn(3, 4)])


# Many leaves, several calls


@faulty(
    "GL101",
    lost=[f"body.{2 * k}.{name}" for k in range(12) for name in ("weight", "bias")],
    mechanism="detach, many leaves",
)
def whole_encoder_is_lost_through_one_number():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(*[4] * 13)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            scale = math.log1p(float(self.body(x).detach().norm()))  # <- fault
            return self.head(x).mean() * scale

    return Subject(Deep(), [torch.randn(3, 4)])


@faulty("GL101", lost=ENCODER, mechanism="float beside a log")
def confidence_is_a_number_and_the_mean_is_logged():
    class Logging(Two):
        def forward(self, x):
            h = self.encoder(x)
            self.logged = h.detach().mean().item()
            confidence = float(h.softmax(-1).max())  # <- fault
            return self.head(x).mean() * (1 - confidence)

    return Subject(Logging(), [torch.randn(3, 4)])


# Wrappers and distributions


@faulty("GL101", lost=ENCODER, mechanism="sample")
def latent_is_sampled_without_its_gradient():
    class Sampling(Two):
        def forward(self, x):
            latent = torch.distributions.Normal(self.encoder(x), 1.0, validate_args=False)
            return self.head(latent.sample()).mean()  # <- fault

    return Subject(Sampling(), [torch.randn(6, 4)])


@faulty("GL101", lost=ENCODER, mechanism="detach after broadcasting")
def broadcast_activations_are_detached():
    class Broadcast(Two):
        def forward(self, x):
            h, one = torch.broadcast_tensors(self.encoder(x), torch.ones(4))
            return self.head(h.detach() + one).mean()  # <- fault

    return Subject(Broadcast(), [torch.randn(6, 4)])


@faulty("GL101", lost=ENCODER, mechanism="reentrant checkpoint")
def reentrant_checkpoint_of_an_input_without_gradient():
    class Checkpointed(Two):
        def forward(self, x):
            h = checkpoint(self.encoder, x, use_reentrant=True)  # <- fault
            return self.head(h).mean()

    return Subject(Checkpointed(), [torch.randn(3, 4)])


@faulty("GL101", lost=("potential.weight", "potential.bias"), mechanism="gradient without graph")
def force_is_a_gradient_without_a_graph():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.potential = nn.Linear(2, 4)
            self.head = nn.Linear(2, 1)

        def forward(self, x):
            place = x.detach().requires_grad_()
            energy = self.potential(place).tanh().sum()
            force = torch.autograd.grad(energy, place)[0]  # <- fault
            return (self.head(x) + force.sum(-1, keepdim=True)).pow(2).mean()

    return Subject(Force(), [torch.randn(3, 2)])


@faulty("GL101", lost=("message.weight", "message.bias"), mechanism="write into data")
def messages_are_added_into_data():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.message = nn.Linear(3, 3)
            self.update = nn.Linear(6, 2)

        def forward(self, x, ends):
            sent = self.message(x[ends[0]])
            arrived = torch.zeros_like(x)
            arrived.data.scatter_add_(0, ends[1][:, None].expand_as(sent), sent)  # <- fault
            return self.update(torch.cat([x, arrived], -1)).square().mean()

    return Subject(Graph(), [torch.randn(5, 3), torch.randint(5, (2, 12))])


class _Quantised(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = (x * 4).round() / 4
        ctx.mark_non_differentiable(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad


@faulty("GL101", lost=ENCODER, mechanism="mark_non_differentiable, bound before")
def quantiser_says_that_it_has_no_derivative():
    quantised = _Quantised.apply

    class Quantising(Two):
        def forward(self, x):
            return self.head(quantised(self.encoder(x).relu())).mean()  # <- fault

    return Subject(Quantising(), [torch.randn(3, 4)])


# Names that sound like a target network's


@faulty("GL101", lost=("target_head.weight", "target_head.bias"), mechanism="a target's head")
def head_of_the_target_domain_is_detached():
    class Domains(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)
            self.source_head = nn.Linear(4, 3)
            self.target_head = nn.Linear(4, 3)

        def forward(self, x, ys, yt):
            h = self.body(x).tanh()
            there = self.target_head(h).detach()  # <- fault
            return F.cross_entropy(self.source_head(h), ys) + F.cross_entropy(there, yt)

    return Subject(Domains(), [torch.randn(3, 4), torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2])])


@faulty("GL101", lost=("moving_encoder.weight", "moving_encoder.bias"), mechanism="a moving image")
def encoder_of_the_moving_image_is_cut():
    class Registration(nn.Module):
        def __init__(self):
            super().__init__()
            self.fixed_encoder = nn.Linear(4, 4)
            self.moving_encoder = nn.Linear(4, 4)
            self.head = nn.Linear(8, 2)

        def forward(self, fixed, moving):
            both = [self.fixed_encoder(fixed), self.moving_encoder(moving).data]  # <- fault
            return self.head(torch.cat(both, -1)).mean()

    return Subject(Registration(), [torch.randn(3, 4), torch.randn(3, 4)])


# Numbers and derivatives


@faulty("GL105", zero=ENCODER, mechanism="sgn")
def sign_by_its_other_name():
    class Signs(Two):
        def forward(self, x):
            return self.head(self.encoder(x).sgn()).mean()  # <- fault

    return Subject(Signs(), [torch.randn(3, 4)])


@faulty("GL106", mechanism="no derivative")
def heaviside_has_no_derivative():
    class Step(Two):
        def forward(self, x):
            h = torch.heaviside(self.encoder(x), torch.tensor(0.0))  # <- fault
            return self.head(h).mean()

    return Subject(Step(), [torch.randn(3, 4)])


@faulty("GL107", mechanism="overflow before a quotient")
def softmax_is_spelt_out_and_overflows():
    class Spelt(Two):
        def forward(self, x):
            h = self.encoder(x) * 200
            p = torch.exp(h)  # <- fault
            p = p / p.sum(-1, keepdim=True)
            return self.head(p).mean()

    return Subject(Spelt(), [torch.randn(3, 4)])


@faulty("GL101", lost=("place.weight", "place.bias"), mechanism="a cast, then a list")
def crop_is_cut_out_at_whole_numbers():
    class Glimpse(nn.Module):
        def __init__(self):
            super().__init__()
            self.place, self.judge = nn.Linear(36, 2), nn.Linear(9, 2)

        def forward(self, images):
            corners = torch.sigmoid(self.place(images.flatten(1))) * 3
            crops = []
            for image, corner in zip(images, corners, strict=True):
                top, left = corner.int().tolist()  # <- fault
                crops.append(image[top : top + 3, left : left + 3].reshape(-1))
            return self.judge(torch.stack(crops)).logsumexp(-1).mean()

    return Subject(Glimpse(), [torch.randn(2, 6, 6)])


@faulty("GL101", lost=("model.weight", "model.bias"), mechanism="a loss in NumPy", allowed=("GL102", "GL106"))
def images_go_to_numpy_and_come_back_as_a_loss():
    class Task(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, noisy, clean):
            image = self.model(noisy).cpu().detach().numpy()  # <- fault
            error = ((image - clean.numpy()) ** 2).mean(axis=(1, 2, 3))
            return torch.from_numpy(error).mean().requires_grad_()

    return Subject(Task(), [torch.randn(2, 1, 5, 5), torch.randn(2, 1, 5, 5)])


@faulty("GL101", lost=("policy.weight", "policy.bias"), mechanism="item of a log-probability",
        allowed=("GL102", "GL103", "GL106"))  # fmt: skip
def log_probabilities_are_remembered_as_numbers():
    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Linear(4, 2)

        def act(self, state):
            choice = torch.distributions.Categorical(logits=self.policy(state))
            action = choice.sample()
            self.memory.append(choice.log_prob(action).item())  # <- fault

        def forward(self, states, returns):
            self.memory = []
            for state in states:
                self.act(state)
            remembered = torch.tensor(self.memory, requires_grad=True)
            return -(remembered * returns).mean()

    return Subject(Agent(), [torch.randn(4, 4), torch.randn(4)])

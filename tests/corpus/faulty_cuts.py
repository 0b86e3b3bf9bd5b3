"""The graph is cut by something that says so: detach, .data, no_grad, a new leaf, a Function without a gradient."""

import copy

import torch
from torch import nn
from torch.autograd import Variable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import faulty

# detach


@faulty("GL101", lost=("encoder.weight", "encoder.bias"), mechanism="detach")
def autoencoder_detaches_its_code():
    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(6, 3)
            self.decoder = nn.Linear(3, 6)

        def forward(self, x):
            code = torch.tanh(self.encoder(x)).detach()  # <- fault
            return F.mse_loss(self.decoder(code), x)

    return Subject(Autoencoder(), [torch.randn(4, 6)])


@faulty("GL101", lost=("side.weight", "side.bias"), mechanism="detach")
def one_of_two_losses_is_collected_detached():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(5, 4)
            self.main = nn.Linear(4, 2)
            self.side = nn.Linear(4, 1)

        def forward(self, x, label, height):
            h = torch.relu(self.body(x))
            losses = {"class": F.cross_entropy(self.main(h), label)}
            losses["height"] = F.mse_loss(self.side(h).squeeze(1), height).detach()  # <- fault
            return sum(losses.values())

    return Subject(TwoHeads(), [torch.randn(3, 5), torch.tensor([0, 1, 1]), torch.randn(3)])


@faulty("GL101", lost=("predictor.weight", "predictor.bias"), mechanism="detach")
def siamese_stops_the_predictor_instead_of_the_target():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(6, 4)
            self.predictor = nn.Linear(4, 4)

        def forward(self, first, second):
            target = self.encoder(second)
            guess = self.predictor(self.encoder(first)).detach()  # <- fault
            return -F.cosine_similarity(guess, target, dim=1).mean()

    return Subject(Siamese(), [torch.randn(3, 6), torch.randn(3, 6)])


@faulty("GL101", lost=("online.weight", "online.bias"), mechanism="detach")
def q_learning_detaches_the_wrong_side():
    class QLearner(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = nn.Linear(4, 3)
            self.target = nn.Linear(4, 3)

        def forward(self, state, action, reward, following):
            chosen = self.online(state).gather(1, action[:, None]).squeeze(1)
            aim = reward + 0.9 * self.target(following).max(1).values
            return F.smooth_l1_loss(chosen.detach(), aim)  # <- fault

    action = torch.tensor([0, 2, 1])
    return Subject(QLearner(), [torch.randn(3, 4), action, torch.randn(3), torch.randn(3, 4)])


@faulty(
    "GL101",
    lost=("generator.0.weight", "generator.0.bias", "generator.2.weight", "generator.2.bias"),
    mechanism="detach",
)
def generator_step_reuses_the_discriminators_detached_images():
    class Adversaries(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator = mlp(2, 4, 6)
            self.discriminator = mlp(6, 4, 1)

        def forward(self, noise):
            fake = self.generator(noise).detach()  # <- fault
            verdict = self.discriminator(fake)
            return F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))

    return Subject(Adversaries(), [torch.randn(3, 2)])


@faulty("GL101", lost=("start",), mechanism="detach_")
def recurrent_state_is_detached_in_place_at_every_step():
    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.RNNCell(3, 4)

        def forward(self, sequence, start):
            state = start.tanh()
            for step in sequence:
                state.detach_()  # <- fault
                state = self.cell(step, state)
            return state.square().mean()

    return Subject(Unrolled(), [torch.randn(3, 2, 3), torch.zeros(2, 4, requires_grad=True)])


# .data


@faulty("GL101", lost=("embed.weight",), mechanism=".data")
def embedding_is_taken_through_data():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.rnn = nn.GRU(4, 3, batch_first=True)

        def forward(self, words):
            vectors = self.embed(words).data  # <- fault
            return self.rnn(vectors)[0].square().mean()

    return Subject(Tagger(), [torch.tensor([[1, 2, 3], [4, 5, 6]])])


@faulty("GL101", lost=("left.weight", "left.bias"), mechanism="write through .data")
def canvas_is_filled_through_data():
    class Canvas(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Linear(3, 2)
            self.right = nn.Linear(3, 2)

        def forward(self, x):
            canvas = x.new_zeros(x.shape[0], 4)
            canvas.data[:, :2] = self.left(x)  # <- fault
            canvas[:, 2:] = self.right(x)
            return canvas.tanh().sum(1)

    return Subject(Canvas(), [torch.randn(3, 3)])


@faulty("GL101", lost=("maker.weight", "maker.bias"), mechanism="assignment to .data")
def hypernetwork_assigns_its_weights_through_data():
    class Hypernetwork(nn.Module):
        def __init__(self):
            super().__init__()
            self.maker = nn.Linear(2, 6)
            self.layer = nn.Linear(3, 2)

        def forward(self, x, task):
            self.layer.weight.data = self.maker(task).view(2, 3)  # <- fault
            return self.layer(x).square().mean()

    return Subject(Hypernetwork(), [torch.randn(4, 3), torch.randn(2)])


@faulty("GL101", lost=("first.weight", "first.bias"), mechanism="Variable")
def stage_output_is_wrapped_into_a_variable():
    class Staged(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 1)

        def forward(self, x):
            h = F.relu(self.first(x))
            h = Variable(h.data)  # <- fault
            return self.second(h).sum()

    return Subject(Staged(), [torch.randn(2, 4)])


# Blocks and decorators


@faulty("GL101", lost=("backbone.weight", "backbone.bias"), mechanism="no_grad")
def backbone_to_be_tuned_runs_without_gradients():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Conv2d(1, 2, 3)
            self.head = nn.Linear(2, 3)

        def forward(self, image):
            with torch.no_grad():  # <- near
                features = self.backbone(image)  # <- fault
                features = features.mean(dim=(2, 3))
            return self.head(features)

    return Subject(Classifier(), [torch.randn(2, 1, 5, 5)], loss=lambda out: out.square().mean())


@faulty("GL101", lost=("log_scale",), mechanism="no_grad decorator")
def helper_carries_a_leftover_decorator():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(3))
            self.layer = nn.Linear(3, 3)

        @torch.no_grad()  # <- near
        def scale(self):
            return self.log_scale.exp()  # <- fault

        def forward(self, x):
            return self.layer(x) * self.scale()

    return Subject(Scaled(), [torch.randn(2, 3)])


@faulty("GL101", lost=("encoder.weight", "encoder.bias"), mechanism="inference_mode")
def features_come_from_inference_mode():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            with torch.inference_mode():  # <- near
                features = self.encoder(x)  # <- fault
            return self.head(features.clone()).logsumexp(1).mean()

    return Subject(Probe(), [torch.randn(3, 4)])


@faulty("GL101", lost=("encoder.weight", "encoder.bias"), mechanism="set_grad_enabled")
def gradient_switch_is_the_wrong_way_round():
    class Switched(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 3)
            self.head = nn.Linear(3, 1)

        def forward(self, x):
            with torch.set_grad_enabled(not self.training):  # <- near
                h = self.encoder(x)  # <- fault
            return self.head(h.sigmoid())

    return Subject(Switched(), [torch.randn(3, 4)])


@faulty("GL101", lost=("slope",), mechanism="no_grad copy")
def result_is_copied_into_a_buffer_without_gradients():
    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.ones(3))
            self.offset = nn.Parameter(torch.zeros(3))
            self.register_buffer("kept", torch.zeros(2, 3))

        def forward(self, x):
            with torch.no_grad():  # <- near
                self.kept.copy_(x * self.slope)  # <- fault
            return (self.kept + self.offset).pow(2).mean()

    return Subject(Buffered(), [torch.randn(2, 3)])


@faulty("GL101", lost=("block.0.weight", "block.0.bias"), mechanism="reentrant checkpoint")
def reentrant_checkpoint_is_given_an_input_without_gradient():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.GELU())
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            h = checkpoint(self.block, x, use_reentrant=True)  # <- fault
            return self.head(h).sum()

    return Subject(Checkpointed(), [torch.randn(2, 4)])


@faulty("GL101", lost=("mu.weight", "mu.bias", "log_sigma.weight", "log_sigma.bias"), mechanism="sample")
def latent_is_drawn_by_sample_instead_of_rsample():
    class Latent(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = nn.Linear(5, 2)
            self.log_sigma = nn.Linear(5, 2)
            self.decoder = nn.Linear(2, 5)

        def forward(self, x):
            posterior = torch.distributions.Normal(self.mu(x), self.log_sigma(x).exp())
            code = posterior.sample()  # <- fault
            return F.mse_loss(self.decoder(code), x)

    return Subject(Latent(), [torch.randn(3, 5)])


# Leaves that stop being leaves, and leaves made over


@faulty("GL101", lost=("encoder.weight",), mechanism="requires_grad_(False)")
def parameters_are_frozen_in_the_middle_of_forward():
    class Freezing(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 4, bias=False)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            for parameter in self.encoder.parameters():
                parameter.requires_grad_(False)  # <- fault
            return self.head(self.encoder(x)).square().sum()

    return Subject(Freezing(), [torch.randn(2, 4)])


@faulty("GL101", lost=("scale",), mechanism="requires_grad = False")
def scale_is_frozen_by_attribute_and_never_thawed():
    class Warmup(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))
            self.layer = nn.Linear(4, 4)

        def forward(self, x, step):
            if step < 100:
                self.scale.requires_grad = False  # <- fault
            return self.layer(x) * self.scale

    return Subject(Warmup(), [torch.randn(2, 4), 7])


@faulty("GL101", lost=("maker.weight", "maker.bias"), mechanism="nn.Parameter", allowed=("GL102",))
def generated_weight_is_wrapped_as_a_parameter():
    class Generated(nn.Module):
        def __init__(self):
            super().__init__()
            self.maker = nn.Linear(2, 6)
            self.bias = nn.Parameter(torch.zeros(2))

        def forward(self, x, task):
            weight = nn.Parameter(self.maker(task).view(2, 3))  # <- fault
            return F.linear(x, weight, self.bias).exp().mean()

    return Subject(Generated(), [torch.randn(4, 3), torch.randn(2)])


@faulty("GL101", lost=("net.weight", "net.bias"), mechanism="deepcopy", allowed=("GL102",))
def inner_loop_works_on_a_deep_copy():
    class MetaLearner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 1)
            self.gain = nn.Parameter(torch.tensor(0.5))

        def forward(self, x, y):
            learner = copy.deepcopy(self.net)  # <- fault
            return self.gain * F.mse_loss(learner(x), y)

    return Subject(MetaLearner(), [torch.randn(4, 3), torch.randn(4, 1)])


@faulty("GL101", lost=("base.weight", "base.bias"), mechanism="state_dict")
def fast_weights_start_from_the_state_dict():
    class FastWeights(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Linear(3, 2)
            self.rate = nn.Parameter(torch.tensor(0.1))

        def forward(self, x):
            fast = self.base.state_dict()  # <- fault
            weight = fast["weight"] - self.rate * fast["weight"].sign()
            return F.linear(x, weight, fast["bias"]).square().mean()

    return Subject(FastWeights(), [torch.randn(4, 3)])


# A Function without a gradient


class ScaleRows(torch.autograd.Function):
    """Multiplies rows by weights, and forgets the weights on the way back."""

    @staticmethod
    def forward(ctx, x, weights):
        ctx.save_for_backward(weights)
        return x * weights[:, None]

    @staticmethod
    def backward(ctx, grad):
        (weights,) = ctx.saved_tensors
        return grad * weights[:, None], None


@faulty("GL101", lost=("weights",), mechanism="custom Function")
def own_function_returns_no_gradient_for_its_weights():
    def weighted(x, weights):
        return ScaleRows.apply(x, weights).logsumexp(0)  # <- fault

    x = torch.randn(3, 4, requires_grad=True)
    return Subject(weighted, [x, torch.rand(3, requires_grad=True)])


class Unmarked(torch.autograd.Function):
    """A projection onto the unit ball that declares its result a constant."""

    @staticmethod
    def forward(ctx, x):
        result = x / x.norm(dim=1, keepdim=True).clamp(min=1)
        ctx.mark_non_differentiable(result)
        return result

    @staticmethod
    def backward(ctx, grad):
        return None


@faulty("GL101", lost=("embed.weight", "embed.bias"), mechanism="mark_non_differentiable")
def projection_is_marked_as_not_differentiable():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(3, 3)
            self.head = nn.Linear(3, 1)

        def forward(self, x):
            return self.head(Unmarked.apply(self.embed(x)))  # <- fault

    return Subject(Projected(), [torch.randn(2, 3)])

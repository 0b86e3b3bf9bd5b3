"""Faulty programs whose gradient ends in a block, a decorator, or an old-fashioned wrapper."""

import torch
from torch import nn
from torch.autograd import Variable
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import faulty

# Blocks and decorators


class TwoLayers(nn.Module):
    """An encoder that is to be trained, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.head = nn.Linear(3, 1)


ENCODER = ("encoder.weight", "encoder.bias")


@faulty("GL101", lost=ENCODER, mechanism="decorated function")
def helper_keeps_the_decorator_of_the_evaluation():
    class Extractor(TwoLayers):
        @torch.no_grad()
        def features(self, x):
            return F.relu(self.encoder(x))  # <- fault

        def forward(self, x):
            return self.head(self.features(x)).square().mean()  # <- near

    return Subject(Extractor(), [torch.randn(5, 4)])


@faulty("GL101", lost=ENCODER, mechanism="decorated function")
def method_is_decorated_with_inference_mode():
    class Extractor(TwoLayers):
        @torch.inference_mode()
        def features(self, x):
            return self.encoder(x)  # <- fault

        def forward(self, x):
            return self.head(self.features(x).clone()).square().mean()  # <- near

    return Subject(Extractor(), [torch.randn(5, 4)])


@faulty("GL101", lost=ENCODER, mechanism="nested blocks")
def line_after_a_decorated_call_is_still_in_the_outer_block():
    class Watching(TwoLayers):
        @torch.no_grad()
        def size(self, x):
            return x.norm()

        def forward(self, x):
            with torch.no_grad():  # <- near
                x = x / self.size(x)
                hidden = self.encoder(x)  # <- fault
            return self.head(hidden).square().mean()

    return Subject(Watching(), [torch.randn(5, 4)])


@faulty("GL101", lost=ENCODER, mechanism="set_grad_enabled")
def gradients_are_switched_back_on_one_line_too_late():
    class Normalising(TwoLayers):
        def forward(self, x):
            torch.set_grad_enabled(False)
            with torch.no_grad():
                x = x - x.mean(0)
            hidden = self.encoder(x)  # <- fault
            torch.set_grad_enabled(True)
            return self.head(hidden).square().mean()

    return Subject(Normalising(), [torch.randn(5, 4)])


# Layers of a stack begin as copies of one another, and are all trained


@faulty("GL101", lost=("layers.1.weight", "layers.1.bias"), mechanism="detach")
def layer_of_a_stack_of_copies_is_detached():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.Linear(4, 4)
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            for other in self.layers:
                other.load_state_dict(layer.state_dict())

        def forward(self, x):
            first, second, third = self.layers
            return third(first(x) + second(x).detach()).square().mean()  # <- fault

    return Subject(Stack(), [torch.randn(5, 4)])


# The wrapper of before 2018


@faulty("GL101", lost=ENCODER, mechanism="Variable")
def hidden_state_is_wrapped_as_a_variable():
    class Wrapped(TwoLayers):
        def forward(self, x):
            hidden = Variable(self.encoder(x))  # <- fault
            return self.head(hidden).square().mean()

    return Subject(Wrapped(), [torch.randn(5, 4)])


@faulty("GL102", mechanism="Variable")
def noise_is_wrapped_as_a_variable():
    def noisy(x, weight):
        noise = Variable(0.1 * torch.ones_like(x), requires_grad=True)  # <- fault
        return ((x + noise) @ weight).square().mean()

    return Subject(noisy, [torch.randn(5, 4), torch.randn(4, 2, requires_grad=True)])


# What the loss makes of the output


@faulty("GL101", lost=ENCODER, mechanism="loss of a number", allowed=("GL106",))
def loss_function_makes_a_tensor_of_a_number():
    def loss(output):
        return torch.tensor(output.square().mean().item())  # <- fault

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 3)

        def forward(self, x):
            return self.encoder(x)

    return Subject(Encoder(), [torch.randn(5, 4)], loss=loss)


@faulty("GL105", zero=("layer.weight", "layer.bias"), mechanism="softmax over one entry")
def single_logit_goes_through_a_softmax():
    class Binary(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x, y):
            probability = torch.softmax(self.layer(x), -1)  # <- fault
            return F.binary_cross_entropy(probability, y)

    return Subject(Binary(), [torch.randn(5, 4), torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])])


@faulty("GL105", zero=("layer.weight", "layer.bias"), mechanism="cross-entropy of one class")
def cross_entropy_is_taken_of_a_single_class():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x, y):
            return F.cross_entropy(self.layer(x), y)  # <- fault

    return Subject(Detector(), [torch.randn(5, 4), torch.zeros(5, dtype=torch.long)])

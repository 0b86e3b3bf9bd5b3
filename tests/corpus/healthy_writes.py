"""Sound programs in the small: in-place writes, own functions, and numbers kept finite."""

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.registry import healthy

# In-place writes that backward does not mind


@healthy(mechanism="in-place after linear")
def rectifiers_work_in_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.LeakyReLU(0.1, inplace=True))
    return Subject(model, [torch.randn(4, 3)])


@healthy(mechanism="in-place write of columns")
def canvas_is_filled_by_slices():
    class Canvas(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            canvas = x.new_zeros(len(x), 4)
            canvas[:, :2] = self.left(x)
            canvas[:, 2:].copy_(self.right(x))
            return canvas.tanh().sum(1)

    return Subject(Canvas(), [torch.randn(3, 3)])


@healthy(mechanism="in-place sum")
def sum_is_accumulated_in_place():
    def accumulated(x, weight):
        total = torch.zeros_like(x)
        for k in range(3):
            total += weight[k] * x.sin()
        total.sub_(0.5)
        return total.mean()

    return Subject(accumulated, [torch.randn(4, requires_grad=True), torch.rand(3, requires_grad=True)])


@healthy(mechanism="rows kept in a list")
def recurrence_is_stacked_from_a_list():
    def recurrence(x, decay):
        rows = [x[0]]
        for row in x[1:]:
            rows.append(decay * rows[-1] + row)
        return torch.stack(rows).square().sum()

    return Subject(recurrence, [torch.randn(4, 2), torch.full((2,), 0.9, requires_grad=True)])


# Own functions


class Clip(torch.autograd.Function):
    """Bounds the values, and passes the gradient where they were within the bounds."""

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x > low) & (x < high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


@healthy(mechanism="custom Function, None for numbers")
def own_function_returns_none_for_its_numbers():
    return Subject(lambda x: Clip.apply(x, -1.0, 1.0).exp().sum(), [torch.randn(6, requires_grad=True)])


class Weighted(torch.autograd.Function):
    """A product with both of its gradients."""

    @staticmethod
    def forward(ctx, x, weights):
        ctx.save_for_backward(x, weights)
        return x * weights

    @staticmethod
    def backward(ctx, grad):
        x, weights = ctx.saved_tensors
        return grad * weights, grad * x


@healthy(mechanism="custom Function")
def own_function_returns_both_gradients():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return Weighted.apply(x, self.weights).logsumexp(0)

    return Subject(Scaled(), [torch.randn(4, requires_grad=True)])


# Numbers kept finite


@healthy(mechanism="where, both branches safe")
def both_branches_of_where_are_kept_safe():
    def sinc(x):
        zero = x == 0
        safe = torch.where(zero, torch.ones_like(x), x)
        return torch.where(zero, torch.ones_like(x), safe.sin() / safe).sum()

    return Subject(sinc, [torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)])


@healthy(mechanism="sqrt with an epsilon")
def root_is_kept_away_from_zero():
    def spread(points):
        gaps = points[:, None] - points[None]
        return (gaps.square().sum(-1) + 1e-12).sqrt().mean()

    return Subject(spread, [torch.randn(3, 2, requires_grad=True)])


@healthy(mechanism="norm of zero by the library")
def library_normalises_a_zero_vector():
    class Directions(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(2, 3, bias=False)

        def forward(self, x):
            v = self.embed(x)
            return F.normalize(v, dim=-1).sum() + v.norm(dim=-1).sum()

    return Subject(Directions(), [torch.tensor([[0.0, 0.0], [1.0, 2.0]])])


@healthy(mechanism="log_softmax")
def sharp_logits_go_through_log_softmax():
    class Sharp(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x, label):
            return F.nll_loss((300 * self.layer(x)).log_softmax(1), label)

    return Subject(Sharp(), [torch.randn(3, 2), torch.tensor([0, 1, 2])])


@healthy(mechanism="xlogy")
def entropy_of_a_zero_probability():
    def entropy(p, weight):
        p = p.clamp(min=1e-8)
        return -(weight * torch.xlogy(p, p)).sum()

    p = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    return Subject(entropy, [p, torch.ones(3, requires_grad=True)])


@healthy(mechanism="float16 within range")
def half_precision_is_scaled_to_fit():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            h = (self.layer(x) / 1000).half()
            return h.float().square().mean() * 1000

    return Subject(Half(), [torch.full((2, 3), 2000.0)])

"""Leaves made on the way, branches on values, unused parameters, and graphs that backward cannot run through."""

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import faulty

# GL102: a leaf made inside forward


@faulty("GL102", mechanism="zeros with requires_grad")
def initial_state_asks_for_a_gradient():
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            start = torch.zeros(1, x.shape[1], 4, requires_grad=True)  # <- fault
            out, _ = self.lstm(x, (start, torch.zeros_like(start)))
            return self.head(out[-1]).mean()

    return Subject(Sequence(), [torch.randn(3, 2, 3)])


@faulty("GL102", mechanism="zeros_like with requires_grad")
def perturbation_is_made_anew_at_every_call():
    class Perturbed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            delta = torch.zeros_like(x, requires_grad=True)  # <- fault
            return self.layer(x + delta).square().mean()

    return Subject(Perturbed(), [torch.randn(3, 4)])


@faulty("GL102", mechanism="torch.tensor with requires_grad")
def temperature_is_written_into_forward():
    def contrast(first, second):
        temperature = torch.tensor(0.1, requires_grad=True)  # <- fault
        similarity = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
        return F.cross_entropy(similarity / temperature, torch.arange(len(first)))

    return Subject(contrast, [torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)])


@faulty("GL102", mechanism="layer in forward")
def projection_layer_is_made_inside_forward():
    class Projecting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 3)

        def forward(self, x):
            h = self.body(x).relu()
            project = nn.Linear(h.shape[1], 2)  # <- fault
            return project(h).square().mean()

    return Subject(Projecting(), [torch.randn(5, 4)])


@faulty("GL102", mechanism="nn.Parameter in forward")
def class_token_is_made_inside_forward():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            token = nn.Parameter(torch.full((1, 1, 4), 0.02))  # <- fault
            x = torch.cat([token.expand(len(x), -1, -1), x], dim=1)
            return self.attention(x, x, x)[0][:, 0].square().mean()

    return Subject(Pooled(), [torch.randn(2, 3, 4)])


@faulty("GL102", mechanism="accumulator with requires_grad")
def running_total_is_started_as_a_leaf():
    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, batches):
            total = torch.zeros(1, requires_grad=True)  # <- fault
            for batch in batches:
                total = total + self.layer(batch).square().mean()
            return total / len(batches)

    return Subject(Summed(), [torch.randn(3, 4, 3)])


# GL103: Python branches on a value


@faulty("GL103", mechanism="if")
def loss_changes_its_form_at_a_threshold():
    def piecewise(prediction, aim):
        error = (prediction - aim).abs().mean()
        if error < 0.5:  # <- fault
            return error.square()
        return error - 0.25

    return Subject(piecewise, [torch.randn(4, requires_grad=True), torch.randn(4)])


@faulty("GL103", mechanism="while")
def fixed_point_is_iterated_until_it_stands():
    class Equilibrium(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(0.1 * torch.randn(3, 3))

        def forward(self, x):
            z, change = torch.zeros_like(x), torch.tensor(1.0)
            while change > 1e-3:  # <- fault
                following = torch.tanh(z @ self.weight + x)
                z, change = following, (following - z).norm()
            return z.sum()

    return Subject(Equilibrium(), [torch.randn(2, 3)])


@faulty("GL103", mechanism="builtin max")
def worse_of_two_losses_is_picked_by_the_builtin():
    class Robust(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, clean, shifted):
            return max(self.layer(clean).square().mean(), self.layer(shifted).square().mean())  # <- fault

    return Subject(Robust(), [torch.randn(4, 3), torch.randn(4, 3) + 1])


@faulty("GL103", mechanism="sorted")
def losses_are_sorted_to_trim_the_hardest():
    class Trimmed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            losses = [self.layer(row).square().sum() for row in x]
            return sum(sorted(losses)[:-1])  # <- fault

    return Subject(Trimmed(), [torch.randn(4, 3)])


@faulty("GL103", lost=("late.weight", "late.bias"), mechanism="early exit on confidence", allowed=("GL104",))
def confident_answers_leave_early():
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.early = nn.Linear(4, 2)
            self.late = nn.Linear(4, 2)

        def forward(self, x):
            guess = self.early(x).softmax(1)
            if guess.max(1).values.mean() > 0.5:  # <- fault
                return guess[:, 0].sum()
            return self.late(x).softmax(1)[:, 0].sum()

    return Subject(Early(), [torch.randn(3, 4)])


@faulty("GL103", mechanism="if on a norm")
def long_vectors_are_rescaled():
    def bounded(x, limit):
        length = x.norm()
        if length > limit:  # <- fault
            x = x * (limit / length)
        return x.sum()

    return Subject(bounded, [torch.full((3,), 2.0, requires_grad=True), 1.0])


# GL104: parameters that forward never uses


@faulty("GL104", lost=("norm2.weight", "norm2.bias"), mechanism="wrong layer used twice")
def second_norm_is_never_reached():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(4), nn.LayerNorm(4)
            self.mix, self.feed = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = x + self.mix(self.norm1(x))
            return x + self.feed(self.norm1(x))

    return Subject(Block(), [torch.randn(2, 4)], loss=lambda out: out.square().mean())


@faulty("GL104", lost=("classifier.weight", "classifier.bias"), mechanism="unused head")
def ready_made_model_keeps_its_old_head():
    class Finetuned(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(4, 6, 3)
            self.classifier = nn.Linear(3, 10)
            self.regressor = nn.Linear(3, 1)

        def forward(self, x):
            return self.regressor(self.body(x).tanh()).squeeze(1)

    return Subject(Finetuned(), [torch.randn(5, 4)], loss=lambda out: out.square().mean())


@faulty("GL104", lost=("sound.weight", "sound.bias"), mechanism="absent modality")
def batch_comes_without_its_sound():
    class Multimodal(nn.Module):
        def __init__(self):
            super().__init__()
            self.picture = nn.Linear(4, 3)
            self.sound = nn.Linear(2, 3)
            self.head = nn.Linear(3, 1)

        def forward(self, picture, sound=None):
            h = self.picture(picture)
            if sound is not None:
                h = h + self.sound(sound)
            return self.head(h.relu()).mean()

    return Subject(Multimodal(), [torch.randn(3, 4)])


@faulty("GL104", lost=("scales.fine",), mechanism="unused entry")
def one_entry_of_a_parameter_dictionary_is_never_read():
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"coarse": 2, "medium": 3, "fine": 4}
            self.scales = nn.ParameterDict({name: torch.ones(size) for name, size in sizes.items()})

        def forward(self, x):
            return (x[:, :2] * self.scales["coarse"]).sum() + (x[:, :3] * self.scales["medium"]).square().sum()

    return Subject(Scales(), [torch.randn(2, 4)])


@faulty("GL104", lost=("layers.2.weight", "layers.2.bias"), mechanism="loop too short")
def loop_over_the_layers_stops_one_too_early():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            for k in range(len(self.layers) - 1):
                x = self.layers[k](x).tanh()
            return x

    return Subject(Stack(), [torch.randn(2, 3)])


# GL106: nothing to differentiate


@faulty("GL106", lost=("layer.weight", "layer.bias"), mechanism="no_grad throughout", allowed=("GL101",))
def prediction_helper_is_used_for_training():
    class Predictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        @torch.no_grad()  # <- near
        def forward(self, x):
            return self.layer(x)  # <- fault

    return Subject(Predictor(), [torch.randn(4, 3)], loss=lambda out: out.square().mean())


@faulty("GL106", mechanism="all frozen")
def every_layer_is_frozen_including_the_new_head():
    model = mlp(4, 5, 2)
    model.requires_grad_(False)
    label = torch.tensor([0, 1, 1])
    return Subject(model, [torch.randn(3, 4)], loss=lambda logits: F.cross_entropy(logits, label))


@faulty("GL106", lost=("layer.weight", "layer.bias"), mechanism="loss without the prediction")
def loss_compares_the_labels_with_themselves():
    class Mistaken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x, y):
            y_hat = self.layer(x)
            return {"prediction": y_hat, "error": F.mse_loss(y, y)}  # <- fault

    return Subject(Mistaken(), [torch.randn(4, 3), torch.randn(4, 1)], loss=lambda output: output["error"])


# GL106: a value that backward needs is overwritten


@faulty("GL106", mechanism="in-place after sigmoid")
def probabilities_are_rescaled_in_place():
    class Rescaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            p = self.layer(x).sigmoid()
            p.mul_(0.98).add_(0.01)  # <- fault
            return -p.log().mean()

    return Subject(Rescaled(), [torch.randn(2, 3)])


@faulty("GL106", mechanism="in-place +=")
def residual_is_added_in_place_to_a_saved_value():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            h = torch.exp(-self.first(x).square())
            skip = self.second(h)
            h += skip  # <- fault
            return h.sum()

    return Subject(Residual(), [torch.randn(2, 4)])


@faulty("GL106", mechanism="in-place write of a row")
def recurrence_is_written_into_the_rows_it_reads():
    def recurrence(x, decay):
        track = torch.zeros_like(x)
        track[0] = x[0]
        for t in range(1, len(x)):
            track[t] = decay * track[t - 1] + x[t]  # <- fault
        return track.square().sum()

    return Subject(recurrence, [torch.randn(4, 2), torch.full((2,), 0.9, requires_grad=True)])


@faulty("GL106", mechanism="weights changed after use")
def weights_are_renormalised_after_their_use():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

        def forward(self, x):
            out = self.second(self.first(x).tanh())
            with torch.no_grad():  # <- near
                self.second.weight.div_(self.second.weight.norm())  # <- fault
            return out

    return Subject(Normed(), [torch.randn(4, 3)])


# GL106: a graph that was freed before


@faulty("GL106", mechanism="freed graph")
def hidden_state_is_carried_over_with_its_graph():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)
            self.state = torch.zeros(2, 4)

        def forward(self, x):
            state = self.cell(x, self.state)  # <- fault
            self.state = state
            return state.square().mean()

    model = Stateful()
    model(torch.randn(2, 3)).backward()
    model.zero_grad()
    return Subject(model, [torch.randn(2, 3)])


@faulty("GL106", mechanism="freed graph")
def prototypes_are_kept_from_the_step_before():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(4, 3)
            self.kept = None

        def forward(self, x):
            h = self.embed(x).tanh()
            if self.kept is None:
                self.kept = h.exp().mean(0)
            return (h - self.kept).square().sum()  # <- fault

    model = Prototypes()
    model(torch.randn(3, 4)).backward()
    model.zero_grad()
    return Subject(model, [torch.randn(3, 4)])


@faulty("GL106", mechanism="freed inside forward")
def auxiliary_loss_is_backpropagated_inside_forward():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(3, 4, 4)
            self.side, self.main = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            h = self.body(x).tanh()
            aside = self.side(h).square().mean()
            aside.backward()  # <- fault
            return self.main(h).square().mean() + self.side(h.detach()).mean()  # <- near

    return Subject(Deep(), [torch.randn(2, 3)])


# GL108


@faulty("GL108", mechanism="layers in a list")
def layers_are_kept_in_a_plain_list():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(4, 4) for _ in range(3)]
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(layer(x))  # <- fault
            return self.head(x).mean()

    return Subject(Deep(), [torch.randn(5, 4)])


@faulty("GL108", mechanism="a plain tensor")
def bias_is_a_tensor_and_no_parameter():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2, bias=False)
            self.bias = torch.zeros(2, requires_grad=True)

        def forward(self, x):
            return (self.linear(x) + self.bias).square().mean()  # <- fault

    return Subject(Shifted(), [torch.randn(5, 4)])

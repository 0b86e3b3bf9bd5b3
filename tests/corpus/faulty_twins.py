"""Faulty programs that cut off a module which is to be trained, and which looks like one that is to stand still."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from graphlens.subject import Subject
from tests.corpus.parts import mlp
from tests.corpus.registry import faulty

# Named like a network that follows another one


@faulty("GL101", lost=("moving_encoder.0.weight", "moving_encoder.0.bias", "moving_encoder.2.weight",
                       "moving_encoder.2.bias"), mechanism="a moving image")  # fmt: skip
def correlation_of_two_volumes_is_fed_to_a_decoder():
    class Registration(nn.Module):
        def __init__(self):
            super().__init__()
            self.fixed_encoder, self.moving_encoder = mlp(6, 8, 4), mlp(6, 8, 4)
            self.flow = nn.Linear(16, 2)

        def forward(self, fixed, moving, displacement):
            one, two = self.fixed_encoder(fixed), self.moving_encoder(moving)
            two = two.detach()  # <- fault
            product = (one.unsqueeze(2) * two.unsqueeze(1)).flatten(1)
            return F.mse_loss(self.flow(product), displacement)

    return Subject(Registration(), [torch.randn(3, 6), torch.randn(3, 6), torch.randn(3, 2)])


@faulty("GL101", lost=("target_head.0.weight", "target_head.0.bias", "target_head.2.weight", "target_head.2.bias"),
        mechanism="a target's head")  # fmt: skip
def loss_of_the_target_task_is_a_constant():
    class TwoTasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(4, 6)
            self.auxiliary_head, self.target_head = mlp(6, 5, 1), mlp(6, 5, 1)

        def forward(self, x, auxiliary, target):
            h = self.body(x).relu()
            losses = [F.mse_loss(self.auxiliary_head(h), auxiliary)]
            losses.append(F.mse_loss(self.target_head(h).data, target))  # <- fault
            return torch.stack(losses).mean()

    return Subject(TwoTasks(), [torch.randn(5, 4), torch.randn(5, 1), torch.randn(5, 1)])


@faulty("GL101", lost=("target_embedding.weight",), mechanism="a target's words")
def words_of_the_target_language_are_embedded_without_gradient():
    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_embedding, self.target_embedding = nn.Embedding(9, 4), nn.Embedding(9, 4)
            self.mix = nn.Linear(8, 9)

        def forward(self, source, target):
            context = self.source_embedding(source).mean(1, keepdim=True)
            with torch.no_grad():  # <- near
                shifted = self.target_embedding(target[:, :-1])  # <- fault
            scores = self.mix(torch.cat([context.expand_as(shifted), shifted], -1))
            return F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten())

    return Subject(Translator(), [torch.randint(9, (2, 5)), torch.randint(9, (2, 4))])


@faulty("GL101", lost=("slow_path.weight", "slow_path.bias"), mechanism="a slow pathway")
def slow_pathway_of_a_video_network_is_cut():
    class SlowFast(nn.Module):
        def __init__(self):
            super().__init__()
            self.slow_path, self.fast_path = nn.Conv1d(3, 4, 3), nn.Conv1d(3, 4, 3)
            self.head = nn.Linear(8, 2)

        def forward(self, video, label):
            slow = self.slow_path(video[..., ::2]).mean(-1).detach()  # <- fault
            fast = self.fast_path(video).mean(-1)
            return F.cross_entropy(self.head(torch.cat([slow, fast], 1)), label)

    return Subject(SlowFast(), [torch.randn(3, 3, 8), torch.tensor([0, 1, 1])])


@faulty("GL101", lost=("reference_encoder.weight", "reference_encoder.bias"), mechanism="a reference image")
def image_to_compare_with_is_encoded_and_cut():
    class Change(nn.Module):
        def __init__(self):
            super().__init__()
            self.reference_encoder, self.query_encoder = nn.Linear(5, 4), nn.Linear(5, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, reference, query):
            difference = self.query_encoder(query) - self.reference_encoder(reference).detach()  # <- fault
            return self.head(difference.abs()).square().mean()

    return Subject(Change(), [torch.randn(3, 5), torch.randn(3, 5)])


@faulty("GL101", lost=("old_price.weight", "old_price.bias"), mechanism="only added")
def second_part_of_the_loss_has_no_gradient():
    class Prices(nn.Module):
        def __init__(self):
            super().__init__()
            self.old_price, self.new_price = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x, old, new):
            of_old = F.l1_loss(self.old_price(x).detach(), old)  # <- fault
            return 0.5 * of_old + F.l1_loss(self.new_price(x), new)

    return Subject(Prices(), [torch.randn(3, 4), torch.randn(3, 1), torch.randn(3, 1)])


@faulty("GL101", lost=("target_projector.weight", "target_projector.bias"), mechanism="a head on trained features")
def projector_of_the_target_domain_stands_on_a_trained_body():
    class Alignment(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(4, 6)
            self.source_projector, self.target_projector = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, source, target):
            there = self.target_projector(self.body(target)).detach()  # <- fault
            return F.mse_loss(self.source_projector(self.body(source)), there)

    return Subject(Alignment(), [torch.randn(3, 4), torch.randn(3, 4)])


@faulty("GL101", lost=("teacher.weight", "teacher.bias"), mechanism="only added")
def teacher_is_to_be_trained_along_with_its_student():
    class Mutual(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x, y):
            with torch.no_grad():  # <- near
                scores = self.teacher(x)  # <- fault
            return F.cross_entropy(self.student(x), y) + F.cross_entropy(scores, y)

    return Subject(Mutual(), [torch.randn(3, 4), torch.tensor([0, 2, 1])])


# Run as a whole without gradients, as a frozen network is


@faulty("GL101", lost=("text.weight", "text.bias"), mechanism="a tower")
def one_of_two_towers_is_left_in_a_block():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.text = nn.Linear(6, 4), nn.Linear(5, 4)

        def forward(self, image, text):
            with torch.no_grad():  # <- near
                words = F.normalize(self.text(text), dim=1)  # <- fault
            scores = F.normalize(self.image(image), dim=1) @ words.T
            return F.cross_entropy(scores / 0.1, torch.arange(len(image)))

    return Subject(Towers(), [torch.randn(3, 6), torch.randn(3, 5)])


@faulty("GL101", lost=("generator.0.weight", "generator.0.bias", "generator.2.weight", "generator.2.bias"),
        mechanism="a generator's own step")  # fmt: skip
def generator_is_to_be_trained_and_makes_its_images_in_a_block():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = mlp(2, 4, 3), mlp(3, 4, 1)

        def forward(self, noise):
            with torch.no_grad():  # <- near
                images = self.generator(noise)  # <- fault
            return F.softplus(-self.discriminator(images)).mean()

    return Subject(Step(), [torch.randn(3, 2)])


@faulty("GL101", lost=("tower.1.weight", "tower.1.bias"), mechanism="a part of a module")
def half_of_a_frozen_looking_tower_is_trained():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, x, aim):
            with torch.no_grad():  # <- near
                second = self.tower[1](x)  # <- fault
            return F.mse_loss(self.tower[0](x) * second, aim)

    return Subject(Halves(), [torch.randn(3, 4), torch.randn(3, 4)])


@faulty("GL101", lost=("deep.0.weight", "deep.0.bias", "deep.2.weight", "deep.2.bias"), mechanism="a part of a sum")
def deep_part_of_an_answer_is_left_in_a_block():
    class WideAndDeep(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = nn.Linear(4, 3), mlp(4, 8, 3)

        def forward(self, x, y):
            with torch.no_grad():  # <- near
                crossed = self.deep(x)  # <- fault
            return F.cross_entropy(self.wide(x) + crossed, y)

    return Subject(WideAndDeep(), [torch.randn(3, 4), torch.tensor([0, 2, 1])])


@faulty("GL101", lost=("reference_head.weight", "reference_head.bias"), mechanism="a head on trained features")
def reference_head_stands_on_a_trained_body():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(4, 6)
            self.head, self.reference_head = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            hidden = self.body(x).tanh()
            return F.mse_loss(self.head(hidden), self.reference_head(hidden).detach())  # <- fault

    return Subject(Heads(), [torch.randn(3, 4)])


# Begun as a copy


@faulty("GL101", lost=("right.weight", "right.bias"), mechanism="a copied tower", level="warning")
def second_eye_begins_as_a_copy_of_the_first():
    class Stereo(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Linear(6, 4)
            self.right = copy.deepcopy(self.left)
            self.depth = nn.Linear(8, 1)

        def forward(self, left, right):
            both = torch.cat([self.left(left), self.right(right).detach()], 1)  # <- fault
            return self.depth(both).square().mean()

    return Subject(Stereo(), [torch.randn(3, 6), torch.randn(3, 6)])


# As a module that stands still by design would be run: what is right here, only the author knows


@faulty("GL101", lost=("other.weight", "other.bias"), mechanism="a shared head, one tower detached", level="warning")
def other_images_pass_the_same_projector_detached():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(6, 4), nn.Linear(5, 4)
            self.projector = nn.Linear(4, 3)

        def forward(self, photo, sketch):
            first = self.projector(self.one(photo))
            second = self.projector(self.other(sketch).detach())  # <- fault
            return F.cross_entropy(first @ second.T, torch.arange(len(photo)))

    return Subject(Two(), [torch.randn(3, 6), torch.randn(3, 5)])


@faulty("GL101", lost=("encoder.weight", "encoder.bias"), mechanism="a skip connection, a block", level="warning")
def features_without_gradient_are_put_beside_their_pixels():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(5, 4)
            self.head = nn.Linear(9, 1)

        def forward(self, pixels, aim):
            with torch.no_grad():  # <- near
                features = self.encoder(pixels).tanh()  # <- fault
            return F.mse_loss(self.head(torch.cat([pixels, features], 1)), aim)

    return Subject(Skip(), [torch.randn(3, 5), torch.randn(3, 1)])


@faulty("GL101", lost=("second.weight", "second.bias"), mechanism="two views, one detached", level="warning")
def answers_to_the_same_data_are_to_agree_and_one_is_detached():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = mlp(5, 8, 3), nn.Linear(5, 3)

        def forward(self, x):
            return F.mse_loss(self.first(x), self.second(x).detach())  # <- fault

    return Subject(Views(), [torch.randn(4, 5)])


@faulty("GL101", lost=("policy.weight", "policy.bias"), mechanism="a policy scored in a block", level="warning",
        allowed=("GL103",))  # fmt: skip
def policy_is_scored_in_the_block_that_draws():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy, self.value = nn.Linear(4, 3), nn.Linear(4, 1)

        def forward(self, state, gain):
            with torch.no_grad():  # <- near
                choice = torch.distributions.Categorical(logits=self.policy(state))  # <- fault
                score = choice.log_prob(choice.sample())
            return -(score * (gain - self.value(state).squeeze(-1))).mean()

    return Subject(Step(), [torch.randn(6, 4), torch.randn(6)])


# An answer that others learn to give is compared with theirs; this one stands beside the loss in a sum.
@faulty("GL101", lost=("second.weight", "second.bias"), mechanism="a penalty in a block, stacked with the loss")
def penalty_is_computed_in_a_block_and_stacked_with_the_loss():
    class Penalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 5)

        def forward(self, x, y):
            loss = F.mse_loss(self.first(x), y)
            with torch.no_grad():  # <- near
                penalty = self.second(x).square().mean()  # <- fault
            return torch.stack([loss, penalty]).sum()

    return Subject(Penalised(), [torch.randn(6, 4), torch.randn(6, 3)])

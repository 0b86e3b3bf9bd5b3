"""A gradient whose true value is 0: a bias that a normalisation takes out again, and its remedy."""

from __future__ import annotations

import pytest
import torch

import graphlens
from graphlens.subject import Subject


class Normalised(torch.nn.Module):
    """A layer, then a normalisation that subtracts the mean, and with it the bias."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3, bias=bias)
        self.norm = torch.nn.BatchNorm1d(3, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(self.layer(x))).pow(3).sum()


def made(*, bias: bool) -> Subject:
    torch.manual_seed(0)
    x = torch.randn(16, 4)
    module = Normalised(bias=bias)
    with torch.no_grad():
        module.layer.weight.copy_(torch.linspace(-1, 1, 12).reshape(3, 4))
    return Subject(module, (x,))


def noise(subject: Subject) -> list[graphlens.Finding]:
    found = graphlens.explain(subject, topics=("rounding",)).findings
    return [finding for finding in found if finding.code == "GL302"]


def test_a_bias_before_a_normalisation_is_noise_and_goes_away_without_a_loss() -> None:
    subject = made(bias=True)
    (finding,) = noise(subject)
    assert "The gradient of layer.bias is noise" in finding.claim
    assert finding.evidence["is_zero"]
    assert "bias=False" in str(finding.fix)

    without = made(bias=False)
    assert noise(without) == []
    with_bias, bare = (one.module(*one.args).item() for one in (subject, without))  # type: ignore[operator]
    assert with_bias == pytest.approx(bare, rel=1e-5)


def test_an_input_is_to_be_detached() -> None:
    class Shifted(torch.nn.Module):
        def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            moved = x + shift
            return (moved - moved.mean()).pow(3).sum()

    torch.manual_seed(0)
    (finding,) = noise(Subject(Shifted(), (torch.randn(50), torch.tensor(0.3, requires_grad=True))))
    assert ".detach()" in str(finding.fix)

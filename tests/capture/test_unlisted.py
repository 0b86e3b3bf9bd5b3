"""Leaves that a module keeps where named_parameters() does not look."""

from __future__ import annotations

import torch
from torch import nn

import graphlens
from graphlens.analyses.findings import Finding
from graphlens.capture.unlisted import unlisted


class Keeping(nn.Module):
    """Uses all that it is given, wherever that is kept."""

    def __init__(self, **kept: object) -> None:
        super().__init__()
        self.head = nn.Linear(2, 1)
        for name, value in kept.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        waiting = [value for name, value in vars(self).items() if not name.startswith("_")]
        total = self.head(x).sum()
        while waiting:
            item = waiting.pop()
            if isinstance(item, nn.Module):
                waiting += list(item.parameters())
            elif isinstance(item, torch.Tensor):
                total = total + (item * item).sum()
            elif isinstance(item, (list, tuple)):
                waiting += item
            elif isinstance(item, dict):
                waiting += item.values()
        return total


def kept(module: nn.Module) -> dict[str, bool]:
    return dict(graphlens.trace(module, torch.ones(2), diagnose=True).observation.unlisted.values())


def found(module: nn.Module) -> list[Finding]:
    return [item for item in graphlens.trace(module, torch.ones(2), diagnose=True).findings if item.code == "GL108"]


def test_layers_in_lists_and_dictionaries_are_found_where_they_are_kept() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2, bias=False)]

    assert kept(Keeping(layers=layers)) == dict.fromkeys(
        ["layers[0].weight", "layers[0].bias", "layers[1].weight"], False
    )
    assert kept(Keeping(by={"a": (nn.Linear(2, 2, bias=False), 3), "b": [nn.Parameter(torch.ones(1))]})) == {
        "by['a'][0].weight": False, "by['b'][0]": False,
    }  # fmt: skip
    inner = nn.Sequential(Keeping(w=torch.ones(2, requires_grad=True)))
    assert kept(inner) == {"0.w": False}


def test_one_module_in_a_list_may_be_hidden_on_purpose() -> None:
    assert kept(Keeping(hidden=[nn.Linear(2, 2, bias=False)])) == {"hidden[0].weight": True}
    (finding,) = found(Keeping(hidden=(nn.Linear(2, 2, bias=False),)))
    assert finding.level == "info"
    assert finding.fix.startswith("nothing, if it is hidden there on purpose; else make tensors torch.nn.Parameters")


def test_what_is_listed_or_needs_no_gradient_is_not_told() -> None:
    shared = nn.Linear(2, 2)
    assert kept(Keeping(layers=nn.ModuleList([shared]), again=[shared, shared])) == {}
    assert kept(Keeping(mask=torch.ones(2), table=[torch.ones(2)], both=[nn.Linear(2, 2).requires_grad_(False)])) == {}
    assert unlisted(len, {"leaf[0]": torch.ones(1, requires_grad=True)}, ()) == {}
    endless: list[object] = []
    endless.append(endless)
    w = torch.ones(1, requires_grad=True)
    assert unlisted(Keeping(w=w, endless=endless), {"leaf[0]": w}, ()) == {"leaf[0]": ("w", False)}
    assert unlisted(Keeping(w=w), {"x": w}, ("x",)) == {}


def test_what_is_said_of_them() -> None:
    (finding,) = found(Keeping(w=torch.ones(2, requires_grad=True), v=[nn.Parameter(torch.ones(2))]))

    assert finding.level == "warning"
    assert finding.claim == (
        "w and v[0] take part, and named_parameters() of the module does not list them: an optimizer made of its "
        "parameters() does not train them, and state_dict() does not save them."
    ) or finding.claim.startswith("v[0] and w take part")
    assert finding.where.text == "total = total + (item * item).sum()"
    assert set(finding.evidence["kept_in"]) == {"w", "v[0]"}  # type: ignore[call-overload]


def test_a_leaf_that_forward_makes_and_keeps_is_another_matter() -> None:
    class Making(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.probe = torch.zeros(2, requires_grad=True)
            return ((x + self.probe) ** 2).sum()

    assert found(Making()) == []

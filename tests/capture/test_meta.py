"""What is predicted without data, against what the CPU keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from graphlens.capture.memory import persistent_storages
from graphlens.capture.meta import predicted_program, without_workspaces
from graphlens.capture.resolve import resolve
from graphlens.capture.trace import observe
from graphlens.errors import TargetError
from graphlens.graph import GradGraph
from graphlens.subject import Subject
from graphlens.targets import Target, parse_target
from tests.capture import test_cost


def llama() -> Subject:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    tokens = torch.arange(12).reshape(2, 6)
    return Subject(LlamaForCausalLM(config), (), {"input_ids": tokens, "labels": tokens})


def gpt2_fused() -> Subject:
    """With the fused attention, as GPT-2 is by itself."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    tokens = torch.arange(12).reshape(2, 6)
    return Subject(GPT2LMHeadModel(config), (), {"input_ids": tokens, "labels": tokens})


def finished() -> torch.Tensor:
    return (torch.rand(3, requires_grad=True) * 2).exp().sum()


def shared_storage() -> Subject:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.second = torch.nn.Linear(4, 4)
            self.second.weight = self.first.weight  # tied
            self.register_buffer("table", torch.rand(10, 4))
            self.rows = [torch.rand(4), {"b": torch.rand(4)}]  # not known to torch

        def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
            y = self.second(self.first(x)) * self.table[2] * self.rows[0] * more["y"]
            return y * self.rows[1]["b"] * torch.rand(4)

    return Subject(Model(), (torch.rand(4, requires_grad=True), {"y": torch.rand(4)}))


def closure() -> Subject:
    weight, target = torch.rand(3, requires_grad=True), torch.rand(3)
    return Subject(lambda x: x * weight, (torch.rand(3),), loss=lambda y: torch.nn.functional.mse_loss(y, target))


def asks_in_its_constructor() -> Subject:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates = [rate.item() for rate in torch.linspace(0, 0.5, 3, device="cpu")]
            self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in self.rates])
            self.second = torch.nn.Linear(4, 4)
            self.second.weight = self.layers[0].weight  # tied
            self.register_buffer("table", torch.rand(10, 4))
            self.rows = [torch.rand(4), {"b": torch.rand(4)}]  # not known to torch

        def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
            for layer, rate in zip(self.layers, self.rates, strict=True):
                x = torch.dropout(layer(x), rate, self.training)
            return self.second(x) * self.table[2] * self.rows[0] * self.rows[1]["b"] * more["y"] * torch.rand(4)

    return Subject(Model(), (torch.rand(4, requires_grad=True), {"y": torch.rand(4)}))


FACTORIES: dict[str, Callable[[], object]] = {
    "gpt2": test_cost.gpt2,
    "gpt2_fused": gpt2_fused,
    "llama": llama,
    "vit": test_cost.vit,
    "mlp": test_cost.mlp,
    "resnet": test_cost.resnet,
    "finished": finished,
    "shared_storage": shared_storage,
    "closure": closure,
    "asks_in_its_constructor": asks_in_its_constructor,
}


def target_of(name: str) -> Target:
    return Target(name, "module", __name__, name)


def graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[GradGraph, GradGraph]:
    from graphlens.capture import resolve as module

    monkeypatch.setattr(module, "_find", lambda _: FACTORIES[name])
    both = []
    for make in (resolve, predicted_program):
        torch.manual_seed(0)
        graph = observe(make(target_of(name), {}), backward=False).graph
        assert graph is not None
        both.append(graph)
    return both[0], both[1]


@pytest.mark.parametrize("name", FACTORIES)
def test_the_ledger_is_that_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("gpt2", "gpt2_fused", "llama", "vit"):
        pytest.importorskip("transformers")
    real, predicted = graphs(name, monkeypatch)

    assert predicted.saved == real.saved
    assert predicted.inputs == real.inputs
    assert predicted.edges == real.edges
    assert predicted.calls == real.calls
    assert predicted.sources == real.sources
    assert [node._replace(op="") for node in predicted.nodes] == [node._replace(op="") for node in real.nodes]
    # reshape() makes the same view by another node.
    ops = [{"ReshapeAliasBackward0": "ViewBackward0"}.get(node.op, node.op) for node in real.nodes]
    assert [node.op for node in predicted.nodes] == ops
    assert predicted.meta["options"] == {"device": "meta", **real.meta["options"]}


def test_storages_that_outlive_the_graph_are_told_without_data_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.capture import resolve as module

    monkeypatch.setattr(module, "_find", lambda _: FACTORIES["shared_storage"])
    found = []
    for make in (resolve, predicted_program):
        program = make(target_of("shared_storage"), {})
        graph = observe(program, backward=False).graph
        assert graph is not None
        found.append(persistent_storages(program, graph))

    assert found[0] == found[1]
    assert found[0]


def test_a_model_far_larger_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.capture import resolve as module

    side, layers = 100_000, 10  # 10¹¹ parameters, 400 GB

    def huge() -> Subject:
        layer = [torch.nn.Linear(side, side, bias=False) for _ in range(layers)]
        return Subject(torch.nn.Sequential(*layer), (torch.rand(2, side, requires_grad=True),))

    monkeypatch.setattr(module, "_find", lambda _: huge)
    graph = observe(predicted_program(target_of("huge"), {}), backward=False).graph
    assert graph is not None

    weights = [item for item in graph.inputs if item.role == "parameter"]
    assert sum(item.shape[0] * item.shape[1] for item in weights) == 10**11
    by_storage = {item.storage: item.storage_bytes for item in graph.saved}
    # each weight and each layer's input is kept
    assert sum(size or 0 for size in by_storage.values()) == layers * 4 * side * side + layers * 4 * 2 * side


BRANCHING = """
import torch

def build():
    def forward(x):
        y = x.exp()
        if y.sum() > 3:
            y = y.sin()
        return y
    return forward, (torch.ones(3, requires_grad=True),)

def shapes():
    return (lambda x: x[x > 0].sum()), (torch.ones(3, requires_grad=True),)

def finished():
    x = torch.ones(3, requires_grad=True)
    return x * float(x.sum())

def broken():
    raise ValueError("planted")

def wrong():
    return (lambda x: x @ torch.ones(7, 7)), (torch.ones(3, requires_grad=True),)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", r"^branch\.py:build: a tensor's value is needed at branch\.py:7, and there is none with --device"),
        ("shapes", r"^branch\.py:shapes: a tensor's value is needed at branch\.py:13, and there is none"),
        ("finished", r"^branch\.py:finished: a tensor's value is needed at branch\.py:17, and there is none"),
        ("broken", r"^branch\.py:broken: the factory failed at branch\.py:20: ValueError: planted$"),
        ("wrong", r"^branch\.py:wrong: the forward pass failed at branch\.py:23: "),
    ],
)
def test_what_needs_a_value_is_one_clear_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("branch.py").write_text(BRANCHING)

    with pytest.raises(TargetError, match=message) as caught:
        observe(predicted_program(parse_target(f"branch.py:{name}"), {}), backward=False)
    assert "\n" not in str(caught.value)


def test_working_memory_of_a_kernel_is_not_known_rather_than_0(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.capture import resolve as module

    def lstm() -> Subject:
        return Subject(torch.nn.LSTM(5, 7), (torch.rand(3, 2, 5),))

    monkeypatch.setattr(module, "_find", lambda _: lstm)
    real = observe(resolve(target_of("lstm"), {}), backward=False).graph
    predicted = observe(predicted_program(target_of("lstm"), {}), backward=False).graph
    assert real is not None
    assert predicted is not None
    if "MkldnnRnnLayerBackward0" not in {node.op for node in real.nodes}:
        pytest.skip("this machine has another kernel for it")

    known = {item.storage for item in predicted.saved if item.storage is not None}
    honest, storages = without_workspaces(predicted, known)
    assert sum(row.unknown for row in honest.check().saved_by_node()) == 1
    assert storages == {item.storage for item in honest.saved if item.storage is not None}
    assert len(storages) == len(known) - 1
    assert [item._replace(storage=None) for item in honest.saved if item.view_bytes is not None] == [
        item._replace(storage=None) for item in real.saved if item.slot != "result3"
    ]

"""assert_connected in people's own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from graphlens.testing import assert_connected


@pytest.fixture
def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))


X = torch.ones(4, 3)


def test_a_connected_loss_passes(model: torch.nn.Sequential) -> None:
    assert_connected(model(X).sum(), model)
    assert_connected(lambda: model(X).sum(), model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_was_run_names_the_parameters(model: torch.nn.Sequential) -> None:
    with pytest.raises(AssertionError, match=r"^the loss is not connected to 0\.weight, 0\.bias; pass a function"):
        assert_connected(model[1](model[0](X).detach()).sum(), model)


def test_a_function_names_the_line(model: torch.nn.Sequential) -> None:
    def loss() -> torch.Tensor:
        hidden = model[0](X).detach()
        return model[1](hidden).sum()

    with pytest.raises(AssertionError) as caught:
        assert_connected(loss, model)
    message = str(caught.value)
    assert message.startswith("0.weight: used, but its value leaves the graph before the output\n0.bias: used")
    assert "GL101" in message
    assert "hidden = model[0](X).detach()" in message
    assert "1.weight:" not in message


def test_ignored_parameters_may_be_lost(model: torch.nn.Sequential) -> None:
    assert_connected(lambda: model[1](model[0](X).detach()).sum(), model, ignore=["0.*"])
    assert_connected(model[1](model[0](X).detach()).sum(), model, ignore=["0.weight", "0.bias"])


def test_a_loss_without_a_graph(model: torch.nn.Sequential) -> None:
    with pytest.raises(AssertionError, match="has no grad_fn"):
        assert_connected(torch.tensor(1.0), model)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda y: y.round().sum(), "gradient that is 0"),
        (lambda y: (y * float("nan")).sum(), "not finite"),
        (lambda y: y.add_(1).exp().mul(2).sum(), ""),
    ],
    ids=["round", "nan", "sound in-place writes"],
)
def test_gradients_that_are_of_no_use(model: torch.nn.Sequential, end, words: str) -> None:  # type: ignore[no-untyped-def]
    if words:
        with pytest.raises(AssertionError, match=words):
            assert_connected(lambda: end(model(X)), model)
    else:
        assert_connected(lambda: end(model(X)), model)


def test_a_model_of_a_library() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, bos_token_id=1, eos_token_id=1)
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.arange(8)[None]
    assert_connected(lambda: model(input_ids=ids, labels=ids).loss, model)


# What the message says, and what it leaves out


class Several(torch.nn.Module):
    """first is cut, second is rounded, third is not used, fourth is sound, fifth frozen."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "second", "third", "fourth", "fifth"):
            setattr(self, name, torch.nn.Linear(3, 3, bias=False))
        self.fifth.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = torch.tensor(self.first(x).tolist())
        return (cut + self.second(x).round() + self.fourth(x) + self.fifth(x)).sum()


def message_of(run: Callable[[], Any], module: torch.nn.Module, *ignore: str) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_connected(run, module, ignore=ignore)
    return str(caught.value)


def test_the_message_tells_each_parameter_and_its_finding() -> None:
    module = Several()
    message = message_of(lambda: module(X), module)

    assert message.splitlines()[:4] == [
        "first.weight: used, but its value leaves the graph before the output",
        "second.weight: receives a gradient that is 0 by an op's nature",
        "third.weight: never used",
        "",
    ]
    assert message.splitlines()[4].startswith("error   GL101  first.weight receives no gradient: .tolist() hands")
    assert [line[:13] for line in message.splitlines() if " GL" in line[:10]] == [
        "error   GL101", "error   GL105", "warning GL104",
    ]  # fmt: skip
    assert "cut = torch.tensor(self.first(x).tolist())" in message
    assert "fourth" not in message.replace("self.fourth(x)", "")
    assert "fifth" not in message.replace("self.fifth(x)", "")
    assert max(map(len, message.splitlines())) <= 80


def test_findings_about_ignored_parameters_are_left_out() -> None:
    module = Several()
    message = message_of(lambda: module(X), module, "first.*", "th*")

    assert message.startswith("second.weight: receives a gradient that is 0 by an op's nature\n\nerror   GL105")
    assert "GL101" not in message
    assert "GL104" not in message
    assert_connected(lambda: module(X), module, ignore=["[fst]*.weight"])
    assert_connected(lambda: module(X), module, ignore=("first.weight", "second.weight", "third.weight"))
    # Patterns are for whole names, with their case.
    assert "first.weight:" in message_of(lambda: module(X), module, "first", "FIRST.*", "weight", "second*", "third*")


def test_ignore_may_be_an_iterator_and_tensors_may_be_ignored_too(model: torch.nn.Sequential) -> None:
    assert_connected(lambda: model[1](model[0](X).detach()).sum(), model, ignore=iter(["0.*"]))
    loss = model[1](model[0](X).detach()).sum()
    with pytest.raises(AssertionError, match=r"^the loss is not connected to 0\.bias; pass a function"):
        assert_connected(loss, model, ignore=iter(["*.weight"]))


def test_long_lists_of_parameters_are_cut_short() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(15)])
    def loss() -> torch.Tensor:
        return sum((layer(X).detach().sum() for layer in module), start=module[0].bias.sum())

    message = message_of(loss, module)

    assert message.count(": used, but its value leaves") == 20
    assert "\n… and 9 more\n" in message
    with pytest.raises(AssertionError, match=r"14\.weight|and 9 more"):
        assert_connected(module[0].bias.sum(), module)


def test_a_backward_pass_that_fails_is_told_though_nothing_was_measured(model: torch.nn.Sequential) -> None:
    for ignore in ((), ("*",)):
        message = message_of(lambda: model(X).exp().add_(1).sum(), model, *ignore)

        assert message.startswith("error   GL106  backward fails: a tensor that ExpBackward0 needs was written over")
        assert "weight:" not in message


def test_what_is_returned_must_be_a_loss(model: torch.nn.Sequential) -> None:
    assert "The forward pass returns no tensor" in message_of(lambda: None, model)
    assert ".item() hands the value to Python" in message_of(lambda: model(X).sum().item(), model)
    with pytest.raises(AssertionError, match="is of type float, not a tensor"):
        assert_connected(3.0, model)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="own"):
        assert_connected(fails, model)


def fails() -> torch.Tensor:
    raise LookupError("own")


def test_a_loss_of_which_two_runs_differ_is_not_passed(model: torch.nn.Sequential) -> None:
    numbers = iter(range(1, 99))
    message = message_of(lambda: model[1](model[0](X)).sum().item() * next(numbers) * model[1].bias.sum(), model)

    verdict = "used, but receives no gradient"
    assert message.splitlines()[:4] == [f"0.weight: {verdict}", f"0.bias: {verdict}", f"1.weight: {verdict}", ""]
    text = " ".join(message.split())
    assert ".item() hands the value to Python" in text
    assert "was not measured, because two runs from the same state" in text


def test_ignore_may_be_one_name(model: torch.nn.Sequential) -> None:
    assert_connected(lambda: model[1](model[0](X).detach()).sum(), model, ignore="0.*")


def test_a_twin_that_stands_still_is_to_be_ignored_by_name() -> None:
    class Twins(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online, self.target = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)

    twins = Twins()

    def loss() -> torch.Tensor:
        return (twins.online(X) - twins.target(X).detach()).square().sum()

    assert "fix: nothing, if target is meant to follow online" in message_of(loss, twins)
    assert_connected(loss, twins, ignore=["target.*"])


def test_the_model_is_left_as_one_pass_leaves_it() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    with pytest.raises(AssertionError):
        assert_connected(lambda: model(X).detach().sum(), model)

    assert int(model[1].num_batches_tracked) == 1
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["lstm", "attention", "convolutions", "tied", "checkpoint", "sparse", "scripted"])
def test_healthy_models_pass(name: str) -> None:
    torch.manual_seed(0)
    sequence = torch.randn(2, 5, 4)
    if name == "lstm":
        lstm = torch.nn.LSTM(4, 3, 2, batch_first=True)
        assert_connected(lambda: lstm(sequence)[0].sum(), lstm)
    elif name == "attention":
        layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        assert_connected(lambda: layer(sequence).square().sum(), layer)
        assert_connected(layer(sequence).square().sum(), layer)
    elif name == "convolutions":
        net = torch.nn.Sequential(torch.nn.Conv1d(5, 3, 2), torch.nn.BatchNorm1d(3), torch.nn.GELU())
        assert_connected(lambda: net(sequence).square().sum(), net)
    elif name == "tied":
        rows = torch.nn.Embedding(6, 4)
        head = torch.nn.Linear(4, 6, bias=False)
        head.weight = rows.weight
        tied = torch.nn.Sequential(rows, head)
        assert_connected(lambda: tied(torch.arange(6)).square().sum(), tied)
    elif name == "checkpoint":
        body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
        assert_connected(
            lambda: torch.utils.checkpoint.checkpoint(body, sequence, use_reentrant=False).sum(), body
        )  # fmt: skip
    elif name == "sparse":
        table = torch.nn.Embedding(6, 4, sparse=True)
        assert_connected(lambda: table(torch.tensor([1, 2])).square().sum(), table)
    else:
        scripted = torch.jit.script(torch.nn.Linear(4, 2))
        assert_connected(lambda: scripted(sequence).sum(), scripted)

"""assert_connected in people's own tests."""

from __future__ import annotations

import pytest
import torch

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

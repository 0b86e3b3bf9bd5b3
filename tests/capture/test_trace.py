"""A subject, run under observation: values, gradients against autograd's own, reasons, times."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from graphlens.analyses.connectivity import connectivity
from graphlens.capture.timing import timing
from graphlens.capture.trace import Trace, trace, value_of
from graphlens.errors import TargetError
from graphlens.records import Timing
from graphlens.subject import Subject


def mlp() -> torch.nn.Sequential:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()


def data(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.linspace(-1, 2, int(numpy.prod(shape)), dtype=torch.float64).reshape(shape).requires_grad_(grad)


def same(a: Mapping[str, torch.Tensor | None], b: Mapping[str, torch.Tensor | None]) -> bool:
    def equal(x: torch.Tensor | None, y: torch.Tensor | None) -> bool:
        return x is y if x is None or y is None else torch.equal(x, y)

    return list(a) == list(b) and all(equal(a[name], b[name]) for name in a)


# Values and gradients


def test_gradients_are_those_of_autograd() -> None:
    model, x = mlp(), data(5, 4, grad=True)
    wanted = {"input": x, **dict(model.named_parameters())}
    expected = torch.autograd.grad((model(x) ** 2).sum(), list(wanted.values()))

    seen = trace(model, x, loss=lambda out: (out**2).sum())

    assert same(seen.gradients, dict(zip(wanted, expected, strict=True)))
    assert torch.equal(seen.outputs["output"], model(x))
    assert seen.loss == (model(x) ** 2).sum().item()
    assert (seen.name, seen.reasons, seen.notes) == ("Sequential", {}, ())
    assert len(seen.graph) == 5 + 7  # leaves; T, Addmm, Tanh, T, Addmm, Pow, Sum
    assert seen.timings.forward is seen.timings.backward is None


def test_several_outputs_are_summed_each_and_the_notes_say_so() -> None:
    x = data(3, grad=True)

    seen = trace(lambda x: (x.exp(), x.sum(), x.round().long()), x)

    assert list(seen.outputs) == ["output[0]", "output[1]", "output[2]"]
    assert torch.equal(seen.gradients["x"], x.exp() + 1)
    assert seen.loss == pytest.approx((x.exp().sum() + x.sum()).item())
    assert seen.notes == ("output[0] is no scalar and was reduced by .sum()",)
    assert [output.name for output in seen.graph.outputs] == ["output[0].sum()", "output[1]"]


def test_a_complex_output_is_reduced_to_a_real_number() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    expected = torch.autograd.grad((z * z).real.sum() + (z * z).imag.sum(), z)[0]

    seen = trace(lambda z: z * z, z)

    assert torch.allclose(seen.gradients["z"], expected)
    assert seen.notes == ("output is complex and was reduced by the sum of its real and imaginary parts",)
    assert seen.loss == pytest.approx((-3 + 8) + (4 - 6))


class Named(NamedTuple):
    hidden: torch.Tensor
    loss: torch.Tensor


@dataclass
class Record:
    loss: torch.Tensor
    logits: torch.Tensor
    extra: str = "no tensor"


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda y: Record(y.sum(), y * 2), ["loss", "logits"]),
        (lambda y: Named(y * 2, y.sum()), ["hidden", "loss"]),
        (lambda y: {"logits": y * 2, "loss": y.sum()}, ["logits", "loss"]),
    ],
    ids=["dataclass", "named tuple", "mapping"],
)
def test_an_outputs_own_loss_is_differentiated(wrap: Any, names: list[str]) -> None:
    seen = trace(lambda x: wrap(x * 3), data(2, grad=True))

    assert list(seen.outputs) == names
    assert seen.gradients["x"].tolist() == [3.0, 3.0]
    assert [output.name for output in seen.graph.outputs] == ["loss"]
    assert seen.notes == ()


def test_a_mapping_without_loss_and_nested_outputs() -> None:
    seen = trace(lambda x: {"a": [x * 2, {"b": x * 3}], 7: x * 4}, data(2, grad=True))

    assert list(seen.outputs) == ["a[0]", "a[1].b", "output[7]"]
    assert seen.gradients["x"].tolist() == [9.0, 9.0]


def test_a_transformers_model_with_labels() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    loss = model(input_ids=ids, labels=ids).loss
    names, parameters = zip(*model.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))

    seen = trace(model, input_ids=ids, labels=ids)

    assert seen.loss == pytest.approx(loss.item())
    assert {"loss", "logits"} <= set(seen.outputs)
    assert seen.reasons == dict.fromkeys(("input_ids", "labels"), "int64 carries no gradient")
    for name, gradient in expected.items():
        assert torch.allclose(seen.gradients[name], gradient), name


# Where there is no gradient


def test_reasons_for_none() -> None:
    used, unused, frozen = data(2, grad=True), data(3, grad=True), data(2)

    seen = trace(lambda used, unused, frozen, index: used[index] * frozen[0], used, unused, frozen, torch.tensor(1))

    assert seen.gradients["used"].tolist() == [0.0, -1.0]
    assert seen.reasons == {
        "unused": "no path of the backward graph leads to it",
        "frozen": "does not require a gradient",
        "index": "int64 carries no gradient",
    }
    assert [name for name, gradient in seen.gradients.items() if gradient is None] == list(seen.reasons)


class PassesNone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> None:
        return None


def test_a_node_that_passes_none_is_told_apart_from_no_path() -> None:
    seen = trace(PassesNone.apply, data(2, grad=True))

    assert list(seen.reasons.values()) == ["the backward graph leads to it, but a node on the way passed None"]


@pytest.mark.parametrize("make", [torch.Tensor.detach, lambda x: torch.tensor(x.tolist()), torch.Tensor.argmax])
def test_a_subject_without_a_graph(make: Any) -> None:
    x = data(3, grad=True)

    seen = trace(lambda x: make(x), x, repeats=2)

    assert seen.graph is None
    assert seen.gradients == {"x": None}
    assert seen.reasons == {"x": "no output has a backward graph"}
    assert seen.notes == ("no output has a backward graph, so every gradient is None",)
    assert seen.timings.forward is not None
    assert seen.timings.backward is None


def test_without_backward_nothing_is_differentiated() -> None:
    ran = []
    x = data(3, grad=True)
    x.register_hook(ran.append)

    seen = trace(lambda x: x.exp().sum(), x, backward=False, repeats=1)

    assert ran == []
    assert seen.gradients == {"x": None}
    assert seen.reasons == {"x": "the backward pass was not run"}
    assert seen.timings.backward is None
    assert len(seen.graph) == 3


# What is left behind


def test_grad_fields_are_put_back() -> None:
    model, x = mlp(), data(5, 4, grad=True)
    x.grad = torch.full_like(x, 7.0)
    model[0].weight.grad = kept = torch.ones_like(model[0].weight)

    trace(model, x, repeats=2)

    assert torch.equal(x.grad, torch.full_like(x, 7.0))
    assert model[0].weight.grad is kept
    assert model[2].weight.grad is None


def test_grad_fields_are_put_back_after_a_failure() -> None:
    x = data(2, grad=True)
    x.grad = kept = torch.ones_like(x)
    x.register_hook(lambda grad: grad / 0 if isinstance(grad, str) else (_ for _ in ()).throw(RuntimeError("planted")))

    with pytest.raises(RuntimeError, match="planted"):
        trace(lambda x: x.exp(), x)

    assert x.grad is kept


def test_outputs_outlive_changes_in_place() -> None:
    y = torch.zeros(2)

    seen = trace(lambda x: y.copy_(x.detach()) * x, data(2, grad=True))
    y.fill_(99.0)

    assert seen.outputs["output"].tolist() == [1.0, 4.0]
    assert not seen.outputs["output"].requires_grad


# Awkward subjects


def test_an_input_that_is_no_leaf_receives_a_gradient_and_so_does_its_leaf() -> None:
    w = data(2, grad=True)
    x = w**2

    seen = trace(lambda x: (x * 3).sum(), x)

    assert seen.gradients["x"].tolist() == [3.0, 3.0]
    assert torch.equal(seen.gradients["leaf[0]"], 6 * w.detach())


def test_an_input_that_is_no_leaf_can_be_run_again_and_again() -> None:
    w = data(2, grad=True)
    subject = Subject(lambda x: (x * 3).sum(), (w**2,))

    first, second = trace(subject, repeats=2), trace(subject)

    assert same(first.gradients, second.gradients)


def test_leaves_without_a_name_are_numbered() -> None:
    hidden = [data(2, grad=True) for _ in range(2)]

    seen = trace(lambda x: x * hidden[0] + hidden[1] * 5, data(2, grad=True))

    assert list(seen.gradients) == ["x", "leaf[0]", "leaf[1]"]
    assert seen.gradients["leaf[0]"].tolist() == [-1.0, 2.0]
    assert seen.gradients["leaf[1]"].tolist() == [5.0, 5.0]


def test_an_argument_called_leaf_is_not_overwritten() -> None:
    hidden = data(2, grad=True)

    seen = trace(lambda leaf: leaf[0] * 2 + hidden * 3, [data(2, grad=True)])

    assert sorted(gradient.tolist() for gradient in seen.gradients.values()) == [[2.0, 2.0], [3.0, 3.0]]
    assert seen.gradients["leaf[0]"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant: bool) -> None:
    model, x = mlp(), data(5, 4, grad=True)
    expected = trace(model, x)

    seen = trace(lambda x: checkpoint(model, x, use_reentrant=reentrant), x)

    assert torch.equal(seen.gradients["x"], expected.gradients["input"])


def test_tied_parameters_are_one_leaf_under_the_first_name() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Parameter(data(2))
            self.second = self.first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.first * self.second

    seen = trace(Tied(), data(2, grad=True))

    assert list(seen.gradients) == ["x", "first"]
    assert torch.equal(seen.gradients["first"], 2 * data(2) * data(2))


def test_a_parameter_with_the_name_of_an_argument() -> None:
    class Clash(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(data(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.x * x * 2

    seen = trace(Clash(), data(2, grad=True))

    assert list(seen.gradients) == ["x", "module.x"]


def test_one_tensor_as_two_arguments() -> None:
    x = data(2, grad=True)

    seen = trace(lambda a, b: a * b, x, x)

    assert torch.equal(seen.gradients["a"], 2 * x.detach())
    assert torch.equal(seen.gradients["b"], 2 * x.detach())
    assert x.grad is None


def test_dropout_and_batch_norm_run_as_they_are() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)).double()
    x = data(6, 4, grad=True)

    torch.manual_seed(3)
    seen = trace(model, x)
    assert model[0].num_batches_tracked == 1
    torch.manual_seed(3)
    expected = torch.autograd.grad(model(x).sum(), x)[0]

    assert torch.allclose(seen.gradients["input"], expected, atol=1e-12)


def test_arguments_by_keyword_by_default_and_in_containers() -> None:
    def forward(a: torch.Tensor, *rest: torch.Tensor, scale: float = 2.0, table: Any = None) -> torch.Tensor:
        return (a + rest[0] + table["key"][0]) * scale

    seen = trace(forward, data(2, grad=True), data(2, grad=True), table={"key": [data(2, grad=True)]})

    assert list(seen.gradients) == ["a", "rest[0]", "table.key[0]"]


def test_a_loss_that_is_no_tensor() -> None:
    with pytest.raises(TargetError, match=r"<lambda>: the loss is a float; return a tensor, as \.sum\(\) does"):
        trace(lambda x: x, data(2, grad=True), loss=lambda output: 3.0)


def test_a_loss_of_one_entry_need_not_be_a_scalar() -> None:
    seen = trace(lambda x: x * 2, data(1, grad=True), loss=lambda output: output.reshape(1, 1))

    assert seen.gradients["x"].tolist() == [2.0]
    assert seen.notes == ()


def test_a_meta_tensor_has_gradients_without_values() -> None:
    x = torch.ones(3, device="meta", requires_grad=True)

    record = trace(lambda x: x.exp().sum(), x).record()

    assert record.loss is None
    assert record.gradients["x"].value.shape == (3,)
    assert record.gradients["x"].value.value is None


# Times

SLOW = 0.2  # seconds: what other programs hardly make of a pass of microseconds, three times in a row


def sleeping(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(seconds / 10)


class SlowBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        sleeping(SLOW)
        return grad * 2


def test_a_slow_forward_op_shows_in_the_forward_time_alone() -> None:
    def slow(x: torch.Tensor) -> torch.Tensor:
        sleeping(SLOW)
        return x * 2

    seen = trace(slow, data(2, grad=True), repeats=3)

    assert seen.timings.forward.repeats == seen.timings.backward.repeats == 3
    assert seen.timings.forward.min >= SLOW
    assert seen.timings.backward.min < SLOW


def test_a_slow_backward_op_shows_in_the_backward_time_alone() -> None:
    seen = trace(SlowBackward.apply, data(2, grad=True), repeats=3)

    assert seen.timings.backward.min >= SLOW
    assert seen.timings.forward.min < SLOW
    assert seen.timings.backward.min <= seen.timings.backward.median <= seen.timings.backward.max


def test_the_module_runs_for_its_values_and_then_against_the_clock() -> None:
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x * 2

    for repeats, runs in ((0, 1), (1, 1 + 1), (4, 1 + 4)):
        calls.clear()
        trace(counted, data(2, grad=True), repeats=repeats)
        assert len(calls) == runs


def test_median_and_range() -> None:
    assert timing([3.0, 1.0, 2.0, 10.0]) == Timing(2.5, 1.0, 10.0, 4)
    assert timing([]) is None


# Records


@pytest.mark.parametrize(
    ("tensor", "dtype", "value", "ulp"),
    [
        (torch.tensor([1.5]), "float32", [1.5], 2.0**-23),
        (torch.tensor([1.5], dtype=torch.float64), "float64", [1.5], 2.0**-52),
        (torch.tensor([1.5], dtype=torch.bfloat16), "bfloat16", [1.5], 2.0**-7),
        (torch.tensor([1.5], dtype=torch.float16), "float16", [1.5], 2.0**-10),
        (torch.tensor([1 + 2j]), "complex64", [1 + 2j], 2.0**-23),
        (torch.tensor([1 + 2j]).conj(), "complex64", [1 - 2j], 2.0**-23),
        (torch.tensor([3]), "int64", [3], 0.0),
        (torch.tensor([True]), "bool", [True], 0.0),
        (torch.eye(2).to_sparse(), "float32", [[1.0, 0.0], [0.0, 1.0]], 2.0**-23),
        (torch.tensor([1.0], dtype=torch.float8_e4m3fn), "float8_e4m3fn", [1.0], 2.0**-3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_as_plain_values(tensor: torch.Tensor, dtype: str, value: list[Any], ulp: float) -> None:
    plain = value_of(tensor)

    assert (plain.dtype, plain.shape, plain.ulp) == (dtype, tuple(tensor.shape), ulp)
    assert plain.value.tolist() == value


def test_a_record_holds_no_tensor() -> None:
    seen: Trace = trace(mlp(), data(5, 4, grad=True))
    record = seen.record("renamed")

    assert record.target == "renamed"
    assert isinstance(record.outputs["output"].value, numpy.ndarray)
    assert all(isinstance(gradient.value.value, numpy.ndarray) for gradient in record.gradients.values())
    assert record.threads == torch.get_num_threads()
    assert seen.graph.meta["target"] == "Sequential"


def test_a_lone_argument_is_not_taken_apart() -> None:
    x = torch.randn(2, 3)
    lone, packed = (trace(Subject(torch.nn.Linear(3, 1), args)) for args in (x, (x,)))

    assert lone.outputs["output"].shape == packed.outputs["output"].shape == (2, 1)
    assert Subject(torch.nn.Linear(3, 1), [x]).args == [x]


def test_a_loss_without_a_graph_is_what_is_differentiated() -> None:
    layer = torch.nn.Linear(3, 2)
    result = trace(layer, torch.ones(4, 3), loss=lambda made: torch.tensor(made.sum().item()), diagnose=True)

    assert result.graph is None
    assert result.outputs.keys() == {"output"}
    assert result.notes == ("the loss has no backward graph, so every gradient is None",)
    assert [end.name for end in result.observation.ends] == ["loss"]
    assert {item.verdict for item in result.connectivity.verdicts if item.role == "parameter"} == {
        "used, but its value leaves the graph before the output"
    }


def test_an_output_without_a_graph_is_missed_where_a_leaf_has_no_other() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.one(x), self.one(x).detach(), self.two(x).detach(), mask

    mask = torch.tensor([0.0, -torch.inf])
    result = trace(Two(), torch.ones(4, 3), mask, diagnose=True)

    assert result.loss is not None
    assert math.isfinite(result.loss)
    assert list(result.notes) == [
        "output[0] is no scalar and was reduced by .sum()",
        *(f"output[{k}] has no backward graph and is not differentiated" for k in (1, 2, 3)),
    ]
    (finding,) = result.findings
    assert (finding.code, finding.level, finding.evidence["lost"]) == ("GL101", "error", ["two.weight", "two.bias"])
    declared = trace(Two(), torch.ones(4, 3), mask, loss=lambda outputs: outputs[0].sum(), diagnose=True)
    assert [(item.code, item.level, item.evidence["leaves"]) for item in declared.findings] == [
        ("GL104", "warning", ["two.weight", "two.bias"])
    ]
    assert {item.verdict for item in declared.connectivity.verdicts if item.name.startswith("two")} == {
        "used, but nothing computed from it reaches what is differentiated"
    }


def test_what_is_ignored_is_not_missed() -> None:
    def forward(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return x * given[0].item() * given[1].detach() * given[2]

    leaves = [torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 3.0, 4.0)]
    seen = trace(forward, *leaves, diagnose=True).observation

    def lost(*ignore: str) -> list[object]:
        return [item.evidence["lost"] for item in connectivity(seen, ignore).findings]

    assert lost() == [["given[0]"], ["given[1]"]]
    assert lost("given[1]") == [["given[0]"]]  # by its very name
    assert lost("given*") == []
    assert lost("given") == lost("Given*") == lost()
    verdicts = {item.name: item.verdict for item in connectivity(seen, ["*"]).verdicts}
    assert verdicts == dict.fromkeys(("x", "given[0]", "given[1]", "given[2]"), "ignored")

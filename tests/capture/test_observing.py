"""What a run tells about its gradients, and that nothing of the run is kept or changed."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.program import tensors_program
from graphlens.capture.trace import Trace, observe, observe_call
from graphlens.flow import REQUIRES_GRAD
from graphlens.observation import EndFact, LeafFact, Observation
from graphlens.subject import Subject


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def seen(forward: Callable[..., Any], *args: Any, diagnose: bool = True, **options: Any) -> Observation:
    return graphlens.trace(forward, *args, diagnose=diagnose, **options).observation


def gradients(observation: Observation) -> dict[str, str]:
    return {fact.name: fact.gradient for fact in observation.leaves}


# Leaves and ends


@pytest.mark.parametrize(
    ("forward", "gradient"),
    [
        (lambda x: x * 2, "value"),
        (lambda x: x * 0, "zero"),
        (lambda x: (x - x).sqrt(), "nonfinite"),
        (lambda x: x / 0, "nonfinite"),
        (lambda x: x.detach() + torch.ones(2, requires_grad=True), "none"),
        (lambda x: x.exp().add_(1), "not run"),
        (lambda x: torch.ones(2), "none"),
    ],
    ids=["value", "zero", "NaN", "infinity", "cut", "backward fails", "no graph"],
)
def test_what_the_backward_pass_gave_a_leaf(forward: Callable[[torch.Tensor], torch.Tensor], gradient: str) -> None:
    assert gradients(seen(forward, leaf(1.0, 2.0)))["x"] == gradient


def test_a_backward_pass_that_was_not_wanted() -> None:
    observation = seen(lambda x: x * 2, leaf(1.0), backward=False)

    assert gradients(observation) == {"x": "not run"}


@pytest.mark.parametrize(
    ("leaves", "gradient"),
    [
        ((torch.zeros(0, requires_grad=True),), "value"),
        ((torch.ones(2, dtype=torch.complex64, requires_grad=True),), "value"),
        ((torch.ones(2, device="meta", requires_grad=True),), "value"),
        ((torch.ones(2, dtype=torch.bfloat16, requires_grad=True),), "value"),
    ],
    ids=["empty", "complex", "meta", "bfloat16"],
)
def test_gradients_of_every_kind(leaves: Sequence[torch.Tensor], gradient: str) -> None:
    assert gradients(seen(lambda x: (x * 2).abs(), *leaves)) == {"x": gradient}


def test_facts_about_leaves() -> None:
    class Freezing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2, 3))
            self.frozen = torch.nn.Parameter(torch.ones(()), requires_grad=False)
            self.unused = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            y = self.w[index] * x * self.frozen
            self.w.requires_grad_(False)
            return y

    facts = {fact.name: fact for fact in seen(Freezing(), torch.ones(3), torch.tensor(1)).leaves}
    values = {name: fact.value for name, fact in facts.items()}

    assert {name: fact._replace(value=None, sample=()) for name, fact in facts.items()} == {
        "x": LeafFact("x", "input", (3,), False, True, "none", None),
        "index": LeafFact("index", "input", (), False, False, "none", None),
        # As it was asked for before the run, whatever the run does to it.
        "w": LeafFact("w", "parameter", (2, 3), True, True, facts["w"].gradient, None),
        "frozen": LeafFact("frozen", "parameter", (), False, True, "none", None),
        "unused": LeafFact("unused", "parameter", (1,), True, True, "none", None),
    }
    assert len(set(values.values())) == 5
    assert facts["w"].sample == (1.0,) * 6
    assert facts["index"].sample == ()


def test_ends_are_what_is_differentiated_and_outputs_what_was_returned() -> None:
    observation = seen(lambda x: (x * 2, (x > 0), x.detach().log()), leaf(-1.0, 2.0))

    assert [end._replace(value=None) for end in observation.ends] == [
        EndFact("output[0].sum()", True, True, True, None),
        EndFact("output[2]", False, True, False, None),  # it would be, if it had a graph
    ]
    assert observation.unfinite == []
    assert [end._replace(value=None) for end in observation.outputs] == [
        EndFact("output[0]", True, True, True, None),
        EndFact("output[1]", False, False, True, None),
        EndFact("output[2]", False, True, False, None),
    ]
    assert observation.forward_fault is None  # what is differentiated is finite


def test_without_a_graph_the_ends_are_the_outputs() -> None:
    observation = seen(lambda x: x.detach().log(), leaf(-1.0))

    assert [end.name for end in observation.ends] == ["output"]
    assert observation.graph is None
    assert observation.forward_fault is not None


def test_names_and_messages_can_be_shown() -> None:
    def forward(x: torch.Tensor, **more: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x * more["\x1b[31m"]
        y.register_hook(raising)
        return {"a\nb": y.sum()}

    def raising(grad: torch.Tensor) -> None:
        raise RuntimeError("two\n lines\x1b[0m")

    observation = seen(forward, leaf(1.0), **{"\x1b[31m": leaf(2.0)})

    assert [fact.name for fact in observation.leaves] == ["x", "more.\\x1b[31m"]
    assert [end.name for end in observation.ends] == ["a\\nb"]
    assert observation.backward_error == "two lines\\x1b[0m"
    assert observation.clobbered == ()


def test_what_was_written_over_is_looked_for_when_autograd_says_so() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        z = y.sin()
        y += 1
        return z + y

    observation = seen(forward, leaf(1.0, 2.0))
    graph = observation.graph
    assert graph is not None

    assert {(graph.nodes[item.node].op, item.slot) for item in observation.clobbered} == {
        ("ExpBackward0", "result"), ("SinBackward0", "self"),
    }  # fmt: skip
    assert all("modified by an inplace operation" in item.message for item in observation.clobbered)


def test_a_factory_of_tensors_is_no_forward_pass() -> None:
    trace = observe(tensors_program("made", lambda: [(leaf(1.0) * 2).sum()]), diagnose=True)

    assert not trace.observation.is_forward
    assert seen(lambda x: x, leaf(1.0)).is_forward
    assert gradients(trace.observation) == {"leaf[0]": "value"}
    assert trace.findings == ()


def test_the_leaves_that_the_graph_leads_to_have_their_nodes() -> None:
    a, b, hidden = leaf(1.0), leaf(2.0), [leaf(3.0), leaf(4.0)]
    observation = seen(lambda x, y, z: hidden[1] * z * hidden[0] + x.detach() * b, a, a, b)
    graph = observation.graph
    assert graph is not None

    assert list(gradients(observation)) == ["x", "y", "z", "leaf[0]", "leaf[1]"]
    assert set(observation.reached) == {"z", "leaf[0]", "leaf[1]"}
    assert sorted(observation.reached.values()) == [0, 1, 2]
    assert graph.nodes[observation.reached["z"]].name == "z"
    # leaf[0] is the one that is met first.
    assert observation.reached["leaf[0]"] < observation.reached["leaf[1]"]
    assert seen(lambda x: x.detach(), a).reached == {}


# Further runs


class Count:
    """Counts in a place that is not put back."""

    number = 0


class Counting(torch.nn.Module):
    def __init__(self, end: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.end = end
        self.runs = Count()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs.number += 1
        return self.end(x, self.w)


@pytest.mark.parametrize(
    ("end", "diagnose", "runs"),
    [
        (lambda x, w: x * w, True, 1),
        (lambda x, w: x * w.detach(), False, 1),
        (lambda x, w: (x * w).log(), False, 1),
        (lambda x, w: (x - w).log(), True, 2),  # watched
        (lambda x, w: (x - w).sqrt(), True, 2),  # its backward pass watched
        (lambda x, w: (x * w).round(), True, 2),  # its backward pass watched
        (lambda x, w: x * w.detach(), True, 4),  # twice as it was, and once with a changed w
        (lambda x, w: x * (w.detach() > -9).all(), True, 6),  # and twice with one that is changed by much
    ],
    ids=["sound", "cut, not asked", "log, not asked", "log", "sqrt", "round", "cut", "no effect"],
)
def test_runs_are_made_where_a_question_is_left(
    end: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], diagnose: bool, runs: int
) -> None:
    module = Counting(end)
    observation = seen(module, leaf(1.0, 1.0), diagnose=diagnose)

    assert module.runs.number == runs
    assert observation.diagnosed == diagnose


def test_without_a_diagnosis_what_it_would_tell_is_empty() -> None:
    observation = seen(lambda x, w: (x.round() * w.detach()).log(), leaf(0.1), leaf(1.0), diagnose=False)

    assert (observation.stopped, observation.zeroing, observation.dependence) == ({}, (), {})
    assert (observation.forward_fault, observation.backward_fault, observation.diagnosed) == (None, None, False)
    with pytest.raises(RuntimeError, match="inplace operation"):
        seen(lambda x: x.exp().add_(1), leaf(1.0), diagnose=False)


def trace_of(module: torch.nn.Module, x: torch.Tensor) -> Trace:
    return graphlens.trace(module, x, diagnose=True)


def trace_of_call(module: torch.nn.Module, x: torch.Tensor) -> Trace:
    return observe_call(lambda: module(x).sum(), module)


class Everything(torch.nn.Module):
    """A cut, a flat op, a batch norm that counts, and random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.dropout(self.norm(self.first(x)), 0.5)
        return y.detach() + self.second(x).round()


@pytest.mark.parametrize("way", [trace_of, trace_of_call])
def test_afterwards_everything_is_as_after_one_run(way: Callable[[torch.nn.Module, torch.Tensor], Trace]) -> None:
    torch.manual_seed(0)
    module, bare = Everything(), Everything()
    bare.load_state_dict(module.state_dict())
    x = torch.randn(4, 3)
    kept = torch.full((3, 3), 7.0)
    module.first.weight.grad = kept
    torch.manual_seed(1)
    trace = way(module, x)
    random = torch.get_rng_state()

    torch.manual_seed(1)
    bare(x)
    assert torch.equal(random, torch.get_rng_state())
    for name, value in bare.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name
    assert module.first.weight.grad is kept
    assert kept.eq(7).all()
    assert all(p.grad is None for name, p in module.named_parameters() if name != "first.weight")
    assert all(p.requires_grad for p in module.parameters())
    assert [item.code for item in trace.findings] == ["GL101", "GL105"]
    assert {name for name, found in trace.observation.dependence.items() if found} == {
        "first.weight", "first.bias", "norm.weight", "norm.bias",
    }  # fmt: skip


def test_a_recorded_call_names_the_modules_by_their_paths() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), Counting(lambda x, w: (x * w).detach()))
    trace = observe_call(lambda: module(torch.ones(1, 2)).sum(), module)

    assert trace.findings[0].where.module == "1"


# Nothing is kept


@pytest.mark.parametrize(
    "end",
    [
        lambda x, w: x * w,
        lambda x, w: x * w.detach(),
        lambda x, w: x.round() * w,
        lambda x, w: (x - w).sqrt(),
        lambda x, w: (x - w).log(),
        lambda x, w: (x * w).exp().add_(1),
    ],
    ids=["sound", "cut", "round", "sqrt", "log", "in place"],
)
def test_neither_the_observation_nor_the_findings_keep_a_tensor(
    end: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    made: list[weakref.ref[Any]] = []

    def noting(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = end(x, w)
        made.append(weakref.ref(y))
        return y

    module, x = Counting(noting), leaf(1.0, 1.0)
    held = [weakref.ref(module), weakref.ref(module.w), weakref.ref(x)]
    trace = graphlens.trace(module, x, diagnose=True)
    observation, found = trace.observation, trace.connectivity
    gc.collect()
    assert [item() for item in made] == [None] * len(made)
    del module, x, trace
    gc.collect()
    assert [item() for item in held] == [None] * 3

    assert pickle.loads(pickle.dumps((observation, found))) == (observation, found)


def test_a_subject_may_be_observed_while_another_diagnosis_is_open() -> None:
    inner: list[Observation] = []

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        inner.append(seen(lambda v: v.round(), leaf(0.4)))
        return x * w.detach()

    observation = graphlens.trace(Subject(forward, (leaf(1.0), leaf(2.0))), diagnose=True).observation

    assert observation.dependence == {"w": {"output": [0]}}
    assert {len(item.zeroing) for item in inner} == {1}


# Leaves that are made on the way, and who holds them


class Keeping(torch.nn.Module):
    def __init__(self, keep: str) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.keep = keep
        self.kept: Any = None

    def forward(self, x: torch.Tensor) -> Any:
        fresh = x.detach().requires_grad_()
        y = (self.w * fresh).exp()
        if self.keep == "attribute":
            self.kept = fresh
        elif self.keep == "list":
            self.kept = [[fresh]]
        elif self.keep == "hook":
            y.register_hook(lambda grad: grad * fresh.detach())
        return {"y": y, "fresh": fresh} if self.keep == "output" else y


@pytest.mark.parametrize("keep", ["attribute", "list", "hook", "output", "nobody"])
def test_a_leaf_that_somebody_holds_is_no_finding(keep: str) -> None:
    trace = graphlens.trace(Keeping(keep), torch.ones(2), diagnose=True)

    assert bool(trace.observation.held) == (keep != "nobody")
    assert [item.code for item in trace.findings] == ([] if keep != "nobody" else ["GL102"])


def test_values_before_the_run_are_sampled_evenly() -> None:
    w = torch.arange(1000.0, requires_grad=True)
    x = torch.ones((), requires_grad=True)

    def forward(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        w.data.zero_()
        return x * w.detach().sum()

    (fact, _) = seen(forward, w, x).leaves
    assert len(fact.sample) == 64
    assert (fact.sample[0], fact.sample[-1]) == (0, 999)
    steps = [b - a for a, b in itertools.pairwise(fact.sample)]
    assert set(steps) <= {15, 16}


def test_results_that_vmap_made_keep_their_histories() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    flow = seen(lambda rows: torch.vmap(lambda row: row.exp() * 2)(rows), rows).flow
    (exp,) = (step for step in flow.steps if step.function == "Tensor.exp")

    assert exp.inputs == (flow.leaves["rows"],)
    assert all(flow.values[value] & REQUIRES_GRAD for value in exp.outputs)
    plain = seen(lambda rows: torch.vmap(lambda row: row.detach().exp())(rows) + rows, rows).flow
    (exp,) = (step for step in plain.steps if step.function == "Tensor.exp")
    assert not any(plain.values[value] & REQUIRES_GRAD for value in exp.outputs)

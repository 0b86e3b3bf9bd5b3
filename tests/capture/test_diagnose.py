"""Further runs: from the same state, and against autograd's own anomaly mode."""

from __future__ import annotations

import itertools
import math
import random
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

import graphlens
from graphlens.capture import diagnose
from graphlens.capture.changes import MOST_FURTHER_RUNS
from graphlens.capture.program import subject_program
from graphlens.capture.start import Start
from graphlens.graph import GradGraph
from graphlens.observation import Observation
from graphlens.subject import Subject

Program2 = Callable[..., Any]


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


class Stateful(torch.nn.Module):
    """Changes its buffer, its parameter and its flags at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.w.data.mul_(2)
        self.w.requires_grad_(False)
        return (self.w * x * torch.rand(2) * self.calls).sum()


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_state_again_and_then_as_it_was(fails: bool) -> None:
    module = Stateful()
    x = torch.ones(2, requires_grad=True)
    program = subject_program(Subject(module, (x,)))
    start = Start.of(program)
    first = program.forward().loss
    random = torch.get_rng_state()

    with pytest.raises(RuntimeError) if fails else start.again():
        if fails:
            with start.again():
                program.forward()
                raise RuntimeError
        assert program.forward().loss == first

    assert (module.calls.item(), module.w.tolist(), module.w.requires_grad) == (1, [2, 2], False)
    assert torch.equal(torch.get_rng_state(), random)
    with start.again():
        assert (module.calls.item(), module.w.tolist(), module.w.requires_grad) == (0, [1, 1], True)


class Kept(torch.nn.Module):
    """Writes what it computes, graph and all, into its buffers; u goes through Python."""

    def __init__(self, buffer: torch.Tensor) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.u = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("h", buffer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.h.copy_(self.w * x)
        return (self.h * float(self.u.detach().sum())).sum()


@pytest.mark.parametrize("buffer", [torch.zeros(2), torch.zeros(3, 2)[1]], ids=["whole", "view"])
def test_a_buffer_that_a_run_wrote_its_graph_into(buffer: torch.Tensor) -> None:
    module = Kept(buffer.clone() if buffer._base is None else buffer)
    trace = graphlens.trace(module, torch.full((2,), 3.0), diagnose=True)

    assert trace.observation.dependence["u"]["output"] == [0]
    assert [item.code for item in trace.findings] == ["GL101"]
    assert module.h.tolist() == [3, 3]
    assert module.w.tolist() == module.u.tolist() == [1, 1]


def test_tensors_that_repeat_one_place_in_memory_are_put_back() -> None:
    class Repeating(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(1).expand(3))
            self.register_buffer("windows", torch.arange(4.0).unfold(0, 2, 1))

        def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            self.scale[:1].mul_(2)
            return (x.detach() * w * self.scale).sum() + self.windows.sum()

    module = Repeating()
    x = torch.ones(1).expand(3).requires_grad_()
    trace = graphlens.trace(module, x, torch.ones(3, requires_grad=True), diagnose=True)

    assert trace.observation.dependence == {"x": {"output": [0]}}
    assert (module.scale.tolist(), x.tolist()) == ([2, 2, 2], [1, 1, 1])
    assert module.windows.tolist() == [[0, 1], [1, 2], [2, 3]]


def test_a_module_that_makes_its_parameters_at_its_first_call() -> None:
    trace = graphlens.trace(torch.nn.Sequential(torch.nn.LazyLinear(2)), torch.ones(3), diagnose=True)

    assert {item.name: item.verdict for item in trace.connectivity.verdicts if item.role == "parameter"} == {
        "0.weight": "receives a gradient", "0.bias": "receives a gradient",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["coo", "csr", "jagged"])
def test_inputs_of_other_layouts(layout: str) -> None:
    class Detached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.w.detach()).sum() if layout == "jagged" else torch.sparse.mm(x, self.w.detach()).sum()

    eye = torch.eye(3)
    x = torch.nested.nested_tensor([eye, eye[:2]], layout=torch.jagged) if layout == "jagged" else getattr(
        eye, f"to_sparse_{layout}")()  # fmt: skip
    before = [part.clone() for part in (x.unbind() if layout == "jagged" else [x.to_dense()])]
    trace = graphlens.trace(Detached(), x.detach().requires_grad_(), diagnose=True)

    assert [(item.code, item.evidence["lost"]) for item in trace.findings] == [("GL101", ["w"])]
    after = x.unbind() if layout == "jagged" else [x.to_dense()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_further_runs_warn_of_nothing() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        warnings.warn("look out", stacklevel=2)
        return x * math.sqrt(w.tolist())

    with pytest.warns(UserWarning, match="look out") as caught:
        graphlens.trace(forward, *map(leaf, (1.0, 4.0)), diagnose=True)
    assert len(caught) == 1


# Against anomaly mode, and against an independent watch of the forward pass


class OwnNaN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * float("nan")


NAN_BACKWARD: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    "sqrt": (lambda x: x.sqrt().mul(0.0).sum(), 0.0),
    "where and sqrt": (lambda x: torch.where(x > 1, x.sqrt(), x * 2).mul(2).sum(), -1.0),
    "where and log": (lambda x: torch.where(x > 0, x.log(), x * 3).exp().sum(), 0.0),
    "where and 1 / x": (lambda x: torch.where(x != 0, 1 / x, x * 1).sum(), 0.0),
    "where and a quotient": (lambda x: torch.where(x != 0, (x * 2) / x, x * 1).sum(), 0.0),
    "acos": (lambda x: (x.acos() * 0).sum(), 1.0),
    "pow": (lambda x: (x.pow(0.5) * 0).sum(), 0.0),
    "own": (lambda x: OwnNaN.apply(x.sin()).exp().sum(), 1.0),
    "length": (lambda x: (x * x).sum().sqrt() * 0, 0.0),
    "normalised": (lambda x: (x / x.norm()).nan_to_num().sum(), 0.0),
    "atanh": (lambda x: (x.atanh().nan_to_num(posinf=0.0) * 1).sum(), 1.0),
    "equal eigenvalues": (lambda x: torch.linalg.eigh(torch.diag(x))[1].sin().sum(), 1.0),
    "hypot": (lambda x: torch.hypot(x, x).sum(), 0.0),
}


@pytest.mark.parametrize("name", NAN_BACKWARD)
def test_the_node_and_the_line_that_anomaly_mode_names(name: str) -> None:
    forward, value = NAN_BACKWARD[name]
    trace = graphlens.trace(forward, torch.full((2,), value, requires_grad=True), diagnose=True)
    found = trace.observation.backward_fault

    x = torch.full((2,), value, requires_grad=True)
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match="returned nan") as raised:
            forward(x).backward()
    named = re.search(r"Function '(\w+)' returned nan", str(raised.value))
    traceback = next(str(item.message) for item in caught if "Traceback of forward call" in str(item.message))
    assert named is not None
    assert found is not None
    assert found.node is not None
    assert trace.graph is not None
    node = trace.graph.nodes[found.node]
    assert (found.what, node.op) == ("NaN", named[1])
    assert node.source is not None
    lines = re.findall(rf'{re.escape(__file__)}", line (\d+)', traceback)
    assert trace.graph.sources[node.source].line == int(lines[-1])


def test_what_a_node_of_the_backward_pass_had_met_in_the_forward_pass() -> None:
    def attended(x: torch.Tensor) -> torch.Tensor:
        weights = x.masked_fill(torch.tensor([[True, True], [False, True]]), -math.inf).softmax(1)
        return (weights @ x).masked_fill(torch.tensor([[True], [False]]), 0.0).sum()

    def entropy(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x * x.log(), x).sum()

    def calls(forward: Callable[[torch.Tensor], torch.Tensor], value: torch.Tensor) -> list[str | None]:
        seen = graphlens.trace(forward, value.requires_grad_(), diagnose=True).observation
        fault = seen.forward_fault
        if fault is None or fault.step is None:
            return [None]
        return [seen.flow.steps[number].function for number in (fault.origin, fault.step) if number is not None]

    assert calls(attended, torch.ones(2, 2)) == ["Tensor.softmax"]
    assert calls(entropy, torch.tensor([0.5, 0.0])) == ["Tensor.log", "Tensor.mul"]
    # A root of 0 is finite, and so is all that its node keeps.
    assert calls(lambda x: (x * 1).sqrt().sum() * 0, torch.zeros(2)) == [None]


def test_infinity_is_told_where_no_nan_arises() -> None:
    trace = graphlens.trace(lambda x: (x.sqrt() * 3).sum(), torch.zeros(2, requires_grad=True), diagnose=True)
    found = trace.observation.backward_fault

    assert found is not None
    assert found.node is not None
    assert trace.graph is not None
    assert (found.what, trace.graph.nodes[found.node].op) == ("infinity", "SqrtBackward0")
    assert (found.inputs[0].low, found.outputs[0].infinite) == (3.0, 2)


class FirstNaN(TorchFunctionMode):
    """The first call whose result holds NaN and whose arguments do not."""

    def __init__(self) -> None:
        super().__init__()
        self.found = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():
            held = [item for item in args if isinstance(item, torch.Tensor) and item.is_floating_point()]
            if not self.found and isinstance(made, torch.Tensor) and made.is_floating_point() and made.isnan().any():
                self.found = "" if any(item.isnan().any() for item in held) else func.__name__
        return made


NAN_FORWARD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "log": lambda x: (x.neg().log() * 2).exp().sum(),
    "0 / 0": lambda x: ((x - x) / (x - x)).sum(),
    "infinity - infinity": lambda x: (x * 1e38 * 1e3).sub((x * 1e38).mul(1e3)).sum(),
    "acos": lambda x: (x + 2).acos().mean(),
    "mean of nothing": lambda x: x[:0].mean() + x.sum(),
    "softmax over what is masked": lambda x: torch.softmax(x.masked_fill(x > 0, -math.inf), 0).sum(),
    "power": lambda x: x.neg().pow(0.5).sum(),
}


@pytest.mark.parametrize("name", NAN_FORWARD)
def test_the_call_that_made_nan_against_another_watch(name: str) -> None:
    forward = NAN_FORWARD[name]
    trace = graphlens.trace(forward, torch.ones(2, requires_grad=True), diagnose=True)
    fault = trace.observation.forward_fault

    with FirstNaN() as watch:
        forward(torch.ones(2, requires_grad=True))
    assert fault is not None
    assert fault.step is not None
    assert watch.found
    assert trace.observation.flow.steps[fault.step].function.rpartition(".")[2] == watch.found
    assert (fault.what, sum(item.nan for item in fault.inputs)) == ("NaN", 0)
    assert any(item.nan for item in fault.outputs)


def test_an_infinite_mask_is_not_what_went_wrong() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        mask = x.masked_fill(x > 0, -math.inf)
        return mask.exp().sum().log().neg()

    trace = graphlens.trace(forward, torch.ones(2, requires_grad=True), diagnose=True)
    fault = trace.observation.forward_fault

    assert fault is not None
    assert fault.step is not None
    # log(0): everything was masked. The mask's own infinities were asked for.
    assert trace.observation.flow.steps[fault.step].function == "Tensor.log"


# What stops and what is 0


class Gate(torch.autograd.Function):
    """Passes the gradient to its first argument and None to its second."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return grad, None


def numbers_of_ops(graph: GradGraph | None, *ops: str) -> set[int]:
    assert graph is not None
    return {number for number, node in enumerate(graph.nodes) if node.op in ops}


def test_each_node_that_passes_none_on_is_named_for_the_leaves_behind_it() -> None:
    def forward(x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        one = Gate.apply(x, v.exp())
        two = Gate.apply(one, (v * w).sin())
        return two.sum()

    trace = graphlens.trace(forward, *map(leaf, (1.0, 2.0, 3.0)), diagnose=True)
    gates = sorted(numbers_of_ops(trace.graph, "GateBackward"))

    assert dict(trace.observation.stopped) == {"v": tuple(gates), "w": (gates[1],)}
    assert trace.observation.dependence == {}  # the graph leads to both
    assert {item.name: item.verdict for item in trace.connectivity.verdicts} == {
        "x": "receives a gradient",
        "v": "used, but its value leaves the graph before the output",
        "w": "used, but its value leaves the graph before the output",
    }
    assert trace.observation.zeroing == ()


def test_nodes_that_turn_a_gradient_into_zeros() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        rounded = (x * 2).round()  # 0 everywhere
        dead = (w - 9).relu()  # 0 for this data
        return (rounded.exp() + dead * 3).sum()

    trace = graphlens.trace(forward, *map(leaf, (1.0, 2.0)), diagnose=True)

    assert set(trace.observation.zeroing) == numbers_of_ops(trace.graph, "RoundBackward0", "ReluBackward0")
    assert [item.evidence["leaves"] for item in trace.findings] == [["x"]]


def test_sparse_gradients_are_looked_into() -> None:
    rows = torch.nn.Embedding(4, 2, sparse=True)

    def verdict(end: Callable[[torch.Tensor], torch.Tensor]) -> tuple[str, list[str]]:
        trace = graphlens.trace(torch.nn.Sequential(rows, Calls(end)), torch.tensor([1, 2]), diagnose=True)
        return trace.observation.leaves[1].gradient, [item.code for item in trace.findings]

    assert verdict(lambda y: y.sum()) == ("value", [])
    assert verdict(lambda y: y.round().sum()) == ("zero", ["GL105"])
    assert verdict(lambda y: (y - y).sqrt().sum()) == ("nonfinite", ["GL107"])


class Calls(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def test_ranges_of_the_call_that_made_nan() -> None:
    trace = graphlens.trace(lambda x: (x.log() * 2).sum(), torch.tensor([-1.0, 4.0], requires_grad=True), diagnose=True)
    fault = trace.observation.forward_fault

    assert fault is not None
    assert (fault.what, fault.inputs[0].low, fault.inputs[0].high, fault.outputs[0].nan) == ("NaN", -1.0, 4.0, 1)


# Programs that cannot be run again as they were


def by_a_counter() -> Program2:
    counter = iter(range(100))
    return lambda x, w: w * math.sqrt(float(x.detach()) + next(counter))


def by_random_numbers_of_python() -> Program2:
    source = random.Random(0)
    return lambda x, w: w * math.sqrt(float(x.detach()) + source.random())


def by_random_numbers_of_numpy() -> Program2:
    source = numpy.random.default_rng(0)
    return lambda x, w: w * math.sqrt(float(x.detach()) + source.random())


def by_a_generator_of_its_own() -> Program2:
    source = torch.Generator().manual_seed(0)
    return lambda x, w: w * math.sqrt(float(x.detach())) + torch.rand((), generator=source)


def by_its_shape() -> Program2:
    source = random.Random(0)
    return lambda x, w: torch.cat([w[None]] * source.choice([1, 2, 3, 4, 5, 6, 7])) * math.sqrt(float(x.detach()))


def by_its_shape_alone() -> Program2:
    sizes = iter(range(1, 99))
    return lambda x, w: (torch.ones(next(sizes)) * w * 0).mul(math.atan(float(x.detach())))


def by_its_names() -> Program2:
    counter = iter(range(100))
    return lambda x, w: {f"y{next(counter)}": w * math.sqrt(float(x.detach()))}


def by_failing() -> Program2:
    once = iter([1.0])
    return lambda x, w: w * math.sqrt(float(x.detach())) * next(once)


OTHERWISE = [by_a_counter, by_its_shape_alone, by_its_names, by_failing]
RANDOM = [by_random_numbers_of_python, by_random_numbers_of_numpy, by_a_generator_of_its_own, by_its_shape]


@pytest.mark.parametrize("build", OTHERWISE, ids=lambda build: build.__name__)
def test_of_a_program_that_differs_from_run_to_run_only_the_missing_gradient_is_told(
    build: Callable[[], Program2],
) -> None:
    # Python's own arithmetic leaves no trace, so that only changed runs could tell that the result needs x.
    trace = graphlens.trace(build(), *map(leaf, (4.0, 1.0)), diagnose=True)

    assert trace.observation.diagnosed
    assert trace.observation.dependence == {}
    assert trace.observation.untried
    (finding,) = trace.findings
    assert (finding.code, finding.level, finding.evidence["lost"]) == ("GL101", "error", ["x"])
    assert finding.claim.startswith("x receives no gradient: .detach() cuts its result from the graph; whether the ")
    assert f"was not measured, because {trace.observation.untried}" in finding.claim
    assert trace.connectivity.verdicts[0].verdict == "used, but receives no gradient"


@pytest.mark.parametrize("build", RANDOM, ids=lambda build: build.__name__)
def test_generators_of_random_numbers_are_put_back(build: Callable[[], Program2]) -> None:
    program, other = build(), build()
    first = graphlens.trace(program, *map(leaf, (4.0, 1.0)), diagnose=True)

    assert first.observation.dependence["x"]
    assert [item.code for item in first.findings] == ["GL101"]
    # The second call goes on where the first one, and not a further one, left off.
    other(*map(leaf, (4.0, 1.0)))
    again, expected = (function(*map(leaf, (4.0, 1.0))) for function in (program, other))
    assert torch.equal(again, expected)


def test_nothing_is_said_of_nodes_that_another_run_does_not_have() -> None:
    def turns(*forms: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        left = itertools.chain(forms, itertools.repeat(forms[-1]))  # which cannot be put back
        return lambda x: next(left)(x)

    def gate(x: torch.Tensor) -> torch.Tensor:
        return Gate.apply(torch.ones(()), x * 2)

    def observed(*forms: Callable[[torch.Tensor], torch.Tensor], value: float = 0.0) -> Observation:
        return graphlens.trace(turns(*forms), leaf(value), diagnose=True).observation

    # As many nodes, and others.
    assert observed(lambda x: (x * 1).sqrt(), lambda x: (x * 1).exp() * 0).backward_fault is None
    assert observed(lambda x: (x * 1).sqrt(), lambda x: (x * 1).rsqrt()).backward_fault is None
    assert observed(lambda x: (x * 1).sqrt()).backward_fault is not None
    assert observed(lambda x: (x * 1).round(), lambda x: (x - 9).relu()).zeroing == ()
    assert len(observed(lambda x: (x * 1).round()).zeroing) == 1
    assert observed(gate, lambda x: Gate.apply(torch.ones(()), x - 2)).stopped == {}
    assert list(observed(gate).stopped) == ["x"]
    # Another call that makes NaN.
    assert observed(lambda x: (x - 1).log() * 0).forward_fault is not None
    assert observed(
        lambda x: (x - 1).log() * 0,
        lambda x: (x - 1).acos() * math.nan,
    ).forward_fault is None  # fmt: skip

    def fails(x: torch.Tensor) -> torch.Tensor:
        raise LookupError

    assert observed(lambda x: (x * 1).sqrt(), fails).backward_fault is None
    assert observed(lambda x: (x * 1).round(), fails).zeroing == ()
    assert observed(gate, fails).stopped == {}
    assert observed(lambda x: x.log() * 0, fails).forward_fault is None


def test_a_fault_is_found_in_the_first_run_by_its_line() -> None:
    made: dict[str, torch.Tensor] = {}

    def forward(x: torch.Tensor) -> torch.Tensor:
        if "scale" not in made:  # a cache: the first run has a call more than those after it
            made["scale"] = torch.ones(2).cumsum(0)
        y = x * made["scale"]
        return y.neg().log().sum()

    trace = graphlens.trace(forward, torch.ones(2, requires_grad=True), diagnose=True)
    fault = trace.observation.forward_fault

    assert fault is not None
    assert fault.step is not None
    assert trace.observation.flow.steps[fault.step].function == "Tensor.log"


def test_meta_tensors_have_no_values_to_compare() -> None:
    class Detached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).detach() + x

    x = torch.ones(2, device="meta", requires_grad=True)
    trace = graphlens.trace(Detached().to("meta"), x, diagnose=True)

    assert trace.observation.dependence == {}
    assert [(item.code, item.evidence["lost"]) for item in trace.findings] == [
        ("GL101", ["inner.weight", "inner.bias"])
    ]
    assert [end.finite for end in trace.observation.ends] == [None]
    assert [item.gradient for item in trace.observation.leaves] == ["value", "none", "none"]


# Dependence


def test_which_entries_depend_on_a_lost_leaf() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        numbers = w.tolist()
        return torch.stack([x * 2, x * numbers[0], x * (numbers[1] + 1)])

    ends = (torch.tensor(3.0, requires_grad=True), torch.ones(2, requires_grad=True))
    trace = graphlens.trace(forward, *ends, diagnose=True)

    assert trace.observation.dependence["w"]["output"] == [1, 2]
    assert [item.code for item in trace.findings if item.level == "error"] == ["GL101"]


@settings(max_examples=25)
@given(st.data())
def test_dependence_agrees_with_differences_of_the_bare_function(data: st.DataObject) -> None:
    leaves, entries = data.draw(st.integers(1, 11)), data.draw(st.integers(1, 5))
    uses = data.draw(st.lists(st.lists(st.booleans(), min_size=leaves, max_size=leaves),
                              min_size=entries, max_size=entries))  # fmt: skip

    def bare(values: list[float]) -> list[float]:
        return [sum(math.tanh(value) * (k + 1) for k, value in enumerate(values) if row[k]) for row in uses]

    def forward(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor(bare([item.item() for item in given]), dtype=torch.float64)

    values = [0.1 * k - 0.3 for k in range(leaves)]
    given_leaves = [leaf(value) for value in values]
    trace = graphlens.trace(forward, leaf(1.0), *given_leaves, diagnose=True)
    before = bare(values)
    for k, value in enumerate(values):
        after = bare([*values[:k], value + 0.05, *values[k + 1 :]])
        expected = [place for place in range(entries) if before[place] != after[place]]
        assert trace.observation.dependence[f"given[{k}]"].get("output", []) == expected
    assert [item.item() for item in given_leaves] == values


@pytest.mark.parametrize(
    ("forward", "depends"),
    [
        (lambda x, w: x * int(w), True),
        (lambda x, w: x.expand(int(w)), True),
        (lambda x, w: x if w > 0 else x * 2, True),
        (lambda x, w: x.expand(int(w * 10)), True),
        (lambda x, w: (x * 0).expand(int(w)), True),
        (lambda x, w: x * (1 if w.item() > -1e9 else 2), False),
        (lambda x, w: (x, w.item())[0], False),
        (lambda x, w: x * (int(w * w) // 100), False),
    ],
    ids=["whole number", "length", "sign", "another length", "length of zeros", "always true", "read for a log",
         "too small a change"],
)  # fmt: skip
def test_values_that_need_a_large_change(forward: Program2, depends: bool) -> None:
    trace = graphlens.trace(forward, leaf(2.0), leaf(2.0), diagnose=True)

    assert bool(trace.observation.dependence["w"]) == depends
    assert ("GL104" in {item.code for item in trace.findings}) != depends


def test_many_leaves_are_told_apart_in_few_runs() -> None:
    class Runs:
        count = 0

    runs = Runs()

    def forward(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        runs.count += 1
        numbers = [math.atan(item.item()) for item in given]
        return x * numbers[-1]

    trace = graphlens.trace(forward, leaf(1.0), *(leaf(0.1 * k) for k in range(40)), diagnose=True)
    found = trace.observation.dependence

    assert {name for name, entries in found.items() if entries} == {"given[39]"}
    assert {f"given[{k}]" for k in range(40)} == set(found)
    assert runs.count <= 1 + MOST_FURTHER_RUNS


def test_a_changed_value_may_be_refused() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        if w.item() != 2:
            raise ValueError("w must be 2")
        return x * 3

    trace = graphlens.trace(forward, leaf(1.0), leaf(2.0), diagnose=True)

    assert trace.observation.dependence == {}
    assert trace.connectivity.verdicts[1].verdict == "used, but receives no gradient"
    (finding,) = trace.findings
    assert (finding.code, finding.evidence["lost"]) == ("GL101", ["w"])
    assert "was not measured, because a run with other values failed" in finding.claim


# What is left behind


def test_further_backward_passes_leave_no_gradient_in_leaves_without_a_name() -> None:
    hidden = torch.tensor([1.5, 2.5], requires_grad=True)
    trace = graphlens.trace(
        lambda x: (x.round() * hidden.round()).sum(), torch.tensor([1.4, 2.0], requires_grad=True), diagnose=True
    )

    assert len(trace.observation.zeroing) == 2
    assert hidden.grad is None


def test_gradients_and_flags_are_left_alone() -> None:
    module = torch.nn.Linear(2, 1)
    module.weight.grad = torch.full((1, 2), 7.0)
    graphlens.trace(
        lambda x: module(x).detach().sum() + x.log().sum(), torch.zeros(2, requires_grad=True), diagnose=True
    )

    assert module.weight.grad.tolist() == [[7.0, 7.0]]
    assert module.bias.grad is None
    assert module.weight.requires_grad


# What was asked for, what was there before, and what made the infinity


def test_an_output_with_a_mask_is_no_fault_of_the_sum_over_it() -> None:
    mask = torch.tensor([False, True])
    x = torch.ones(2, requires_grad=True)
    trace = graphlens.trace(lambda x: x.masked_fill(mask, -math.inf), x, diagnose=True)

    assert trace.observation.forward_fault is not None
    assert trace.observation.forward_fault.what == "asked for"
    assert trace.findings == ()
    assert trace.gradients["x"] is not None
    assert trace.gradients["x"].tolist() == [1, 0]
    # A sum of the user's own is the loss that they see.
    mine = graphlens.trace(lambda x: x.masked_fill(mask, -math.inf).mean(), x, diagnose=True)
    assert [(item.code, item.level) for item in mine.findings] == [("GL107", "error")]
    assert ".mean() takes entries into its result that were infinite before" in mine.findings[0].claim
    # And infinity that nobody asked for is a fault, though graphlens takes the sum.
    made = graphlens.trace(lambda x: (x * 0).log(), x, diagnose=True)
    assert "none in its inputs, which are 0." in made.findings[0].claim


class Normed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(x)).sum()


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (lambda module, x: module.first.weight.data[0, 1:].fill_(math.nan),
         "the parameter first.weight holds NaN before the forward pass begins, in 2 of its 9 entries"),
        (lambda module, x: module.norm.running_var.fill_(math.nan),
         "the buffer norm.running_var holds NaN before the forward pass begins, in 3 of its 3 entries"),
        (lambda module, x: x.data[1, 1].fill_(math.inf),
         "the input x holds infinity before the forward pass begins, in 1 of its 6 entries"),
    ],
    ids=["parameter", "buffer", "input"],
)  # fmt: skip
def test_what_was_not_finite_before_the_first_call(spoil: Callable[..., Any], claim: str) -> None:
    torch.manual_seed(0)
    module, x = Normed().eval(), torch.randn(2, 3)
    spoil(module, x)
    (finding,) = graphlens.trace(module, x, diagnose=True).findings

    assert finding.claim == f"output is not finite: {claim}."


def test_a_buffer_that_nothing_reads_is_not_blamed() -> None:
    module, x = Normed().eval(), torch.randn(2, 3)
    module.register_buffer("spare", torch.tensor(math.nan))
    module.first.bias.data.fill_(1e30)
    module.norm.weight.data.fill_(1e30)
    (finding,) = graphlens.trace(module, x, diagnose=True).findings

    assert finding.claim.startswith("output is not finite: torch.nn.functional.batch_norm() is the first call with inf")


def test_the_call_that_made_the_infinity_that_became_nan() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        p = x.exp()
        q = p * 2
        return (q / q.sum()).sum()

    (finding,) = graphlens.trace(forward, torch.tensor([1.0, 1000.0], requires_grad=True), diagnose=True).findings
    assert finding.claim.startswith(
        "output is not finite: .exp() makes infinity from inputs without, which are from 1 to 1e+03; .div() at "
    )
    assert finding.where.text == "p = x.exp()"


# Which of several calls


def test_the_call_that_only_logs_is_told_from_the_one_that_matters() -> None:
    logged = []

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        logged.append(w.item())
        scale = math.sqrt(float(w.exp()))
        return x * scale

    trace = graphlens.trace(forward, leaf(1.0), leaf(2.0), diagnose=True)
    steps = trace.observation.flow.steps

    assert {steps[number].function: at_work for number, at_work in trace.observation.effects.items()} == {
        "Tensor.item": False, "Tensor.__float__": True,
    }  # fmt: skip
    assert [item.where.text for item in trace.findings] == ["scale = math.sqrt(float(w.exp()))"]
    assert logged == [2.0]


def test_leaves_of_one_way_are_changed_together() -> None:
    class Runs:
        count = 0

    def forward(x: torch.Tensor, one: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        Runs.count += 1
        together = torch.stack(given).exp().sum().item()
        return x * math.atan(together) * math.atan(one.item())

    trace = graphlens.trace(forward, leaf(1.0), leaf(0.5), *(leaf(0.01 * k) for k in range(40)), diagnose=True)
    names = [f"given[{k}]" for k in range(40)]

    assert trace.observation.together == [tuple(names)]
    assert set(trace.observation.dependence) == {"one", *names}
    assert Runs.count == 1 + 2 + 2 + 4  # a run; twice as it was; each way once; then each call once
    lost = [item.evidence["lost"] for item in trace.findings]
    assert sorted(lost, key=len) == [["one"], names]


class Runs:
    """Sums up numbers that were taken out of tensors, and counts how often."""

    def __init__(self, used: range, *, refuses: bool = False) -> None:
        self.count = 0
        self.used = used
        self.refuses = refuses

    def __call__(self, x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        self.count += 1
        numbers = [item.item() for item in given]
        if self.refuses and numbers != [0.1 * k for k in range(len(given))]:
            raise ValueError("these are not the numbers that it was given")
        return x * sum(math.atan(numbers[k]) for k in self.used)


def many_leaves(run: Runs) -> graphlens.capture.trace.Trace:
    return graphlens.trace(run, leaf(1.0), *(leaf(0.1 * k) for k in range(64)), diagnose=True)


@pytest.mark.parametrize("used", [range(64), range(40, 43), range(63, 64)])
def test_leaves_that_could_not_be_told_apart_are_told_together(used: range) -> None:
    trace = many_leaves(run := Runs(used))

    assert run.count <= 1 + MOST_FURTHER_RUNS
    assert trace.observation.untried == ""
    assert set(trace.observation.dependence) == {f"given[{k}]" for k in range(64)}
    # What a set changes is what its members change, and some member is in use.
    sets = [{int(name.removeprefix("given[")[:-1]) for name in names} for names in trace.observation.together]
    assert all(numbers.intersection(used) for numbers in sets)
    alone = {k for k in range(64) if trace.observation.dependence[f"given[{k}]"]}.difference(*sets)
    assert alone <= set(used) <= alone.union(*sets)
    assert len(set().union(*sets)) == sum(map(len, sets))
    named = [name for item in trace.findings for name in item.evidence.get("lost", [])]  # type: ignore[attr-defined]
    assert {f"given[{k}]" for k in used} <= set(named)


def test_the_number_of_runs_has_a_limit_and_what_was_not_tried_is_said() -> None:
    trace = many_leaves(run := Runs(range(64), refuses=True))

    assert run.count <= 1 + MOST_FURTHER_RUNS
    assert "were not enough to try all leaves" in trace.observation.untried
    named = [name for item in trace.findings for name in item.evidence["lost"]]  # type: ignore[attr-defined]
    assert sorted(named) == sorted(f"given[{k}]" for k in range(64))
    assert {item.level for item in trace.findings} == {"error"}


# What is the same for every input


@pytest.mark.parametrize(
    ("call", "constant"),
    [
        (lambda x: x.softmax(1), False),
        (lambda x: x.softmax(-1), False),
        (lambda x: x[:, :1].softmax(1), True),
        (lambda x: x[:, :1].softmax(-1), True),
        (lambda x: x[:, :1].softmax(0), False),
        (lambda x: x[:, :1].log_softmax(-1), True),
        (lambda x: x[:1].log_softmax(-2), True),
        (lambda x: x[0, 0].softmax(0), True),
        (lambda x: torch.nn.functional.layer_norm(x, (3,)), False),
        (lambda x: torch.nn.functional.layer_norm(x[:, :1], (1,)), True),
        (lambda x: x.exp(), False),
    ],
)
def test_ops_whose_result_is_the_same_for_every_input(
    call: Callable[[torch.Tensor], torch.Tensor], constant: bool
) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    made = call(x)

    assert len(diagnose.constant_nodes([made.sum()])) == constant
    # The oracle: other numbers give the same.
    same = torch.allclose(call(torch.randn(2, 3) * 5 + 2), made)
    assert same == constant


def test_attention_to_a_sequence_of_one_is_a_warning() -> None:
    def attention(x: torch.Tensor, query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        weights = ((x @ query) @ x.transpose(-1, -2)).softmax(-1)
        return weights @ (x @ value)

    square = [torch.randn(3, 3, requires_grad=True) for _ in range(2)]
    trace = graphlens.trace(attention, torch.randn(2, 1, 3), *square, diagnose=True)

    (finding,) = trace.findings
    assert (finding.code, finding.level, finding.evidence["leaves"]) == ("GL105", "warning", ["query"])
    assert finding.fix.startswith("nothing, if other inputs have more entries there; else use sigmoid")
    assert graphlens.trace(attention, torch.randn(2, 4, 3), *square, diagnose=True).findings == ()


def test_a_gradient_without_a_graph_does_not_depend_on_a_bias() -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(1, 6), torch.nn.Linear(6, 1)
            self.rate = torch.nn.Parameter(torch.ones(()))

        def forward(self, time: torch.Tensor) -> torch.Tensor:
            time = time.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.outer(torch.tanh(self.inner(time))).sum(), time)
            return (slope * self.rate - 1).square().mean()

    torch.manual_seed(0)
    found = {item.code: item for item in graphlens.trace(Residual(), torch.randn(5, 1), diagnose=True).findings}

    assert found["GL101"].evidence["lost"] == ["inner.weight", "inner.bias", "outer.weight"]
    assert (found["GL104"].evidence["leaves"], found["GL104"].level) == (["outer.bias"], "warning")

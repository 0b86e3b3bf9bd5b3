"""Every finding and every verdict from hand-built observations, worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from graphlens.analyses.catalogue import PAGES, matches
from graphlens.analyses.connectivity import VERDICTS, Connectivity, connectivity, fits
from graphlens.analyses.findings import LEVELS, Finding, Place, listed, most_serious_first, receive
from graphlens.flow import DIFFERENTIABLE, LEAF, PYTHON, REQUIRES_GRAD, UNSEEN, Flow, Step
from graphlens.graph import Edge, GradGraph, Input, ModuleCall, Node, Output, Source
from graphlens.observation import Clobbered, EndFact, LeafFact, NonFinite, Observation, Range, Spoilt

GRAD = REQUIRES_GRAD | DIFFERENTIABLE
PLAIN = DIFFERENTIABLE
WHOLE = 0  # integer or boolean
MADE_LEAF = GRAD | LEAF


class Run:
    """A hand-built run of a module Net: its leaves, and its calls, which stand in net.py."""

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.steps: list[Step] = []
        self.lines: dict[int, str] = {}  # and the text of each
        self.leaves: list[LeafFact] = []

    def leaf(
        self,
        name: str,
        gradient: str = "value",
        role: str = "parameter",
        *,
        shape: tuple[int, ...] = (2,),
        wants: bool = True,
        differentiable: bool = True,
        met: bool = True,
        sample: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> int:
        """An input or parameter; `met` says whether it was numbered."""
        value = self._value((GRAD | LEAF if wants else PLAIN) | UNSEEN) if met else None
        self.leaves.append(LeafFact(name, role, shape, wants, differentiable, gradient, value, tuple(sample)))
        return -1 if value is None else value

    def call(
        self,
        function: str,
        *inputs: int,
        made: int | Sequence[int] = GRAD,
        line: int | None = None,
        text: str = "",
        grad: bool = True,
        written: tuple[int, ...] = (),
        thread: int = 0,
    ) -> int:
        """A call, at the line of its own number unless told. Its results have the flags `made`; returns the first."""
        line = len(self.steps) + 1 if line is None else line
        self.lines.setdefault(line, text)
        outputs = tuple(map(self._value, [made] if isinstance(made, int) else made))
        source = list(self.lines).index(line)
        self.steps.append(Step(function, source, 0, inputs, outputs, 0, 0, 0, grad, thread, written))
        return outputs[0] if outputs else -1

    def _value(self, flags: int) -> int:
        self.flags.append(flags)
        return len(self.flags) - 1

    def seen(
        self, *ends: int, graph: GradGraph | None = None, finite: bool | None = True, **facts: Any
    ) -> Connectivity:
        """What is said of the run, if `ends` are what is differentiated."""
        names = ["loss"] if len(ends) == 1 else [f"loss[{k}]" for k in range(len(ends))]
        sources = [Source("net.py", line, "forward", text) for line, text in self.lines.items()]
        leaves = {leaf.name: leaf.value for leaf in self.leaves if leaf.value is not None}
        calls = [ModuleCall("", "Net", 1)]
        flow = Flow(tuple(self.steps), bytes(self.flags), leaves, dict(zip(names, ends, strict=True)), sources, calls)
        told = [
            EndFact(name, bool(self.flags[end] & REQUIRES_GRAD), True, finite, end)
            for name, end in zip(names, ends, strict=True)
        ]
        return connectivity(Observation(graph, flow, self.leaves, told, told, **facts))

    def graph(self, *ops: tuple[str, Sequence[str | int]], ends: Sequence[int] = (), ledger: str = "read") -> GradGraph:
        """A backward graph: each op with the leaves (names) and earlier ops (numbers) that it leads to.

        Op number k was made at the line of call number k.
        """
        names = [leaf.name for leaf in self.leaves if any(leaf.name in targets for _, targets in ops)]
        first = len(names)
        nodes = [Node("AccumulateGrad", "leaf", None, name, (2,), "float32", "cpu") for name in names]
        edges = []
        for number, (op, targets) in enumerate(ops):
            source = self.steps[number].source if number < len(self.steps) else None
            nodes.append(Node(op, "function", number, "", (2,), "float32", "cpu", 1, ledger, source, 0))
            goals = [names.index(item) if isinstance(item, str) else first + item for item in targets]
            edges += [Edge(first + number, goal, (slot,), (0,)) for slot, goal in enumerate(goals)]
        inputs = [
            Input(leaf.name, leaf.role, leaf.shape, "float32", leaf.requires_grad,
                  names.index(leaf.name) if leaf.name in names else None)
            for leaf in self.leaves
        ]  # fmt: skip
        outputs = [
            Output(f"output[{place}]", first + number, 0, (2,), "float32")
            for place, number in enumerate(ends or [len(ops) - 1])
        ]
        sources = [Source("net.py", line, "forward", text) for line, text in self.lines.items()]
        return GradGraph(nodes, sorted(edges), (), inputs, outputs, {}, sources, [ModuleCall("", "Net", 1)]).check()


def node(graph: GradGraph, op: str) -> int:
    (number,) = (number for number, item in enumerate(graph.nodes) if item.op == op)
    return number


def verdicts(found: Connectivity) -> dict[str, str]:
    return {item.name: item.verdict for item in found.verdicts}


def only(found: Connectivity, code: str) -> Finding:
    (finding,) = (item for item in found.findings if item.code == code)
    return finding


def codes(found: Connectivity) -> list[str]:
    return [item.code for item in found.findings]


def line(number: int) -> str:
    return f"net.py:{number} (forward)"


# Verdicts

RECEIVES, FROZEN, UNUSED, DEAD, LEAVES, ZERO, NONFINITE, NONE, ZERO_NOW, UNKNOWN, IGNORED = VERDICTS


def everything(*, diagnosed: bool = True) -> Connectivity:
    run = Run()
    plain = [run.leaf("good"), run.leaf("still", wants=False), run.leaf("whole", differentiable=False)]
    lost = {name: run.leaf(name, "none") for name in ("cut", "dead", "told", "untried", "stuck")}
    flat, nan = run.leaf("flat", "zero"), run.leaf("nan", "nonfinite")
    plain.append(run.leaf("now", "zero"))
    run.leaf("unused", "none", met=False)
    run.leaf("named", "none")
    run.leaf("late", "not run")
    kept = run.call("Odd.apply", lost["stuck"])
    rounded = run.call("torch.round", flat)
    cut = run.call("Tensor.detach", lost["cut"], made=PLAIN)
    end = run.call("torch.cat", kept, rounded, cut, *plain, nan)
    for name in ("dead", "told", "untried"):
        run.call("torch.exp", lost[name])
    ends = ("CatBackward0", ["good", "nan", "now", 0, 1])
    graph = run.graph(("OddBackward", ["stuck"]), ("RoundBackward0", ["flat"]), ends)
    if not diagnosed:
        return run.seen(end, graph=graph)
    stopped = {"stuck": (node(graph, "OddBackward"),)}
    dependence = {"dead": {}, "told": {"loss": [0]}, "unused": {}, "named": {}}
    return run.seen(end, graph=graph, diagnosed=True, stopped=stopped, dependence=dependence)


def test_every_verdict() -> None:
    assert verdicts(everything()) == {
        "good": RECEIVES,
        "still": FROZEN,
        "whole": FROZEN,
        "cut": LEAVES,
        "dead": DEAD,
        "told": LEAVES,
        "untried": NONE,
        "stuck": LEAVES,
        "flat": ZERO,
        "nan": NONFINITE,
        "unused": UNUSED,
        "named": UNUSED,
        "late": UNKNOWN,
        "now": ZERO_NOW,
    }
    assert set(verdicts(everything()).values()) == set(VERDICTS) - {IGNORED}
    assert {item.role for item in everything().verdicts} == {"parameter"}


def test_without_a_diagnosis_nothing_is_said_that_only_further_runs_could_tell() -> None:
    found = everything(diagnosed=False)

    assert {name: what for name, what in verdicts(found).items() if what != verdicts(everything())[name]} == {
        "dead": UNKNOWN,
        "told": UNKNOWN,
        "stuck": UNKNOWN,
        "untried": UNKNOWN,
    }
    assert codes(found) == ["GL101", "GL105", "GL107", "GL104"]
    assert only(found, "GL101").evidence["lost"] == ["cut"]
    assert only(found, "GL104").evidence["leaves"] == ["unused", "named"]
    assert only(found, "GL107").claim == "The gradient of nan is not finite."
    assert only(found, "GL107").where == Place()


def test_findings_come_in_the_order_of_their_levels_and_codes() -> None:
    found = everything()

    assert codes(found) == ["GL101"] * 4 + ["GL105", "GL107", "GL104", "GL104"]
    assert [item.level for item in found.findings] == ["error"] * 6 + ["warning"] * 2
    assert found.has_errors
    some = [Finding("GL107", "info", "a"), Finding("GL101", "warning", "b"), Finding("GL106", "error", "c"),
            Finding("GL101", "info", "d"), Finding("GL101", "warning", "e")]  # fmt: skip
    assert [item.claim for item in most_serious_first(some)] == ["c", "b", "e", "d", "a"]
    assert not Connectivity((), tuple(some[:2])).has_errors


def test_a_run_without_leaves_and_findings() -> None:
    ends = [EndFact("loss", True, True, True, None)]
    found = connectivity(Observation(Run().graph(("ExpBackward0", ())), Flow((), b""), (), ends, ()))

    assert found == Connectivity((), ())


# GL101: cuts


def cut_by(function: str, made: int = PLAIN, *, grad: bool = True, text: str = "") -> Finding:
    """w goes through `function` at line 2, between two innocent calls."""
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x", role="input")
    product = run.call("torch.mul", w, x)
    # new_tensor() asks the first for its dtype.
    given = (x, product) if function == "Tensor.new_tensor" else (product,)
    cut = run.call(function, *given, made=made, grad=grad, text=text)
    end = run.call("torch.add", cut, x)
    return only(run.seen(end, graph=run.graph(("AddBackward0", ["x"])), diagnosed=True), "GL101")


@pytest.mark.parametrize(
    ("function", "made", "words", "fix"),
    [
        ("torch.tensor", PLAIN, "torch.tensor() copies the values into a new tensor", "torch.stack([...])"),
        ("torch.asarray", PLAIN, "torch.asarray() copies the values", "torch.stack"),
        ("Tensor.new_tensor", PLAIN, ".new_tensor() copies the values", "use the tensor itself"),
        ("torch.nn.Parameter", GRAD | LEAF, "torch.nn.Parameter() makes a new parameter", "into the module's constr"),
        ("Tensor.detach", PLAIN, ".detach() cuts its result from the graph", "leave out .detach()"),
        ("Tensor.data", PLAIN, ".data cuts its result", "instead of its .data"),
        ("Tensor.requires_grad_", PLAIN, ".requires_grad_() switches gradients off", "leave out requires_grad_(False)"),
        ("Tensor.item", PYTHON, ".item() hands the value to Python", "for logging only"),
        ("Tensor.tolist", PYTHON, ".tolist() hands the value to Python", "for logging only"),
        ("Tensor.numpy", PYTHON, ".numpy() hands the value to Python", "for logging only"),
        ("Tensor.__float__", PYTHON, "float() hands the value to Python", "leave out float()"),
        ("my.own.reader", PYTHON, "my.own.reader() hands the value to Python", "for logging only"),
        ("Tensor.__deepcopy__", PLAIN, "copy.deepcopy() copies", "use .clone()"),
        ("torch.nn.Parameter.__deepcopy__", PLAIN, "copy.deepcopy() copies", "call the module itself"),
        ("Tensor.long", WHOLE, ".long() to an integer or boolean dtype has a result that can carry", "floating-point"),
        ("Tensor.to", WHOLE, ".to() to an integer or boolean dtype", "keep a floating-point dtype"),
        ("Tensor.__gt__", WHOLE, "the comparison .__gt__() has a boolean result", "sigmoid((a - b) / temperature)"),
        ("torch.eq", WHOLE, "the comparison torch.eq() has a boolean result", "sigmoid"),
        ("Tensor.argmax", WHOLE, ".argmax() has an integer or boolean result", "softmax for argmax"),
        ("Own.apply", PLAIN, "Own.apply returns a result that it marked as not differentiable", "ctx.mark_non"),
        ("torch.heaviside", PLAIN, "torch.heaviside() has no derivative: its result starts", "differentiable op"),
    ],
)
def test_each_mechanism_is_called_by_its_name(function: str, made: int, words: str, fix: str) -> None:
    finding = cut_by(function, made, text="y = f(h)")

    assert finding.level == "error"
    assert finding.claim.startswith(f"w receives no gradient: {words}")
    assert finding.claim.endswith(".")
    assert fix in finding.fix
    assert finding.where == Place(line(2), "y = f(h)", "(Net)")
    evidence: dict[str, object] = {
        "lost": ["w"], "still_connected_by_other_paths": ["x"], "calls": 1, "function": function,
    }  # fmt: skip
    if made == PYTHON:
        evidence["comes_back_at"] = [f"torch.add() at {line(3)}"]
    if made == WHOLE:
        evidence["derivative_is_0"] = True
    assert finding.evidence == evidence


def test_a_block_without_gradients_and_where_it_was_opened() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("torch.no_grad", made=(), line=10)
    run.call("torch.no_grad", made=(), line=11)
    run.call("torch.no_grad", made=(), line=12, thread=1)
    y = run.call("torch.exp", w, made=PLAIN, grad=False, line=20)
    run.call("torch.no_grad", made=(), line=30)
    end = run.call("torch.mul", y, x, line=31)
    found = only(run.seen(end, graph=run.graph(("MulBackward0", ["x"]))), "GL101")

    assert found.claim == (
        f"w receives no gradient: a block without gradients (opened at {line(11)}) computes its results without "
        "recording them."
    )
    assert (found.where.source, found.evidence["block"]) == (line(20), line(11))
    assert found.fix == "move this line out of the block"
    # Where the opening was not seen, as that of a whole function, it is not made up.
    plain = cut_by("torch.exp", grad=False)
    assert plain.claim.startswith("w receives no gradient: a block without gradients computes")
    assert "block" not in plain.evidence


def test_another_cut_inside_a_block_is_told_with_the_block() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("torch.no_grad", made=(), line=10)
    y = run.call("Tensor.data", w, made=PLAIN, grad=False, line=20)
    run.call("torch.enable_grad", made=(), line=30)
    end = run.call("torch.mul", y, x, line=31)
    found = only(run.seen(end, graph=run.graph(("MulBackward0", ["x"]))), "GL101")

    assert found.claim == "w receives no gradient: .data cuts its result from the graph."
    assert found.fix == (
        "use the tensor itself instead of its .data; and move this line out of the block without gradients (opened "
        f"at {line(10)})"
    )


@pytest.mark.parametrize(("opened", "words"), [(20, "sample() of a distribution draws"), (19, "a block")])
def test_a_distribution_is_sampled(opened: int, words: str) -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("torch.distributions.Distribution.sample", made=(), line=opened)
    y = run.call("torch.normal", w, made=PLAIN, grad=False, line=20)
    run.call("torch.enable_grad", made=(), line=20)
    end = run.call("torch.mul", y, x, line=31)
    found = only(run.seen(end, graph=run.graph(("MulBackward0", ["x"]))), "GL101")

    assert found.claim.startswith(f"w receives no gradient: {words}")
    assert ("rsample()" in found.fix) == (opened == 20)


def test_what_goes_on_to_another_cut_alone_is_right() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    drawn = run.call("torch.multinomial", w, made=WHOLE)
    score = run.call("torch.gather", w, drawn)
    number = run.call("Tensor.item", score, made=PYTHON)
    again = run.call("torch.tensor", number, made=PLAIN)
    found = run.seen(run.call("torch.mul", again, x), graph=run.graph(("MulBackward0", ["x"])))

    assert only(found, "GL101").where.source == line(3)


def test_of_two_ways_each_cut_is_told() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    one = run.call("Tensor.detach", w, made=PLAIN)
    two = run.call("torch.round", run.call("Tensor.data", w, made=PLAIN), made=PLAIN)
    end = run.call("torch.mul", run.call("torch.add", one, two, made=PLAIN), x)
    found = run.seen(end, graph=run.graph(("MulBackward0", ["x"])))

    assert [finding.where.source for finding in found.findings] == [line(1), line(2)]


def test_a_cut_that_no_leaf_is_lost_by_is_not_mentioned() -> None:
    run = Run()
    w = run.leaf("w")
    end = run.call("torch.mul", w, run.call("Tensor.detach", w, made=PLAIN))

    assert run.seen(end, graph=run.graph(("MulBackward0", ["w"]))).findings == ()


def test_cuts_are_told_by_line_and_by_function() -> None:
    run = Run()
    w, v, x = run.leaf("w", "none"), run.leaf("v", "none"), run.leaf("x")
    parts = [run.call("Tensor.detach", w, made=PLAIN, line=5) for _ in range(1200)]
    parts.append(run.call("Tensor.detach", v, made=PLAIN, line=6))
    parts.append(run.call("torch.round", run.call("Tensor.item", v, made=PYTHON, line=5), made=PLAIN, line=7))
    end = run.call("torch.cat", *parts, x, line=8)
    found = [item for item in run.seen(end, graph=run.graph(("CatBackward0", ["x"]))).findings if item.code == "GL101"]

    assert [(item.where.source, item.evidence["function"], item.evidence["calls"]) for item in found] == [
        (line(5), "Tensor.detach", 1200),
        (line(6), "Tensor.detach", 1),
        (line(5), "Tensor.item", 1),
    ]
    assert [item.evidence["lost"] for item in found] == [["w"], ["v"], ["v"]]
    assert ".detach() (called 1,200 times) cuts its result" in found[0].claim
    assert found[2].evidence["comes_back_at"] == [f"torch.round() at {line(7)}"]


def through_python(**facts: Any) -> Connectivity:
    """w.item() at line 1; at line 3 a tensor is made of what Python made of it."""
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("Tensor.item", w, made=PYTHON)
    run.call("Tensor.__bool__", w, made=())
    back = run.call("torch.tensor", made=PLAIN)
    end = run.call("torch.mul", back, x)
    run.call("torch.tensor", made=PLAIN)  # reaches nothing
    return run.seen(end, graph=run.graph(("MulBackward0", ["x"])), **facts)


def test_a_whole_number_is_named_by_the_call_that_made_it() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    corner = run.call("Tensor.int", w, made=WHOLE)
    run.call("Tensor.tolist", corner, made=PYTHON)
    run.call("torch.argmax", w, made=WHOLE)  # which Python does not read
    part = run.call("Tensor.__getitem__", x)
    found = run.seen(part, graph=run.graph(("SliceBackward0", ["x"])), diagnosed=True, dependence={"w": {"loss": [0]}})

    assert only(found, "GL101").where.source == line(1)


def test_an_average_that_is_moved_in_the_pass_and_used_elsewhere_is_information() -> None:
    run = Run()
    w, mean, x = run.leaf("w"), run.leaf("mean", "none"), run.leaf("x", role="input")
    run.call("Tensor.lerp_", mean, w, made=GRAD | LEAF, grad=False, written=(mean,))
    end = run.call("torch.mul", w, x)
    found = run.seen(end, graph=run.graph(("MulBackward0", ["w"])), diagnosed=True, dependence={"mean": {}})

    assert [finding.level for finding in found.findings] == ["info"]
    assert only(found, "GL104").claim == (
        "The parameter mean is written over with values of trained ones, and nothing that was computed from it "
        "reaches what is differentiated."
    )
    assert only(found, "GL104").fix.startswith("nothing, if it is an average or a copy that is used elsewhere; else")


def test_what_went_through_python_is_told_where_runs_prove_it() -> None:
    found = through_python(diagnosed=True, dependence={"w": {"loss": [0, 1]}})
    cut = only(found, "GL101")

    assert cut.claim == "w receives no gradient: .item() hands the value to Python, which keeps no history."
    assert cut.where.source == line(1)
    assert cut.evidence["comes_back_at"] == [f"torch.tensor() at {line(3)}"]
    assert cut.evidence["outputs_that_change_with_it"] == {"w": {"loss": [0, 1]}}
    assert verdicts(found)["w"] == LEAVES
    assert codes(found) == ["GL101", "GL103"]


def test_what_went_through_python_to_no_effect_is_unused() -> None:
    found = through_python(diagnosed=True, dependence={"w": {}})

    assert codes(found) == ["GL104", "GL103"]
    assert only(found, "GL104").claim == (
        "The parameter w is used, but nothing that was computed from it reaches what is differentiated."
    )
    assert only(found, "GL104").where.source == line(1)
    assert verdicts(found)["w"] == DEAD


def test_what_went_through_python_and_was_not_tried_is_told_as_that() -> None:
    found = through_python(diagnosed=True, untried="two runs differ")

    assert codes(found) == ["GL101", "GL103"]
    assert only(found, "GL101").claim == (
        "w receives no gradient: .item() hands the value to Python, which keeps no history; whether the output "
        "depends on the value was not measured, because two runs differ."
    )
    assert (only(found, "GL101").level, only(found, "GL101").where.source) == ("error", line(1))
    assert verdicts(found)["w"] == NONE


def test_what_went_through_python_is_not_judged_without_a_diagnosis() -> None:
    found = through_python(diagnosed=False)

    assert codes(found) == ["GL103"]
    assert verdicts(found)["w"] == UNKNOWN


def test_without_any_output_what_was_handed_to_python_is_the_cut() -> None:
    run = Run()
    w = run.leaf("w", "none")
    run.call("Tensor.item", w, made=PYTHON)
    found = run.seen(diagnosed=True)

    assert codes(found) == ["GL101", "GL106"]
    assert found.findings[1].claim == (
        "The forward pass returns no tensor, nor a tuple, list, dictionary or dataclass with one: there is nothing to "
        "differentiate."
    )
    assert found.findings[1].where.source == line(1)


def test_a_write_without_gradients_cuts_what_is_written() -> None:
    run = Run()
    w, x = run.leaf("w"), run.leaf("x", "none")
    y = run.call("torch.exp", w)
    end = run.call("Tensor.copy_", y, x, made=GRAD, grad=False, written=(y,))
    found = only(run.seen(end, graph=run.graph(("ExpBackward0", ["w"]))), "GL101")

    assert (found.evidence["lost"], found.where.source) == (["x"], line(2))
    assert "a block without gradients" in found.claim


def test_stopping_nodes_are_told_by_leaf_and_node() -> None:
    run = Run()
    v, w, x = run.leaf("v", "none"), run.leaf("w", "none"), run.leaf("x", "none")
    end = run.call("torch.add", run.call("One.apply", v, w), run.call("Two.apply", x))
    graph = run.graph(("OneBackward", ["v", "w"]), ("TwoBackward", ["x"]), ("AddBackward0", [0, 1]))
    one, two = node(graph, "OneBackward"), node(graph, "TwoBackward")
    found = run.seen(end, graph=graph, diagnosed=True, stopped={"v": (one,), "w": (one,), "x": (two,)}).findings

    assert [(item.code, item.level, item.claim, item.where) for item in found] == [
        (
            "GL101", "error", "v and w receive no gradient: OneBackward receives one and passes None on.",
            Place(line(1), "", "(Net)", (one,)),
        ),
        (
            "GL101", "error", "x receives no gradient: TwoBackward receives one and passes None on.",
            Place(line(2), "", "(Net)", (two,)),
        ),
    ]  # fmt: skip
    (finding,) = run.seen(end, graph=graph, diagnosed=True, stopped={"v": ()}).findings
    assert (finding.code, finding.level, finding.evidence["lost"]) == ("GL101", "error", ["v", "w", "x"])
    assert "though the backward graph leads to them" in finding.claim
    assert run.seen(end, graph=graph, stopped={"v": ()}).findings == ()


# GL101: twins


def followed(
    follower: str = "target", leader: str = "online", *, cut: str = "Tensor.detach", shape: tuple[int, ...] = (3, 2),
    fed: str = "value", more: Sequence[str] = (), sample: Sequence[float] = (0.5, -1.0, 0.25),
) -> Finding:  # fmt: skip
    """The leader's weight reads 0.5, -1 and 0.25; both biases are 0."""
    run = Run()
    lost = [
        run.leaf(f"{follower}.weight", "none", shape=shape, sample=sample),
        run.leaf(f"{follower}.bias", "none", shape=(3,)),
        *(run.leaf(name, "none") for name in more),
    ]
    kept = [
        run.leaf(f"{leader}.weight", fed, shape=(3, 2), sample=(0.5, -1.0, 0.25)),
        run.leaf(f"{leader}.bias", shape=(3,)),
    ]
    value = run.call(cut, run.call("torch.cat", *lost), made=PLAIN)
    end = run.call("torch.sub", run.call("torch.cat", *kept), value)
    graph = run.graph(("SubBackward0", [f"{leader}.weight", f"{leader}.bias"]))
    return next(item for item in run.seen(end, graph=graph).findings if item.code == "GL101")


def test_a_network_that_follows_another_is_information() -> None:
    finding = followed()

    assert finding.level == "info"
    assert finding.evidence["follows"] == {"target": "online"}
    assert finding.fix == (
        "nothing, if target is meant to follow online, whose parameters have the same shapes "
        "(target.requires_grad_(False), or --ignore-leaf 'target.*', says so); else leave out .detach()"
    )


@pytest.mark.parametrize(
    ("sample", "level"),
    [
        ((0.5, -1.0, 0.25), "info"),
        ((0.6, -0.8, 0.2), "info"),  # 0.0525 / (1.3125 + 1.04) = 0.02: an average on the way
        ((0.5, 1.0, 0.25), "warning"),  # 4 / 2.625
        ((-0.1, 0.3, 0.9), "warning"),
        ((), "warning"),  # not to be read
        ((0.0, 0.0, 0.0), "warning"),  # the same number throughout tells nothing
    ],
)
def test_a_name_alone_does_not_make_a_follower(sample: tuple[float, ...], level: str) -> None:
    finding = followed(sample=sample)

    assert (finding.level, finding.evidence["follows"]) == (level, {"target": "online"})
    assert ("but other values" in finding.fix) == (level == "warning")


@pytest.mark.parametrize(("follower", "leader"), [("ema.module", "net"), ("net_swa._orig_mod", "net.module"),
                                                  ("ref_model", "policy"), ("avg", "net")])  # fmt: skip
def test_wrappers_put_their_word_into_names(follower: str, leader: str) -> None:
    assert followed(follower, leader).level == "info"
    unlike = followed(follower, leader, sample=(0.1, 0.3, 0.9))
    # An average may have gone far from what it averages; "ref" and "avg" may mean something else.
    assert unlike.level == ("info" if re.search("ema|swa", follower) else "warning")


def test_what_is_to_be_ignored_has_the_name_that_the_model_gives_it() -> None:
    for follower in ("module.target", "ema.module", "net._orig_mod.target"):
        finding = followed(follower, "online")
        (pattern,) = re.findall("--ignore-leaf '(.*?)'", finding.fix)
        assert all(fits(name, pattern) for name in (f"{follower}.weight", f"{follower}.bias"))


def test_a_teacher_of_another_size_stands_still() -> None:
    finding = followed("teacher", shape=(9, 9), sample=(0.3, 9.0, 1.0))

    assert (finding.level, "follows" in finding.evidence) == ("info", False)
    assert finding.fix.startswith("nothing, if teacher is meant to stand still (teacher.requires_grad_(False), or")
    assert followed("teacher", more=["scale"]).level == "error"


@pytest.mark.parametrize(
    "name",
    ["target", "q_target", "target_net", "targetNet", "Target2", "teacher", "model_ema", "emaModel", "ema", "moving",
     "old_policy", "policy_old", "policyOld", "slow_critic", "momentum_encoder", "averaged", "actor.target",
     "frozen_copy", "OLD"],
)  # fmt: skip
def test_names_of_followers(name: str) -> None:
    assert followed(name).level == "info"


def test_the_part_of_a_follower_is_held_against_the_same_part_of_its_leader() -> None:
    assert followed("target.body.0", "online.body.0").evidence["follows"] == {"target": "online"}
    assert followed("target.body.0", "online.body.1").level == "error"


@pytest.mark.parametrize("name", ["threshold", "folder", "schema", "semantic", "removing", "slower", "encoder", "gold"])
def test_names_that_only_look_like_those_of_followers(name: str) -> None:
    assert followed(name, sample=(0.1, 0.3, 0.9)).level == "error"


@pytest.mark.parametrize(
    ("copy", "leader", "level"),
    [
        ("encoder", "decoder", "info"),
        ("net.k", "net.q", "info"),
        ("layers.1", "layers.0", "error"),  # layers of a stack begin as copies
        ("layers.1.body", "layers.0.body", "error"),
        ("layers.1.left", "layers.0.right", "info"),
    ],
)
def test_a_copy_may_have_any_name(copy: str, leader: str, level: str) -> None:
    finding = followed(copy, leader)

    assert (finding.level, finding.evidence.get("follows")) == (level, {copy: leader} if level == "info" else None)
    assert followed(copy, leader, sample=(0.1, 0.3, 0.9)).level == "error"
    assert followed(copy, leader, cut="torch.tensor").level == "error"


@pytest.mark.parametrize(
    "changes",
    [
        {"cut": "torch.tensor"},  # by accident
        {"shape": (4, 2)},  # of other shapes
        {"fed": "none"},  # the leader is lost as well
        {"more": ["scale"]},  # something else is lost with it
    ],
    ids=str,
)
def test_what_is_no_follower(changes: dict[str, Any]) -> None:
    finding = followed(**changes)

    assert finding.level == "error"
    assert "follows" not in finding.evidence


# GL102


def made_inside(*, is_forward: bool = True, times: int = 1) -> Connectivity:
    run = Run()
    x = run.leaf("x")
    fresh = [run.call("torch.zeros_like", x, made=MADE_LEAF, line=4, text="z = zeros_like(x)") for _ in range(times)]
    end = run.call("torch.cat", x, *fresh, line=5)
    return run.seen(end, graph=run.graph(("CatBackward0", ["x"])), is_forward=is_forward)


def test_leaves_made_inside_forward() -> None:
    finding = only(made_inside(times=3), "GL102")

    assert (finding.level, finding.where.source, finding.where.text) == ("warning", line(4), "z = zeros_like(x)")
    assert finding.claim == (
        "torch.zeros_like() makes a new leaf that requires a gradient 3 times inside the forward pass: its gradient "
        "goes nowhere, as nobody holds the leaf."
    )
    assert finding.evidence == {"leaves": 3, "function": "torch.zeros_like"}
    assert "requires a gradient inside the forward" in only(made_inside(), "GL102").claim


def test_a_program_that_makes_its_own_leaves_does_so_by_right() -> None:
    assert "GL102" not in codes(made_inside(is_forward=False, times=2))


def test_leaves_that_a_whole_program_made_and_lost() -> None:
    run = Run()
    one, two, three = (run.call("torch.ones", made=MADE_LEAF, line=1) for _ in range(3))
    run.leaves.append(LeafFact("leaf[0]", "input", (2,), True, True, "value", three))
    cut = run.call("torch.tensor", one, made=PLAIN, line=2)
    other = run.call("Tensor.detach", two, made=PLAIN, line=3)
    end = run.call("torch.cat", cut, other, three, line=4)
    found = run.seen(end, graph=run.graph(("CatBackward0", ["leaf[0]"])), is_forward=False)

    assert [(item.code, item.where.source, item.evidence["lost"]) for item in found.findings] == [
        ("GL101", line(2), [f"leaf made at {line(1)}"]),
        ("GL101", line(3), [f"leaf made at {line(1)} (number 2)"]),
    ]


@pytest.mark.parametrize("how", ["written over", "its grad", "data", "penalty", "penalty by a flag"])
def test_leaves_that_are_made_by_right(how: str) -> None:
    run = Run()
    x = run.leaf("x")
    end = x
    if how == "written over":
        end = run.call("Tensor.mul_", x, made=MADE_LEAF, written=(x,))
    elif how == "its grad":
        run.call("Tensor.grad", x, made=MADE_LEAF)
    elif how == "data":
        run.call("Tensor.data =", x, made=MADE_LEAF)
    elif how == "penalty":
        point = run.call("torch.lerp", made=MADE_LEAF)
        run.call("torch.autograd.grad", run.call("torch.mul", point, x), point)
    else:
        plain = run.call("Tensor.detach", x, made=PLAIN)
        point = run.call("Tensor.requires_grad_", plain, made=MADE_LEAF, written=(plain,))
        run.call("torch.autograd.grad", run.call("torch.mul", point, x), point)
    end = run.call("torch.exp", end)

    assert codes(run.seen(end, graph=run.graph(("ExpBackward0", ["x"])))) == []


# GL103


def test_decisions_are_counted_by_line() -> None:
    run = Run()
    w, x, c = run.leaf("w"), run.leaf("x"), run.leaf("c", wants=False)
    both = run.call("torch.mul", w, x, line=1)
    for _ in range(2):
        test = run.call("Tensor.__gt__", both, made=WHOLE, line=2, text="if w * x > 0:")
        run.call("Tensor.__bool__", test, made=(), line=2)
    run.call("Tensor.__bool__", run.call("Tensor.__lt__", x, made=WHOLE, line=3), made=(), line=3)
    run.call("Tensor.__bool__", c, made=(), line=4)  # no gradient is wanted for it
    run.call("Tensor.__bool__", x, made=(), line=5, text="assert x")
    run.call("Tensor.__bool__", x, made=(), line=6, text="assert(x)")
    run.call("Tensor.__bool__", x, made=(), line=7, text="asserted = bool(x)")
    found = run.seen(both, graph=run.graph(("MulBackward0", ["w", "x"]))).findings

    assert [(item.code, item.level, item.where.source) for item in found] == [
        ("GL103", "info", line(2)),
        ("GL103", "info", line(3)),
        ("GL103", "info", line(7)),
    ]
    assert found[0].evidence == {"times": 2, "computed_from": ["w", "x"]}
    assert "asks 2 times whether" in found[0].claim
    assert found[1].evidence == {"times": 1, "computed_from": ["x"]}
    assert "asks once whether" in found[1].claim


# GL104


def test_leaves_that_nothing_uses() -> None:
    run = Run()
    names = [f"head.{k}" for k in range(8)]
    for name in names:
        run.leaf(name, "none", met=False)
    run.leaf("mask", "none", "input", met=False)
    run.leaf("frozen", "none", met=False, wants=False)
    one, two = run.leaf("tail.a", "none"), run.leaf("tail.b", "none")
    run.call("torch.exp", two)
    run.call("torch.exp", one)
    end = run.call("torch.exp", run.leaf("x"))
    found = run.seen(
        end, graph=run.graph(("ExpBackward0", ["x"])), diagnosed=True,
        dependence={name: {} for name in ("tail.a", "tail.b", "mask", *names)},
    ).findings

    assert [(item.code, item.level, item.claim) for item in found] == [
        (
            "GL104", "warning",
            "The parameters head.0, head.1, head.2, head.3, head.4, head.5 and 2 more are not used by the forward "
            "pass.",
        ),
        (
            "GL104", "warning",
            "The parameters tail.a and tail.b are used, but nothing that was computed from them reaches what is "
            "differentiated.",
        ),
        ("GL104", "info", "The input mask is not used by the forward pass."),
    ]  # fmt: skip
    assert [item.evidence for item in found] == [
        {"leaves": names}, {"leaves": ["tail.a", "tail.b"]}, {"leaves": ["mask"]},
    ]  # fmt: skip
    assert [item.where.source for item in found] == ["", line(2), ""]
    assert ["find_unused_parameters" in item.fix for item in found] == [True, True, False]
    unsure = run.seen(end, graph=run.graph(("ExpBackward0", ["x"])), diagnosed=True).findings
    (claim, *_) = (item.claim for item in unsure if item.code == "GL104")
    assert claim.endswith(
        "are read by no call that was recorded; whether the output depends on them was not measured."
    )


def test_a_leaf_that_the_graph_leads_to_is_not_unused() -> None:
    run = Run()
    end = run.call("Own.apply", run.leaf("w", "none"))

    found = run.seen(end, graph=run.graph(("OwnBackward", ["w"])), diagnosed=True)

    assert codes(found) == ["GL101"]
    assert "the backward graph leads to it" in found.findings[0].claim


def test_an_argument_that_lends_its_shape_alone_is_not_cut() -> None:
    run = Run()
    w, x, c = run.leaf("w", "none"), run.leaf("x"), run.leaf("c", wants=False)
    end = run.call("torch.mul", x, run.call("Tensor.expand_as", c, w, made=PLAIN))
    found = run.seen(end, graph=run.graph(("MulBackward0", ["x"])), diagnosed=True, dependence={"w": {}})

    assert codes(found) == ["GL104"]


# GL105


def flat_case(
    *ops: tuple[str, Sequence[str | int]], zeroing: Sequence[int] = (), gradient: str = "zero"
) -> Connectivity:
    run = Run()
    w, v = run.leaf("w", gradient), run.leaf("v", gradient)
    ends = [run.call(f"torch.step{number}", w, v) for number, _ in enumerate(ops)]
    return run.seen(ends[-1], graph=run.graph(*ops), zeroing=zeroing, diagnosed=True)


@pytest.mark.parametrize("op", ["RoundBackward0", "RoundBackward1", "SignBackward0", "FloorBackward0", "CeilBackward0",
                                "TruncBackward0", "FloorDivideBackward0"])  # fmt: skip
def test_gradients_that_are_zero_by_the_ops_nature(op: str) -> None:
    found = flat_case(("MulBackward0", ["w", "v"]), (op, [0]), ("ExpBackward0", [1]))
    finding = only(found, "GL105")

    assert finding.level == "error"
    assert finding.claim == (
        f"w and v receive a gradient that is 0 everywhere: every path leads through {op}, whose derivative is 0 "
        "wherever it exists."
    )
    assert finding.where == Place(line(2), "", "(Net)", (3,))
    assert finding.evidence == {"leaves": ["w", "v"], "ops": [op]}
    assert set(verdicts(found).values()) == {ZERO}


@pytest.mark.parametrize(
    ("op", "fix"),
    [
        ("BernoulliBackward0", "RelaxedBernoulli"),
        ("NormalBackward3", "mean + std * torch.randn_like(mean)"),
        ("PoissonBackward0", "the log-probability of what was drawn"),
    ],
)
def test_a_draw_has_the_derivative_that_torch_gives_it(op: str, fix: str) -> None:
    finding = only(flat_case(("MulBackward0", ["w", "v"]), (op, [0]), ("ExpBackward0", [1])), "GL105")

    assert f"{op}, whose derivative torch sets to 0, as that of every draw." in finding.claim
    assert fix in finding.fix


def test_one_path_around_the_flat_op_is_enough() -> None:
    found = flat_case(("MulBackward0", ["w", "v"]), ("RoundBackward0", [0]), ("AddBackward0", [0, 1]))

    assert found.findings == ()
    assert set(verdicts(found).values()) == {ZERO_NOW}


def test_flat_ops_are_told_by_the_one_next_to_the_leaf() -> None:
    found = flat_case(("RoundBackward0", ["w"]), ("SignBackward0", ["v"]), ("AddBackward0", [0, 1]),
                      ("CeilBackward0", [2]))  # fmt: skip
    first, second = found.findings

    assert [(item.evidence["leaves"], item.evidence["ops"], item.where.nodes) for item in (first, second)] == [
        (["w"], ["RoundBackward0"], (2,)),
        (["v"], ["SignBackward0"], (3,)),
    ]


@pytest.mark.parametrize(("zeroing", "expected"), [((), []), ((2,), ["GL105"])])
def test_a_division_is_flat_only_where_it_was_seen_to_be(zeroing: tuple[int, ...], expected: list[str]) -> None:
    assert codes(flat_case(("DivBackward2", ["w", "v"]), ("ExpBackward0", [0]), zeroing=zeroing)) == expected


def test_a_zero_of_this_data_alone_is_not_reported() -> None:
    assert codes(flat_case(("ReluBackward0", ["w", "v"]), zeroing=[2])) == []
    assert codes(flat_case(("RoundBackward0", ["w", "v"]), gradient="value")) == []


# GL106


def test_a_saved_tensor_that_was_written_over() -> None:
    run = Run()
    y = run.call("torch.exp", run.leaf("x", "not run"))
    z = run.call("Tensor.add_", y, made=GRAD, written=(y,), text="y += 1")
    graph = run.graph(("ExpBackward0", ["x"]), ("AddBackward0", [0]))
    error = "one of the variables … modified by an inplace operation"
    found = run.seen(z, graph=graph, backward_error=error, clobbered=[Clobbered(1, "result", error)])
    finding = only(found, "GL106")

    assert finding.claim == (
        "backward fails: a tensor that ExpBackward0 needs was written over by .add_() after it was saved."
    )
    assert finding.where == Place(line(2), "y += 1", "(Net)", (1,))
    assert finding.evidence == {"error": error, "saved_at": line(1), "slot": "result"}
    assert verdicts(found) == {"x": UNKNOWN}
    assert codes(found) == ["GL106"]


def test_a_write_that_was_not_seen_leaves_the_place_where_the_tensor_was_saved() -> None:
    run = Run()
    end = run.call("torch.exp", run.leaf("x", "not run"))
    graph = run.graph(("ExpBackward0", ["x"]))
    finding = only(
        run.seen(end, graph=graph, backward_error="inplace operation", clobbered=[Clobbered(1, "result", "")]), "GL106"
    )

    assert finding.claim == "backward fails: a tensor that ExpBackward0 needs was written over after it was saved."
    assert finding.where.source == line(1)


@pytest.mark.parametrize("inside", [True, False])
def test_a_graph_that_was_freed(inside: bool) -> None:
    run = Run()
    y = run.call("torch.exp", run.leaf("x", "not run"))
    if inside:
        run.call("Tensor.backward", y, made=(), line=8)
    graph = run.graph(("ExpBackward0", ["x"]), ("SinBackward0", [0]), ledger="freed")
    found = run.seen(y, graph=graph, backward_error="Trying to backward through the graph a second time")
    finding = only(found, "GL106")

    by = "the backward pass inside forward" if inside else "an earlier backward pass"
    assert finding.claim == f"backward fails: part of the graph (2 nodes) was freed by {by}."
    assert finding.evidence["freed_nodes"] == 2
    if inside:
        assert finding.where.source == line(8)


def test_a_graph_that_goes_on_into_an_earlier_run() -> None:
    run = Run()
    end = run.call("torch.exp", run.leaf("x", "not run"))
    graph = run.graph(("ExpBackward0", ["x"]), ("SinBackward0", [0]))
    # The first node is of an earlier run, and knows no line; the second was made here.
    earlier, here = graph.nodes[1]._replace(source=None, ledger="freed"), graph.nodes[2]._replace(source=0)
    graph = GradGraph([graph.nodes[0], earlier, here], graph.edges, (), graph.inputs, graph.outputs, {}, graph.sources,
                      graph.calls).check()  # fmt: skip
    finding = only(run.seen(end, graph=graph, backward_error="… a second time"), "GL106")

    assert finding.claim == "backward fails: part of the graph (1 node) was freed by an earlier backward pass."
    assert (finding.where.source, finding.where.nodes) == (line(1), (2, 1))


def test_another_failure_is_quoted() -> None:
    run = Run()
    end = run.call("torch.exp", run.leaf("x", "not run"))
    finding = only(run.seen(end, graph=run.graph(("ExpBackward0", ["x"])), backward_error="own error " * 60), "GL106")

    assert finding.claim == f"backward fails: {('own error ' * 60)[:200]}"
    assert finding.where == Place()


@pytest.mark.parametrize(
    ("wants", "ends", "claim"),
    [
        (True, 1, "loss needs no gradient: nothing that requires one is connected to it."),
        (True, 2, "loss[0] and loss[1] need no gradient: nothing that requires one is connected to them."),
        (False, 1, "loss needs no gradient: no input or parameter requires one."),
        (False, 0, (
        "The forward pass returns no tensor, nor a tuple, list, dictionary or dataclass with one: there is nothing to "
        "differentiate."
    )),
    ],
)
def test_nothing_to_differentiate(wants: bool, ends: int, claim: str) -> None:
    run = Run()
    x = run.leaf("x", "none", wants=wants)
    made = [run.call("torch.exp", x, made=PLAIN, text="y = x.exp()") for _ in range(2)]
    finding = only(run.seen(*made[:ends]), "GL106")

    assert (finding.level, finding.claim) == ("error", claim)
    # At the first cut, or else where the last of the ends was made.
    assert finding.where.source == {0: "", 1: line(1), 2: line(1)}[ends]


def test_outputs_that_share_nothing_are_information() -> None:
    run = Run()
    ends = [run.call("torch.exp", run.leaf(name)) for name in "abc"]
    apart = run.graph(("ExpBackward0", ["a"]), ("SinBackward0", ["b"]), ("CosBackward0", ["c", "a"]), ends=[0, 1, 2])
    finding = only(run.seen(*ends, graph=apart), "GL106")

    assert (finding.level, finding.evidence["parts"]) == ("info", [["output[0]", "output[2]"], ["output[1]"]])
    assert finding.claim == (
        "The graph has 2 parts that share no node, not even a leaf: output[0] and output[2]; output[1]."
    )
    joint = run.graph(("ExpBackward0", ["a"]), ("SinBackward0", ["a", "b"]), ("CosBackward0", ["b"]), ends=[0, 1, 2])
    assert codes(run.seen(*ends, graph=joint)) == []


# GL107

ONE, TWO = Range((2,), -1.0, 4.0, 0, 0), Range((), 0.25, 0.25, 0, 3)


def not_finite(fault: NonFinite | None = None, *, finite: bool | None = False, **facts: Any) -> Connectivity:
    run = Run()
    end = run.call("torch.log", run.leaf("x", "nonfinite"), text="y = x.log()")
    return run.seen(end, graph=run.graph(("LogBackward0", ["x"])), finite=finite, forward_fault=fault, **facts)


def test_the_call_that_made_nan() -> None:
    finding = only(not_finite(NonFinite("NaN", 0, None, (ONE, TWO), ())), "GL107")

    assert finding.claim == (
        "loss is not finite: torch.log() is the first call with NaN in its result and none in its inputs, which are "
        "from -1 to 4; 0.25 and 3 infinite."
    )
    assert finding.where == Place(line(1), "y = x.log()", "(Net)")
    assert finding.evidence["not_finite"] == ["loss"]
    assert finding.evidence["gradients_not_finite"] == ["x"]
    assert finding.evidence["inputs"] == [ONE._asdict(), TWO._asdict()]


def test_the_node_that_made_nan() -> None:
    fault = NonFinite("infinity", None, 1, (Range((2,), None, None, 2, 0),), ())
    finding = only(not_finite(finite=True, backward_fault=fault), "GL107")

    assert finding.claim == (
        "The gradient of x is not finite though the result is: LogBackward0 is the first node of the backward pass "
        "that makes infinity from a gradient without, which is without a finite value (2 NaN)."
    )
    assert finding.where == Place(line(1), "y = x.log()", "(Net)", (1,))
    assert "torch.where after the op does not help" in finding.fix


def test_the_call_that_made_what_the_backward_pass_meets() -> None:
    made, back = NonFinite("NaN", 0, None, (ONE,), ()), NonFinite("NaN", None, 1, (TWO,), ())
    finding = only(not_finite(made, finite=True, backward_fault=back), "GL107")

    assert finding.claim == (
        "The gradient of x is not finite though the result is: torch.log() has NaN in its result and none in its "
        "inputs, which are from -1 to 4; the result is finite all the same, and LogBackward0, which computes with "
        "that, makes NaN of a gradient without."
    )
    assert finding.where == Place(line(1), "y = x.log()", "(Net)", (1,))
    assert "to mask the result does not help" in finding.fix
    assert (finding.evidence["inputs"], finding.evidence["gradients"]) == ([ONE._asdict()], [TWO._asdict()])
    both = only(not_finite(made._replace(origin=0, origin_inputs=(ONE,)), finite=True, backward_fault=back), "GL107")
    assert (
        "torch.log() makes infinity from inputs without, which are from -1 to 4, of which torch.log() at "
        f"{line(1)} makes NaN; the result is finite all the same"
    ) in both.claim


def test_nan_without_a_known_place() -> None:
    assert only(not_finite(), "GL107").claim == "loss is not finite."
    assert only(not_finite(finite=True), "GL107").claim == "The gradient of x is not finite."
    assert only(not_finite(), "GL107").where == Place()
    # Values that cannot be read are not judged.
    assert only(not_finite(finite=None), "GL107").claim == "The gradient of x is not finite."


# The pages


def test_every_page_is_complete_and_levels_are_known() -> None:
    for code, page in PAGES.items():
        assert all(part for name, part in page._asdict().items() if name != "cases"), code
        assert page.level.split(" ")[0].rstrip(";,") in LEVELS
    assert Finding("GL101", "error", "").title == PAGES["GL101"].title


def test_codes_match_their_beginnings() -> None:
    assert matches("GL101", ("gl1",))
    assert matches("GL101", ("GL207", "GL101"))
    assert not matches("GL101", ("GL102", "GL2"))
    assert not matches("GL101", ())


def test_lists_of_names() -> None:
    assert [listed(list("abcdefgh"[:count])) for count in (0, 1, 2, 3, 6)] == [
        "none", "a", "a and b", "a, b and c", "a, b, c, d, e and f",
    ]  # fmt: skip
    assert listed(iter("abcdefgh")) == "a, b, c, d, e, f and 2 more"
    assert (receive(["a"]), receive(["a", "b"])) == ("a receives", "a and b receive")


# What the recorder does not see


def out_of_sight(**facts: Any) -> Connectivity:
    """w goes through exp at line 1; at line 2 something that nobody made is read on the way to the loss."""
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("torch.exp", w, text="h = scripted(w.exp())")
    stranger = run._value(PLAIN | UNSEEN)
    end = run.call("torch.mul", stranger, x)
    return run.seen(end, graph=run.graph(("MulBackward0", ["x"])), diagnosed=True, **facts)


def test_a_leaf_whose_value_leaves_out_of_sight() -> None:
    found = out_of_sight(dependence={"w": {"loss": [0]}})
    finding = only(found, "GL101")

    assert finding.claim == (
        "w receives no gradient though the output changes with it: its value leaves the graph where the recorder does "
        "not see it; the last recorded call on the way is torch.exp()."
    )
    assert (finding.level, finding.where.source, finding.evidence["lost"]) == ("error", line(1), ["w"])
    assert verdicts(found)["w"] == LEAVES


def test_a_gradient_of_what_was_handed_in_may_be_asked_for() -> None:
    def level(*, handed_in: bool, carries: bool = False) -> str:
        run = Run()
        w = run.leaf("w")
        x = run._value(PLAIN | UNSEEN)
        part = run.call("Tensor.__getitem__", x, *([w] if carries else []), made=PLAIN) if handed_in else None
        part = run.call("torch.zeros", made=PLAIN) if part is None else part
        fresh = run.call("Tensor.requires_grad_", part, made=MADE_LEAF, written=(part,))
        end = run.call("torch.mul", fresh, w)
        return only(run.seen(end, graph=run.graph(("MulBackward0", ["w"]))), "GL102").level

    assert level(handed_in=True) == "info"
    assert level(handed_in=False) == "warning"
    assert level(handed_in=True, carries=True) == "warning"


@pytest.mark.parametrize("existed", [False, True])
def test_a_leaf_that_no_recorded_call_reads_is_told_by_what_comes_back(existed: bool) -> None:
    run = Run()
    run.leaf("w", "none", met=False)
    x, buffer, stranger = run.leaf("x"), run._value(PLAIN | UNSEEN), run._value(PLAIN | UNSEEN)
    run.call("torch.exp", buffer)
    y = run.call("torch.add", buffer, x)
    end = run.call("torch.mul", stranger, y)
    known = {buffer, stranger} if existed else {buffer}
    finding = only(run.seen(end, graph=run.graph(("MulBackward0", ["x"])), diagnosed=True, existing=frozenset(known),
                            dependence={"w": {"loss": [0]}}), "GL101")  # fmt: skip

    words = "; torch.mul() is the first call that reads a tensor of unknown origin."
    assert finding.claim.endswith(words) != existed
    assert finding.where.source == ("" if existed else line(3))


def test_a_leaf_of_which_nothing_was_measured_is_told_all_the_same() -> None:
    finding = only(out_of_sight(untried="two runs differ"), "GL101")

    assert finding.claim == (
        "w receives no gradient though the forward pass uses it: whether the output depends on the value was not "
        "measured, because two runs differ; the last recorded call on the way is torch.exp()."
    )
    assert finding.level == "error"
    # It is known to have no effect: that is another finding.
    assert codes(out_of_sight(dependence={"w": {}})) == ["GL104"]


def test_an_output_that_is_not_differentiated_does_not_make_a_cut() -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    extra = run.call("torch.exp", w)
    end = run.call("torch.mul", x)
    flow = Flow(tuple(run.steps), bytes(run.flags), {"w": w, "x": x}, {"loss": end, "extra": extra},
                [Source("net.py", k, "forward", "") for k in (1, 2)], [ModuleCall("", "Net", 1)])  # fmt: skip
    ends = [EndFact("loss", True, True, True, end)]
    outputs = [*ends, EndFact("extra", True, True, True, extra)]
    graph = run.graph(("MulBackward0", ["x"]))
    found = connectivity(
        Observation(graph, flow, run.leaves, ends, outputs, diagnosed=True, dependence={"w": {"extra": [0]}})
    )

    assert codes(found) == ["GL104"]
    assert "nothing that was computed from it reaches what is differentiated" in found.findings[0].claim
    assert verdicts(found)["w"] == DEAD


@pytest.mark.parametrize(
    ("effects", "lines"),
    [({}, [1, 2]), ({0: True, 1: False}, [1]), ({0: False, 1: True}, [2]), ({0: False, 1: False}, [1, 2]),
     ({0: True}, [1])],
    ids=["not tried", "the first", "the second", "neither alone", "one was tried"],
)  # fmt: skip
def test_of_several_calls_those_are_told_that_were_seen_at_work(effects: dict[int, bool], lines: list[int]) -> None:
    run = Run()
    w, x = run.leaf("w", "none"), run.leaf("x")
    run.call("Tensor.item", w, made=PYTHON)
    run.call("Tensor.__float__", w, made=PYTHON)
    end = run.call("torch.mul", x)
    found = run.seen(end, graph=run.graph(("MulBackward0", ["x"])), diagnosed=True,
                     dependence={"w": {"loss": [0]}}, effects=effects)  # fmt: skip

    assert [item.where.source for item in found.findings if item.code == "GL101"] == [line(k) for k in lines]


def test_groups_of_leaves_that_were_changed_together_are_told_as_that() -> None:
    run = Run()
    one, two = run.leaf("one", "none"), run.leaf("two", "none")
    run.call("Tensor.item", run.call("torch.add", one, two), made=PYTHON)
    end = run.call("torch.mul", run.leaf("x"))
    found = run.seen(end, graph=run.graph(("MulBackward0", ["x"])), diagnosed=True, together=[("one", "two")],
                     dependence={"one": {"loss": [0]}, "two": {"loss": [0]}})  # fmt: skip

    assert only(found, "GL101").evidence["lost"] == ["one", "two"]
    assert only(found, "GL101").evidence["changed_together"] == [["one", "two"]]


# More on failures


def test_writes_over_the_same_tensors_are_told_once_and_by_the_function_that_did_it() -> None:
    run = Run()
    x = run.leaf("x", "not run")
    y = run.call("torch.exp", x)
    z = run.call("torch.relu_", y, made=GRAD, written=(y,), line=2)
    end = run.call("Tensor.mul_", z, made=GRAD, written=(z,), line=2, text="y.relu_(); y *= 2")
    run.steps = [step._replace(first=k, end=k + 1) for k, step in enumerate(run.steps)]
    graph = run.graph(("ExpBackward0", ["x"]), ("ReluBackward0", [0]), ("MulBackward0", [1]))
    error = "… modified by an inplace operation"
    relu = [Clobbered(2, "result", error, 1), Clobbered(2, "self", error, 1)]
    finding = only(run.seen(end, graph=graph, backward_error=error, clobbered=relu), "GL106")

    assert "ReluBackward0 needs was written over by .mul_() after it was saved" in finding.claim
    assert (finding.evidence["slot"], finding.where.nodes) == ("result, self", (2,))


def test_an_op_without_a_derivative_is_named_by_its_line() -> None:
    run = Run()
    end = run.call("torch.mul", run.call("torch.heaviside", run.leaf("x", "not run")))
    error = "derivative for aten::heaviside is not implemented"
    finding = only(run.seen(end, graph=run.graph(("MulBackward0", ["x"])), backward_error=error), "GL106")

    assert (finding.claim, finding.where.source) == (f"backward fails: {error}", line(1))


def test_what_was_not_finite_before_anything_was_computed() -> None:
    first = Spoilt("x", "input", Range((3, 4), 0.0, 1.0, 2, 0))
    more = Spoilt("norm.running_var", "buffer", Range((4,), None, None, 4, 0))
    finding = only(not_finite(None, spoilt=[first, more]), "GL107")

    assert finding.claim == (
        "loss is not finite: the input x holds NaN before the forward pass begins, in 2 of its 12 entries; so does "
        "norm.running_var."
    )
    assert finding.where.source == line(1)
    # A call that made NaN out of numbers is the nearer cause; a mask of infinities may be meant.
    mask = Spoilt("mask", "input", Range((4,), 0.0, 0.0, 0, 2))
    for inputs, spoilt, words in ((ONE, more, "torch.log() is the first"), (ONE, mask, "torch.log() is the first"),
                                  (TWO, mask, "the input mask holds infinity")):  # fmt: skip
        fault = NonFinite("NaN", 0, None, (inputs,), ())
        assert words in only(not_finite(fault, spoilt=[spoilt]), "GL107").claim


def test_the_call_that_made_the_infinity_is_named_with_the_one_that_made_nan_of_it() -> None:
    run = Run()
    x = run.leaf("x", "nonfinite")
    end = run.call("Tensor.div", run.call("torch.exp", x))
    fault = NonFinite("NaN", 1, None, (TWO,), (), 0, (ONE,))
    finding = only(run.seen(end, graph=run.graph(("DivBackward0", ["x"])), finite=False, forward_fault=fault), "GL107")

    assert finding.claim == (
        "loss is not finite: torch.exp() makes infinity from inputs without, which are from -1 to 4; .div() at "
        f"{line(2)} then makes NaN of it."
    )
    assert finding.where.source == line(1)


def test_a_sum_over_a_mask_that_graphlens_takes_is_no_fault() -> None:
    run = Run()
    end = run.call("Tensor.masked_fill", run.leaf("x"))
    fault = NonFinite("asked for", None, None, (), ())
    found = run.seen(end, graph=run.graph(("MaskedFillBackward0", ["x"])), finite=False, forward_fault=fault)

    assert found.findings == ()

"""A tape says what ran below autograd, as pure functions: replayed, it gives every value again, to the last bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import graphlens
from graphlens.capture.memories import overlap
from graphlens.capture.program import Program, cleared_gradients, run_backward, subject_program, tensors_program
from graphlens.capture.tape import Tape, refs, replay
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import observe


def taped(program: Program) -> Tape:
    graph = observe(program).graph
    return record_tape(program, graph)


def made(make: Callable[[], Any]) -> Tape:
    """The tape of a function that makes its tensors itself."""
    torch.manual_seed(0)
    return record_tape(tensors_program("made", lambda: (make(),)))


def assert_faithful(tape: Tape) -> None:
    """Every value comes out again, but for memory that was never written to."""
    uninitialised = {
        value for call in tape.calls if "empty" in call.function._schema.name for value in call.outputs
    }  # fmt: skip
    for number, value in enumerate(replay(tape)):
        assert value is not None, number
        if number not in uninitialised:
            torch.testing.assert_close(value, tape.tensors[number], rtol=0, atol=0, equal_nan=True)


def names(tape: Tape) -> Counter[str]:
    return Counter(call.function._schema.name.rpartition("::")[2] for call in tape.calls)


@pytest.mark.parametrize("name", ["wasteful", "hoisted", "efficient", "severed", "soft-threshold"])
def test_the_lessons_are_replayed(name: str) -> None:
    options = {} if name == "soft-threshold" else {"n": 20}
    tape = taped(subject_program(graphlens.lesson(name, **options)))

    assert_faithful(tape)
    assert not tape.opaque


def test_the_chain_is_counted_as_written() -> None:
    tape = taped(subject_program(graphlens.lesson("wasteful", n=20)))
    forward = Counter(call.function._schema.name for call in tape.calls if not call.backward)

    assert forward["aten::linalg_inv_ex"] == 21
    assert forward["aten::mv"] == 42
    # A gets a gradient from 20 products and 20 inverses: 39 additions. M and x get theirs from 2 each.
    assert sum(call.accumulates for call in tape.calls) == 41


def test_gradients_are_those_of_the_run() -> None:
    program = subject_program(graphlens.lesson("wasteful", n=5))
    trace = observe(program)
    tape = record_tape(program, trace.graph)

    assert set(tape.gradients) == {"x", "A", "M"} == set(tape.leaves)
    for name, value in tape.gradients.items():
        gradient = trace.gradients[name]
        assert gradient is not None
        assert torch.equal(tape.tensors[value], gradient)
    assert all(value in tape.sources for value in tape.leaves.values())
    assert torch.equal(tape.tensors[tape.outputs["g"]], trace.outputs["g"])


def test_every_call_is_seen_that_a_counter_sees() -> None:
    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.calls: Counter[str] = Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls[str(func)] += 1
            return func(*args, **(kwargs or {}))

    program = subject_program(graphlens.lesson("wasteful", n=7))
    counting = Counting()
    with counting:
        first = program.forward()
        with cleared_gradients(program.leaves.values()):
            run_backward(first.roots, program.leaves)

    # masked_fill_ is written down as masked_fill.
    counted: Counter[str] = Counter()
    for name, count in counting.calls.items():
        counted[name.replace("_.", ".")] += count
    assert Counter(str(call.function) for call in taped(program).calls) == counted


def test_nodes_are_told_their_calls() -> None:
    program = subject_program(graphlens.lesson("wasteful", n=4))
    graph = observe(program).graph
    assert graph is not None
    tape = record_tape(program, graph)
    of_node = {call.node: call for call in tape.calls if not call.backward and call.node is not None}

    functions = [number for number, node in enumerate(graph.nodes) if node.kind == "function"]
    assert sorted(of_node) == functions
    for number, call in of_node.items():
        op = graph.nodes[number].op.lower().removesuffix("backward0").removesuffix("backward1")
        assert op.replace("_", "").startswith(call.function._schema.name.rpartition("::")[2].replace("_", "")[:3])
    inverses = [k for k, node in enumerate(graph.nodes) if node.op == "LinalgInvExBackward0"]
    for number in inverses:
        backward = [call for call in tape.calls if call.backward and call.node == number and not call.accumulates]
        # dL/dA = −A⁻ᵀ G A⁻ᵀ
        assert sum("mm" in call.function._schema.name for call in backward) == 2


def write_rows() -> torch.Tensor:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    y = x * 2
    y.add_(1)
    early = y[1]
    y[2] = early * 3
    y[0].mul_(2)
    turned = y.t()
    table = torch.zeros(6, dtype=torch.float64)
    for row in range(4):
        table[row] = turned[row].sum() * row
    part = table[1:3]
    table[2] = 7 * early[0]
    return y.sum() + table.pow(2).sum() + (part * 2).sum()


def write_out() -> torch.Tensor:
    x = torch.randn(5, requires_grad=True)
    out = torch.empty(5)
    with torch.no_grad():
        torch.mul(x.detach(), 2, out=out)
    return (out * x).sum()


BUFFER = torch.arange(8.0)


def write_a_view_of_what_was_there_before() -> torch.Tensor:
    x = torch.randn(4, requires_grad=True)
    BUFFER.view(2, 4)[1] += 1
    return (x * BUFFER[4:] + x * BUFFER.view(2, 4)[0]).sum()


PART = torch.arange(8.0)[4:]


def write_a_part_whose_whole_was_never_seen() -> torch.Tensor:
    x = torch.randn(4, requires_grad=True)
    PART[1:3].add_(1)
    return (x * PART + x * PART.view(4)).sum()


def swap_halves() -> torch.Tensor:
    x = torch.randn(6, requires_grad=True)
    y = x.clone()
    low, high = y[:3], y[3:]
    kept = low.clone()
    low.copy_(high)
    high.copy_(kept)
    return (y * torch.arange(6.0)).sum()


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.clone().mul_(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def custom() -> torch.Tensor:
    x = torch.randn(4, requires_grad=True)
    return (Square.apply(torch.nn.functional.dropout(Square.apply(x))) + x).sum()


def recurrent() -> torch.Tensor:
    return torch.nn.LSTM(4, 5)(torch.randn(6, 2, 4))[0].sum()


def convolution() -> torch.Tensor:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.MaxPool2d(2)
    )
    return layers(torch.randn(2, 3, 8, 8)).sum()


@pytest.mark.parametrize(
    "make",
    [write_rows, write_out, write_a_view_of_what_was_there_before, swap_halves, custom, recurrent, convolution],
)
def test_writes_become_values(make: Callable[[], torch.Tensor]) -> None:
    tape = made(make)

    assert_faithful(tape)
    assert not tape.opaque
    assert not any(
        argument.alias_info is not None and argument.alias_info.is_write
        for call in tape.calls
        for argument in call.function._schema.arguments
    )


def test_a_value_read_through_another_view_after_a_write_depends_on_what_was_written() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        low, high = y[:3], y[3:]
        kept = low.clone()
        low.copy_(high)
        high.copy_(kept)
        return (y * torch.arange(6.0)).sum()

    tape = record_tape(subject_program(graphlens.Subject(forward, (torch.zeros(6, requires_grad=True),))))
    fresh = replay(tape, {tape.leaves["x"]: torch.arange(10.0, 16.0)})[tape.outputs["output"]]

    assert fresh is not None
    assert float(fresh) == sum(k * (10 + (k + 3) % 6) for k in range(6))


def test_memory_whose_whole_was_never_seen_becomes_a_source() -> None:
    tape = made(write_a_part_whose_whole_was_never_seen)

    assert tape.opaque == {"a view of memory written to": 1}
    assert_faithful(tape)


def test_a_detached_tensor_is_told_from_the_one_that_it_was_made_of() -> None:
    x = torch.ones(3, requires_grad=True)

    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        cut = y.detach()
        return (cut * 3 + y * 5).sum()

    tape = record_tape(subject_program(graphlens.Subject(forward, (x,))))
    places = {call.outputs[0]: call for call in tape.calls if not call.backward}
    readers = {call.args[1]: call.args[0].value for call in places.values() if "mul" in str(call.function)}

    assert "detach" in str(places[readers[3]].function)
    assert "mul" in str(places[readers[5]].function)


def test_what_cannot_be_written_as_a_function_is_counted() -> None:
    def forward() -> torch.Tensor:
        x = torch.ones(3, requires_grad=True)
        with torch.no_grad():
            y = torch.zeros(3)
            torch.ops.graphlens_tests.fill_up(y)
        return (x * y).sum()

    def fill_up(tensor: torch.Tensor) -> None:
        tensor.fill_(2.0)

    with torch.library._scoped_library("graphlens_tests", "DEF") as library:
        library.define("fill_up(Tensor(a!) tensor) -> ()")
        library.impl("fill_up", fill_up, "CPU")
        tape = made(forward)
    (product,) = [call for call in tape.calls if "mul" in str(call.function) and not call.backward]

    assert tape.opaque == {"graphlens_tests.fill_up.default": 1}
    assert product.args[1].value in tape.sources
    assert tape.tensors[product.args[1].value].tolist() == [2.0] * 3
    assert_faithful(tape)


def test_what_outlives_the_run_is_told() -> None:
    state = torch.zeros(3)

    def forward(x: torch.Tensor) -> torch.Tensor:
        state.add_(1)
        own = torch.zeros(3)
        own.add_(2)
        return (x * state * own).sum()

    tape = record_tape(subject_program(graphlens.Subject(forward, (torch.ones(3, requires_grad=True),))))

    (value,) = tape.written
    assert tape.tensors[value].tolist() == [0.0] * 3
    assert state.tolist() == [1.0] * 3


def test_a_replay_leaves_the_running_moments_alone() -> None:
    layer = torch.nn.BatchNorm1d(3)
    tape = record_tape(subject_program(graphlens.Subject(layer, (torch.randn(5, 3) + 4,))))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    replay(tape)

    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_running_moments_are_on_the_tape_as_they_were_read() -> None:
    """Their op says of them that it does not write into them."""
    layer = torch.nn.BatchNorm1d(3)
    tape = record_tape(subject_program(graphlens.Subject(layer, (torch.randn(5, 3) + 4,))))
    (call,) = (call for call in tape.calls if call.function is torch.ops.aten.native_batch_norm.default)
    mean, variance = (tape.tensors[call.args[place].value] for place in (3, 4))

    assert mean.tolist() == [0.0] * 3
    assert variance.tolist() == [1.0] * 3
    assert layer.running_mean is not None
    assert layer.running_mean.abs().min() > 0.1
    assert call.args[3].value in tape.written


def test_without_a_graph_there_is_a_forward_pass() -> None:
    tape = record_tape(subject_program(graphlens.Subject(lambda x: x * 2, (torch.ones(3),))))

    assert names(tape)["mul"] == 1
    assert not tape.gradients


def test_the_leaves_gradients_are_put_back() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = kept = torch.full((3,), 7.0)
    record_tape(subject_program(graphlens.Subject(lambda x: (x * 2).sum(), (x,))))

    assert x.grad is kept
    assert kept.tolist() == [7.0] * 3


def entries(tensor: torch.Tensor) -> set[int]:
    places = torch.arange(tensor.untyped_storage().nbytes() // tensor.element_size())
    return set(places.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).reshape(-1).tolist())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_tensors_that_share_no_entry_are_told_apart(data: st.DataObject) -> None:
    """Never apart where they meet; and columns, rows and blocks of one matrix always where they do not."""
    base = torch.arange(60.0)
    shape = data.draw(st.sampled_from([(60,), (6, 10), (3, 4, 5), (4, 15), (20, 3)]))

    def part() -> torch.Tensor:
        view = base.view(shape)
        for dimension, size in enumerate(shape):
            start = data.draw(st.integers(0, size - 1))
            view = view.narrow(dimension, start, data.draw(st.integers(1, size - start)))
        return view

    one, two = part(), part()
    other = base.view(data.draw(st.sampled_from([(60,), (10, 6), (5, 12)])))[data.draw(st.integers(0, 4))]
    steps = base[data.draw(st.integers(0, 7)) :: data.draw(st.integers(1, 9))]

    assert overlap(one, two) == overlap(two, one) == bool(entries(one) & entries(two))
    for second in (other, steps, base.view(60).expand(2, 60)):
        assert overlap(one, second) or not entries(one) & entries(second)


def test_an_offset_below_the_smallest_stride_carries_too() -> None:
    base = torch.arange(60.0)

    assert overlap(base.view(20, 3)[:3, 1:2], base[::7])


def test_every_pair_of_strided_views_of_a_small_storage() -> None:
    base = torch.zeros(12)
    views = [
        base.as_strided(size, stride, offset)
        for size in ((3,), (2, 2), (2, 1))
        for stride in product((1, 2, 3, 5), repeat=len(size))
        for offset in (0, 1, 2, 3)
        if offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) < 12
    ]
    places = [entries(view) for view in views]
    met = told_apart = 0
    for (one, ones), (two, twos) in combinations(zip(views, places, strict=True), 2):
        meet = bool(ones & twos)
        assert overlap(one, two) or not meet
        met += meet
        told_apart += not overlap(one, two)

    assert met > 3_000
    assert told_apart > 1_000


def test_what_was_not_written_to_is_not_read_again() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        left, right = (x * 2).unsafe_split(3, 1)
        left.mul_(right)
        return (left * right).sum()

    program = subject_program(graphlens.Subject(forward, (torch.ones(4, 6, requires_grad=True),)))
    tape = taped(program)
    graph = observe(program).graph

    assert not {"scatter", "as_strided"} & set(names(tape))
    assert_faithful(tape)
    # The node of mul_ made a copy before; its call is the product all the same.
    of_node = {call.node: call for call in tape.calls if not call.backward and call.node is not None}
    assert graph is not None
    for number, node in enumerate(graph.nodes):
        if node.op == "MulBackward0":
            assert of_node[number].function is torch.ops.aten.mul.Tensor
    assert len(of_node) == sum(node.kind == "function" for node in graph.nodes)


STEPS = ["add_", "mul_", "row", "column", "slice", "read", "view", "copy"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.integers(0, 4)), max_size=12))
def test_random_writes_into_views(steps: list[tuple[str, int, int]]) -> None:
    def forward() -> torch.Tensor:
        x = torch.arange(1.0, 10.0, dtype=torch.float64).view(3, 3).requires_grad_()
        base = x * 1.5
        views = [base]
        total = base.sum() * 0
        for step, k, which in steps:
            view = views[which % len(views)]
            if step == "add_":
                view.add_(k)
            elif step == "mul_":
                view.mul_(x[k, k])
            elif step == "row" and view.ndim == 2:
                views.append(view[k % view.shape[0]])
            elif step == "column" and view.ndim == 2:
                views.append(view[:, k % view.shape[1]])
            elif step == "slice":
                views.append(view[: max(1, view.shape[0] - k)])
            elif step == "read":
                total = total + (view * view).sum()
            elif step == "view":
                views.append(view.t())
            elif step == "copy":
                view.copy_((x * k)[tuple([0] * (2 - view.ndim))][tuple(map(slice, view.shape))].expand_as(view) * 1)
        return total + sum(view.sum() for view in views)

    try:
        tape = made(forward)
    except RuntimeError:  # a copy that does not fit
        return
    assert_faithful(tape)


def test_arguments_in_lists_are_found() -> None:
    tape = made(lambda: torch.cat([torch.ones(2, requires_grad=True), torch.zeros(1)]).sum())
    call = next(call for call in tape.calls if "cat" in str(call.function))

    assert len(list(call.inputs)) == 2
    assert list(refs(call.args)) == list(call.inputs)


@pytest.mark.parametrize(
    ("read", "count"),
    [
        (lambda x: x * x.sum().item(), 1),
        (lambda x: x * float(x[0]) * float(x[1]), 2),
        (lambda x: x * torch.tensor([x[0], x[1]]).sum(), 1),
        (lambda x: x * torch.tensor(x.detach().numpy() * 2), 1),
        (lambda x: x * sum(x.tolist()), 1),
        (lambda x: x * torch.tensor([1.0, 2.0]), 0),
        (lambda x: x * 2 if x[0] > 0 else x, 0),
        (lambda x: x * x.argmax().item(), 0),
    ],
)
def test_numbers_that_python_reads_are_counted(read: Any, count: int) -> None:
    x = torch.tensor([0.3, 0.7], requires_grad=True)
    tape = record_tape(tensors_program("made", lambda: (read(x),)))

    assert tape.reads == count

"""Lineage: masks worked out by hand, and against brute force on random flows."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from graphlens.analyses.lineage import Lineage
from graphlens.flow import DIFFERENTIABLE, LEAF, PYTHON, REQUIRES_GRAD, Flow, Step

GRAD = REQUIRES_GRAD | DIFFERENTIABLE
PLAIN = DIFFERENTIABLE


def step(
    function: str, inputs: tuple[int, ...], outputs: tuple[int, ...], written: tuple[int, ...] = (), grad: bool = True
) -> Step:
    return Step(function, None, None, inputs, outputs, 0, 0, 0, grad, 0, written)


def lineage(steps: list[Step], flags: list[int], leaves: dict[str, int], end: int) -> Lineage:
    return Lineage.of(Flow(tuple(steps), bytes(flags)), leaves, [end])


def cuts(found: Lineage) -> list[tuple[int, tuple[str, ...]]]:
    return [(cut.step, found.leaves(cut.lost)) for cut in found.cuts()]


def test_a_detach_cuts_what_goes_on() -> None:
    # w (0), x (1) → product (2) → detached (3); detached + x → end (4)
    found = lineage(
        [step("torch.mul", (0, 1), (2,)), step("Tensor.detach", (2,), (3,)), step("torch.add", (3, 1), (4,))],
        [GRAD | LEAF, GRAD | LEAF, GRAD, PLAIN, GRAD],
        {"w": 0, "x": 1},
        4,
    )

    assert found.carried == [0b01, 0b10, 0b11, 0b11, 0b11]
    assert found.live == [0b01, 0b10, 0b11, 0, 0b10]
    assert cuts(found) == [(1, ("w", "x"))]


def test_the_last_cuts_are_those_that_must_be_mended() -> None:
    # w (0) → draw (1); w, draw → score (2) → number (3); w → copy (4); number + copy → end (5)
    found = lineage(
        [
            step("torch.multinomial", (0,), (1,)),
            step("torch.gather", (0, 1), (2,)),
            step("Tensor.item", (2,), (3,)),
            step("Tensor.detach", (0,), (4,)),
            step("torch.add", (3, 4), (5,)),
        ],
        [GRAD | LEAF, 0, GRAD, PYTHON, PLAIN, PLAIN],
        {"w": 0},
        5,
    )

    assert [step for step, _ in cuts(found)] == [0, 2, 3]
    assert found.last_cuts([5]) == {0: 0, 2: 1, 3: 1}


def test_what_goes_nowhere_is_no_cut() -> None:
    found = lineage(
        [step("torch.exp", (0,), (1,)), step("Tensor.item", (1,), (2,))], [GRAD | LEAF, GRAD, PLAIN], {"w": 0}, 1
    )

    assert cuts(found) == []
    assert found.needed == [-1, -1, 0]


def test_a_look_alike_takes_the_shape_alone() -> None:
    found = lineage(
        [step("torch.zeros_like", (0,), (1,)), step("torch.add", (0, 1), (2,))], [GRAD | LEAF, PLAIN, GRAD], {"w": 0}, 2
    )

    assert found.carried[1] == 0
    assert cuts(found) == []


def test_a_leaf_that_is_written_over_stays_itself_and_the_rest_is_cut() -> None:
    # x (1) → exp (2); w.data.copy_(2) writes w (0) as value 3; w → end (4)
    found = lineage(
        [step("torch.exp", (1,), (2,)), step("Tensor.copy_", (0, 2), (3,), (0,)), step("torch.exp", (3,), (4,))],
        [GRAD | LEAF, GRAD | LEAF, GRAD, GRAD | LEAF, GRAD],
        {"w": 0, "x": 1},
        4,
    )

    assert found.live[3:] == [0b01, 0b01]
    assert cuts(found) == [(1, ("x",))]


def test_inside_a_custom_function_its_arguments_are_not_cut_and_other_leaves_are() -> None:
    # forward multiplies x (0), an argument, by w (1), a closure: inner (2) becomes the result (3)
    found = lineage(
        [step("torch.mul", (0, 1), (2,)), step("Scale.apply", (0,), (3,), (2,))],
        [GRAD | LEAF, GRAD | LEAF, PLAIN, GRAD],
        {"x": 0, "w": 1},
        3,
    )

    assert cuts(found) == [(0, ("w",))]


def test_a_write_through_a_view_gives_both_a_new_value_and_both_histories() -> None:
    # w (0) → base (1) → row (2); row.mul_(x (3)) writes row as 4 and base as 5; base → end (6)
    found = lineage(
        [
            step("torch.exp", (0,), (1,)),
            step("Tensor.__getitem__", (1,), (2,)),
            step("Tensor.mul_", (2, 3), (4, 5), (2, 1)),
            step("torch.sum", (5,), (6,)),
        ],
        [GRAD | LEAF, GRAD, GRAD, GRAD | LEAF, GRAD, GRAD, GRAD],
        {"w": 0, "x": 3},
        6,
    )

    assert found.carried[4:] == found.live[4:] == [0b11, 0b11, 0b11]
    assert cuts(found) == []


def test_a_write_without_gradients_keeps_the_history_and_adds_none() -> None:
    # y (2) = exp(w (0)); no_grad: y.copy_(x (1)) → 3; y → end (4)
    steps = [step("torch.exp", (0,), (2,)), step("Tensor.copy_", (2, 1), (3,), (2,), grad=False),
             step("torch.sum", (3,), (4,))]  # fmt: skip
    found = lineage(steps, [GRAD | LEAF, GRAD | LEAF, GRAD, GRAD, GRAD], {"w": 0, "x": 1}, 4)

    assert found.carried[3:] == [0b11, 0b11]
    assert found.live[3:] == [0b01, 0b01]
    assert cuts(found) == [(1, ("x",))]
    steps[1] = steps[1]._replace(grad=True)
    assert cuts(lineage(steps, [GRAD | LEAF, GRAD | LEAF, GRAD, GRAD, GRAD], {"w": 0, "x": 1}, 4)) == []


def test_of_several_written_without_gradients_each_keeps_its_own_history() -> None:
    # torch._foreach_copy_([a (2), b (3)], x) without gradients: a came from w, b from v
    steps = [step("torch.exp", (0,), (2,)), step("torch.exp", (1,), (3,)),
             step("torch._foreach_zero_", (2, 3), (4, 5), (2, 3), grad=False)]  # fmt: skip
    found = lineage(steps, [GRAD | LEAF, GRAD | LEAF, GRAD, GRAD, GRAD, GRAD], {"w": 0, "v": 1}, 5)

    assert found.live[4:] == [0b01, 0b10]


def test_what_is_asked_for_its_dtype_or_shape_gives_no_value() -> None:
    # x (1) and a number (2) from w (0): full_like(x, number) → 3; c (4).expand_as(w) → 5; x.new_tensor([number]) → 6
    found = lineage(
        [
            step("Tensor.item", (0,), (2,)),
            step("torch.full_like", (1, 2), (3,)),
            step("Tensor.expand_as", (4, 0), (5,)),
            step("Tensor.new_tensor", (1, 2), (6,)),
            step("torch.cat", (3, 5, 6), (7,)),
        ],
        [GRAD | LEAF, GRAD | LEAF, PYTHON, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN],
        {"w": 0, "x": 1},
        7,
    )

    assert found.carried == [0b01, 0b10, 0b01, 0b01, 0, 0, 0b01, 0b01]
    assert cuts(found) == [(0, ("w",))]


def test_an_expanded_tensor_whose_memory_was_written_keeps_its_whole_history() -> None:
    # c is read as two values, 1 and the written 2: which of three is the last argument is not known
    found = lineage([step("Tensor.expand_as", (1, 2, 0), (3,))], [GRAD | LEAF, PLAIN, GRAD, GRAD], {"w": 0, "c": 2}, 3)

    assert found.carried[3] == 0b11


def test_a_number_that_python_was_handed_is_followed() -> None:
    # w (0) → item (1), a number → torch.full(number) (2) * x (3) → end (4)
    found = lineage(
        [step("Tensor.item", (0,), (1,)), step("torch.full", (1,), (2,)), step("torch.mul", (2, 3), (4,))],
        [GRAD | LEAF, PYTHON, PLAIN, GRAD | LEAF, GRAD],
        {"w": 0, "x": 3},
        4,
    )

    assert found.carried[4] == 0b11
    assert cuts(found) == [(0, ("w",))]


def test_a_cut_behind_another_and_one_in_a_chain_are_told_once() -> None:
    # w (0) → detach (1) → detach (2) → end (4) = (2) + w: the second cuts nothing that was not cut
    found = lineage(
        [step("Tensor.detach", (0,), (1,)), step("Tensor.detach", (1,), (2,)), step("torch.add", (2, 0), (3,))],
        [GRAD | LEAF, PLAIN, PLAIN, GRAD],
        {"w": 0},
        3,
    )

    assert cuts(found) == [(0, ("w",))]


def test_names_of_a_mask_in_the_order_of_the_leaves() -> None:
    found = lineage([], [GRAD | LEAF] * 70, {f"w{k}": k for k in range(70)}, 69)

    assert found.leaves(0) == ()
    assert found.leaves(1 << 69 | 1 << 3 | 1) == ("w0", "w3", "w69")
    assert found.needed == [0] * 69 + [-1]


def test_each_result_of_a_broadcast_comes_from_one_argument() -> None:
    # broadcast_tensors hands w (0) on as it is, and expands x (1) to 2; of these x alone goes on, detached (3).
    flags = [GRAD | LEAF, GRAD | LEAF, GRAD, PLAIN, GRAD]
    both = step("torch.broadcast_tensors", (0, 1), (0, 2))
    steps = [both, step("Tensor.detach", (2,), (3,)), step("torch.exp", (3,), (4,))]
    found = lineage(steps, flags, {"w": 0, "x": 1}, 4)

    assert (found.carried[0], found.carried[2], found.live[2]) == (0b01, 0b10, 0b10)
    assert found.needed[:3] == [0, -1, -1]
    assert cuts(found) == [(1, ("x",))]

    # What is expanded without a gradient is cut right there, and the other argument is not.
    flags = [GRAD | LEAF, GRAD | LEAF, GRAD, PLAIN, GRAD]
    grid = step("torch.meshgrid", (0, 1), (2, 3))
    found = lineage([grid, step("torch.add", (2, 3), (4,))], flags, {"w": 0, "x": 1}, 4)
    assert cuts(found) == [(0, ("x",))]
    assert found.live[4] == 0b01


@st.composite
def writing_flows(draw: st.DrawFn) -> tuple[list[Step], list[int], dict[str, int], int]:
    """Random flows with writes in place, with and without gradients, of one or two tensors; leaves among them."""
    leaves = draw(st.integers(1, 4))
    flags = [GRAD | LEAF] * leaves
    steps = []
    for _ in range(draw(st.integers(1, 10))):
        inputs = tuple(draw(st.lists(st.integers(0, len(flags) - 1), min_size=1, max_size=3)))
        written = tuple(draw(st.lists(st.integers(0, len(flags) - 1), max_size=2, unique=True)))
        count = len(written) or draw(st.integers(1, 2))
        outputs = tuple(range(len(flags), len(flags) + count))
        name = draw(st.sampled_from(["torch.op", "torch.op", "torch.op", "torch.zeros_like", "Tensor.expand_as"]))
        steps.append(step(name, inputs, outputs, written, draw(st.booleans())))
        for place in range(count):
            kinds = [PLAIN, GRAD, GRAD]
            if place < len(written) and flags[written[place]] & LEAF:
                kinds.append(GRAD | LEAF)
            flags.append(draw(st.sampled_from(kinds)))
    return steps, flags, {f"w{k}": k for k in range(leaves)}, draw(st.integers(0, len(flags) - 1))


@given(writing_flows())
def test_a_last_cut_has_a_way_to_an_end_past_no_other_cut(
    case: tuple[list[Step], list[int], dict[str, int], int],
) -> None:
    steps, flags, leaves, end = case
    found = lineage(steps, flags, leaves, end)
    known = {cut.step: cut.lost for cut in found.cuts()}
    last = found.last_cuts([end])

    assert last.keys() == known.keys()
    for bit in range(len(leaves)):
        free = nx.DiGraph()
        free.add_nodes_from(range(len(flags)))
        for number, s in enumerate(steps):
            if known.get(number, 0) >> bit & 1:
                continue
            reads = {"torch.zeros_like": (), "Tensor.expand_as": s.inputs[:1] if len(s.inputs) == 2 else s.inputs}
            for value in (*reads.get(s.function, s.inputs), *s.written):
                free.add_edges_from((value, made) for made in s.outputs)
        ways = {end, *nx.ancestors(free, end)}
        for number, lost in known.items():
            on = any(value in ways for value in steps[number].outputs)
            assert (last[number] >> bit & 1) == (on and lost >> bit & 1)


@given(writing_flows())
def test_masks_and_cuts_agree_with_reachability_where_memory_is_written(
    case: tuple[list[Step], list[int], dict[str, int], int],
) -> None:
    steps, flags, leaves, end = case
    found = lineage(steps, flags, leaves, end)
    whole, connected = nx.DiGraph(), nx.DiGraph()
    for graph in (whole, connected):
        graph.add_nodes_from(range(len(flags)))
    reads = [
        () if s.function == "torch.zeros_like"
        else s.inputs[:1] if s.function == "Tensor.expand_as" and len(s.inputs) == 2
        else s.inputs
        for s in steps
    ]  # fmt: skip
    for each, inputs in zip(steps, reads, strict=True):
        for place, made in enumerate(each.outputs):
            own = each.written[place : place + 1]
            for value in {*inputs, *each.written}:
                whole.add_edge(value, made)
            if flags[made] & LEAF:
                connected.add_edges_from((value, made) for value in own if flags[value] & LEAF)
            elif flags[made] & REQUIRES_GRAD:
                sources = own if each.written and not each.grad else (*inputs, *each.written)
                connected.add_edges_from((value, made) for value in sources)
    wanted = nx.ancestors(whole, end) | {end}
    assert {value for value in range(len(flags)) if found.needed[value]} == wanted
    for name, leaf in leaves.items():
        bit = 1 << found.names.index(name)
        assert {v for v in range(len(flags)) if found.carried[v] & bit} == nx.descendants(whole, leaf) | {leaf}
        live = nx.descendants(connected, leaf) | {leaf}
        assert {v for v in range(len(flags)) if found.live[v] & bit} == live
        # A cut is a step that the leaf is connected to, and that goes on to the end without it.
        expected = [
            number
            for number, (each, inputs) in enumerate(zip(steps, reads, strict=True))
            if live.intersection(inputs)
            and (goes_on := wanted.intersection(each.outputs))
            and not live.intersection(goes_on)
        ]
        assert [number for number, names in cuts(found) if name in names] == expected


@st.composite
def flows(draw: st.DrawFn) -> tuple[list[Step], list[int], dict[str, int], int]:
    """Random flows without writes: each call reads earlier values, and keeps or drops the gradient."""
    leaves = draw(st.integers(1, 4))
    flags = [GRAD | LEAF] * leaves
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        inputs = tuple(draw(st.lists(st.integers(0, len(flags) - 1), min_size=1, max_size=3)))
        connected = any(flags[value] & REQUIRES_GRAD for value in inputs)
        steps.append(step("torch.op", inputs, (len(flags),)))
        flags.append(GRAD if connected and draw(st.booleans()) else PLAIN)
    return steps, flags, {f"w{k}": k for k in range(leaves)}, len(flags) - 1


@given(flows())
def test_masks_and_cuts_agree_with_reachability(case: tuple[list[Step], list[int], dict[str, int], int]) -> None:
    steps, flags, leaves, end = case
    found = lineage(steps, flags, leaves, end)
    whole, connected = nx.DiGraph(), nx.DiGraph()
    for graph in (whole, connected):
        graph.add_nodes_from(range(len(flags)))
    for each in steps:
        for value in each.inputs:
            whole.add_edge(value, each.outputs[0])
            if flags[each.outputs[0]] & REQUIRES_GRAD:
                connected.add_edge(value, each.outputs[0])
    for name, leaf in leaves.items():
        bit = 1 << found.names.index(name)
        assert {v for v in range(len(flags)) if found.carried[v] & bit} == nx.descendants(whole, leaf) | {leaf}
        assert {v for v in range(len(flags)) if found.live[v] & bit} == nx.descendants(connected, leaf) | {leaf}
        # If the end was computed from the leaf and is not connected to it, every way is cut somewhere.
        lost = nx.has_path(whole, leaf, end) and not nx.has_path(connected, leaf, end)
        named = any(name in names for _, names in cuts(found))
        assert named or not lost
        uncut = whole.copy()
        uncut.remove_edges_from(
            (value, steps[number].outputs[0]) for number, names in cuts(found) if name in names
            for value in steps[number].inputs
        )  # fmt: skip
        assert not (lost and nx.has_path(uncut, leaf, end))

"""Lineage: masks worked out by hand, and against brute force on random flows."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from graphlens.analyses.lineage import Lineage
from graphlens.flow import DIFFERENTIABLE, LEAF, REQUIRES_GRAD, Flow, Step

GRAD = REQUIRES_GRAD | DIFFERENTIABLE
PLAIN = DIFFERENTIABLE


def step(function: str, inputs: tuple[int, ...], outputs: tuple[int, ...], written: tuple[int, ...] = ()) -> Step:
    return Step(function, None, None, inputs, outputs, 0, 0, 0, True, 0, written)


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

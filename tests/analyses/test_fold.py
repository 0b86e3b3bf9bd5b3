from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from graphlens.analyses.fold import Box, FoldedGraph, Group, fold
from graphlens.capture.build import capture
from graphlens.errors import GraphError
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.lessons import FACTORIES
from tests.analyses.fold_checker import outline, shape, verify


def lesson(name: str, n: int) -> GradGraph:
    subject = FACTORIES[name](n=n)
    loss = subject.loss(subject.module(*subject.args))
    return capture({"phi": loss}, {**dict(zip("xA", subject.args, strict=True)), "M": subject.module.M})


def vector(*size: int) -> torch.Tensor:
    return torch.ones(*size or (4,), requires_grad=True)


def folded(loss: torch.Tensor, **names: torch.Tensor) -> FoldedGraph:
    return verify(fold(capture(loss, names)))


def kinds(result: FoldedGraph) -> set[tuple[str, str, str]]:
    labels = {item.node: item.label for _, item in result.walk() if isinstance(item, Box)}
    return {(labels[link.earlier], labels[link.later], link.kind) for link in result.links}


def test_wasteful_is_one_loop_of_three_ops():
    result = verify(fold(lesson("wasteful", 10_000)))
    loop, branches = result.groups
    assert (loop.count, loop.label, loop.totals.nodes) == (10_000, "Mv · LinalgInvEx · Mv", 30_000)
    assert (branches.count, branches.label) == (3, "Add")
    assert result.boxes() == 17
    first, inverse, second = loop.body
    assert [(link.earlier, link.later, link.lag) for link in loop.carried] == [(second.node, first.node, 1)]
    assert [(link.later) for link in loop.entries] == [first.node]
    assert [result.graph.nodes[node].name for node in loop.shared] == ["A"]
    assert loop.own == ()
    assert [(link.earlier, link.leaves[0].how) for link in loop.outputs] == [(second.node, "last")]
    # The later Mv saves the inverse and the vector in each round, 200 B + 40 B.
    assert isinstance(second, Box)
    assert second.totals.view_bytes == 10_000 * 240
    assert isinstance(inverse, Box)
    assert inverse.count == 10_000


def test_outline_of_wasteful():
    assert outline(fold(lesson("wasteful", 6))) == "\n".join(
        [
            *("M", "x", "A", "Mv"),
            *("×6 Mv · LinalgInvEx · Mv", "  Mv", "  LinalgInvEx", "  Mv"),
            *("LinalgInvEx", "Unbind", "Sub", "×3 Add", "  Add", "Stack", "Mv", "Sub", "LinalgVectorNorm", "Pow"),
        ]
    )


def test_hoisted_shares_the_inverse():
    result = verify(fold(lesson("hoisted", 300)))
    loop = result.groups[0]
    assert (loop.count, loop.label) == (300, "Mv · Mv")
    labels = {item.node: item.label for _, item in result.walk() if isinstance(item, Box)}
    assert [labels[node] for node in loop.shared] == ["A", "LinalgInvEx"]


def test_efficient_has_only_its_branches():
    assert shape(verify(fold(lesson("efficient", 1)))) == [(3, None)]


def test_nested_loops_nest():
    y, w = vector(), vector()
    for _ in range(7):
        for _ in range(5):
            y = torch.tanh(y * w)
        y = y + w
    result = folded(y.sum(), w=w)
    assert shape(result) == [(7, None), (5, 0)]
    assert kinds(result) >= {
        ("w", "Mul", "shared"),
        ("w", "Add", "shared"),
        ("Tanh", "Mul", "carried"),
        ("Add", "Mul", "carried"),
        ("Tanh", "Add", "out"),
    }


def test_the_outer_loop_may_show_in_its_weights_alone():
    y = vector()
    names = {f"w.{i}": vector() for i in range(7)}
    for i in range(7):
        for _ in range(5):
            y = y * names[f"w.{i}"]
    result = folded(y.sum(), **names)
    assert shape(result) == [(7, None), (5, 0)]
    assert result.groups[0].label == "w.0 … w.6"


def test_weights_of_an_inner_loop_shared_by_all_rounds_are_a_stack():
    y = vector()
    names = {f"w.{j}": vector() for j in range(5)}
    for _ in range(7):
        for j in range(5):
            y = torch.tanh(y * names[f"w.{j}"])
        y = y.exp()
    result = folded(y.sum(), **names)
    assert shape(result) == [(7, None), (5, 0)]
    (stack,) = (item for item in result.items if isinstance(item, Box) and item.copies == 5)
    assert stack.label == "w.0 … w.4"


def test_innermost_period_wins():
    y, w = vector(), vector()
    for _ in range(12):
        y = torch.tanh(y * w)
    assert [(group.count, group.period) for group in folded(y.sum()).groups] == [(12, 2)]


def test_an_altered_iteration_stays_outside():
    y, w = vector(), vector()
    for i in range(11):
        y = torch.tanh(y * w)
        y = torch.exp(y) if i == 5 else torch.sin(y)
    assert [group.count for group in folded(y.sum()).groups] == [5, 5]


def test_an_iteration_wired_differently_stays_outside():
    y, w, other = vector(), vector(), vector()
    for i in range(11):
        y = torch.sin(torch.tanh(y * (other if i == 5 else w)))
    assert [group.count for group in folded(y.sum()).groups] == [5, 5]


def test_an_iteration_read_from_outside_ends_its_group():
    y, w = vector(), vector()
    tap = y
    for i in range(12):
        y = torch.sin(torch.tanh(y * w))
        tap = y if i == 5 else tap
    assert [group.count for group in folded((y + tap.exp()).sum()).groups] == [6, 6]


def test_every_result_may_be_collected():
    y, w = vector(), vector()
    steps = []
    for _ in range(9):
        y = torch.tanh(y * w)
        steps.append(y)
    result = folded(torch.stack(steps).sum())
    (group,) = result.groups
    assert group.count == 9
    (crossing,) = (link.leaves[0] for link in group.outputs)
    assert (crossing.how, crossing.low, crossing.high) == ("each", 0, 8)


def test_all_but_the_last_result_may_be_collected():
    y, w = vector(), vector()
    steps = []
    for _ in range(9):
        steps.append(y)
        y = torch.tanh(y * w)
    result = folded(torch.stack(steps).sum() + y.sum())
    crossings = {(link.leaves[0].how, link.leaves[0].low, link.leaves[0].high) for link in result.groups[0].outputs}
    assert crossings == {("each", 0, 7), ("last", 8, 8)}


def test_loop_over_elements_reads_one_port_each():
    x = vector(10)
    y, w = vector(1), vector(1)
    for element in x.unbind():
        y = torch.tanh(y * w + element)
    result = folded(y.sum())
    (group,) = result.groups
    assert group.count == 10
    assert ("Unbind", "Add", "each") in kinds(result)


def test_a_second_loop_reads_the_first_ones_results():
    y, w = vector(), vector()
    codes = []
    for _ in range(8):
        y = torch.tanh(y * w)
        codes.append(y)
    z = y
    for code in codes:
        z = torch.sin(z) - code.exp()
    result = folded(z.sum())
    assert sorted(group.count for group in result.groups) == [8, 8]
    assert ("Tanh", "Exp", "each") in kinds(result)


def test_values_may_be_carried_over_two_iterations():
    a, b, w = vector(), vector(), vector()
    a, b = a * 1, b * 1
    for _ in range(20):
        a, b = b, torch.tanh(a * w) + b
    result = folded(b.sum())
    (group,) = (group for group in result.groups if group.count >= 18)
    assert {link.lag for link in group.carried} == {1, 2}


def test_scattered_branches_are_stacked():
    ops = (torch.sin, torch.exp, torch.sin, torch.tanh, torch.exp, torch.sin, torch.sin, torch.exp)
    x = vector(8)
    result = folded(torch.stack([op(part) for op, part in zip(ops, x.unbind(), strict=True)]).sum())
    assert {(group.label, group.count) for group in result.groups} == {("Sin", 4), ("Exp", 3)}


def test_ensemble_is_one_member():
    members = torch.nn.ModuleList(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)) for _ in range(6)
    )
    x = vector(2, 3)
    result = folded(torch.stack([member(x) for member in members]).mean(), x=x, **dict(members.named_parameters()))
    (group,) = result.groups
    assert (group.count, group.label, group.carried) == (6, "0 … 5", ())
    assert len(group.own) == 4  # two weights and two biases, each drawn once


def test_a_weight_read_again_outside_is_a_stack_for_both():
    names = {f"w.{i}": vector() for i in range(6)}
    y = vector()
    for w in names.values():
        y = torch.tanh(y * w).sin()
    penalty = y.sum()
    for w in names.values():
        penalty = penalty + w.exp().sum()
    result = folded(penalty, **names)
    (stack,) = (item for item in result.items if isinstance(item, Box) and item.label == "w.0 … w.5")
    assert (stack.copies, stack.count) == (6, 6)
    assert [group.count for group in result.groups] == [6, 6]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_small_gains_are_no_gain(count: int):
    y = vector()
    for _ in range(count):
        y = torch.tanh(y)
    assert folded(y.sum()).groups == ()


def test_a_graph_without_a_loop_stays_as_it_is():
    x = vector()
    result = folded((torch.sin(x) * torch.exp(x)).sum())
    assert result.groups == ()
    assert result.boxes() == len(result.graph) + 1
    assert repr(result) == "<FoldedGraph: 5 nodes in 6 boxes, 0 groups>"


def test_a_leaf_as_output():
    assert folded(vector()).boxes() == 2


def test_leaves_need_not_come_first():
    nodes = [Node("F"), Node("AccumulateGrad", "leaf"), *(Node("G") for _ in range(9))]
    edges = [Edge(k, t, (s,), (0,)) for k in range(2, 11) for s, t in enumerate(sorted({1, 0 if k == 2 else k - 1}))]
    result = verify(fold(GradGraph(nodes, edges, outputs=[Output("y", 10, 0, (), "float32")]).check()))
    assert [group.count for group in result.groups] == [8]


def test_folding_is_deterministic_and_can_be_pickled():
    graph = lesson("wasteful", 20)
    result = fold(graph)
    assert fold(graph) == result
    assert pickle.loads(pickle.dumps(result)) == result


def test_check_notices_a_wrong_merge():
    result = fold(lesson("wasteful", 20))
    loop = result.groups[0]
    wrong = [
        replace(result, groups=(replace(loop, wires=loop.wires[1:]), *result.groups[1:])),
        replace(result, items=result.items[1:]),
        replace(result, box_of=tuple(range(len(result.graph)))),
        replace(result, groups=(replace(loop, totals=loop.totals._replace(view_bytes=1)), *result.groups[1:])),
    ]
    for broken in wrong:
        with pytest.raises(GraphError):
            broken.check()


def test_groups_know_their_parents():
    y, w = vector(), vector()
    for _ in range(4):
        for _ in range(6):
            y = torch.tanh(y * w)
        y = torch.sin(y)
    result = folded(y.sum())
    for _, item in result.walk():
        if isinstance(item, Group):
            assert result.groups[item.number] is item
            assert all(inner.parent == item.number for inner in item.body if isinstance(inner, Group))


def test_a_layer_begins_with_its_own_weights() -> None:
    blocks = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()) for _ in range(4)]
    model = torch.nn.Sequential(*blocks)
    graph = capture(model(torch.ones(2, 4)).sum(), dict(model.named_parameters()))
    (group,) = fold(graph).groups

    # The first block's input needs no gradient, so that its product has one link less.
    assert (group.count, group.label) == (3, "1 … 3")
    ops = [graph.nodes[item.node].op for item in group.body if graph.nodes[item.node].kind != "leaf"]
    assert ops == ["TBackward0", "AddmmBackward0", "ReluBackward0"]

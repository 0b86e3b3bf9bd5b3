"""Folding is near-linear: 300,000 nodes take at most 10 s, whatever their structure."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from graphlens.analyses.fold import fold
from graphlens.graph import Edge, GradGraph, Node, Output

NODES = 300_000
LIMIT = 10.0  # seconds


def chain(op: Callable[[int], str], other: Callable[[int], int]) -> GradGraph:
    """Each node reads the one before, and another one."""
    nodes = [Node("AccumulateGrad", "leaf", None, "x", (5,), "float64", "cpu")]
    edges = []
    for number in range(1, NODES):
        nodes.append(Node(op(number), "function", number, "", (5,), "float64", "cpu"))
        for slot, target in enumerate(sorted({number - 1, other(number)})):
            edges.append(Edge(number, target, (slot,), (0,)))
    return GradGraph(nodes, edges, outputs=[Output("y", NODES - 1, 0, (5,), "float64")])


def loop() -> GradGraph:
    return chain(lambda n: ("Mv", "LinalgInvEx", "Tanh")[n % 3], lambda n: 0)


def nested() -> GradGraph:
    return chain(lambda n: "Exp" if n % 31 == 0 else ("Add", "Mul", "Tanh")[n % 31 % 3], lambda n: 0)


def without_a_loop() -> GradGraph:
    draw = random.Random(0)
    return chain(lambda n: draw.choice(["Add", "Mul", "Tanh"]), lambda n: draw.randrange(max(0, n - 50), n))


def one_op_wired_at_random() -> GradGraph:
    draw = random.Random(0)
    return chain(lambda n: "Add", lambda n: draw.randrange(max(0, n - 50), n))


def fibonacci_word() -> GradGraph:
    """The word with the most repeats: hundreds of thousands, at all scales."""
    short, word = "0", "01"
    while len(word) <= NODES:
        short, word = word, word + short
    return chain(lambda n: word[n], lambda n: 0)


@pytest.mark.parametrize("build", [loop, nested, without_a_loop, one_op_wired_at_random, fibonacci_word])
def test_fold_speed(benchmark, build: Callable[[], GradGraph]):
    graph = build()
    result = benchmark.pedantic(fold, args=(graph,), rounds=1)
    assert len(result.box_of) == NODES
    assert benchmark.stats.stats.max < LIMIT

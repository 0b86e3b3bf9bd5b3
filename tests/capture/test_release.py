"""Deep graphs die without taking the process with them, whoever lets go of them and in what order."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch

import graphlens
from graphlens.capture.release import SAFE_NODES, drain
from graphlens.capture.walk import walk

PROGRAM = """
import gc, torch, graphlens
y = torch.ones(2, requires_grad=True) * 1
for step in range(150_000):
    y = y.neg()
    if step == 80_000:
        half = y
loss = y.sum()
graph = graphlens.capture(loss)
del y
assert len(graph) == 150_003, len(graph)
"""
ENDINGS = {
    "loss deleted": "del half, loss; gc.collect(); print('alive')",
    "loss deleted, then an earlier tensor": "del loss; gc.collect(); del half; gc.collect(); print('alive')",
    "earlier tensor deleted, then loss": "del half; gc.collect(); del loss; gc.collect(); print('alive')",
    "left to the end of the process": "print('alive')",
    "captured twice": "graphlens.capture(loss); del half, loss; gc.collect(); print('alive')",
    "after backward": "loss.backward(); del half, loss; gc.collect(); print('alive')",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_chain_of_150_000_nodes_is_freed(ending: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM + ending], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


INTERRUPTED = """
from graphlens.capture import walk
def interrupt(*arguments):
    raise KeyboardInterrupt
original, walk.{where} = walk.{where}, interrupt
try:
    graphlens.capture(loss)
except KeyboardInterrupt:
    print("interrupted")
walk.{where} = original
del half, loss
gc.collect()
"""


@pytest.mark.parametrize("where", ["is_leaf", "_numbers", "_edges"])
def test_an_interrupted_walk_leaves_a_graph_that_can_be_freed(where: str) -> None:
    program = PROGRAM.replace("graph = graphlens.capture(loss)\n", "").replace("assert len(graph)", "#")
    code = program + INTERRUPTED.format(where=where)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


class Witness(torch.autograd.Function):
    """Keeps an object in its context, whose death tells that the node died."""

    @staticmethod
    def forward(ctx, x, dead):  # type: ignore[no-untyped-def]
        class Told:
            def __del__(self) -> None:
                dead.append(True)

        ctx.told = Told()
        return x * 1

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient, None


@pytest.mark.parametrize("steps", [3, SAFE_NODES + 3_000])
def test_the_graph_really_dies_with_its_loss(steps: int) -> None:
    dead: list[bool] = []
    y = Witness.apply(torch.ones(2, requires_grad=True), dead)
    for _ in range(steps):
        y = y.neg()
    graph = graphlens.capture(y.sum())
    assert dead == []
    del y
    gc.collect()
    drain()
    assert dead == [True]
    assert len(graph) == steps + 3


def test_small_graphs_are_left_untouched() -> None:
    y = torch.ones(2, requires_grad=True).neg().exp().sum()
    found = walk([y.grad_fn])
    assert all(node.metadata == {} for node in found.functions)

"""A program that is written anew is called shorter only where it is, and a saving where something falls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from graphlens.capture.program import Program
from graphlens.capture.wasting import look_for_waste
from graphlens.proof.prove import prove
from graphlens.proof.simplify import simplify
from graphlens.records import Timing
from graphlens.views.proof_report import proof_parts
from graphlens.views.table import to_text
from tests.proof.test_simplify_and_code import module, proved, recorded, without_grad, written_rows


class Unrolled(torch.nn.Module):
    """A recurrent cell, round by round; in place it writes over parts of what its products gave."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        for row in x:
            state = self.cell(row, state)
        return (state[0] if isinstance(state, tuple) else state).square().sum()


def cells() -> dict[str, Program]:
    x = torch.randn(4, 3, 5)
    return {
        "GRUCell": module(Unrolled(torch.nn.GRUCell(5, 6)), x),
        "LSTMCell": module(Unrolled(torch.nn.LSTMCell(5, 6)), x),
        "RNNCell": module(Unrolled(torch.nn.RNNCell(5, 6)), x),
        "GRU": module(torch.nn.GRU(5, 6), x),
    }


@pytest.mark.parametrize("name", cells())
def test_cells_that_write_in_place_are_no_longer_written_anew(name: str) -> None:
    torch.manual_seed(1)
    program = cells()[name]
    trace, tape = recorded(program)
    proof = prove(program, trace, tape, {}, repeats=1)

    assert trace.graph is not None
    assert proof.nodes == (len(trace.graph), len(trace.graph))
    assert proof.prediction is not None
    assert proof.prediction.nodes == len(trace.graph)
    assert proof.comparison is not None
    assert proof.comparison.stats_b is not None
    assert proof.prediction.storage_bytes in (None, proof.comparison.stats_b.total.storage_bytes)
    assert not proof.is_longer
    assert proof.holds, proof.failures
    assert set(simplify(tape, trace.graph, {}).stay) == set(range(len(trace.graph)))


def test_equal_views_are_left_out_and_told() -> None:
    """The cell transposes the same two weights in each of 4 rounds."""
    torch.manual_seed(1)
    program = cells()["GRUCell"]
    trace, tape = recorded(program)
    assert trace.graph is not None
    waste = look_for_waste(program, trace.graph, tape, 1)
    proof = replace(prove(program, trace, tape, waste.same, repeats=1), names=waste.names)
    told = " ".join(to_text(proof_parts(proof, 80), width=80).split())

    assert not waste.names
    assert proof.gone == {"TBackward0": 6}
    assert proof.nodes == (len(trace.graph), len(trace.graph) - 6)
    assert proof.saved == []
    assert "Nothing to leave out" in told
    assert "without 6 TBackward0, whose values others give too or nothing reads" in told
    assert "saving, measured" not in told


def test_a_program_that_gets_longer_is_no_saving() -> None:
    torch.manual_seed(1)
    proof = proved(written_rows())
    told = " ".join(to_text(proof_parts(proof, 80), width=80).split())

    assert proof.nodes is not None
    before, after = proof.nodes
    assert after > before
    assert proof.is_longer
    assert proof.saved == []
    assert f"has {after} nodes, more than the {before} of the original" in told
    assert "saving, measured" not in told


@pytest.mark.parametrize(
    ("before", "after", "repeats", "is_faster"),
    [((2.0, 3.0), (0.5, 1.0), 5, True), ((2.0, 3.0), (0.5, 2.0), 5, False), ((2.0, 2.0), (1.0, 1.0), 1, False)],
)
def test_a_pass_is_faster_where_the_ranges_do_not_overlap(
    before: tuple[float, float], after: tuple[float, float], repeats: int, is_faster: bool
) -> None:
    proof = proved(without_grad())
    assert proof.comparison is not None
    same = Timing(1.0, 1.0, 1.0, repeats)
    a, b = (
        replace(run, forward=same, backward=Timing(sum(times) / 2, *times, repeats))
        for run, times in ((proof.comparison.a, before), (proof.comparison.b, after))
    )
    proof = replace(proof, comparison=replace(proof.comparison, a=a, b=b))

    assert proof.saved == (["time of the backward pass"] if is_faster else [])
    assert ("No saving is claimed" in to_text(proof_parts(proof, 80), width=80)) == (not is_faster)

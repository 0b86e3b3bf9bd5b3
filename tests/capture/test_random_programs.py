from __future__ import annotations

import pickle
from collections import Counter

from hypothesis import HealthCheck, given, settings

from graphlens.capture.build import capture
from tests.builders import (
    NUMBER_STEPS,
    PLAIN_STEPS,
    VIEW_WRITING_STEPS,
    Program,
    captured,
    count_by_sets,
    in_ledger,
    programs,
    seen_by_hooks,
)

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(programs())
def test_counts_agree_with_an_independent_walk(program: Program) -> None:
    loss = program()
    graph = capture(loss)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(loss)


@quick
@given(programs([*PLAIN_STEPS, *NUMBER_STEPS]))
def test_ledger_is_what_autograd_saves(program: Program) -> None:
    """Tensor for tensor, but for Python numbers turned into tensors, which the hooks do not see."""
    numbers = Counter({((), "torch.float64", 8): program.kept_numbers()})
    assert in_ledger(captured(program)) == seen_by_hooks(program) + numbers


@quick
@given(programs([*PLAIN_STEPS, *VIEW_WRITING_STEPS]))
def test_ledger_says_where_it_cannot_read(program: Program) -> None:
    """An in-place write on a view hides its function inside `CopySlices`, and what that saves.

    The hooks see it, Python cannot. The ledger then holds less, and marks such nodes as hidden.
    """
    graph, seen = captured(program), seen_by_hooks(program)
    assert in_ledger(graph) <= seen
    if in_ledger(graph) != seen:
        assert any(node.ledger == "hidden" for node in graph.nodes)


@quick
@given(programs())
def test_two_captures_of_one_program_are_equal(program: Program) -> None:
    first, second = captured(program), captured(program)
    assert first == second
    assert pickle.loads(pickle.dumps(first)) == second

"""How long it takes to find what is computed twice or undone. Nothing here gates the tests."""

from __future__ import annotations

import time
from typing import Any

from graphlens.analyses.listing import Listing
from graphlens.analyses.redundancy import Redundancy, redundancy
from graphlens.capture.listing import listing_of
from graphlens.capture.program import subject_program
from graphlens.capture.tape import Tape
from graphlens.capture.taping import record_tape
from graphlens.capture.trace import observe
from graphlens.capture.verifying import verifier
from graphlens.graph import GradGraph
from graphlens.lessons import FACTORIES

MOST_TAPING = 50.0  # seconds of the processor for 2,100,000 ops
MOST = 15.0  # seconds of the processor for 300,000 nodes
BENT = 1.6  # times what a straight line through 0 would be, from a tenth of the nodes


def recorded(rounds: int) -> tuple[Tape, GradGraph]:
    program = subject_program(FACTORIES["wasteful"](n=rounds))
    graph = observe(program).graph
    assert graph is not None
    return record_tape(program, graph), graph


def seconds(tape: Tape, graph: GradGraph) -> tuple[float, Redundancy]:
    start = time.process_time()
    listing: Listing = listing_of(tape)
    result = redundancy(listing, graph, verifier(tape))
    return time.process_time() - start, result


def taping_seconds(rounds: int) -> float:
    program = subject_program(FACTORIES["wasteful"](n=rounds))
    graph = observe(program).graph
    start = time.process_time()
    record_tape(program, graph)
    return time.process_time() - start


def test_the_tape_of_both_passes_of_300_000_nodes(benchmark: Any) -> None:
    short = taping_seconds(10_000)
    spent = benchmark.pedantic(taping_seconds, args=(100_000,), rounds=1)
    benchmark.extra_info["seconds at 30,000 nodes"] = round(short, 2)
    benchmark.extra_info["seconds at 300,000 nodes"] = round(spent, 2)

    assert spent < MOST_TAPING
    assert spent < BENT * 10 * short


def test_redundancy_at_300_000_nodes(benchmark: Any) -> None:
    short, _ = seconds(*recorded(10_000))
    tape, graph = recorded(100_000)
    spent, result = benchmark.pedantic(seconds, args=(tape, graph), rounds=1)
    benchmark.extra_info["seconds at 30,000 nodes"] = round(short, 2)
    benchmark.extra_info["seconds at 300,000 nodes"] = round(spent, 2)
    benchmark.extra_info["as the power of the nodes"] = round(spent / short / 10, 2)

    assert result.left == 14
    assert len(graph) == 300_015
    assert spent < MOST
    assert spent < BENT * 10 * short



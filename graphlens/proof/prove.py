"""Run a simplified program beside the original, on the same inputs and on others."""

from __future__ import annotations

import linecache
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from graphlens.analyses.comparison import compare_records
from graphlens.analyses.proof import Gathered, Prediction, Proof
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.capture.program import Pass, Program
from graphlens.capture.tape import Tape
from graphlens.capture.timing import Progress, time_programs
from graphlens.capture.trace import Trace, observe
from graphlens.errors import GraphlensError, ProofError
from graphlens.graph import GradGraph
from graphlens.proof.alone import times_alone
from graphlens.proof.code import Code, write_code
from graphlens.proof.keeping import kept_bytes
from graphlens.proof.rewrite import with_room
from graphlens.proof.simplify import Simplified, simplify
from graphlens.proof.trials import first_line, noise, trials
from graphlens.records import RunRecord

_IDLE_RUNS = 25


def prove(
    program: Program,
    trace: Trace,
    tape: Tape,
    same: Mapping[int, int],
    otherwise: Otherwise | None = None,
    *,
    repeats: int = 5,
    progress: Progress = lambda _: None,
) -> Proof:
    """Write the program without what is equal, and measure both.

    Args:
        trace: a run of the program.
        tape: of a run of it; its calls know the nodes of the trace's graph.
        same: per value an earlier one that it is equal to.
        otherwise: what can be done another way besides.
    """
    graph, tape, otherwise = trace.graph, with_room(tape), otherwise or Otherwise()
    if graph is None:
        return Proof("no output has a backward graph")
    progress(f"{program.name}: simplifying")
    try:
        simplified = simplify(tape, graph, same, otherwise, holds=not program.leaves)
        code = write_code(simplified, graph, program.name)
        after = _program(program, trace, tape, code, _compiled(code))
        progress(f"{after.name}: running")
        # What draws random numbers is run again from one and the same state.
        first = _observed(program) if any(call.random for call in tape.calls) else trace
        result = _observed(after)
    except ProofError as error:
        return Proof(str(error))
    except (RuntimeError, ValueError, TypeError, GraphlensError) as error:
        return Proof(f"the simplified program does not run: {first_line(error)}")
    before = replace(program, leaves={**program.leaves, **after.leaves}) if program.leaves else program
    comparison = compare_records(*_timed((before, first), (after, result), repeats=repeats, progress=progress))
    progress(f"{program.name}: timing what is left, op by op")
    bound = _half_of_the_digits(tape, code)
    return Proof(
        comparison=comparison,
        prediction=_prediction(simplified, graph, _idle(program, trace, tape, code)),
        bound=bound,
        gathered=tuple(
            _gathered(tape, row.name) for row in comparison.gradients if (row.a, row.b) == ("value", "none")
        ),
        trials=tuple(trials(program, after, bound)),
        noise=noise(program, after.leaves),
        calls=len(simplified.calls),
        guards=len(simplified.guards),
        code=code.text,
        by_hand=sorted(_by_hand(otherwise, simplified)),
        gone=Counter(
            node.op for number, node in enumerate(graph.nodes) if number not in simplified.stay and node.kind != "leaf"
        ),
    )


def _by_hand(otherwise: Otherwise, simplified: Simplified) -> set[str]:
    """Codes of findings that the shorter program does not follow."""
    found = set(otherwise.by_hand)
    read = {value for call in simplified.calls for value in call.inputs}
    if not read.isdisjoint(otherwise.orders.values()):
        found.add("GL206")
    if not read.isdisjoint(otherwise.copies):
        found.add("GL204")
    return found


def _timed(*runs: tuple[Program, Trace], repeats: int, progress: Progress) -> list[RunRecord]:
    """What the runs gave, with times: one program after the other, as in turns the longer would leave cold caches."""
    records = []
    for program, trace in runs:
        (timings,) = time_programs([program], repeats, progress=progress)
        records.append(replace(trace.record(), forward=timings.forward, backward=timings.backward))
    return records


def _prediction(simplified: Simplified, graph: GradGraph, idle: float) -> Prediction:
    """What is told before the program is run; `idle` are the nanoseconds of a forward pass that computes nothing."""
    alone = times_alone(simplified)
    return Prediction(
        len(simplified.stay),
        kept_bytes(simplified, graph),
        alone and (alone.forward + idle) / 1e9,
        alone and alone.backward / 1e9,
    )


def _observed(program: Program) -> Trace:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        return observe(program)
    finally:
        torch.set_rng_state(state)


def _half_of_the_digits(tape: Tape, code: Code) -> float:
    dtypes = [tape.tensors[value].dtype for value in code.results.values()]
    return max((torch.finfo(dtype).eps ** 0.5 for dtype in dtypes if dtype.is_floating_point), default=0.0)


def _idle(program: Program, trace: Trace, tape: Tape, code: Code) -> float:
    """Nanoseconds of a forward pass of the code when there is nothing left to compute."""
    made = tuple(tape.tensors[value] for value in code.results.values())
    idle = _program(program, trace, tape, code, lambda *_: made)
    spent = []
    for _ in range(_IDLE_RUNS):
        start = time.perf_counter_ns()
        idle.forward()
        spent.append(time.perf_counter_ns() - start)
    return statistics.median(spent)


def _program(program: Program, trace: Trace, tape: Tape, code: Code, function: Callable[..., Any]) -> Program:
    """The code, as a function, as a program on the original's own leaves."""
    by_value = {value: name for name, value in reversed(tape.leaves.items())}
    leaves = {name: _leaf(program, tape, name) for name in trace.gradients if name in tape.leaves}
    arguments = [
        leaves[by_value[value]] if by_value[value] in leaves else _leaf(program, tape, by_value[value])
        for value in code.leaves.values()
    ]
    arguments += [tape.tensors[value] for value in code.constants.values()]
    names = list(code.results)
    places = {value: place for place, value in enumerate(code.results.values())}
    outputs, roots = (
        {name: places[value] for name, value in chosen.items()}
        for chosen in (_named(tape.outputs, code), _named(tape.roots, code))
    )
    assert len(names) == len(places)

    def forward() -> Pass:
        made = function(*arguments)
        if len(names) == 1 and isinstance(made, torch.Tensor):
            made = (made,)
        scalars = {name: made[place] for name, place in roots.items()}
        loss = sum(float(scalar.detach()) for scalar in scalars.values())
        return Pass({name: made[place] for name, place in outputs.items()}, scalars, loss)

    return Program(f"{program.name}, simplified", forward, leaves, program.loss_name, program.times_forward)


def _named(values: Mapping[str, int], code: Code) -> dict[str, int]:
    return {name: code.values[name] for name in values}


def _leaf(program: Program, tape: Tape, name: str) -> torch.Tensor:
    """The program's own leaf, or a copy of one that it makes in its run."""
    if name in program.leaves:
        return program.leaves[name]
    return tape.tensors[tape.leaves[name]].clone().requires_grad_()


def _compiled(code: Code) -> Callable[..., Any]:
    file = f"<{code.function}>"
    linecache.cache[file] = len(code.text), None, code.text.splitlines(keepends=True), file
    names: dict[str, Any] = {}
    exec(compile(code.text, file, "exec"), names)
    return names[code.function]  # type: ignore[no-any-return]


def _gathered(tape: Tape, name: str) -> Gathered:
    """What was added up for a leaf's gradient: the engine adds what arrives to the sum so far."""
    value = tape.gradients[name]
    made = tape.made_by()
    terms: list[int] = []
    waiting = [value]
    while waiting:
        number = waiting.pop()
        place = made[number]
        call = tape.calls[place] if place is not None else None
        if call is not None and (call.accumulates or _passes_on(call.function._schema.name)):
            waiting.extend(call.inputs)
        else:
            terms.append(number)
    return Gathered(
        name, len(terms), _largest(tape.tensors[value]), sum(_largest(tape.tensors[term]) for term in terms)
    )


def _passes_on(name: str) -> bool:
    return name.rpartition("::")[2] in ("detach", "alias")


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0

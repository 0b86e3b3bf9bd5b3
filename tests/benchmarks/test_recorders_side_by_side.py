"""What recording a forward pass costs in three tools, on the same programs and in one run.

The forward pass alone | graphlens, its recorder | graphlens, with the captured graph | torchview |
TorchLens. The other two are no dependencies, and are left out with a word where they are missing:

    pip install torchview torchlens

installs both beside the torch that is there. Each tool is called with its own defaults: torchview
builds its graph of modules and functions, TorchLens its log of operations without activations, and
graphlens knows line and module of every node. Times are CPU times, of one thread. TorchLens runs in a
process of its own, where a small module warms it up, is called once, and is given up after LONGEST
seconds on the clock.
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphlens.capture.build import capture_recorded
from graphlens.capture.program import Program, recorder_of, subject_program
from graphlens.capture.release import drain
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject
from tests.benchmarks.test_record_speed import MOST, gpt2

LONGEST = 120.0  # seconds


def gpt2_without_cache() -> Subject:
    """Without what torchview cannot follow to a node."""
    subject = gpt2()
    return Subject(subject.module, kwargs={**subject.kwargs, "use_cache": False})


SUBJECTS: dict[str, tuple[Callable[[], Subject], int]] = {
    "wasteful, n = 100": (lambda: FACTORIES["wasteful"](n=100), 15),
    "wasteful, n = 1,000": (lambda: FACTORIES["wasteful"](n=1_000), 9),
    "wasteful, n = 10,000": (lambda: FACTORIES["wasteful"](n=10_000), 5),
    "gpt2, 6 layers": (gpt2_without_cache, 9),
}


def plain(program: Program) -> object:
    return program.forward()


def recorded(program: Program) -> object:
    with recorder_of(program):
        return program.forward()


def captured(program: Program) -> object:
    recorder = recorder_of(program)
    with recorder:
        made = program.forward()
    graph, missing = capture_recorded(
        made.roots, program.leaves, meta=program.meta, attribution=recorder.attribution(), times=False
    )
    assert not missing
    return graph, made


def viewed(program: Program) -> object:
    import torchview

    subject = _subject(program)
    given = dict(subject.kwargs)
    if not subject.args:
        return torchview.draw_graph(subject.module, input_data=given, mode="train")
    return torchview.draw_graph(subject.module, input_data=subject.args, mode="train", **given)


def logged(program: Program) -> object:
    import torchlens

    subject = _subject(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torchlens.trace(subject.module, subject.args, dict(subject.kwargs))


def _subject(program: Program) -> Subject:
    assert program.subject is not None
    return program.subject


def seconds(call: Callable[[Program], object], program: Program) -> float:
    """CPU time, so that what else the machine does has no part in the ratios."""
    gc.collect()
    start = time.process_time()
    made = call(program)
    spent = time.process_time() - start
    del made
    drain()
    return spent


def lens_seconds(name: str) -> float | None:
    """The time of one call of TorchLens in a process of its own; None if it takes more than LONGEST."""
    module = "tests.benchmarks.test_recorders_side_by_side"
    code = f"from {module} import print_lens_seconds as run; run({name!r})"
    root = Path(__file__).parents[2]
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True, text=True, check=True, timeout=LONGEST,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return float(child.stdout.split()[-1])


def print_lens_seconds(name: str) -> None:
    """What the process of its own does."""
    torch.set_num_threads(1)
    logged(subject_program(FACTORIES["wasteful"](n=2)))
    print(seconds(logged, subject_program(SUBJECTS[name][0]())))


def is_there(module: str) -> bool:
    """Whether a tool is installed and can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def side_by_side(name: str) -> dict[str, float | str]:
    """Per tool its CPU time over that of the plain pass, medians of rounds in which the tools take turns."""
    make, rounds = SUBJECTS[name]
    program = subject_program(make())
    calls = {"plain": plain, "graphlens": recorded, "graphlens, with graph": captured}
    if is_there("torchview"):
        calls["torchview"] = viewed
    spent: dict[str, list[float]] = {tool: [] for tool in calls}
    for turn in range(rounds + 1):
        for tool, call in calls.items():
            taken = seconds(call, program)
            if turn:  # the first is the warm-up
                spent[tool].append(taken)
    medians = {tool: statistics.median(times) for tool, times in spent.items()}
    table: dict[str, float | str] = {"plain, seconds": medians["plain"]}
    table |= {tool: taken / medians["plain"] for tool, taken in medians.items() if tool != "plain"}
    table.setdefault("torchview", "not installed")
    table["TorchLens"] = "not installed"
    if is_there("torchlens"):
        lens = lens_seconds(name)
        table["TorchLens"] = f"over {LONGEST:.0f} s" if lens is None else lens / medians["plain"]
    return table


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_recording_costs_side_by_side(benchmark: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table: dict[str, float | str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.pedantic(lambda: table.update(side_by_side(name)), rounds=1)
    finally:
        torch.set_num_threads(threads)
    with capsys.disabled():
        cells = [f"{tool} {cell if isinstance(cell, str) else f'{cell:.3g}'}" for tool, cell in table.items()]
        print(f"\n{name}: " + " | ".join(cells))
    benchmark.extra_info.update(table)

    if float(table["plain, seconds"]) > 0.01:  # a shorter pass is outweighed by setting the recorder up, some 5 ms
        assert float(table["graphlens"]) < MOST
    for other in ("torchview", "TorchLens"):
        if not isinstance(table[other], str):
            assert float(table["graphlens, with graph"]) < float(table[other])

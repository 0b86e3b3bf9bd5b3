"""The examples run, and say what the exercise's exact values say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_homework_gives_the_reference_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    homework = load_example("homework")
    homework.task_a()
    curve = homework.task_b(tmp_path)
    inside = [slope for y, slope in zip(curve.points, curve.derivatives, strict=True) if abs(y) < 3.14]
    outside = [slope for y, slope in zip(curve.points, curve.derivatives, strict=True) if abs(y) > 3.15]
    assert set(inside) == {None}
    assert set(outside) == {1.0}
    assert b"None: no path to y" in (tmp_path / "soft-threshold.svg").read_bytes()
    trace = homework.task_c_d()
    assert numpy.allclose(trace.outputs["g"].numpy(), homework.G, rtol=1e-8)
    assert trace.loss == pytest.approx(homework.PHI, rel=1e-8)
    homework.task_e(trace)
    comparison = homework.task_f(trace)
    assert {row.name: (row.a, row.b) for row in comparison.gradients} == {
        "x": ("value", "value"),
        "A": ("value", "none"),
        "M": ("value", "value"),
    }
    lines = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert "1.4655 -3.786 -3.5641 -4.4875 -2.6368" in said
    assert re.search(r"None for 629 of 2001 points", said)


def test_demo_writes_everything_it_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # At n = 10,000 its longest command is run where README shows what it prints.
    load_example("demo").main(tmp_path / "demo", "--set n=500")
    captured = capsys.readouterr()
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {
        "compare.txt",
        "soft-threshold.svg",
        "wasteful.svg",
        "wasteful-raw.svg",
        "efficient-raw.svg",
        "wasteful.json",
        "efficient.json",
        "stats-wasteful.txt",
        "stats-wasteful.csv",
        "stats-efficient.txt",
        "stats-efficient.csv",
    } <= written
    for name in written:
        assert name in captured.out
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert "$ graphlens compare wasteful efficient --set n=500 > " in captured.err
    assert "1,515" in (tmp_path / "demo" / "compare.txt").read_text(encoding="utf-8")

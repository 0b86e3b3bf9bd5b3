"""A folder of targets to work in."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphlens.storage import save
from tests.builders import captured, lesson_loss, small_graph

USER = """
import torch

def build(*, n=2):
    x = torch.ones(3, requires_grad=True)
    y = x
    for _ in range(n):
        y = y.sin()
    return y.sum()

def module_with_a_rather_long_name_of_its_own(*, hidden_units=4):
    model = torch.nn.Sequential(torch.nn.Linear(3, hidden_units), torch.nn.Tanh(), torch.nn.Linear(hidden_units, 1))
    return model, (torch.ones(2, 3, requires_grad=True),)

def chatty():
    print("planted print")
    return build()

def nothing():
    return None

def raises():
    raise ValueError("planted")

def detached():
    return torch.nn.Linear(3, 1).requires_grad_(False), torch.ones(2, 3)

def interrupts():
    raise KeyboardInterrupt

def slow():
    import time
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: user.py, and the saved graphs small.json and wasteful.json."""
    monkeypatch.chdir(tmp_path)
    Path("user.py").write_text(USER)
    save(small_graph(), "small.json")
    save(captured(lambda: lesson_loss("wasteful", n=4)), "wasteful.json")
    return tmp_path

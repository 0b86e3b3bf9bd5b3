"""graphlens makes PyTorch's backward graph visible, countable and explainable.

The public names are loaded on first use, so that `import graphlens` is cheap: without them it
imports neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from graphlens.capture.build import capture as capture
    from graphlens.errors import GraphlensError as GraphlensError
    from graphlens.graph import GradGraph as GradGraph
    from graphlens.subject import Subject as Subject

_HOMES = {
    "GradGraph": "graphlens.graph",
    "GraphlensError": "graphlens.errors",
    "Subject": "graphlens.subject",
    "capture": "graphlens.capture.build",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphlens' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]

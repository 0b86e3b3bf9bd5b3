"""graphlens makes PyTorch's backward graph visible, countable and explainable.

The public names are loaded on first use, so that `import graphlens` is cheap: without them it
imports neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from graphlens.analyses.comparison import Comparison as Comparison
    from graphlens.analyses.counts import Stats as Stats
    from graphlens.analyses.explanation import Explanation as Explanation
    from graphlens.analyses.fold import FoldedGraph as FoldedGraph
    from graphlens.analyses.heat import NodeColumn as NodeColumn
    from graphlens.api import compare as compare
    from graphlens.api import fold as fold
    from graphlens.api import lesson as lesson
    from graphlens.api import render as render
    from graphlens.api import save as save
    from graphlens.api import stats as stats
    from graphlens.capture.build import capture as capture
    from graphlens.capture.trace import Trace as Trace
    from graphlens.capture.trace import trace as trace
    from graphlens.errors import GraphlensError as GraphlensError
    from graphlens.explaining import explain as explain
    from graphlens.graph import GradGraph as GradGraph
    from graphlens.storage import load as load
    from graphlens.subject import Subject as Subject
    from graphlens.views.picture import Picture as Picture

_HOMES = {
    "Comparison": "graphlens.analyses.comparison",
    "Explanation": "graphlens.analyses.explanation",
    "FoldedGraph": "graphlens.analyses.fold",
    "GradGraph": "graphlens.graph",
    "GraphlensError": "graphlens.errors",
    "NodeColumn": "graphlens.analyses.heat",
    "Stats": "graphlens.analyses.counts",
    "Subject": "graphlens.subject",
    "Trace": "graphlens.capture.trace",
    "Picture": "graphlens.views.picture",
    "capture": "graphlens.capture.build",
    "compare": "graphlens.api",
    "explain": "graphlens.explaining",
    "fold": "graphlens.api",
    "lesson": "graphlens.api",
    "load": "graphlens.storage",
    "render": "graphlens.api",
    "save": "graphlens.api",
    "stats": "graphlens.api",
    "trace": "graphlens.capture.trace",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphlens' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


class _Package(ModuleType):
    """Keeps the name `capture` for the function: importing the folder of that name would rebind it."""

    @property
    def capture(self) -> Any:
        return importlib.import_module(_HOMES["capture"]).capture

    @capture.setter
    def capture(self, folder: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package

"""The errors a user can meet. A message names the subject, the fact, and the way out."""

from __future__ import annotations


class GraphlensError(Exception):
    """Base of every error that graphlens raises on purpose; the CLI turns it into exit code 2."""


class GraphError(GraphlensError):
    """A graph breaks an invariant of the model, or a saved graph cannot be read."""


class NoGraphError(GraphlensError):
    """A tensor has no backward graph to capture."""


class TargetError(GraphlensError):
    """A target cannot be found, imported, built or run."""


class OutputError(GraphlensError):
    """A file cannot be written where the user asked for it."""


class DrawError(GraphlensError):
    """A picture cannot be drawn: too large, a missing program, or an unknown format."""


class MeasureError(GraphlensError):
    """A comparison or plot was asked for that this subject cannot give."""


class ProofError(GraphlensError):
    """A shorter program cannot be written in place of this one; the message says why."""

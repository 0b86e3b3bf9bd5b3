"""How graphs show themselves in a notebook: as their folded picture.

The model and the analyses know no view; this module is the one place that they ask, when a
notebook asks them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphlens.analyses.fold import FoldedGraph
    from graphlens.graph import GradGraph

# Folding and drawing so many nodes takes about a second; a notebook should not wait unasked.
_MOST_NODES = 50_000


def mimebundle(graph: GradGraph | FoldedGraph) -> dict[str, str]:
    """Plain text, and SVG unless the graph is large or cannot be drawn."""
    from graphlens.analyses.compose import Wish
    from graphlens.errors import DrawError
    from graphlens.graph import GradGraph
    from graphlens.views.picture import draw
    from graphlens.views.scene_dot import Look

    whole = graph if isinstance(graph, GradGraph) else graph.graph
    if len(whole) > _MOST_NODES:
        return {"text/plain": f"{graph!r}, not drawn unasked: graphlens.render(graph) draws it"}
    try:
        return draw(graph, Wish(), Look())._repr_mimebundle_()
    except DrawError as error:
        return {"text/plain": f"{graph!r}, not drawn: {error}"}

"""A captured graph in the formats of other tools: GraphML, GEXF and DOT."""

from __future__ import annotations

import io
import re

from graphlens.graph import GradGraph, Node, shape_text


def to_graphml(graph: GradGraph) -> bytes:
    """The graph as GraphML, with the model's attributes on nodes and edges."""
    import networkx as nx

    stream = io.BytesIO()
    nx.write_graphml_xml(graph.nx, stream)
    return stream.getvalue()


def to_gexf(graph: GradGraph) -> bytes:
    """The graph as GEXF, with the model's attributes on nodes and edges."""
    import networkx as nx

    stream = io.BytesIO()
    nx.write_gexf(graph.nx, stream)
    # NetworkX stamps today's date on the file; the same graph must give the same bytes.
    return re.sub(rb' lastmodifieddate="[^"]*"', b"", stream.getvalue())


def to_dot(graph: GradGraph) -> bytes:
    """The graph as DOT text, one box per node, with arrows the way of the forward pass."""
    lines = ["digraph graphlens {", "  node [shape=box]"]
    for number, node in enumerate(graph.nodes):
        shape = " shape=ellipse" if node.kind == "leaf" else ""
        lines.append(f"  {number} [label={_quoted(label(node))}{shape}]")
    lines += [f"  {edge.target} -> {edge.source}" for edge in graph.edges]
    lines.append("}")
    return ("\n".join(lines) + "\n").encode()


def label(node: Node) -> str:
    """What a box says: the leaf's name or the op, and the output's shape."""
    name = node.name or node.op
    return f"{name} {shape_text(node.shape)}".rstrip()


def _quoted(text: str) -> str:
    # Graphviz reads "&lt;" as "<", also between quotes.
    escaped = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

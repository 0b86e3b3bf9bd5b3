"""Read DOT texts and SVG pictures back, so that tests can assert on what was drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import networkx as nx
import torch

from graphlens.analyses.compose import Wish, compose
from graphlens.analyses.heat import NodeColumn, heat_of
from graphlens.analyses.scene import Scene
from graphlens.capture.build import capture
from graphlens.graph import GradGraph

SVG = "{http://www.w3.org/2000/svg}"


def graph_of(program: Callable[[], torch.Tensor], **names: torch.Tensor) -> GradGraph:
    torch.manual_seed(0)
    return capture(program(), names)


def scene_of(graph: GradGraph, heat: str | NodeColumn | None = None, **wish: object) -> Scene:
    return compose(graph, Wish(**wish), heat_of(graph, heat))  # type: ignore[arg-type]


def drawn(dot: str) -> nx.DiGraph:
    """The boxes of one of our DOT texts, with what stands in them, and the visible arrows between them."""
    graph = nx.DiGraph()
    for name, label in re.findall(r"^ *(b\w+) \[label=<(.*)> class=", dot, re.MULTILINE):
        graph.add_node(name, words=re.sub(r"<[^>]*>", " ", label.replace("&#160;", " ")).split())
    graph.add_edges_from(re.findall(r"^  (b\w+)[:a-z]* -> (b\w+)[:a-z]*(?: |$)(?!\[style=invis)", dot, re.MULTILINE))
    return graph


def texts(svg: str | bytes) -> str:
    """Every text of an SVG picture, as a reader can select it."""
    pieces = (element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))
    return " ".join(" ".join(pieces).replace("\u2060", "").split())


def loop(count: int) -> torch.Tensor:
    x = torch.ones(3, requires_grad=True)
    w = torch.ones(3, requires_grad=True)
    for _ in range(count):
        x = (x * w).sin()
    return x.sum()


def nested_loops() -> torch.Tensor:
    layer, x = torch.nn.Linear(4, 4), torch.randn(4)
    for _ in range(7):
        for _ in range(5):
            x = torch.tanh(layer(x))
        x = x * 2 + 1
    return x.sum()


def ensemble() -> tuple[torch.Tensor, torch.nn.ModuleList]:
    members = torch.nn.ModuleList(
        torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)) for _ in range(6)
    )
    x = torch.randn(2, 4)
    return torch.stack([member(x) for member in members]).sum(), members


def weighted(rounds: int) -> torch.Tensor:
    """A loop in which each round has a weight of its own, and all share another one."""
    own = [torch.ones(3, requires_grad=True) for _ in range(rounds)]
    shared, x = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    for weight in own:
        x = torch.sin(torch.exp(torch.tanh(x) * weight) + shared)
    return x.sum()

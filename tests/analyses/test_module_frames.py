"""Frames of modules: around all nodes of their calls and no others, and never through what repeats."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from graphlens.analyses.fold import FoldedGraph, fold
from graphlens.analyses.fold.labels import paths_label
from graphlens.analyses.module_frames import module_frames
from graphlens.analyses.scene import Expansion, Scene, SceneFrame, build_scene
from graphlens.capture.trace import trace
from graphlens.errors import DrawError, MeasureError
from graphlens.graph import Edge, GradGraph, ModuleCall, Node, Output
from tests.builders import recorded_graph, small_graph
from tests.drawing import scene_of


def recorded(module: Callable[..., Any], *inputs: Any, **options: Any) -> GradGraph:
    torch.manual_seed(0)
    graph = trace(module, *inputs, backward=False, **options).graph
    assert graph is not None
    return graph


def callers(graph: GradGraph, node: int) -> list[int]:
    """The calls that a node was made in."""
    found = []
    call = graph.nodes[node].call
    while call is not None:
        found.append(call)
        call = graph.calls[call].caller
    return found


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.act = torch.nn.Tanh()
        self.second = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.act(self.first(x)))


class Net(torch.nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.h = torch.nn.ModuleList(Block() for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.h:
            x = layer(x)
        return x.sum()


X = torch.ones(2, 4)
GROWING = torch.ones(2, 4, requires_grad=True)


def titles(scene: Scene) -> list[tuple[str, str, int, int]]:
    return [(frame.label, frame.module, frame.count, frame.nodes) for frame in scene.frames]


def test_equal_layers_are_drawn_once_with_their_modules_inside() -> None:
    scene = scene_of(recorded(Net(6), GROWING), group="module")

    # A layer: 4 leaves; T and Addmm twice; Tanh, Add. A map: 2 leaves, T and Addmm.
    assert titles(scene) == [
        ("h.0 … h.5", "Block", 6, 6 * 10),
        ("h.0…5.first", "Linear", 1, 6 * 4),
        ("h.0…5.second", "Linear", 1, 6 * 4),
    ]
    assert [frame.calls for frame in scene.frames] == [0, 6, 6]
    [act] = [box for box in scene.boxes if box.title == "Tanh"]
    assert (act.module, act.nodes, len(act.key.frames)) == ("h.0…5.act  Tanh", 6, 1)


def test_two_layers_that_are_not_worth_folding_have_frames_of_their_own() -> None:
    scene = scene_of(recorded(Net(1), GROWING), group="module")
    assert titles(scene) == [("h.0", "Block", 1, 10), ("h.0.first", "Linear", 1, 4), ("h.0.second", "Linear", 1, 4)]
    assert [box.key.frames for box in scene.boxes if box.title == "x"] == [()]  # an input belongs to no module


def test_depth_closes_what_lies_deeper_and_loses_nothing() -> None:
    graph = recorded(Net(6), GROWING)
    shut = scene_of(graph, group="module", depth=1)

    boxes = {box.title: (box.nodes, box.count, box.module) for box in shut.boxes if box.kind == "closed"}
    assert boxes == {"h.0…5.first": (24, 1, "Linear"), "h.0…5.second": (24, 1, "Linear")}
    [whole] = [box for box in scene_of(graph, group="module", depth=0).boxes if box.kind == "closed"]
    assert (whole.title, whole.nodes, whole.count, whole.module) == ("h.0 … h.5", 60, 6, "Block")
    assert len(scene_of(graph, group="module", max_boxes=len(shut.boxes)).boxes) == len(shut.boxes)


def test_a_closed_module_stands_where_its_ops_do_and_not_where_its_leaves_do() -> None:
    graph = recorded(torch.nn.Sequential(Exp(), torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)), GROWING)
    boxes = [box.title for box in scene_of(graph, group="module", depth=0).boxes]

    assert boxes == ["input", "Exp", "1", "2", "Sum", "output.sum()"]


def test_unrolled_each_layer_names_its_own_modules() -> None:
    scene = scene_of(recorded(Net(3), GROWING), group="module", expand="all")

    assert [frame.label for frame in scene.frames if frame.is_module] == [
        f"h.{k}.{name}" for k in range(3) for name in ("first", "second")
    ]  # fmt: skip
    assert {frame.calls for frame in scene.frames if frame.is_module} == {1}


def test_a_shared_leaf_stands_outside_and_one_of_a_single_module_inside() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into = torch.nn.Linear(4, 4, bias=False)
            self.out = torch.nn.Linear(4, 4)
            self.out.weight = self.into.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.into(x).exp().sin()).sum()

    scene = scene_of(recorded(Tied(), GROWING), group="module")
    labels = {frame.frames: frame.label for frame in scene.frames}

    leaves = {
        box.title: [labels[box.key.frames]] if box.key.frames else [] for box in scene.boxes if box.kind == "leaf"
    }
    assert leaves == {"into.weight": [], "out.bias": ["out"], "x": []}


def test_calls_that_go_through_an_iteration_have_no_frame() -> None:
    class Shifted(torch.nn.Module):
        """Exp, sin, exp, sin …, in rounds of two that begin with a sin: three modules make it, none of them in step."""

        def __init__(self) -> None:
            super().__init__()
            self.some = Rounds(5)
            self.others = Rounds(7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.others(self.some(x).exp().sin()).cos().sum()

    graph = recorded(Shifted(), GROWING)
    assert labels(graph) == [(13, "Exp · Sin")]
    assert [frame.module for frame in scene_of(graph, group="module").frames] == [""]


def test_a_frame_stands_only_for_iterations_that_all_call_such_a_module() -> None:
    class Sometimes(torch.nn.Module):
        def __init__(self, *parts: torch.nn.Module) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(parts)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for k in range(6):
                x = (self.parts[k % len(self.parts)](x) if k != 3 else x.exp().sin()) * 2
            return x.sum()

    whole, cut = (scene_of(recorded(module, GROWING), group="module") for module in (Block0(), Sometimes(Rounds(1))))
    assert [(frame.count, frame.module, frame.nodes) for frame in whole.frames] == [(6, "", 18), (1, "Rounds", 12)]
    assert [(frame.count, frame.module, frame.nodes) for frame in cut.frames] == [(6, "", 18)]


class Block0(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Rounds(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(6):
            x = self.part(x) * 2
        return x.sum()


class Twice(torch.nn.Module):
    """The same ops as Rounds(1), in another class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp().sin()


def test_modules_of_different_classes_are_not_told_as_one() -> None:
    equal = torch.nn.Sequential(*(Rounds(1) for _ in range(6)))
    mixed = torch.nn.Sequential(*(Twice() if k % 2 else Rounds(1) for k in range(6)))

    assert titles(scene_of(recorded(equal, GROWING), group="module")) == [("0 … 5", "Rounds", 6, 12)]
    assert titles(scene_of(recorded(mixed, GROWING), group="module")) == [("0 … 5", "", 6, 12)]


def test_calls_that_take_turns_as_those_of_two_threads_have_no_frame() -> None:
    calls = [ModuleCall("a", "A", 1), ModuleCall("b", "B", 1), ModuleCall("c", "C", 1)]
    ops = [("Sin", 0), ("Exp", 1), ("Cos", 0), ("Tan", 1), ("Tanh", 2), ("Abs", 2)]
    nodes = [Node("AccumulateGrad", "leaf", name="w")]
    nodes += [Node(f"{op}Backward0", seq=k, call=call) for k, (op, call) in enumerate(ops)]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(len(ops))]
    graph = GradGraph(nodes, edges, outputs=[Output("y", len(ops), 0, (), "float32")], calls=calls).check()

    assert titles(scene_of(graph, group="module")) == [("c", "C", 1, 2)]


class Rounds(torch.nn.Module):
    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.rounds):
            x = x.exp().sin()
        return x


class Exp(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()


class Sin(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sin()


def module_steps(folded: FoldedGraph) -> dict[int, dict[int, set[int]]]:
    """Per frame of a module the nodes in it, by call."""
    modules = module_frames(folded)
    found: dict[int, dict[int, set[int]]] = {}
    for node, path in enumerate(modules.paths):
        for number, call in path:
            if number >= modules.first:
                found.setdefault(number, {}).setdefault(call, set()).add(node)
    return found


def check_frames(graph: GradGraph) -> int:
    """Every frame of a module holds all nodes of its calls and no others; how many frames there are."""
    folded = fold(graph).check()
    modules = module_frames(folded)
    steps = module_steps(folded)
    made: dict[int, set[int]] = {}
    for node in range(len(graph)):
        for call in callers(graph, node):
            made.setdefault(call, set()).add(node)
    for number, calls in steps.items():
        assert len({graph.calls[call].kind for call in calls}) == 1
        for call, nodes in calls.items():
            assert nodes == made[call], (number, graph.calls[call])
    for node, call in modules.singles.items():
        assert made[call] == {node}
    for group, kind in modules.kinds.items():
        for iteration in range(folded.groups[group].count):
            inside = {n for n in range(len(graph)) if (group, iteration) in folded.path(n)}
            calls = [call for call, nodes in made.items() if nodes <= inside and graph.calls[call].kind == kind]
            assert any(made[call] == inside for call in calls) or len(folded.path(min(inside))) > 1
    for depth in range(modules.depth + 1):
        check_scene(graph, build_scene(folded, Expansion(depth=depth), None, modules))
    everything = Expansion(unrolled=frozenset(range(len(folded.groups))))
    check_scene(graph, build_scene(folded, everything, None, modules))
    return len(steps)


def check_scene(graph: GradGraph, scene: Scene) -> None:
    boxes = [box for box in scene.boxes if box.kind != "output"]
    assert sum(box.nodes for box in boxes) == len(graph)
    assert sum(box.storage_bytes for box in boxes) == sum(row.storage_bytes for row in graph.saved_by_node())
    for frame in scene.frames:
        inside = [box for box in boxes if box.key.frames[: len(frame.frames)] == frame.frames]
        assert frame.nodes == sum(box.nodes for box in inside)
        assert frame.storage_bytes == sum(box.storage_bytes for box in inside)
    shown = sum(arrow.edges for arrow in scene.arrows if arrow.later.what != "output")
    assert shown <= len(graph.edges)
    if not any(box.kind == "closed" for box in boxes):
        assert shown == len(graph.edges)


class Random(torch.nn.Module):
    """Calls its children and ops in a random order, some of them again and again."""

    def __init__(self, draw: random.Random, depth: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        children = [Random(draw, depth - 1) for _ in range(draw.randrange(1, 4))] if depth else []
        self.inner = torch.nn.ModuleList(children)
        choice = ("sin", "scale", "skip", "inner", "inner", "inner")
        self.steps = [(draw.choice(choice), draw.choice((1, 1, 2, 5))) for _ in range(draw.randrange(2, 6))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step, times in self.steps:
            if step == "inner" and self.inner:
                inner = self.inner[len(step) * times % len(self.inner)]
                for _ in range(times):
                    x = inner(x)
            elif step == "skip":
                x = x + x.exp()
            else:
                x = x * self.weight if step == "scale" else x.sin()
        return x


@pytest.mark.parametrize("seed", range(40))
def test_random_modules(seed: int) -> None:
    check_frames(recorded(Random(random.Random(seed), 3), torch.ones(3, requires_grad=True)))


def test_the_random_modules_have_frames() -> None:
    graphs = [recorded(Random(random.Random(seed), 3), torch.ones(3, requires_grad=True)) for seed in range(10)]
    assert sum(len(module_steps(fold(graph))) for graph in graphs) > 10
    assert sum(len(fold(graph).groups) for graph in graphs) > 5


def transformer(name: str, **config: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    transformers = pytest.importorskip("transformers")
    kind = name.removesuffix("LMHeadModel").removesuffix("ForConditionalGeneration")
    tokens = torch.arange(8)[None]
    model = getattr(transformers, name)(getattr(transformers, f"{kind}Config")(vocab_size=50, **config))
    return model, {"input_ids": tokens, "labels": tokens}


@cache
def gpt2() -> GradGraph:
    model, inputs = transformer(
        "GPT2LMHeadModel", n_layer=12, n_embd=16, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1
    )
    return recorded(model, **inputs)


@cache
def t5() -> GradGraph:
    model, inputs = transformer(
        "T5ForConditionalGeneration", num_layers=4, num_decoder_layers=4, d_model=16, d_ff=32, num_heads=2, d_kv=8,
        decoder_start_token_id=0,
    )  # fmt: skip
    return recorded(model, **inputs)


def matching(label: str) -> re.Pattern[str]:
    """The paths that a label stands for, and what lies below: "h.0…11.attn" for h.0.attn … h.11.attn."""
    pieces = []
    for piece in label.split("."):
        first, dots, last = piece.partition("…")
        numbers = "|".join(map(str, range(int(first), int(last) + 1))) if dots else re.escape(piece)
        pieces.append(f"({numbers})")
    return re.compile(rf"{'[.]'.join(pieces)}([.].*)?")


def nodes_in(graph: GradGraph, frame: SceneFrame) -> int:
    """The nodes whose module's path says that they are in a frame, and the leaves that nothing else reads."""
    pattern = matching(frame.label)
    inside = {
        n
        for n, node in enumerate(graph.nodes)
        if node.call is not None and pattern.fullmatch(graph.calls[node.call].path)
    }
    readers: dict[int, set[int]] = {}
    for edge in graph.edges:
        readers.setdefault(edge.target, set()).add(edge.source)
    leaves = {n for n, node in enumerate(graph.nodes) if node.kind == "leaf" and readers[n] <= inside}
    return len(inside | leaves)


@pytest.mark.parametrize("build", [gpt2, t5])
def test_frames_of_transformers_hold_what_the_paths_say(build: Callable[[], GradGraph]) -> None:
    graph = build()
    scene = scene_of(graph, group="module")
    own = [frame for frame in scene.frames if frame.is_module and "(" not in frame.label]

    assert len(own) > 8
    for frame in own:
        assert frame.nodes == nodes_in(graph, frame), frame.label
    assert check_frames(graph) >= len(own)


def test_gpt2_says_whose_layers_they_are() -> None:
    frames = {
        frame.label: (frame.module, frame.calls, frame.count) for frame in scene_of(gpt2(), group="module").frames
    }

    assert frames["transformer.h.0 … transformer.h.11"] == ("GPT2Block", 0, 12)
    assert frames["transformer.h.0…11.attn"] == ("GPT2Attention", 12, 1)
    assert frames["transformer.h.0…11.mlp.c_fc"] == ("Conv1D", 12, 1)
    assert frames["transformer"] == ("GPT2Model", 1, 1)
    assert "(GPT2LMHeadModel)" not in frames


def test_without_modules_nothing_changes() -> None:
    scene = scene_of(gpt2())
    assert not any(frame.is_module or frame.module for frame in scene.frames)
    assert not any(box.module for box in scene.boxes)


# What groups are called


def labels(graph: GradGraph) -> list[tuple[int, str]]:
    return [(group.count, group.label) for group in fold(graph).groups]


@pytest.mark.parametrize(
    ("paths", "label"),
    [
        (["a.b"], "a.b"),
        (["a.b", "a.b"], "a.b"),
        (["h.0.f", "h.1.f", "h.2.f"], "h.0…2.f"),
        (["h.0.q", "h.0.k", "h.1.q", "h.1.k"], "h.0…1.{q, k}"),
        (["h.0.q", "h.1.k"], "h.0.q … h.1.k"),  # not each of two with each of two
        (["a", "b.c"], "a … b.c"),
        ([f"m.{name}" for name in ("a", "b", "c", "d", "e")], "m.a…e"),
    ],
)
def test_names_of_several_modules(paths: list[str], label: str) -> None:
    assert paths_label(paths) == label


def test_a_loop_over_one_module_is_called_like_it() -> None:
    class Again(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Exp()
            self.pair = torch.nn.Sequential(Exp(), Sin())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(9):
                x = self.cell(x)
            for _ in range(7):
                x = self.pair(x.cos())
            return x.sum()

    assert labels(recorded(Again(), GROWING)) == [(7, "Cos · pair"), (9, "cell")]


def test_layers_without_parameters_are_called_by_their_paths() -> None:
    layers = torch.nn.Sequential(*(torch.nn.Sequential(Exp(), Sin()) for _ in range(5)))

    assert labels(recorded(layers, GROWING)) == [(5, "0 … 4")]
    assert labels(recorded(torch.nn.Sequential(Exp(), layers), GROWING)) == [(5, "1.0 … 1.4")]


def test_ops_inside_one_call_are_called_by_their_ops() -> None:
    class Loop(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(6):
                x = x.exp().sin()
            return x.sum()

    assert labels(recorded(torch.nn.Sequential(Loop()), GROWING)) == [(6, "Exp · Sin")]
    assert labels(recorded(lambda x: Loop()(x), GROWING)) == [(6, "Exp · Sin")]


def test_a_call_that_makes_two_iterations_names_none_of_them() -> None:
    class Pairs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Rounds(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(4):
                x = self.part(x)
            return x.cos().sum()

    assert labels(recorded(Pairs(), GROWING)) == [(8, "Exp · Sin")]


def test_many_ops_are_counted_as_ops_and_many_modules_as_steps() -> None:
    def round_of_six(x: torch.Tensor) -> torch.Tensor:
        return x.exp().sin().cos().tanh().sigmoid().abs()

    class Six(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in "abcde":
                setattr(self, name, Exp() if name in "ace" else Sin())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(5):
                x = round_of_six(x)
            x = x.cos()
            for _ in range(4):
                x = self.e(self.d(self.c(self.b(self.a(x)))).relu())
            return x.sum()

    assert sorted(labels(recorded(Six(), GROWING))) == [
        (4, "a · b · c · d … (6 steps)"),
        (5, "Exp · Sin · Cos · Tanh … (6 ops)"),
    ]


def test_modules_of_no_common_name_are_called_by_their_ops() -> None:
    class Zoo(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("ape", "bee", "cat", "dog"):
                setattr(self, name, torch.nn.Sequential(torch.nn.Sequential(Exp(), Sin())))
            self.order = [self.ape, self.bee[0], self.cat, self.dog]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for module in self.order:
                x = module(x)
            return x.sum()

    assert labels(recorded(Zoo(), GROWING)) == [(4, "Exp · Sin")]


# Refusals


def test_what_was_not_recorded_is_refused() -> None:
    with pytest.raises(MeasureError, match=r"^grouping by module needs to know where the nodes come from"):
        scene_of(small_graph(), group="module")


def test_a_graph_without_modules_and_a_raw_picture_have_none() -> None:
    with pytest.raises(DrawError, match="no module was called in the forward pass"):
        scene_of(recorded(lambda x: x.exp().sum(), GROWING), group="module")
    with pytest.raises(DrawError, match="a raw picture has no frames"):
        scene_of(recorded_graph(), group="module", expand="raw")


# Lines and times of boxes


def test_boxes_know_their_lines_and_times() -> None:
    graph = recorded_graph()
    boxes = {box.title: box for box in scene_of(graph).boxes}

    assert [str(line) for line in boxes["Mul"].lines] == ["lib/scale.py:7 (forward)"]
    assert (boxes["Mul"].spent_ns, boxes["Exp"].spent_ns, boxes["Exp"].untimed) == (1_000, None, 1)
    assert boxes["Sum"].lines == boxes["x"].lines == ()
    closed = next(box for box in scene_of(recorded(Net(6), GROWING), depth=0).boxes if box.kind == "closed")
    assert [line.function for line in closed.lines] == ["Block.forward"]

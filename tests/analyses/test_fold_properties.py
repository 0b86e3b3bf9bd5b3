"""Random programs with planted loops, and random graphs with none."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphlens.analyses.fold import fold
from graphlens.graph import Edge, GradGraph, Node, Output, SavedTensor
from tests.analyses.fold_checker import shape, verify


@dataclass
class Program:
    """Writes a graph as a forward pass would: leaves on first use, functions one by one."""

    leaves: list[str] = field(default_factory=list)
    functions: list[tuple[str, tuple[tuple[str, int], ...]]] = field(default_factory=list)
    ports: dict[tuple[int, int], int] = field(default_factory=dict)  # (function, slot) → port, 0 elsewhere

    def leaf(self, name: str) -> tuple[str, int]:
        if name not in self.leaves:
            self.leaves.append(name)
        return "leaf", self.leaves.index(name)

    def op(self, op: str, *sources: tuple[str, int]) -> tuple[str, int]:
        self.functions.append((op, sources))
        return "function", len(self.functions) - 1

    def graph(self) -> GradGraph:
        """Everything that nobody reads goes into a last node."""
        used = {source for _, sources in self.functions for source in sources}
        every = [("function", k) for k in range(len(self.functions))]
        self.op("Collect", *(node for node in every if node not in used))
        shift = len(self.leaves)
        nodes = [Node("AccumulateGrad", "leaf", None, name, (4,), "float32") for name in self.leaves]
        edges, saved = [], []
        for number, (op, sources) in enumerate(self.functions):
            nodes.append(Node(op, "function", number, "", (4,), "float32"))
            links: dict[int, list[int]] = {}
            for slot, (kind, index) in enumerate(sources):
                links.setdefault(index + (shift if kind == "function" else 0), []).append(slot)
            for target in sorted(links):
                slots = tuple(links[target])
                ports = tuple(self.ports.get((number, slot), 0) for slot in slots)
                edges.append(Edge(number + shift, target, slots, ports))
            saved.append(SavedTensor(number + shift, "result", (4,), "float32", "cpu", 16, number, 16, "intermediate"))
        return GradGraph(nodes, edges, saved, (), [Output("y", len(nodes) - 1, 0, (4,), "float32")]).check()


OPS = st.sampled_from(["Mul", "Add", "Tanh", "Exp"])
READS = st.sampled_from(["nothing", "shared", "own", "hub"])
STEP = st.tuples(st.just("step"), OPS, READS | st.sampled_from(["port", "back 2", "back 3", "back 5", "far 7"]))
BLOCK = st.recursive(
    st.lists(STEP, min_size=1, max_size=4),
    lambda inner: st.lists(
        st.one_of(
            STEP,
            st.tuples(st.just("loop"), st.integers(2, 6), inner),
            st.tuples(st.just("branches"), st.integers(2, 5), inner),
        ),
        min_size=1,
        max_size=4,
    ),
    max_leaves=12,
)


def run(program: Program, block: list[tuple], state: tuple[str, int], hub: tuple[str, int]) -> tuple[str, int]:
    for item in block:
        if item[0] == "loop":
            for _ in range(item[1]):
                state = run(program, item[2], state, hub)
        elif item[0] == "branches":
            state = program.op("Stack", *(run(program, item[2], state, hub) for _ in range(item[1])))
        else:
            _, op, reads = item
            state = program.op(op, state, *_extra(program, op, reads, hub))
    return state


def _extra(program: Program, op: str, reads: str, hub: tuple[str, int]) -> list[tuple[str, int]]:
    if reads == "nothing":
        return []
    if reads == "shared":
        return [program.leaf(f"shared.{op}")]
    if reads == "own":
        return [program.leaf(f"own.{len(program.leaves)}.{op}")]
    if reads.startswith(("back", "far")):
        if reads.startswith("far"):  # another output of one of a few nodes
            program.ports[len(program.functions), 1] = len(program.ports) % 3
        return [("function", max(0, len(program.functions) - int(reads[-1])))]
    if reads == "port":  # as in a loop over the elements of one tensor
        program.ports[len(program.functions), 1] = len(program.ports)
    return [hub]


# Read from the second op on, six rounds look alike; the first has another reader, and without it the
# others no longer read "what was made three rounds before", but twice a Tanh and once a Mul.
CUT_APART: list[tuple] = [
    ("step", "Mul", "nothing"),
    ("step", "Tanh", "shared"),
    ("loop", 6, [("step", "Mul", "back 5"), ("step", "Mul", "own")]),
    (
        "loop",
        2,
        [("step", "Mul", "back 5"), ("step", "Tanh", "shared"), ("step", "Mul", "nothing"), ("step", "Tanh", "shared")],
    ),
]


@settings(max_examples=300, deadline=None)
@example([("loop", 2, CUT_APART)], [])
@given(BLOCK, st.lists(st.integers(0, 1000), max_size=3))
def test_nested_programs_fold_without_loss(block: list[tuple], taps: list[int]):
    program = Program()
    hub = program.op("Hub", program.leaf("x"))
    run(program, block, hub, hub)
    for tap in taps:
        program.op("Tap", ("function", tap % len(program.functions)))
    graph = program.graph()
    result = verify(fold(graph))
    assert fold(graph) == result
    assert result.boxes() <= len(graph) + 1


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5), st.integers(5, 12), st.lists(READS, min_size=5, max_size=5), st.integers(0, 3), st.integers(0, 3)
)
def test_a_planted_loop_is_found(size: int, count: int, reads: list[str], before: int, after: int):
    program = Program()
    hub = state = program.op("Hub", program.leaf("x"))
    state = run(program, [("step", f"Before{k}", "nothing") for k in range(before)], state, hub)
    body = [("step", f"Op{k}", reads[k]) for k in range(size)]
    state = run(program, [("loop", count, body)], state, hub)
    run(program, [("step", f"After{k}", "nothing") for k in range(after)], state, hub)
    result = verify(fold(program.graph()))
    assert [(group.count, group.period) for group in result.groups] == [(count, size)]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(5, 7), st.integers(5, 7), READS, READS)
def test_planted_nested_loops_are_found(outer: int, inner: int, rounds: int, steps: int, a: str, b: str):
    program = Program()
    hub = program.op("Hub", program.leaf("x"))
    within = [("step", f"Inner{k}", a) for k in range(inner)]
    body = [*(("step", f"Outer{k}", b) for k in range(outer)), ("loop", steps, within)]
    run(program, [("loop", rounds, body)], hub, hub)
    assert shape(verify(fold(program.graph()))) == [(rounds, None), (steps, 0)]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5), st.integers(9, 14), st.data())
def test_an_altered_iteration_is_never_merged(size: int, count: int, data: st.DataObject):
    odd = data.draw(st.integers(0, count - 1))
    how = data.draw(st.sampled_from(["op", "leaf", "hub", "twice"]))
    program = Program()
    hub = state = program.op("Hub", program.leaf("x"))
    altered = -1
    for iteration in range(count):
        for k in range(size):
            sources = [state, program.leaf(f"w.{k}")]
            op = f"Op{k}"
            if iteration == odd and k == size // 2:
                op = "Odd" if how == "op" else op
                if how != "op":
                    sources[1] = program.leaf("odd") if how == "leaf" else hub if how == "hub" else state
                altered = len(program.functions)
            state = program.op(op, *sources)
    graph = program.graph()
    result = verify(fold(graph))
    number = altered + len(program.leaves)
    members = result.members[result.box_of[number]]
    # The first iteration reads its values from outside, so there an input of another kind may be no difference.
    if not (odd == 0 and how in ("hub", "twice")):
        assert members == (number,)
    assert max(group.count for group in result.groups) >= (count - 1) // 2 - 1


@settings(max_examples=300, deadline=None)
@example([(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (3, 0), (2, 1)], 1)  # each like the one before, not all alike
@example([(1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (6, 1), (0, 0), (0, 1)], 2)  # outputs of two nodes, then of one
@example([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)], 2)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=40), st.integers(1, 3))
def test_readers_of_several_outputs_are_told_apart(reads: list[tuple[int, int]], size: int):
    program = Program()
    hub = program.op("Hub", program.leaf("x"))
    split = [program.op("Unbind", hub) for _ in range(8)]
    state = hub
    for step, (node, port) in enumerate(reads):
        program.ports[len(program.functions), 1] = port
        state = program.op(f"Op{step % size}", state, split[node])
    verify(fold(program.graph()))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_graphs_fold_without_loss(data: st.DataObject):
    program = Program()
    nodes = [program.leaf("x"), program.leaf("y"), program.op("Hub", program.leaf("x"), program.leaf("y"))]
    alphabet = data.draw(st.sampled_from([["Add"], ["Add", "Mul"], ["Add", "Mul", "Tanh", "Exp"]]))
    near = data.draw(st.integers(1, 6))
    for _ in range(data.draw(st.integers(1, 60))):
        picks = data.draw(st.lists(st.integers(1, near), min_size=1, max_size=2))
        sources = [nodes[-min(pick, len(nodes))] for pick in picks]
        nodes.append(program.op(data.draw(st.sampled_from(alphabet)), *sources))
    verify(fold(program.graph()))

"""Counts per module and per line of code, against arithmetic by hand and against autograd's sequence numbers."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import torch

from graphlens.analyses.counts import Row, SavedKind, stats
from graphlens.analyses.places import module_calls, modules, short_lines
from graphlens.capture.trace import trace
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph, ModuleCall, Source
from tests.builders import recorded_graph, small_graph


def test_by_module_by_hand() -> None:
    assert {row.key: row for row in stats(recorded_graph(), "module").rows} == {
        # Mul and Sin of both calls, and the leaf; storages 0 (24 B), 1 (24 B) and 2 (100 B) show there first.
        "a.0": Row("a.0", 3, 4, 96, 3, 148, 0, False, 0, 2, 4_000, 0),
        # Its Exp saves storage 2, counted already, and 3.
        "a.1": Row("a.1", 1, 2, 48, 1, 24, 0, False, 0, 1, None, 1),
        # Add; and the leaf list.0, since no call of a module named list was seen.
        "(Net)": Row("(Net)", 2, 1, 24, 1, 24, 0, False, 0, 1, 3_000, 0),
        "(inputs)": Row("(inputs)", 1, 0, 0, 0, 0, 0, False),
        "(outside modules)": Row("(outside modules)", 1, 0, 0, 0, 0, 0, False, untimed=1),
    }


def test_paths_cut_to_a_depth_hold_what_lies_deeper() -> None:
    rows = {row.key: row for row in stats(recorded_graph(), "module", depth=1).rows}

    # a is a list that is never called: what is in it was called three times from outside.
    assert rows["a"] == Row("a", 4, 6, 144, 4, 172, 0, False, 0, 3, 4_000, 1)
    assert set(rows) == {"a", "(Net)", "(inputs)", "(outside modules)"}
    assert stats(recorded_graph(), "module", depth=2).rows == stats(recorded_graph(), "module").rows


def test_a_parameter_whose_module_nobody_called_is_outside() -> None:
    graph = recorded_graph()
    calls = [call._replace(path=call.path or "net") for call in graph.calls]  # as if a function called them
    other = GradGraph(graph.nodes, graph.edges, graph.saved, graph.inputs, graph.outputs, {}, graph.sources, calls)

    assert modules(other.check()) == [
        "a.0", "(inputs)", "(outside modules)", "a.0", "a.0", "a.1", "net", "(outside modules)",
    ]  # fmt: skip


def test_by_source_by_hand() -> None:
    assert {row.key: row for row in stats(recorded_graph(), "source").rows} == {
        "lib/scale.py:7 (forward)": Row("lib/scale.py:7 (forward)", 2, 4, 96, 3, 148, 0, False, 0, None, 4_000),
        "other/scale.py:9 (forward)": Row(
            "other/scale.py:9 (forward)", 1, 2, 48, 1, 24, 0, False, 0, None, None, 1
        ),
        "lib/net.py:3 (Net.forward)": Row("lib/net.py:3 (Net.forward)", 1, 1, 24, 1, 24, 0, False, 0, None, 3_000),
        "(leaves)": Row("(leaves)", 3, 0, 0, 0, 0, 0, False),
        "(no line recorded)": Row("(no line recorded)", 1, 0, 0, 0, 0, 0, False, untimed=1),
    }  # fmt: skip


def test_saved_tensors_by_kind_by_hand() -> None:
    def kind(key: str, role: str, tensors: int, storages: int, size: int) -> SavedKind:
        return SavedKind(key, "float32", (2, 3), role, tensors, 24 * tensors, storages, size, 0)

    assert stats(recorded_graph(), "source", tensors=True).tensors == (
        kind("lib/scale.py:7 (forward)", "intermediate", 1, 1, 100),
        kind("lib/scale.py:7 (forward)", "parameter", 2, 1, 24),  # both show one storage
        kind("lib/net.py:3 (Net.forward)", "intermediate", 1, 1, 24),
        kind("lib/scale.py:7 (forward)", "input", 1, 1, 24),
        kind("other/scale.py:9 (forward)", "constant", 1, 1, 24),
        kind("other/scale.py:9 (forward)", "intermediate", 1, 0, 0),  # an earlier one holds it
    )
    assert stats(recorded_graph(), "source").tensors is None


@pytest.mark.parametrize("sort", ["storage", "nodes", "saved", "time", "key"])
@pytest.mark.parametrize("by", ["op", "module", "source"])
def test_rows_and_kinds_sum_to_the_total(by: str, sort: str) -> None:
    for graph in (recorded_graph(), gpt2_trace().graph):
        table = stats(graph, by, sort, tensors=True)
        for name in ("nodes", "saved_tensors", "saved_bytes", "storages", "storage_bytes", "unknown", "untimed"):
            assert sum(getattr(row, name) for row in table.rows) == getattr(table.total, name)
        assert sum(row.forward_ns or 0 for row in table.rows) == table.total.forward_ns
        assert table.tensors is not None
        assert sum(kind.tensors for kind in table.tensors) == table.total.saved_tensors
        assert sum(kind.saved_bytes for kind in table.tensors) == table.total.saved_bytes
        assert sum(kind.storages for kind in table.tensors) == table.total.storages
        assert sum(kind.storage_bytes for kind in table.tensors) == table.total.storage_bytes


def test_the_slowest_first_and_numbers_in_their_order() -> None:
    assert [row.forward_ns for row in stats(recorded_graph(), "module", "time").rows] == [
        4_000,
        3_000,
        None,
        None,
        None,
    ]
    keys = [row.key for row in stats(gpt2_trace().graph, "module", "key", depth=3).rows]
    assert [key for key in keys if key.startswith("transformer.h.")] == [f"transformer.h.{k}" for k in range(12)]


@pytest.mark.parametrize("by", ["module", "source"])
def test_a_graph_that_was_not_recorded_is_refused_in_one_line(by: str) -> None:
    with pytest.raises(MeasureError, match=f"^counting by {by} needs to know where the nodes come from") as caught:
        stats(small_graph(), by)
    assert "graphlens.trace(model, inputs)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 2, "by": "op"}, {"depth": True}])
def test_a_depth_without_modules_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="depth is a whole number ≥ 1 and goes with by='module'"):
        stats(recorded_graph(), **{"by": "module", **options})  # type: ignore[arg-type]


def test_calls_of_a_container_and_of_a_module_that_calls_itself() -> None:
    calls = [
        ModuleCall("", "Net", 1),
        ModuleCall("h.0", "Block", 1, 0),
        ModuleCall("h.0.f", "Linear", 1, 1),
        ModuleCall("h.1", "Block", 1, 0),
        ModuleCall("r", "Again", 1, 0),
        ModuleCall("r", "Again", 2, 4),
    ]
    graph = GradGraph((), (), calls=calls)

    assert module_calls(graph) == {"(Net)": 1, "h.0": 1, "h.0.f": 1, "h.1": 1, "r": 2}
    assert module_calls(graph, 1) == {"(Net)": 1, "h": 2, "r": 2}  # h.0.f was called from inside of h


def test_files_are_shown_as_short_as_tells_them_apart() -> None:
    files = ["a/model.py", "b/model.py", "a/other.py", "deep/er/a/model.py", "<stdin>", "/abs.py"]
    graph = GradGraph((), (), sources=[Source(file, 1, "f") for file in files])

    assert [text.removesuffix(":1 (f)") for text in short_lines(graph).values()] == [
        "a/model.py", "b/model.py", "other.py", "er/a/model.py", "<stdin>", "abs.py",
    ]  # fmt: skip


# Against what autograd and the modules themselves say


def gpt2() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=12, n_head=2, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    tokens = torch.arange(12).reshape(2, 6)
    return transformers.GPT2LMHeadModel(config), {"input_ids": tokens, "labels": tokens}


_TRACES = {}


def gpt2_trace():
    if not _TRACES:
        model, inputs = gpt2()
        _TRACES["gpt2"] = trace(model, **inputs, backward=False, times=True)
    return _TRACES["gpt2"]


def test_nodes_and_storages_per_module_are_those_that_hooks_and_sequence_numbers_tell() -> None:
    model, inputs = gpt2()
    spans: list[tuple[str, int, int]] = []
    opened: list[int] = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_: opened.append(torch.autograd._get_sequence_nr()))
        module.register_forward_hook(
            lambda *_, name=name: spans.append((name, opened.pop(), torch.autograd._get_sequence_nr()))
        )
    loss = model(**inputs).loss
    nodes, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [below for below, _ in node.next_functions]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected: Counter[str] = Counter()
    order = []
    for node in nodes:
        if hasattr(node, "variable"):
            expected[names[id(node.variable)].rpartition(".")[0]] += 1
        else:
            number = node._sequence_nr()
            # A hook of an inner module is called first: the first span around a number is the innermost.
            name = next(name for name, first, end in spans if first <= number < end)
            expected[name] += 1
            order.append((number, name, node))
    held: Counter[str] = Counter()
    seen = set()
    for _, name, node in sorted(order, key=lambda item: item[0]):
        for slot in dir(node):
            value = getattr(node, slot) if slot.startswith("_saved_") else None
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in seen:
                seen.add(value.untyped_storage().data_ptr())
                held[name] += value.untyped_storage().nbytes()

    table = stats(gpt2_trace().graph, "module")
    rows = {row.key: row for row in table.rows}

    assert {("" if key == "(GPT2LMHeadModel)" else key): row.nodes for key, row in rows.items()} == expected
    for path in ("transformer.h.3.mlp.c_fc", "transformer.h.7.attn.c_attn", "transformer.ln_f"):
        assert rows[path].storage_bytes == held[path] > 0
    deep = {row.key: row for row in stats(gpt2_trace().graph, "module", depth=3).rows}
    below = defaultdict(int)
    for path, count in expected.items():
        below[".".join(path.split(".")[:3])] += count
    assert {("" if key == "(GPT2LMHeadModel)" else key): row.nodes for key, row in deep.items()} == below
    assert {row.calls for row in table.rows} == {1}

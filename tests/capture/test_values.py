"""Value numbers: what a value was computed from, against element-wise bookkeeping and by hand."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from graphlens.capture.record import Recorder
from graphlens.capture.values import Values
from graphlens.flow import DIFFERENTIABLE, LEAF, PYTHON, REQUIRES_GRAD, UNSEEN, Flow

NAMES = ("a", "b", "c", "d")


def reaches(flow: Flow, end: int) -> set[str]:
    """The leaves that a value was computed from."""
    needed = {end}
    for step in reversed(flow.steps):
        if needed.intersection(step.outputs):
            needed.update(step.inputs, step.written)
    return {name for name, number in flow.leaves.items() if number in needed}


def dependencies(program: Callable[..., Mapping[str, torch.Tensor]], grad: bool = False) -> dict[str, set[str]]:
    """For each result of a program, the leaves that the recorder says it was computed from."""
    leaves = {name: torch.rand(3, 3, dtype=torch.float64).add(0.5).requires_grad_(grad) for name in NAMES}
    recorder = Recorder({})
    recorder.watch(leaves)
    with recorder:
        results = program(*leaves.values())
    flow = recorder.flow(leaves, results)
    assert flow.outputs.keys() == results.keys()
    return {name: reaches(flow, number) for name, number in flow.outputs.items()}


# Random programs


class Memory(NamedTuple):
    """What is known of a tensor apart from the recorder.

    `cells` holds per element what it was really computed from; views of one memory are views of one
    array. `pool` is one set for all tensors of a memory: the most that may be claimed.
    """

    cells: numpy.ndarray
    pool: set[str]

    @classmethod
    def made(cls, cells: Any, *sources: Memory) -> Memory:
        return cls(numpy.array(cells, dtype=object), set().union(*(source.pool for source in sources)))


join = numpy.frompyfunc(lambda one, other: one | other, 2, 1)


def whole(cells: numpy.ndarray) -> frozenset[str]:
    return frozenset().union(*cells.ravel())


def filled(memory: Memory) -> Memory:
    """Every element comes from all of the source."""
    cells = numpy.empty((3, 3), dtype=object)
    cells.fill(whole(memory.cells))
    return Memory(cells, set(memory.pool))


Pair = tuple[torch.Tensor, Memory]


def _binary(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], Memory.made(join(a[1].cells, b[1].cells), a[1], b[1])


def _write(into: torch.Tensor, memory: Memory, b: Pair) -> None:
    into.mul_(b[0])
    memory.cells[...] = join(memory.cells, b[1].cells)
    memory.pool.update(b[1].pool)


def _in_place(a: Pair, b: Pair) -> Pair:
    _write(a[0], a[1], b)
    return a


def _row_in_place(a: Pair, b: Pair) -> Pair:
    a[0][1].add_(b[0][0])
    a[1].cells[1] = join(a[1].cells[1], b[1].cells[0])
    a[1].pool.update(b[1].pool)
    return a


def _assigned(a: Pair, b: Pair) -> Pair:
    a[0][0] = b[0][2]
    a[1].cells[0] = b[1].cells[2]
    a[1].pool.update(b[1].pool)
    return a


def _out(a: Pair, b: Pair) -> Pair:
    made = torch.empty(3, 3, dtype=torch.float64)
    view = made.t()
    with torch.no_grad():
        torch.add(a[0], b[0], out=made)
    return view, Memory.made(join(a[1].cells, b[1].cells).T, a[1], b[1])


def _out_of_several(a: Pair, b: Pair) -> Pair:
    with torch.no_grad():
        values, places = torch.empty(3, dtype=torch.float64), torch.empty(3, dtype=torch.long)
        torch.max(a[0], 1, out=(values, places))
    columns = numpy.array([[whole(row)] * 3 for row in a[1].cells], dtype=object).T
    return values.expand(3, 3).clone(), Memory.made(columns, a[1])


def _relu_in_place(a: Pair, b: Pair) -> Pair:
    made = a[0].detach().clone(memory_format=torch.contiguous_format)
    view = made.view(9)
    with torch.no_grad():
        made *= b[0]
        torch.nn.functional.relu(made, inplace=True)
    return view.view(3, 3), Memory.made(join(a[1].cells, b[1].cells), a[1], b[1])


def _foreach(a: Pair, b: Pair) -> Pair:
    with torch.no_grad():
        first, second = a[0].detach().clone(), b[0].detach().clone()
        torch._foreach_add_([first, second], [b[0], b[0]])
    return first, Memory.made(join(a[1].cells, b[1].cells), a[1], b[1])


def _number(a: Pair, b: Pair) -> Pair:
    number = float(a[0][0, 0].detach())
    return b[0] * number, Memory.made(join(b[1].cells, a[1].cells[0, 0]), a[1], b[1])


def _item(a: Pair, b: Pair) -> Pair:
    numbers = [a[0][0, 1].item(), b[0].sum().item(), 1.5]
    cells = numpy.empty((3, 3), dtype=object)
    cells[0], cells[1], cells[2] = a[1].cells[0, 1], whole(b[1].cells), frozenset()
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1).expand(3, 3).clone(), Memory.made(cells, a[1], b[1])


def _numpy_view(a: Pair, b: Pair) -> Pair:
    array = a[0].detach().numpy()[1:]
    made = torch.tensor(array).sum() * torch.ones(3, 3, dtype=torch.float64)
    return made, filled(Memory(a[1].cells[1:], set(a[1].pool)))


def _array_after_a_write(a: Pair, b: Pair) -> Pair:
    array = a[0].detach().numpy()
    with torch.no_grad():
        _write(a[0].detach(), a[1], b)
    return torch.from_numpy(array).clone(), Memory.made(a[1].cells, a[1])


def _rows(a: Pair, b: Pair) -> Pair:
    rows = list(a[0])
    return torch.stack([rows[0], rows[2], rows[1]]), Memory.made(a[1].cells[[0, 2, 1]], a[1])


STEPS: dict[str, Callable[[Pair, Pair], Pair]] = {
    "add": _binary,
    "matmul": lambda a, b: (
        a[0] @ b[0],
        Memory.made([[whole(r) | whole(c) for c in b[1].cells.T] for r in a[1].cells], a[1], b[1]),
    ),
    "clone": lambda a, b: (a[0].clone(), Memory.made(a[1].cells, a[1])),
    "transpose": lambda a, b: (a[0].t(), Memory(a[1].cells.T, a[1].pool)),
    "flip of a view": lambda a, b: (a[0].view_as(a[0]), Memory(a[1].cells, a[1].pool)),
    "detach": lambda a, b: (a[0].detach(), Memory(a[1].cells, a[1].pool)),
    "data": lambda a, b: (a[0].data, Memory(a[1].cells, a[1].pool)),
    "contiguous": lambda a, b: a if a[0].is_contiguous() else (a[0].contiguous(), Memory.made(a[1].cells, a[1])),
    "write": _in_place,
    "write a row": _row_in_place,
    "assign a row": _assigned,
    "out": _out,
    "out of several": _out_of_several,
    "relu in place": _relu_in_place,
    "foreach": _foreach,
    "float()": _number,
    "item()": _item,
    "tolist()": lambda a, b: (torch.tensor(a[0].tolist(), dtype=torch.float64), Memory.made(a[1].cells, a[1])),
    "numpy": lambda a, b: (torch.from_numpy(a[0].detach().numpy()).clone(), Memory.made(a[1].cells, a[1])),
    "numpy view": _numpy_view,
    "array after a write": _array_after_a_write,
    "rows": _rows,
    "parameter": lambda a, b: (
        torch.nn.Parameter(a[0].detach(), requires_grad=False), Memory(a[1].cells, a[1].pool)
    ),
}  # fmt: skip

# name of a step, its operands, and a place to forget: so that ids are used again.
drawn = st.lists(
    st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30) | st.none()),
    min_size=1,
    max_size=14,
)


def check(steps: list[tuple[str, int, int, int | None]], grad: bool) -> None:
    """Never less than what an element was really computed from, never more than what its memory ever held."""
    known: dict[str, Memory] = {}

    def program(*leaves: torch.Tensor) -> dict[str, torch.Tensor]:
        made: list[Pair] = []
        for name, leaf in zip(NAMES, leaves, strict=True):
            cells = numpy.empty((3, 3), dtype=object)
            cells.fill(frozenset(name))
            made.append((leaf * 1, Memory(cells, {name})))
        for step, first, second, forget in steps:
            a, b = made[first % len(made)], made[second % len(made)]
            b = (b[0].clone(), Memory.made(b[1].cells, b[1])) if b[1].pool is a[1].pool else b
            made.append(STEPS[step](a, b))
            del a, b
            if forget is not None and len(made) > 2:
                del made[forget % len(made)]
        known.update({f"value[{k}]": memory for k, (_, memory) in enumerate(made)})
        return {f"value[{k}]": tensor for k, (tensor, _) in enumerate(made)}

    found = dependencies(program, grad)

    for name, memory in known.items():
        assert whole(memory.cells) <= found[name] <= memory.pool, (name, found[name], memory)


quick = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
test_random_programs = quick(given(drawn, st.booleans())(check))


FAULTS: dict[str, dict[str, Any]] = {
    "views do not hear of writes": {"_read_memory": lambda self, storage, number, found: None},
    "bases are not renumbered": {"_sources": lambda self, tensor: iter(()), "_read_memory": lambda *_: None},
    "numbers have no identity": {"escape": lambda self, value, source: None},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, faulty in FAULTS[fault].items():
        monkeypatch.setattr(Values, name, faulty)
    once = settings(quick, phases=[Phase.generate], database=None, report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        once(given(drawn, st.booleans())(check))()


# By hand


CASES: dict[str, tuple[Callable[..., torch.Tensor], set[str]]] = {
    "an unused leaf": (lambda a, b, c, d: a * b, {"a", "b"}),
    "a constant float is no link": (lambda a, b, c, d: (a * 0.5, b * 0.5)[1], {"b"}),
    "a float that comes back": (lambda a, b, c, d: b * a.sum().item(), {"a", "b"}),
    "floats in nested lists": (lambda a, b, c, d: torch.tensor([a[0].tolist(), b[0].tolist()]), {"a", "b"}),
    "as_tensor of an array": (lambda a, b, c, d: torch.as_tensor(a.detach().numpy()) + 1, {"a"}),
    "an array of an array": (lambda a, b, c, d: torch.from_numpy(a.detach().numpy()[1:, :2]) + 1, {"a"}),
    "the base is written, an old view is read": (lambda a, b, c, d: written_base(a, b), {"a", "b"}),
    "a view is written, the base is read": (lambda a, b, c, d: written_view(a, b)[1], {"a", "b"}),
    "a view is written, a sibling is read": (lambda a, b, c, d: written_view(a, b)[0], {"a", "b"}),
    "new storage by .data =": (lambda a, b, c, d: new_data(a, b, c), {"a", "b"}),
    "requires_grad_ writes no values": (lambda a, b, c, d: labelled(a, b)[0], {"a"}),
    "nn.init": (lambda a, b, c, d: torch.nn.init.ones_(a * 1) + b, {"a", "b"}),
    "keyword arguments": (lambda a, b, c, d: torch.add(input=a, other=b), {"a", "b"}),
    "lists and dictionaries": (lambda a, b, c, d: torch.cat([a, torch.stack((b, c))[0]]), {"a", "b", "c"}),
    "einsum": (lambda a, b, c, d: torch.einsum("ij,jk->ik", a, b), {"a", "b"}),
    "conditions": (lambda a, b, c, d: torch.where(a > 0, b, c), {"a", "b", "c"}),
    "unbind": (lambda a, b, c, d: (a + b).unbind()[1] * c[0], {"a", "b", "c"}),
}  # fmt: skip


def written_base(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    base = a.clone()
    view = base[0]
    base.mul_(b)
    return view * 2


def written_view(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    base = a.clone()
    sibling = base.t()
    base[1].mul_(b[1])
    return sibling * 2, base * 2


def new_data(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    made = a * 1
    other = b * 1
    made.data = other
    return made + 0


def labelled(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    cut = b.detach().requires_grad_()
    return a * 1, cut


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, grad: bool) -> None:
    function, expected = CASES[name]
    assert dependencies(lambda *leaves: {"result": function(*leaves)}, grad)["result"] == expected


def test_a_relabelled_tensor_shares_memory_without_being_written() -> None:
    def program(a: torch.Tensor, *rest: torch.Tensor) -> dict[str, torch.Tensor]:
        made = a * 1
        made.detach().requires_grad_()
        return {"made": made * 2}

    recorder = Recorder({})
    leaves = {name: torch.ones(2) for name in NAMES}
    with recorder:
        program(*leaves.values())
    assert recorder.values.written == {}


def test_ids_that_are_used_again() -> None:
    """The interpreter gives a new tensor the id of the one that has just died; the numbers differ."""
    ids: list[int] = []

    def program(a: torch.Tensor, b: torch.Tensor, *rest: torch.Tensor) -> dict[str, torch.Tensor]:
        for _ in range(50):
            made = a * 2
            ids.append(id(made))
            del made
        last = b * 2
        ids.append(id(last))
        array = a.detach().numpy()
        float(a.sum())
        del array
        return {"last": last + float(torch.ones(())), "fresh": torch.from_numpy(numpy.ones(3))}

    found = dependencies(program)

    assert len(set(ids)) < len(ids)
    assert found == {"last": {"b"}, "fresh": set()}


def whatever_is_there(item: Any) -> Callable[[], Any]:
    """Stands in for a weak reference: the object that has the id now."""
    address = id(item)
    return lambda: ctypes.cast(address, ctypes.py_object).value


def test_a_number_that_a_dead_tensor_leaves_to_its_successor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Values.__module__], "ref", whatever_is_there)
    monkeypatch.setattr(Values, "share", lambda self, made, source: None)
    with pytest.raises(AssertionError):
        test_ids_that_are_used_again()


def test_storages_whose_ids_are_used_again() -> None:
    def program(a: torch.Tensor, b: torch.Tensor, *rest: torch.Tensor) -> dict[str, torch.Tensor]:
        old = b.clone()
        views = []
        for _ in range(50):
            made = a.clone()
            made.mul_(2)
            del made
            views.append(old.clone().t())
        return {f"view[{k}]": view for k, view in enumerate(views)}

    assert set(map(frozenset, dependencies(program).values())) == {frozenset("b")}


def test_flags() -> None:
    recorder = Recorder({})
    w, index = torch.ones(2, requires_grad=True), torch.tensor([0])
    with recorder:
        made = {
            "grad": w * 2,
            "cut": w.detach(),
            "mask": w > 0,
            "leaf": torch.zeros(2, requires_grad=True),
            "index": index,
        }
        w[index]
        w.sum().item()
    flow = recorder.flow({"w": w}, made)
    flags = {name: flow.values[number] for name, number in flow.outputs.items()}
    assert flags == {
        "grad": REQUIRES_GRAD | DIFFERENTIABLE,
        "cut": DIFFERENTIABLE,
        "mask": 0,
        "leaf": REQUIRES_GRAD | DIFFERENTIABLE | LEAF,
        "index": UNSEEN,
    }
    assert flow.values[flow.leaves["w"]] == REQUIRES_GRAD | DIFFERENTIABLE | LEAF | UNSEEN
    assert PYTHON in flow.values


def test_a_leaf_keeps_the_value_that_it_came_in_with() -> None:
    def program(a: torch.Tensor, b: torch.Tensor, *rest: torch.Tensor) -> dict[str, torch.Tensor]:
        early = a * 1
        with torch.no_grad():
            a.mul_(b)
        return {"early": early, "late": a * 1}

    assert dependencies(program) == {"early": {"a"}, "late": {"a", "b"}}


def test_more_values_than_one_block() -> None:
    recorder = Recorder({})
    x = torch.ones(())
    with recorder:
        for _ in range(70_000):
            y = x + 1
    flow = recorder.flow({"x": x}, {"y": y})
    assert len(flow.values) == 70_001
    assert flow.outputs["y"] == 70_000
    assert set(flow.values[1:]) == {DIFFERENTIABLE}


def test_long_lists_of_numbers_are_not_gone_through() -> None:
    class Counting(list):
        walks = 0

        def __iter__(self) -> Any:
            Counting.walks += 1
            return super().__iter__()

    values, found = Values(), []
    numbers = Counting([0.5, 1, None, True] * 1000)
    values.read((numbers,), found)
    once = Counting.walks
    numbers.append(torch.ones(1))
    values.read((numbers,), found)
    assert (once, Counting.walks, found) == (1, 3, [0])


def test_nothing_is_kept_alive() -> None:
    recorder = Recorder({})
    x = torch.ones(3)
    with recorder:
        made = [x * 2, (x * 3)[1:], x.clone().mul_(2), torch.empty(3).uniform_(), torch.tensor(x.numpy())]
        kept = [weakref.ref(item) for item in made] + [weakref.ref(item.untyped_storage()) for item in made]
    del made
    gc.collect()
    assert {item() for item in kept} == {None}


def test_a_storage_has_one_python_object_for_life() -> None:
    """The recorder tells storages apart by it."""
    tensor = torch.ones(3)
    storage = weakref.ref(tensor.untyped_storage())
    gc.collect()
    view = tensor[1:]
    del tensor
    assert storage() is view.untyped_storage() is view.detach().untyped_storage()
    del view
    gc.collect()
    assert storage() is None

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from graphlens.capture.build import capture
from graphlens.graph import GradGraph, SavedTensor
from tests.builders import captured, in_ledger, lesson_loss, ops, saved_slots, seen_by_hooks


def tensor(*shape: int, **options: Any) -> torch.Tensor:
    return torch.randn(*shape, **{"dtype": torch.float64, "requires_grad": True, **options})


def statuses(graph: GradGraph) -> dict[str, str]:
    return {node.op: node.ledger for node in graph.nodes}


def never(packed: object) -> torch.Tensor:
    raise AssertionError("a capture must not unpack")


class Own(torch.autograd.Function):
    """Keeps tensors in every way that a custom Function can."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x, None, y)
        ctx.extra = x.detach() * 2
        ctx.several = (x, [y], 3)
        ctx.number = 5
        return x * y, x + y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients


def test_roles_and_sizes_by_hand() -> None:
    weight, x = torch.nn.Parameter(tensor(2, 3)), tensor(3)
    graph = capture(((weight @ x).exp() * torch.ones(2, dtype=torch.float64)).sum(), {"weight": weight, "x": x})
    slots = saved_slots(graph)
    assert slots["MvBackward0.self"] == SavedTensor(2, "self", (2, 3), "float64", "cpu", 48, 0, 48, "parameter")
    assert slots["MvBackward0.vec"] == SavedTensor(2, "vec", (3,), "float64", "cpu", 24, 1, 24, "input")
    assert slots["ExpBackward0.result"].role == "intermediate"
    assert slots["MulBackward0.other"].role == "constant"


def test_saved_view_of_a_parameter_has_its_role() -> None:
    slots = saved_slots(captured(lambda: torch.nn.Linear(3, 2)(tensor(4, 3, dtype=torch.float32)).sum()))
    assert slots["AddmmBackward0.mat2"].role == "parameter"
    assert slots["AddmmBackward0.mat1"].role == "input"


def test_result_that_is_saved_twice_is_one_storage() -> None:
    slots = saved_slots(captured(lambda: tensor(3).exp().sin()))
    assert slots["ExpBackward0.result"].storage == slots["SinBackward0.self"].storage == 0


def test_tuples_of_saved_tensors() -> None:
    graph = captured(lambda: tensor(5, 6)[torch.tensor([0, 1]), torch.tensor([2, 3])])
    assert {slot: item.view_bytes for slot, item in saved_slots(graph).items()} == {
        "IndexBackward0.indices[0]": 16,
        "IndexBackward0.indices[1]": 16,
    }


def test_gap_in_a_tuple_is_no_record() -> None:
    assert list(saved_slots(captured(lambda: tensor(3, 3)[:, torch.tensor([0, 1])]))) == ["IndexBackward0.indices[1]"]


def test_custom_function() -> None:
    """Tensors on ctx are kept without autograd's knowledge: the hooks see the first two alone."""

    def program() -> torch.Tensor:
        product, total = Own.apply(tensor(3), tensor(3))
        return product.sum() + total.sum()

    graph = captured(program)
    assert graph.nodes[2].kind == "custom"
    assert graph.nodes[2].outputs == 2
    assert [(item.slot, item.storage) for item in graph.saved] == [
        ("saved_tensors[0]", 0),
        ("saved_tensors[2]", 1),
        ("ctx.extra", 2),
        ("ctx.several[0]", 0),
    ]
    assert seen_by_hooks(program).total() == 2


def test_freed_custom_function() -> None:
    product, _ = Own.apply(tensor(3), tensor(3))
    product.sum().backward()
    assert statuses(capture(product))["OwnBackward"] == "freed"


def test_python_numbers_are_kept_out_of_sight_of_the_hooks() -> None:
    """`x * 2` keeps the 2 as a 0-d tensor; autograd does not show it to saved-tensor hooks."""

    def program() -> torch.Tensor:
        return tensor(3) * 2

    assert list(saved_slots(captured(program))) == ["MulBackward0.other"]
    assert captured(program).saved[0].view_bytes == 8
    assert seen_by_hooks(program).total() == 0


def test_in_place_on_a_view_hides_what_is_saved() -> None:
    """`CopySlices` holds the function that wrote, out of Python's reach."""

    def program() -> torch.Tensor:
        whole = tensor(2, 3).clone()
        whole[0].exp_()
        return whole

    graph = captured(program)
    assert ops(graph) == ["AccumulateGrad", "CloneBackward0", "CopySlices"]
    assert statuses(graph)["CopySlices"] == "hidden"
    assert graph.saved == ()
    assert graph.saved_by_node()[2].unknown == 1
    assert seen_by_hooks(program).total() == 1


def test_in_place_on_a_whole_tensor_is_read() -> None:
    graph = captured(lambda: tensor(3).clone().exp_())
    assert list(saved_slots(graph)) == ["ExpBackward0.result"]


def test_nodes_that_the_output_does_not_reach_are_not_listed() -> None:
    def program() -> torch.Tensor:
        x = tensor(3)
        x.exp().sin()  # nobody uses it
        return x.cos()

    assert list(saved_slots(captured(program))) == ["CosBackward0.self"]
    assert seen_by_hooks(program).total() == 3


def test_small_view_pins_a_large_storage() -> None:
    item = captured(lambda: tensor(2048, dtype=torch.float32) * torch.randn(1024, 1024).flatten()[:2048]).saved[0]
    assert (item.view_bytes, item.storage_bytes) == (8 * 1024, 4 * 1024 * 1024)


def test_expanded_view_is_larger_than_its_storage() -> None:
    item = captured(lambda: tensor(1) * torch.ones(1, dtype=torch.float64).expand(1000)).saved[0]
    assert (item.shape, item.view_bytes, item.storage_bytes) == ((1000,), 8000, 8)


def test_non_contiguous_view_counts_its_own_elements() -> None:
    item = captured(lambda: tensor(3) * torch.ones(3, 4, dtype=torch.float64)[:, 1]).saved[0]
    assert (item.view_bytes, item.storage_bytes) == (24, 96)


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2), (torch.complex64, 8)]
)
def test_dtypes(dtype: torch.dtype, size: int) -> None:
    item = captured(lambda: tensor(3, dtype=dtype).exp()).saved[0]
    assert (item.dtype, item.view_bytes) == (str(dtype).removeprefix("torch."), 3 * size)


@pytest.mark.parametrize(
    ("sparse", "expected"),
    [
        (torch.Tensor.to_sparse, {"indices": (2, 3), "values": (3,)}),
        (torch.Tensor.to_sparse_csr, {"crow_indices": (4,), "col_indices": (3,), "values": (3,)}),
    ],
)
def test_sparse_tensors_are_kept_as_their_parts(
    sparse: Callable[[torch.Tensor], torch.Tensor], expected: dict[str, tuple[int, ...]]
) -> None:
    """The hooks are handed the sparse tensor; the oracle divides it as the ledger does."""

    def program() -> torch.Tensor:
        matrix = sparse(torch.eye(3, dtype=torch.float64)).requires_grad_()
        return torch.sparse.mm(matrix, tensor(3, 2)).sum()

    graph = captured(program)
    assert in_ledger(graph) == seen_by_hooks(program)
    parts = {item.slot: item for item in graph.saved if item.slot != "mat2"}
    assert {slot.removeprefix("mat1."): item.shape for slot, item in parts.items()} == expected
    assert {item.role for item in parts.values()} == {"input"}


def test_layout_without_a_storage_has_no_storage_bytes() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no mkldnn")
    slots = saved_slots(captured(lambda: tensor(3, dtype=torch.float32).to_mkldnn().to_dense()))
    item = slots["ToDenseBackward0.self"]
    assert (item.shape, item.storage, item.storage_bytes) == ((3,), None, None)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_ragged_tensors_have_bytes_but_no_shape(layout: torch.layout) -> None:
    rows = [torch.ones(2), torch.ones(3)]
    ragged = torch.nested.nested_tensor(rows, layout=layout, requires_grad=True)
    graph = capture(ragged.sin().values() if layout is torch.jagged else ragged.sin().to_padded_tensor(0.0))
    assert graph.nodes[0].shape is None
    assert (graph.saved[0].shape, graph.saved[0].view_bytes) == (None, 20)


def test_hook_that_packs_into_something_else_leaves_no_size() -> None:
    with saved_tensors_hooks(lambda kept: kept.numpy(force=True), never):
        out = tensor(3).exp()
    graph = capture(out)
    assert graph.saved == (SavedTensor(1, "result", packed=True),)
    assert graph.saved_by_node()[1] == (1, 0, 0, 0, 1)


def test_hook_that_packs_into_half_precision_counts_what_is_kept() -> None:
    with saved_tensors_hooks(lambda kept: kept.half(), never):
        out = tensor(3).exp()
    assert capture(out).saved == (
        SavedTensor(1, "result", (3,), "float16", "cpu", 6, 0, 6, "intermediate", packed=True),
    )


def test_save_on_cpu_is_packed() -> None:
    with save_on_cpu():
        out = tensor(3).exp()
    assert [item.packed for item in capture(out).saved] == [True]


def test_nothing_is_unpacked() -> None:
    with saved_tensors_hooks(lambda kept: kept, never):
        x = tensor(4, 4)
        out = (x @ x)[torch.tensor([0, 2])].softmax(0)
        product, _ = Own.apply(out, out)
    graph = capture(product)
    assert all(item.packed for item in graph.saved if not item.slot.startswith("ctx."))
    assert sum(item.packed for item in graph.saved) == 6
    with pytest.raises(AssertionError, match="must not unpack"):
        product.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_segment_is_not_run_again(reentrant: bool) -> None:
    calls = []

    def segment(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x.exp().sin()

    out = checkpoint(segment, tensor(3) * 1.0, use_reentrant=reentrant)
    graph = capture(out)
    assert len(calls) == 1
    if reentrant:
        assert ops(graph)[-1] == "CheckpointFunctionBackward"
    else:
        assert [item.packed for item in graph.saved if item.slot in ("result", "self")] == [True, True]
    out.sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x.exp(),
        lambda x: x * x,
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.clamp(min=torch.zeros(3, dtype=torch.float64)),
        lambda x: torch.nn.functional.layer_norm(x, (3,)),
    ],
    ids=["exp", "product", "index", "clamp", "layer norm"],
)
def test_graph_freed_by_backward(program: Callable[[torch.Tensor], torch.Tensor]) -> None:
    out = program(tensor(3)).sum()
    before = capture(out)
    out.backward()
    after = capture(out)
    assert after.edges == before.edges
    assert [node._replace(ledger="read") for node in after.nodes] == list(before.nodes)
    assert [node.ledger for node in after.nodes] == ["read", "freed", "read"]  # the sum keeps nothing
    assert after.saved == ()
    assert after.saved_by_node()[1].unknown == 1
    assert "saved_bytes" not in after.nx.nodes[1]


def test_freed_lstm() -> None:
    out = torch.nn.LSTM(3, 4)(torch.randn(5, 2, 3))[0].sum()
    before = capture(out)
    out.backward()
    after = capture(out)
    assert len(after) == len(before)
    assert after.saved == ()
    assert "freed" in {node.ledger for node in after.nodes}


def test_graph_kept_by_backward_is_read() -> None:
    out = (lambda x: (x.exp() * x).sum())(tensor(3))
    before = capture(out)
    out.backward(retain_graph=True)
    assert capture(out) == before


def test_partly_freed_graph() -> None:
    x = tensor(3)
    y = x.exp()
    torch.autograd.grad(y.sum(), x)
    assert statuses(capture(y.sin())) == {"AccumulateGrad": "read", "ExpBackward0": "freed", "SinBackward0": "read"}


def test_absent_optional_tensor_does_not_look_freed() -> None:
    out = torch.nn.functional.layer_norm(tensor(3), (3,))
    assert statuses(capture(out))["NativeLayerNormBackward0"] == "read"
    out = torch.nn.functional.silu(tensor(3)).clamp(min=0.0)
    assert set(statuses(capture(out)).values()) == {"read"}


def test_tensor_written_after_it_was_saved_is_read() -> None:
    y = tensor(3).exp()
    z = y.sin()
    y.mul_(2)
    assert saved_slots(capture(z))["SinBackward0.self"].view_bytes == 24
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def network(device: str) -> torch.Tensor:
    x = torch.randn(3, 4, device=device, requires_grad=True)
    y = (x * 2).exp() @ torch.randn(4, 2, device=device)
    return torch.nn.functional.layer_norm(y * y, (2,)).t()[torch.tensor([1], device=device)].sum()


def test_meta_tensors_give_the_cpu_ledger() -> None:
    on_cpu, on_meta = capture(network("cpu")), capture(network("meta"))
    assert {item.device for item in on_meta.saved if item.shape != ()} == {"meta"}  # the number 2 stays on the CPU
    assert [item._replace(device="cpu") for item in on_meta.saved] == list(on_cpu.saved)
    assert on_meta.edges == on_cpu.edges


def test_fake_tensors_give_the_cpu_ledger() -> None:
    with FakeTensorMode():
        fake = capture(network("cpu"))
    assert fake.saved == capture(network("cpu")).saved
    assert fake.nodes == capture(network("cpu")).nodes


def test_lesson_keeps_few_storages_for_many_references() -> None:
    graph = captured(lambda: lesson_loss("wasteful", n=100))
    # 5×5 inv(A): 100; M: 1; inv(M): 1; A: 1; products 2·100 + M x; f_T's stack, x − g and the norm.
    storages = {item.storage: item.storage_bytes for item in graph.saved}
    assert len(graph.saved) == in_ledger(graph).total() == seen_by_hooks(lambda: lesson_loss("wasteful", n=100)).total()
    assert sum(1 for size in storages.values() if size == 200) == 100 + 3


def test_sums_of_view_bytes_agree_with_the_hooks() -> None:
    def program() -> torch.Tensor:
        return torch.nn.LSTM(3, 4, 2)(torch.randn(5, 2, 3))[0].sum()

    seen = seen_by_hooks(program)
    assert sum(i.view_bytes or 0 for i in captured(program).saved) == sum(size * k for (_, _, size), k in seen.items())

"""Every stand-in against its op: the same values, and the slopes that finite differences of the op have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphlens.capture.tape import flat_outputs
from graphlens.numerics.standins import STAND_INS

aten = torch.ops.aten
Case = tuple[Any, tuple[Any, ...], dict[str, Any]]
_generator = torch.Generator()


def n(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_generator)


def positive(*shape: int) -> torch.Tensor:
    return 0.5 + torch.rand(shape, dtype=torch.float64, generator=_generator)


def matrix(size: int = 4) -> torch.Tensor:
    return n(size, size) + 3 * torch.eye(size, dtype=torch.float64)


def case(op: Any, *args: Any, **kwargs: Any) -> Case:
    return op, args, kwargs


def saved(op: Any, *args: Any) -> Any:
    """What an op hands on to its backward, a little off, so that it does not belong to the rest."""
    return [item * 1.01 for item in op(*args)[1:]]


def layer_norm_backward() -> Case:
    x, weight = n(2, 3, 5), n(5)
    mean, rstd = saved(aten.native_layer_norm, x, [5], weight, weight, 1e-5)
    return case(aten.native_layer_norm_backward.default, n(2, 3, 5), x, [5], mean, rstd, weight, weight, [True] * 3)


def batch_norm_backward(train: bool) -> Case:
    x = n(4, 3, 5)
    mean, rstd = saved(aten.native_batch_norm, x, None, None, None, None, True, 0.1, 1e-5)
    return case(
        aten.native_batch_norm_backward.default, n(4, 3, 5), x, n(3), n(3), positive(3), mean, rstd, train, 1e-5,
        [True] * 3,
    )  # fmt: skip


def group_norm_backward() -> Case:
    x = n(2, 6, 5)
    mean, rstd = saved(aten.native_group_norm, x, None, None, 2, 6, 5, 3, 1e-5)
    return case(aten.native_group_norm_backward.default, n(2, 6, 5), x, mean, rstd, n(6), 2, 6, 5, 3, [True] * 3)


def attention(causal: bool = False, heads: int = 4, mask: bool = False) -> Case:
    options: dict[str, Any] = {"attn_mask": n(5, 5), "scale": 0.4} if mask else {}
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    return case(op, n(2, 4, 5, 3), n(2, heads, 5, 3), n(2, heads, 5, 3), 0.0, causal, **options)


def attention_backward(causal: bool = False, heads: int = 4, mask: bool = False) -> Case:
    _, (q, k, v, *_), options = attention(causal, heads, mask)
    op = aten._scaled_dot_product_flash_attention_for_cpu
    out, logsumexp = op(q, k, v, 0.0, causal, **options)
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    return case(backward, n(2, 4, 5, 3), q, k, v, out * 1.01, logsumexp + 0.1, 0.0, causal, **options)


def cdist_backward(p: float) -> Case:
    x, y = n(3, 4), n(5, 4)
    return case(aten._cdist_backward.default, n(3, 5), x, y, p, torch.cdist(x, y, p))


CASES: dict[str, Callable[[], Case]] = {
    "view": lambda: case(aten.view.default, n(3, 4), [2, -1]),
    "_unsafe_view": lambda: case(aten._unsafe_view.default, n(3, 4), [2, 6]),
    "_reshape_alias": lambda: case(aten._reshape_alias.default, n(3, 4), [2, 6], [6, 1]),
    "layer_norm": lambda: case(aten.native_layer_norm.default, n(2, 3, 5), [5], n(5), n(5), 1e-5),
    "layer_norm over two": lambda: case(aten.native_layer_norm.default, n(2, 3, 5), [3, 5], None, None, 1e-5),
    "layer_norm backward": layer_norm_backward,
    "batch_norm": lambda: case(
        aten.native_batch_norm.default, n(4, 3, 5), n(3), n(3), None, None, True, 0.1, 1e-5
    ),
    "batch_norm of vectors": lambda: case(
        aten.native_batch_norm.default, n(6, 3), None, None, None, None, True, 0.1, 1e-5
    ),
    "batch_norm in use": lambda: case(
        aten.native_batch_norm.default, n(4, 3, 5), n(3), n(3), n(3), positive(3), False, 0.1, 1e-5
    ),
    "batch_norm backward": lambda: batch_norm_backward(True),
    "batch_norm backward in use": lambda: batch_norm_backward(False),
    "group_norm": lambda: case(aten.native_group_norm.default, n(2, 6, 5), n(6), n(6), 2, 6, 5, 3, 1e-5),
    "group_norm backward": group_norm_backward,
    "attention": attention,
    "causal attention": lambda: attention(causal=True),
    "attention with shared keys": lambda: attention(causal=True, heads=2),
    "attention with a mask": lambda: attention(mask=True),
    "attention backward": attention_backward,
    "causal attention backward": lambda: attention_backward(causal=True),
    "attention with a mask backward": lambda: attention_backward(mask=True),
    "trilinear": lambda: case(aten._trilinear.default, n(3, 4), n(2, 4, 5), n(3, 5), [1, 3], [0], [1, 2], [2, 3]),
    "cdist backward": lambda: cdist_backward(2.0),
    "cdist backward, p = 1": lambda: cdist_backward(1.0),
    "cdist backward, p = 3": lambda: cdist_backward(3.0),
    "det": lambda: case(aten._linalg_det.default, matrix()),
    "det of a transpose": lambda: case(aten._linalg_det.default, matrix().T),
    "slogdet": lambda: case(aten._linalg_slogdet.default, matrix()),
    "solve": lambda: case(aten._linalg_solve_ex.default, matrix(), n(4, 2)),
    "solve with a transpose": lambda: case(aten._linalg_solve_ex.default, matrix().T, n(4, 2)),
    "solve from the right": lambda: case(aten._linalg_solve_ex.default, matrix(), n(2, 4), left=False),
    "cholesky": lambda: case(aten.linalg_cholesky_ex.default, _definite()),
    "upper cholesky": lambda: case(aten.linalg_cholesky_ex.default, _definite(), upper=True),
    "eigenvalues": lambda: case(aten._linalg_eigh.default, _definite(), "L", False),
    "eigenvalues of the upper half": lambda: case(aten._linalg_eigh.default, _definite(), "U", False),
}
# An LSTM's op knows no float64; the others move numbers as they are.
ELSEWHERE = {"mkldnn_rnn_layer", "mkldnn_rnn_layer_backward", "detach", "lift_fresh"}


def _definite() -> torch.Tensor:
    """With another triangle than the one that is read."""
    return matrix().T @ matrix() * 0.1 + torch.diag(torch.arange(1.0, 5.0, dtype=torch.float64)) * 9


def made(name: str) -> tuple[Case, Callable[..., list[Any]], Callable[..., list[Any]]]:
    """A case, its op, and what stands for it; both of the tensors that are arguments."""
    _generator.manual_seed(len(name))
    found = CASES[name]()
    op, args, kwargs = found

    def call(function: Callable[..., Any]) -> Callable[..., list[Any]]:
        def run(*tensors: torch.Tensor) -> list[Any]:
            numbers = iter(tensors)
            filled = [next(numbers) if isinstance(item, torch.Tensor) else item for item in args]
            named = {key: next(numbers) if isinstance(item, torch.Tensor) else item for key, item in kwargs.items()}
            return flat_outputs(function(*filled, **named))

        return run

    return found, call(op), call(STAND_INS[op._schema.name.removeprefix("aten::")])


def tensors_of(found: Case) -> list[torch.Tensor]:
    return [item for item in (*found[1], *found[2].values()) if isinstance(item, torch.Tensor)]


def numbers_of(results: list[Any]) -> list[torch.Tensor]:
    return [item for item in results if isinstance(item, torch.Tensor) and item.is_floating_point() and item.numel()]


def test_every_stand_in_is_tested() -> None:
    tested = {CASES[name]()[0]._schema.name.removeprefix("aten::") for name in CASES}

    assert tested | ELSEWHERE == set(STAND_INS)


@pytest.mark.parametrize("name", CASES)
def test_it_makes_what_the_op_makes(name: str) -> None:
    found, op, stand_in = made(name)
    theirs, ours = op(*tensors_of(found)), stand_in(*tensors_of(found))

    assert len(theirs) == len(ours)
    assert len(numbers_of(theirs)) >= 1
    for one, two in zip(numbers_of(theirs), numbers_of(ours), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_its_slopes_are_those_of_finite_differences_of_the_op(name: str) -> None:
    found, op, stand_in = made(name)
    tensors = tensors_of(found)
    step = 1e-6
    for place in range(len(tensors)):
        along = [n(*x.shape) if k == place else torch.zeros_like(x) for k, x in enumerate(tensors)]
        high = numbers_of(op(*(x + step * m for x, m in zip(tensors, along, strict=True))))
        low = numbers_of(op(*(x - step * m for x, m in zip(tensors, along, strict=True))))
        leaves = [x.clone().requires_grad_() for x in tensors]
        for above, below, result in zip(high, low, numbers_of(stand_in(*leaves)), strict=True):
            weights = n(*result.shape)
            slope = 0.0
            if result.requires_grad:
                (grad,) = torch.autograd.grad(
                    result, [leaves[place]], weights, allow_unused=True, retain_graph=True
                )
                slope = 0.0 if grad is None else float((grad * along[place]).sum())
            terms = weights * (above - below) / (2 * step)
            assert slope == pytest.approx(float(terms.sum()), rel=1e-5, abs=1e-6 * float(terms.abs().sum()) + 1e-9)


def test_rows_that_are_masked_altogether_attend_to_nothing() -> None:
    q, k, v = n(1, 2, 3, 4), n(1, 2, 3, 4), n(1, 2, 3, 4)
    mask = torch.zeros(3, 3, dtype=torch.float64)
    mask[1] = -math.inf
    stand_in = STAND_INS["_scaled_dot_product_flash_attention_for_cpu"]
    theirs = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=mask)
    ours = stand_in(q.requires_grad_(), k, v, attn_mask=mask)
    grad = torch.autograd.grad(ours[0].sum() + ours[1].sum(), q)[0]

    torch.testing.assert_close(ours, theirs)
    assert grad.isfinite().all()


@pytest.mark.parametrize("reverse", [False, True])
def test_an_lstm_layer_is_the_one_of_torch_in_float64(reverse: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(4, 3).double()  # runs op by op in float64
    x, h, c = n(5, 2, 4).requires_grad_(), n(2, 3).requires_grad_(), n(2, 3).requires_grad_()
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    theirs, (last, cell) = layer(x.flip(0) if reverse else x, (h[None], c[None]))
    theirs = theirs.flip(0) if reverse else theirs
    switches = (reverse, [], 2, 3, 1, True, False, False, True)
    ours = STAND_INS["mkldnn_rnn_layer"](x, *weights, h, c, *switches)

    torch.testing.assert_close(ours[:3], (theirs, last[0], cell[0]))
    sent, to_h, to_c = n(5, 2, 3).requires_grad_(), n(2, 3), n(2, 3)
    grads = STAND_INS["mkldnn_rnn_layer_backward"](
        x, *weights, h, c, *ours[:3], sent, to_h, to_c, reverse, 2, 3, 1, True, True, False, [], False, torch.empty(0)
    )
    wanted = torch.autograd.grad(
        (theirs, last[0], cell[0]), (x, *weights, h, c), (sent, to_h, to_c), create_graph=True
    )
    torch.testing.assert_close(grads, wanted)

    # And once more: what depends on its gradients is differentiated by everything.
    def second(of: Any) -> Any:
        return torch.autograd.grad(sum(g.square().sum() for g in of), (x, *weights, h, c, sent), retain_graph=True)

    torch.testing.assert_close(second(grads), second(wanted))


def test_an_lstm_layer_is_the_op_in_float32() -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(4, 3)
    args = (torch.randn(5, 2, 4), *layer._flat_weights, torch.randn(2, 3), torch.randn(2, 3))
    switches = (False, [], 2, 3, 1, True, False, False, True)
    with torch.no_grad():
        theirs = aten.mkldnn_rnn_layer(*args, *switches)
        ours = STAND_INS["mkldnn_rnn_layer"](*(item.double() for item in args), *switches)

    for one, two in zip(theirs[:3], ours[:3], strict=True):
        torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-6)


def test_a_packed_sequence_and_attention_with_dropout_are_refused() -> None:
    x = n(2, 2, 2, 2)
    with pytest.raises(NotImplementedError):
        STAND_INS["_scaled_dot_product_flash_attention_for_cpu"](x, x, x, 0.5)
    with pytest.raises(NotImplementedError):
        STAND_INS["mkldnn_rnn_layer"](*[x] * 7, False, [2, 1], 2, 3, 1, True, False, False, True)
    with pytest.raises(NotImplementedError):
        STAND_INS["view"](x, torch.int64)

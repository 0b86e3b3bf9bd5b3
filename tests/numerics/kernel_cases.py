"""Arguments for every kernel of the exact reference: what the tests call the ops with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten
Case = tuple[Any, ...]  # an overload, its arguments; a dictionary at the end holds the named ones
_generator = torch.Generator()


def seed_numbers(seed: int) -> None:
    _generator.manual_seed(seed)


def n(*shape: int) -> torch.Tensor:
    """Numbers from the normal distribution."""
    return torch.randn(shape, dtype=torch.float64, generator=_generator)


def u(*shape: int) -> torch.Tensor:
    """Numbers in (0.1, 0.9)."""
    return 0.1 + 0.8 * torch.rand(shape, dtype=torch.float64, generator=_generator)


def a(size: int = 3) -> torch.Tensor:
    """A matrix of small condition number."""
    return n(size, size) + 3 * torch.eye(size, dtype=torch.float64)


def spd(size: int = 3) -> torch.Tensor:
    m = n(size, size)
    return m @ m.T + torch.eye(size, dtype=torch.float64)


def ints(*entries: Any) -> torch.Tensor:
    return torch.tensor(entries)


def one(op: Any) -> Callable[[], Case]:
    return lambda: (op, n(3, 4))


def on_unit(op: Any) -> Callable[[], Case]:
    return lambda: (op, u(7))


def two(op: Any) -> Callable[[], Case]:
    return lambda: (op, n(3, 4), n(4))


def grad(op: Any, *rest: Any) -> Callable[[], Case]:
    return lambda: (op, n(9), n(9), *rest)


def lu(size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.linalg.lu_factor(a(size))
    return made[0], made[1]


def norm_backward() -> Case:
    x, w, b = n(2, 4), n(4), n(4)
    _, mean, scale = aten.native_layer_norm(x, [4], w, b, 1e-5)
    return aten.native_layer_norm_backward.default, n(2, 4), x, [4], mean, scale, w, b, [True] * 3


def batch_backward() -> Case:
    x, w, b = n(4, 3, 2), n(3), n(3)
    _, mean, scale = aten.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)
    return (aten.native_batch_norm_backward.default, n(4, 3, 2), x, w, None, None, mean, scale, True, 1e-5,
            [True] * 3)  # fmt: skip


def group_backward() -> Case:
    x, w, b = n(2, 4, 3), n(4), n(4)
    _, mean, scale = aten.native_group_norm(x, w, b, 2, 4, 3, 2, 1e-5)
    return aten.native_group_norm_backward.default, n(2, 4, 3), x, mean, scale, w, 2, 4, 3, 2, [True] * 3


def grouped_attention_backward() -> Case:
    """Six heads of queries, by threes on the same keys and values."""
    q, k, v = n(2, 6, 3, 4), n(2, 2, 5, 4), n(2, 2, 5, 4)
    out, logs = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return (aten._scaled_dot_product_flash_attention_for_cpu_backward.default, n(2, 6, 3, 4), q, k, v, out, logs,
            0.0, False)  # fmt: skip


def attention_backward() -> Case:
    q, k, v = n(1, 2, 3, 4), n(1, 2, 3, 4), n(1, 2, 3, 4)
    out, logs = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
    return (aten._scaled_dot_product_flash_attention_for_cpu_backward.default, n(1, 2, 3, 4), q, k, v, out, logs,
            0.0, True)  # fmt: skip


def nll_backward() -> Case:
    x, target, weight = n(3, 4), ints(0, 2, 3), u(4)
    _, total = aten.nll_loss_forward(x, target, weight, 1, -100)
    return aten.nll_loss_backward.default, n(), x, target, weight, 1, -100, total


D = "default"
CASES: dict[str, list[Callable[[], Case]]] = {
    # arithmetic
    "add": [two(aten.add.Tensor), lambda: (aten.add.Tensor, n(3), 0.1, {"alpha": 3}), lambda: (aten.add.Scalar,
        n(3), 0.1)],
    "sub": [lambda: (aten.sub.Tensor, n(3, 1), n(4), {"alpha": 0.5})],
    "rsub": [lambda: (aten.rsub.Scalar, n(3), 0.1, 3)],
    "mul": [two(aten.mul.Tensor), lambda: (aten.mul.Tensor, n(3), ints(1, 2, 3)), lambda: (aten.mul.Scalar,
        n(3), 0.1)],
    "div": [lambda: (aten.div.Tensor, n(3), u(3)), lambda: (aten.div.Tensor, u(2), ints(3, 7))],
    "neg": [one(aten.neg.default)], "negative": [one(aten.negative.default)],
    "reciprocal": [on_unit(aten.reciprocal.default)], "square": [one(aten.square.default)],
        "abs": [one(aten.abs.default)],
    "addcmul": [lambda: (aten.addcmul.default, n(3), n(3), n(3), {"value": 0.3})],
    "addcdiv": [lambda: (aten.addcdiv.default, n(3), n(3), u(3), {"value": 0.3})],
    "lerp": [lambda: (aten.lerp.Scalar, n(3), n(3), 0.3), lambda: (aten.lerp.Tensor, n(3), n(3), u(3))],
    "pow": [lambda: (aten.pow.Tensor_Scalar, n(5), 3), lambda: (aten.pow.Tensor_Scalar, u(5), -2),
            lambda: (aten.pow.Tensor_Scalar, u(5), 0.5), lambda: (aten.pow.Tensor_Scalar, u(5), -1.5),
            lambda: (aten.pow.Tensor_Tensor, u(5), n(5)), lambda: (aten.pow.Scalar, 0.3, n(5))],
    "hypot": [lambda: (aten.hypot.default, n(3), n(3))], "atan2": [lambda: (aten.atan2.default, n(9), n(9))],
    "logaddexp": [lambda: (aten.logaddexp.default, n(5), n(5))], "xlogy": [lambda: (aten.xlogy.Tensor, n(4), u(4))],
    # functions
    **{name: [one(getattr(getattr(aten, name), D))] for name in (
        "exp", "expm1", "exp2", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "asinh", "erf", "erfc", "sigmoid",
        "silu", "mish", "special_erfcx", "sinc", "deg2rad", "rad2deg", "relu", "leaky_relu", "hardtanh", "hardsigmoid",
        "hardswish", "softshrink", "hardshrink", "sign", "sgn", "floor", "ceil", "trunc", "round", "frac", "nan_to_num",
        "elu", "celu", "selu", "softplus", "gelu", "log_sigmoid_forward")},
    **{name: [on_unit(getattr(getattr(aten, name), D))] for name in (
        "sqrt", "rsqrt", "log", "log1p", "log2", "log10", "asin", "acos", "atanh", "lgamma", "digamma", "logit")},
    "acosh": [lambda: (aten.acosh.default, 1 + u(5))],
    "glu": [lambda: (aten.glu.default, n(3, 4), 1)],
    # choice
    **{name: [lambda name=name: (getattr(aten, name).Tensor, n(9), n(9)),
              lambda name=name: (getattr(aten, name).Scalar, n(9), 0.5)]
        for name in ("gt", "ge", "lt", "le", "eq", "ne")},
    "where": [lambda: (aten.where.self, n(3, 4) > 0, n(4), n(3, 4))],
    "masked_fill": [lambda: (aten.masked_fill.Scalar, n(3, 4), n(4) > 0, 0.1)],
    "_prelu_kernel": [lambda: (aten._prelu_kernel.default, n(9), u(1))],
    "_prelu_kernel_backward": [lambda: (aten._prelu_kernel_backward.default, n(9), n(9), u(1))],
    "clamp": [lambda: (aten.clamp.default, n(9), -0.5, 0.4), lambda: (aten.clamp.Tensor, n(9), n(9) - 2, n(9) + 2),
              lambda: (aten.clamp.default, n(9), None, 0.4)],
    "clamp_min": [lambda: (aten.clamp_min.default, n(9), 0.3), lambda: (aten.clamp_min.Tensor, n(9), n(9))],
    "clamp_max": [lambda: (aten.clamp_max.default, n(9), 0.3), lambda: (aten.clamp_max.Tensor, n(9), n(9))],
    "threshold": [lambda: (aten.threshold.default, n(9), 0.1, 0.7)],
    **{name: [two(getattr(getattr(aten, name), D))] for name in ("maximum", "minimum", "fmax", "fmin")},
    "fmod": [lambda: (aten.fmod.Scalar, 5 * n(9), 0.7), lambda: (aten.fmod.Tensor, 5 * n(9), n(9))],
    "remainder": [lambda: (aten.remainder.Scalar, 5 * n(9), 0.7), lambda: (aten.remainder.Tensor, 5 * n(9), n(9))],
    # backward of functions
    "tanh_backward": [lambda: (aten.tanh_backward.default, n(5), n(5).tanh())],
    "sigmoid_backward": [lambda: (aten.sigmoid_backward.default, n(5), u(5))],
    "logit_backward": [lambda: (aten.logit_backward.default, n(5), u(5))],
    "gelu_backward": [grad(aten.gelu_backward.default),
                      lambda: (aten.gelu_backward.default, n(9), n(9), {"approximate": "tanh"})],
    "silu_backward": [grad(aten.silu_backward.default)], "mish_backward": [grad(aten.mish_backward.default)],
    "softplus_backward": [grad(aten.softplus_backward.default, 1.5, 1.0)],
    "log_sigmoid_backward": [lambda: (aten.log_sigmoid_backward.default, n(5), (x := n(5)), (-x.abs()).exp())],
    "elu_backward": [lambda: (aten.elu_backward.default, n(9), 1.5, 1.2, 0.7, False, n(9)),
                     lambda: (aten.elu_backward.default, n(9), 1.5, 1.2, 0.7, True, aten.elu(n(9), 1.5, 1.2, 0.7))],
    "glu_backward": [lambda: (aten.glu_backward.default, n(3, 2), n(3, 4), 1)],
    "threshold_backward": [grad(aten.threshold_backward.default, 0.1)],
    "softshrink_backward": [grad(aten.softshrink_backward.default, 0.4)],
    "hardshrink_backward": [grad(aten.hardshrink_backward.default, 0.4)],
    "hardtanh_backward": [grad(aten.hardtanh_backward.default, -0.5, 0.4)],
    "hardsigmoid_backward": [grad(aten.hardsigmoid_backward.default)],
    "hardswish_backward": [lambda: (aten.hardswish_backward.default, n(9), 4 * n(9))],
    "leaky_relu_backward": [grad(aten.leaky_relu_backward.default, 0.1, False)],
    # losses
    **{name: [lambda name=name, r=r: (getattr(aten, name).default, n(5), n(5), r) for r in (0, 1, 2)]
       for name in ("mse_loss", "huber_loss", "smooth_l1_loss")},
    "mse_loss_backward": [lambda r=r: (aten.mse_loss_backward.default, n(5) if not r else n(), n(5), n(5), r)
        for r in range(3)],
    "huber_loss_backward": [lambda: (aten.huber_loss_backward.default, n(), n(5), n(5), 1, 0.7)],
    "smooth_l1_loss_backward": [lambda: (aten.smooth_l1_loss_backward.default, n(), n(5), n(5), 1, 0.7)],
    "binary_cross_entropy": [lambda r=r: (aten.binary_cross_entropy.default, u(5), u(5), u(5), r) for r in range(3)],
    "binary_cross_entropy_backward": [lambda: (aten.binary_cross_entropy_backward.default, n(), u(5), u(5), u(5), 1)],
    "binary_cross_entropy_with_logits": [lambda: (aten.binary_cross_entropy_with_logits.default,
        n(5), u(5), u(5), u(5), 1)],
    "nll_loss_forward": [lambda r=r: (aten.nll_loss_forward.default, n(3, 4), ints(0, -100, 3), u(4), r, -100)
        for r in range(3)],
    "nll_loss_backward": [nll_backward],
    # products
    "mm": [lambda: (aten.mm.default, n(3, 4), n(4, 2)), lambda: (aten.mm.default, n(9, 10), n(10, 9))],
    "mv": [lambda: (aten.mv.default, n(3, 4), n(4))], "dot": [lambda: (aten.dot.default, n(5), n(5))],
    "vdot": [lambda: (aten.vdot.default, n(5), n(5))], "bmm": [lambda: (aten.bmm.default, n(2, 3, 4), n(2, 4, 5))],
    "addmm": [lambda: (aten.addmm.default, n(3, 2), n(3, 4), n(4, 2), {"beta": 0.5, "alpha": 2}),
              lambda: (aten.addmm.default, n(2), n(3, 4), n(4, 2))],
    "addmv": [lambda: (aten.addmv.default, n(3), n(3, 4), n(4), {"beta": 0.5, "alpha": 2})],
    "addr": [lambda: (aten.addr.default, n(3, 4), n(3), n(4), {"beta": 0, "alpha": 2})],
    "baddbmm": [lambda: (aten.baddbmm.default, n(2, 3, 5), n(2, 3, 4), n(2, 4, 5), {"beta": 0.5})],
    "addbmm": [lambda: (aten.addbmm.default, n(3, 5), n(2, 3, 4), n(2, 4, 5))],
    "linear": [lambda: (aten.linear.default, n(2, 3, 4), n(5, 4), n(5))],
    "_trilinear": [lambda: (aten._trilinear.default, n(2, 3), n(4, 3, 5), n(2, 5), [1, 3], [0], [1, 2], [2, 3])],
    "linalg_cross": [lambda: (aten.linalg_cross.default, n(2, 3), n(2, 3))],
    # solving
    "linalg_inv_ex": [lambda: (aten.linalg_inv_ex.default, a()),
        lambda: (aten.linalg_inv_ex.default, torch.stack([a(), a()])),
                      lambda: (aten.linalg_inv_ex.default, a(9))],
    "linalg_solve_triangular": [lambda: (aten.linalg_solve_triangular.default, a(), n(3, 2), {"upper": True}),
        lambda: (aten.linalg_solve_triangular.default, a(), n(2, 3),
        {"upper": False, "left": False, "unitriangular": True})],
    "triangular_solve": [lambda: (aten.triangular_solve.default, n(3, 2), a(), False, True)],
    "linalg_lu_factor_ex": [lambda: (aten.linalg_lu_factor_ex.default, a()),
        lambda: (aten.linalg_lu_factor_ex.default, n(4, 2)),
                            lambda: (aten.linalg_lu_factor_ex.default, n(2, 4))],
    "linalg_lu": [lambda: (aten.linalg_lu.default, n(4, 4)), lambda: (aten.linalg_lu.default, n(4, 2))],
    "lu_unpack": [lambda: (aten.lu_unpack.default, *lu())],
    "linalg_lu_solve": [lambda: (aten.linalg_lu_solve.default, *lu(), n(3, 2)),
        lambda: (aten.linalg_lu_solve.default, *lu(), n(2, 3), {"left": False}),
        lambda: (aten.linalg_lu_solve.default, *lu(), n(3, 2), {"adjoint": True}),
        lambda: (aten.linalg_lu_solve.default, *lu(), n(2, 3), {"left": False, "adjoint": True})],
    "_linalg_solve_ex": [lambda: (aten._linalg_solve_ex.default, a(), n(3)),
        lambda: (aten._linalg_solve_ex.default, a(), n(3, 2)),
        lambda: (aten._linalg_solve_ex.default, a().T, n(2, 3), {"left": False}),
        lambda: (aten._linalg_solve_ex.default, torch.stack([a(), a()]), n(2, 3))],
    "_linalg_det": [lambda: (aten._linalg_det.default, a()), lambda: (aten._linalg_det.default, a(4).T)],
    "_linalg_slogdet": [lambda: (aten._linalg_slogdet.default, a(4))],
    "linalg_cholesky_ex": [lambda: (aten.linalg_cholesky_ex.default, spd()),
                           lambda: (aten.linalg_cholesky_ex.default, spd(), {"upper": True})],
    "cholesky_solve": [lambda: (aten.cholesky_solve.default, n(3, 2), torch.linalg.cholesky(spd())),
                       lambda: (aten.cholesky_solve.default, n(3, 2), torch.linalg.cholesky(spd()).T, True)],
    "cholesky_inverse": [lambda: (aten.cholesky_inverse.default, torch.linalg.cholesky(spd()))],
    "linalg_qr": [lambda: (aten.linalg_qr.default, n(4, 3)), lambda: (aten.linalg_qr.default, n(2, 3, 3))],
    # reductions
    "sum": [lambda: (aten.sum.default, n(3, 4)), lambda: (aten.sum.dim_IntList, n(3, 4), [-1], True),
            lambda: (aten.sum.dim_IntList, n(2, 3, 4), [0, 2]), lambda: (aten.sum.default, n(0))],
    "trace": [lambda: (aten.trace.default, a())],
        "nansum": [lambda: (aten.nansum.default, torch.tensor([1.0, math.nan, 2.0]).double())],
    "mean": [lambda: (aten.mean.default, n(3, 4)), lambda: (aten.mean.dim, n(3, 4), [0])],
    "prod": [lambda: (aten.prod.default, n(3, 4)), lambda: (aten.prod.dim_int, n(3, 4), 1, True)],
    "cumsum": [lambda: (aten.cumsum.default, n(3, 4), 1)], "cumprod": [lambda: (aten.cumprod.default, n(3, 4), 0)],
    "var": [lambda: (aten.var.correction, n(3, 4), [1], {"correction": 0}), lambda: (aten.var.correction, n(3, 4))],
    "std": [lambda: (aten.std.correction, n(3, 4), [0], {"keepdim": True})],
    "var_mean": [lambda: (aten.var_mean.correction, n(3, 4), [1])], "std_mean": [lambda: (aten.std_mean.correction,
        n(3, 4), [1])],
    "linalg_vector_norm": [lambda p=p: (aten.linalg_vector_norm.default, n(3, 4), p, [1])
        for p in (2, 1, 0, 3, 0.5, math.inf, -math.inf)],
    "dist": [lambda: (aten.dist.default, n(5), n(5))],
    "amax": [lambda: (aten.amax.default, n(3, 4), [1]), lambda: (aten.amax.default, n(3, 4))],
    "amin": [lambda: (aten.amin.default, n(3, 4), [0], True)],
    "max": [lambda: (aten.max.default, n(3, 4)), lambda: (aten.max.dim, n(3, 4), 1), lambda: (aten.max.dim,
        n(3, 4), 0, True)],
    "min": [lambda: (aten.min.default, n(3, 4)), lambda: (aten.min.dim, n(3, 4), 1)],
    "sort": [lambda: (aten.sort.default, n(3, 4), 0, True), lambda: (aten.sort.stable, n(5),
        {"stable": True, "dim": 0})],
    "topk": [lambda: (aten.topk.default, n(3, 4), 2, 1)],
    "median": [lambda: (aten.median.default, n(7)), lambda: (aten.median.dim, n(3, 4), 1)],
    "_softmax": [lambda: (aten._softmax.default, 9 * n(3, 4), 1, False)],
    "_log_softmax": [lambda: (aten._log_softmax.default, n(3, 4), 0, False)],
    "_softmax_backward_data": [lambda: (aten._softmax_backward_data.default, n(3, 4),
        n(3, 4).softmax(1), 1, torch.float64)],
    "_log_softmax_backward_data": [lambda: (aten._log_softmax_backward_data.default, n(3, 4),
        n(3, 4).log_softmax(1), 1, torch.float64)],
    "logsumexp": [lambda: (aten.logsumexp.default, n(3, 4), [1])],
    "logcumsumexp": [lambda: (aten.logcumsumexp.default, n(3, 4), 1)],
    # normalisations, attention, dropout
    "native_layer_norm": [lambda: (aten.native_layer_norm.default, n(2, 4), [4], n(4), n(4), 1e-5)],
    "native_layer_norm_backward": [norm_backward],
    "native_batch_norm": [lambda: (aten.native_batch_norm.default, n(4, 3), n(3), n(3), None, None, True, 0.1, 1e-5),
                          lambda: (aten.native_batch_norm.default, n(4, 3), n(3), n(3),
        n(3), u(3), False, 0.1, 1e-5)],
    "native_batch_norm_backward": [batch_backward],
    "native_group_norm": [lambda: (aten.native_group_norm.default, n(2, 4, 3), n(4), n(4), 2, 4, 3, 2, 1e-5)],
    "native_group_norm_backward": [group_backward],
    "_scaled_dot_product_flash_attention_for_cpu": [
        lambda: (aten._scaled_dot_product_flash_attention_for_cpu.default, n(2, 6, 3, 4), n(2, 2, 5, 4),
                 n(2, 2, 5, 4)),
        lambda: (aten._scaled_dot_product_flash_attention_for_cpu.default, n(1, 2, 3, 4), n(1, 2, 5, 4),
        n(1, 2, 5, 4)),
        lambda: (aten._scaled_dot_product_flash_attention_for_cpu.default, n(1, 2, 3, 4), n(1, 2, 3, 4),
        n(1, 2, 3, 4), 0.0, True),
        lambda: (aten._scaled_dot_product_flash_attention_for_cpu.default, n(1, 2, 3, 4), n(1, 2, 3, 4),
        n(1, 2, 3, 4),
                 {"attn_mask": n(3, 3), "scale": 0.3})],
    "_scaled_dot_product_flash_attention_for_cpu_backward": [attention_backward, grouped_attention_backward],
    "native_dropout": [lambda: (aten.native_dropout.default, n(9), 0.3, True)],
    "native_dropout_backward": [lambda: (aten.native_dropout_backward.default, n(9), n(9) > 0, 1 / 0.7)],
    # adding up in places
    "scatter_add": [lambda: (aten.scatter_add.default, n(2, 3), 1, ints([0, 0], [2, 1]), n(2, 2))],
    "scatter_reduce": [lambda: (aten.scatter_reduce.two, n(2, 3), 1, ints([0, 0], [2, 1]), n(2, 2), "sum")],
    "index_add": [lambda: (aten.index_add.default, n(2, 3), 1, ints(0, 0, 2), n(2, 3), {"alpha": 0.3})],
    "put": [lambda: (aten.put.default, n(2, 3), ints(1, 1, 4), n(3), True), lambda: (aten.put.default,
        n(2, 3), ints(1, 4), n(2))],
    "unfold_backward": [lambda: (aten.unfold_backward.default, n(3, 2), [4], 0, 2, 1)],
    "embedding_dense_backward": [lambda: (aten.embedding_dense_backward.default,
        n(3, 2), ints(0, 2, 0), 4, -1, False)],
    # moving
    **{name: [lambda name=name: (getattr(getattr(aten, name), D), n(3, 4))] for name in (
        "t", "alias", "detach", "clone", "contiguous", "flip", "tril", "triu", "diag_embed", "lift", "lift_fresh",
        "lift_fresh_copy", "squeeze_copy") if name != "flip"},
    "flip": [lambda: (aten.flip.default, n(3, 4), [0])],
    "transpose": [lambda: (aten.transpose.int, n(3, 4), 0, 1)], "permute": [lambda: (aten.permute.default,
        n(2, 3, 4), [2, 0, 1])],
    "expand": [lambda: (aten.expand.default, n(3, 1), [2, 3, 4])], "expand_copy": [lambda: (aten.expand_copy.default,
        n(3, 1), [3, 4])],
    "squeeze": [lambda: (aten.squeeze.dim, n(3, 1), 1)], "unsqueeze": [lambda: (aten.unsqueeze.default, n(3), -1)],
    "select": [lambda: (aten.select.int, n(3, 4), 1, -1)], "slice": [lambda: (aten.slice.Tensor, n(7), 0, 1, 6, 2)],
    "unbind": [lambda: (aten.unbind.int, n(3, 4), 1)], "split": [lambda: (aten.split.Tensor, n(5), 2)],
    "split_with_sizes": [lambda: (aten.split_with_sizes.default, n(5), [2, 3])],
    "unsafe_split": [lambda: (aten.unsafe_split.Tensor, n(5), 2)],
        "unsafe_chunk": [lambda: (aten.unsafe_chunk.default, n(5), 2)],
    "diagonal": [lambda: (aten.diagonal.default, n(3, 4), 1)], "roll": [lambda: (aten.roll.default,
        n(3, 4), [1], [0])],
    "rot90": [lambda: (aten.rot90.default, n(3, 4))], "repeat": [lambda: (aten.repeat.default, n(3), [2, 2])],
    "unfold": [lambda: (aten.unfold.default, n(5), 0, 3, 1)],
    "select_backward": [lambda: (aten.select_backward.default, n(4), [3, 4], 0, 1)],
    "slice_backward": [lambda: (aten.slice_backward.default, n(2, 4), [5, 4], 0, 1, 5, 2)],
    "diagonal_backward": [lambda: (aten.diagonal_backward.default, n(3), [3, 4], 0, 0, 1)],
    "trace_backward": [lambda: (aten.trace_backward.default, n(), [3, 3])],
    "view_copy": [lambda: (aten.view_copy.default, n(3, 4), [4, 3])],
    "constant_pad_nd": [lambda: (aten.constant_pad_nd.default, n(3), [1, 2], 0.3)],
    "movedim": [lambda: (aten.movedim.int, n(2, 3, 4), 0, 2)], "narrow": [lambda: (aten.narrow.default,
        n(5), 0, 1, 3)],
    "narrow_copy": [lambda: (aten.narrow_copy.default, n(5), 0, 1, 3)],
    "pixel_shuffle": [lambda: (aten.pixel_shuffle.default, n(1, 4, 2, 2), 2)],
    "pixel_unshuffle": [lambda: (aten.pixel_unshuffle.default, n(1, 1, 4, 4), 2)],
    "stack": [lambda: (aten.stack.default, [n(3), n(3)], 1)], "cat": [lambda: (aten.cat.default, [n(3), n(2)], 0),
        lambda: (aten.cat.default, [n(2), ints(4, 5)])],
    "gather": [lambda: (aten.gather.default, n(2, 3), 1, ints([0, 2], [1, 1]))],
    "index": [lambda: (aten.index.Tensor, n(3, 4), [ints(0, 2), ints(1, 1)]), lambda: (aten.index.Tensor,
        n(3, 4), [None, n(4) > 0])],
    "_unsafe_index": [lambda: (aten._unsafe_index.Tensor, n(3, 4), [ints(0, 2)])],
    "index_select": [lambda: (aten.index_select.default, n(3, 4), 1, ints(0, 0, 3))],
    "take": [lambda: (aten.take.default, n(3, 4), ints(0, 11))], "embedding": [lambda: (aten.embedding.default,
        n(5, 2), ints(4, 0))],
    "masked_select": [lambda: (aten.masked_select.default, n(3, 4), n(3, 4) > 0)],
    "scatter": [lambda: (aten.scatter.src, n(2, 3), 1, ints([0], [2]), n(2, 1)), lambda: (aten.scatter.value,
        n(2, 3), 1, ints([0], [2]), 0.3)],
    "select_scatter": [lambda: (aten.select_scatter.default, n(3, 4), n(4), 0, 1)],
    "slice_scatter": [lambda: (aten.slice_scatter.default, n(5), n(2), 0, 1, 5, 2)],
    "as_strided_scatter": [lambda: (aten.as_strided_scatter.default, n(9), n(2, 2), [2, 2], [3, 1], 1)],
    "diagonal_scatter": [lambda: (aten.diagonal_scatter.default, n(3, 3), n(3))],
    "index_put": [lambda: (aten.index_put.default, n(3, 4), [ints(0, 2)], n(2, 4)), lambda: (aten.index_put.default,
        n(3, 4), [n(3, 4) > 0], n()),
                  lambda: (aten.index_put.default, n(3, 4), [ints(0, 0)], n(2, 4), True)],
    "_unsafe_index_put": [lambda: (aten._unsafe_index_put.default, n(3, 4), [ints(0, 2)], n(2, 4), True)],
    "index_fill": [lambda: (aten.index_fill.int_Scalar, n(3, 4), 0, ints(1), 0.3)],
    "masked_scatter": [lambda: (aten.masked_scatter.default, n(3), torch.tensor([True, False, True]), n(2))],
    "index_copy": [lambda: (aten.index_copy.default, n(3, 4), 0, ints(1, 0), n(2, 4))],
    "block_diag": [lambda: (aten.block_diag.default, [n(2, 2), n(1, 3)])],
    "view": [lambda: (aten.view.default, n(3, 4), [2, -1])], "_unsafe_view": [lambda: (aten._unsafe_view.default,
        n(3, 4), [12])],
    "reshape": [lambda: (aten.reshape.default, n(3, 4).T, [-1])],
    "_reshape_alias": [lambda: (aten._reshape_alias.default, n(3, 4), [4, 3], [3, 1])],
    "flatten": [lambda: (aten.flatten.using_ints, n(3, 4))], "unflatten": [lambda: (aten.unflatten.int,
        n(6), 0, [2, 3])],
    "as_strided": [lambda: (aten.as_strided.default, n(3, 4), [2, 2], [4, 1], 1)],
    "as_strided_copy": [lambda: (aten.as_strided_copy.default, n(12), [2, 2], [4, 1], 1)],
    # copies and constants
    "copy": [lambda: (aten.copy.default, n(3, 4), n(4)), lambda: (aten.copy.default, n(3), ints(1, 2, 3))],
    "_to_copy": [lambda: (aten._to_copy.default, n(3).float(), {"dtype": torch.float64}),
        lambda: (aten._to_copy.default, ints(1, 2), {"dtype": torch.float64})],
    "fill": [lambda: (aten.fill.Scalar, n(3), 0.3), lambda: (aten.fill.Tensor, n(3), n())],
    "zero": [lambda: (aten.zero.default, n(3))], "zeros": [lambda: (aten.zeros.default, [3],
        {"dtype": torch.float64})],
    "zeros_like": [lambda: (aten.zeros_like.default, n(3))], "new_zeros": [lambda: (aten.new_zeros.default,
        n(3), [2])],
    "ones": [lambda: (aten.ones.default, [3], {"dtype": torch.float64})],
        "ones_like": [lambda: (aten.ones_like.default, n(3))],
    "new_ones": [lambda: (aten.new_ones.default, n(3), [2])],
    "full": [lambda: (aten.full.default, [2], 0.3, {"dtype": torch.float64})],
    "full_like": [lambda: (aten.full_like.default, n(2), 0.3)], "new_full": [lambda: (aten.new_full.default,
        n(2), [3], 0.3)],
    "scalar_tensor": [lambda: (aten.scalar_tensor.default, 0.3, {"dtype": torch.float64})],
    "eye": [lambda: (aten.eye.m, 2, 3, {"dtype": torch.float64})],
    "arange": [lambda: (aten.arange.start_step, 0.5, 3.0, 0.7, {"dtype": torch.float64}),
        lambda: (aten.arange.default, 3, {"dtype": torch.float64})],
}  # fmt: skip

# These give no number to compare: nothing, truth values and places that the run decides, memory not yet written
# to, and a tensor that torch makes only while differentiating.
NUMBERLESS = {
    "_assert_async", "_assert_scalar", "_linalg_check_errors", "_local_scalar_dense", "sym_constrain_range",
    "is_same_size", "record_stream", "isnan", "isinf", "isfinite", "logical_and", "logical_or", "logical_not",
    "logical_xor", "any", "all", "bitwise_and", "bitwise_or", "bitwise_not", "is_nonzero", "argmax", "argmin",
    "argsort",
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted",
    "_efficientzerotensor", "_unsafe_masked_index",
}  # fmt: skip

# torch multiplies by a sixth in float32, whatever the format of the tensors is.
TOLERANCE = {"hardsigmoid_backward": 1e-7, "digamma": 1e-12, "special_erfcx": 1e-12, "lgamma": 1e-12}

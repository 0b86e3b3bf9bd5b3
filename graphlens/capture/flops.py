"""Formulas: the floating-point operations of aten ops by the shapes of their tensors; a multiply-add counts as 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Shapes = Sequence[tuple[int, ...]]
Formula = Callable[[Shapes, Shapes], int]
_size = math.prod

# They make or move data and compute nothing: their bytes count where they copy.
FREE = frozenset(
    ("detach", "alias", "view", "t", "transpose", "permute", "expand", "as_strided", "unsqueeze", "squeeze", "slice",
     "select", "unbind", "split", "split_with_sizes", "_unsafe_view", "_reshape_alias", "is_same_size", "sym_size",
     "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense",
     "result_type", "_linalg_check_errors", "_has_compatible_shallow_copy_type", "diagonal", "unfold",
     "resize_", "set_", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
)  # fmt: skip

WINDOWS = frozenset(("max_pool2d_with_indices", "avg_pool2d"))  # an op for each entry of a window, per output


def nothing(_: Shapes, __: Shapes) -> int:
    """None: it moves data."""
    return 0


def _each_output(_: Shapes, outputs: Shapes) -> int:
    """One a result: add, mul, exp."""
    return _size(outputs[0]) if outputs else 0


def _each_input(inputs: Shapes, _: Shapes) -> int:
    """One an entry: sum, max."""
    return _size(inputs[0]) if inputs else 0


def _times_input(factor: int) -> Formula:
    return lambda inputs, _: factor * _size(inputs[0])


def mv_flops(inputs: Shapes, _: Shapes) -> int:
    """(m, n) @ (n,): 2·m·n."""
    return 2 * _size(inputs[-2])


def dot_flops(inputs: Shapes, _: Shapes) -> int:
    """(n,) · (n,): 2·n."""
    return 2 * _size(inputs[0])


def inv_flops(inputs: Shapes, _: Shapes) -> int:
    """(…, n, n): 2·n³, as by LU and 2 triangular solves with the identity (Higham 2002, chapter 14)."""
    return 2 * inputs[0][-1] * _size(inputs[0])


def lu_flops(inputs: Shapes, _: Shapes) -> int:
    """(…, n, n): 2/3·n³ (Golub and Van Loan 2013, section 3.2)."""
    return 2 * inputs[0][-1] * _size(inputs[0]) // 3


def solve_flops(inputs: Shapes, _: Shapes) -> int:
    """(…, n, n) and (…, n, k): 2/3·n³ to factorise and 2·n²·k to solve."""
    n = inputs[0][-1]
    right = _size(inputs[1])
    return lu_flops(inputs, ()) + 2 * n * right


def cholesky_flops(inputs: Shapes, _: Shapes) -> int:
    """(…, n, n): 1/3·n³ (Golub and Van Loan 2013, section 4.2)."""
    return inputs[0][-1] * _size(inputs[0]) // 3


def triangular_flops(inputs: Shapes, _: Shapes) -> int:
    """(…, n, n) and (…, n, k): n²·k."""
    matrix, right = (inputs[0], inputs[1]) if inputs[0][-1] == inputs[0][-2] else (inputs[1], inputs[0])
    return matrix[-1] * _size(right)


def attention_flops(inputs: Shapes, _: Shapes) -> int:
    """(b, h, q, d), (b, h, k, d), (b, h, k, v): the products with the keys and the values, and a softmax.

    Of the whole matrices, also where a mask hides a half, as torch's counter counts attention.
    """
    queries, keys, values = inputs[:3]
    scores = _size(queries[:-1]) * keys[-2]
    return scores * (2 * queries[-1] + 2 * values[-1] + 5)


def attention_backward_flops(inputs: Shapes, _: Shapes) -> int:
    """After the gradient as above: the scores again, and 4 products; 2 an entry for the softmax, 4 for its gradient."""
    queries, keys, values = inputs[1:4]
    scores = _size(queries[:-1]) * keys[-2]
    return scores * (6 * queries[-1] + 4 * values[-1] + 6)


_ELEMENTWISE = """
    add sub rsub mul div neg abs reciprocal sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos
    atan sinh cosh tanh asinh acosh atanh sigmoid erf erfc pow square relu threshold threshold_backward clamp
    clamp_min clamp_max maximum minimum where sign sgn floor ceil round trunc frac fmod remainder addcmul addcdiv
    lerp tanh_backward sigmoid_backward gelu gelu_backward silu silu_backward elu elu_backward leaky_relu
    leaky_relu_backward softplus softplus_backward softshrink softshrink_backward hardtanh hardtanh_backward
    hardswish hardsigmoid hardswish_backward hardsigmoid_backward mish mish_backward log_sigmoid_forward
    log_sigmoid_backward masked_fill eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and
    bitwise_or bitwise_not isnan isinf atan2 hypot mse_loss_backward
    smooth_l1_loss_backward huber_loss_backward outer ger
"""
_REDUCTIONS = """
    sum mean amax amin max min prod any all argmax argmin cumsum cumprod count_nonzero
"""
_MOVES = """
    clone copy_ copy _to_copy cat stack fill_ fill zero_ zeros zeros_like ones ones_like full full_like new_zeros
    new_ones new_full arange scalar_tensor eye index index_select gather scatter scatter_ index_put index_put_
    _index_put_impl embedding embedding_dense_backward slice_backward select_backward repeat constant_pad_nd flip
    roll tril triu tril_ triu_ masked_select nonzero sort topk nll_loss_backward rand randn bernoulli bernoulli_
    uniform_ normal_ randint randperm scatter_add scatter_add_ index_add index_add_ pixel_shuffle
    upsample_nearest2d diagonal_backward unfold_backward
    split_with_sizes_copy linalg_diagonal resolve_conj isfinite equal item
"""

FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _each_output),
    **dict.fromkeys(_REDUCTIONS.split(), _each_input),
    **dict.fromkeys(_MOVES.split(), nothing),
    "mv": mv_flops,
    "addmv": mv_flops,
    "dot": dot_flops,
    "vdot": dot_flops,
    # a multiply and an add for each entry, and a root
    "linalg_vector_norm": lambda inputs, outputs: 2 * _size(inputs[0]) + _size(outputs[0]),
    "norm": lambda inputs, outputs: 2 * _size(inputs[0]) + _size(outputs[0]),
    "linalg_inv_ex": inv_flops,
    "linalg_lu_factor_ex": lu_flops,
    "_linalg_solve_ex": solve_flops,
    "_linalg_det": lu_flops,
    "linalg_cholesky_ex": cholesky_flops,
    "linalg_solve_triangular": triangular_flops,
    "linalg_lu_solve": lambda inputs, _: 2 * inputs[0][-1] * _size(inputs[2]),
    # one entry a row is added up
    "nll_loss_forward": lambda inputs, _: _size(inputs[1]),
    "nll_loss2d_forward": lambda inputs, _: _size(inputs[1]),
    # difference, function, sum
    "mse_loss": _times_input(3),
    "smooth_l1_loss": _times_input(3),
    "huber_loss": _times_input(3),
    # by the mask, and by 1/(1 − p)
    "native_dropout": _times_input(2),
    "native_dropout_backward": _times_input(2),
    "max_pool2d_with_indices_backward": _each_input,
    "_scaled_dot_product_flash_attention_for_cpu": attention_flops,
    "_scaled_dot_product_flash_attention_for_cpu_backward": attention_backward_flops,
    # largest entry, difference, exponential, sum, quotient: each once an entry
    "_softmax": _times_input(5),
    "_safe_softmax": _times_input(5),
    "_log_softmax": _times_input(5),
    "_softmax_backward_data": _times_input(4),
    "_log_softmax_backward_data": _times_input(4),
    "logsumexp": _times_input(4),
    # mean, difference, square, sum, root and quotient, scale, shift
    "native_layer_norm": _times_input(8),
    "native_batch_norm": _times_input(8),
    "native_group_norm": _times_input(8),
    "_native_batch_norm_legit": _times_input(8),
    "native_layer_norm_backward": _times_input(12),
    "native_batch_norm_backward": _times_input(12),
    "native_group_norm_backward": _times_input(12),
    "var": _times_input(4),
    "std": _times_input(4),
    "var_mean": _times_input(4),
}

"""Ops that move entries and compute nothing: views, copies, joins, indexing, scattering.

None of them is written twice: torch itself moves the *numbers of the entries* (whole numbers from 1 on,
0 for an entry that the op fills with zero), which says where each entry of the result comes from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flint import arb, fmpq

from graphlens.numerics.balls import Array, fraction, numbers, shaped
from graphlens.numerics.kernels_adding import index_put_added
from graphlens.numerics.registry import Site, Unsupported, kernel

_ZERO = fmpq(0)

# One tensor in, and all other arguments are plain numbers: where entries go depends on the shape alone.
_ONE = (
    "t", "transpose", "permute", "expand", "squeeze", "unsqueeze", "select", "slice", "alias", "detach", "clone",
    "contiguous", "unbind", "split", "split_with_sizes", "unsafe_split", "unsafe_chunk", "diagonal", "flip", "roll",
    "rot90", "repeat", "unfold", "tril", "triu", "diag_embed", "select_backward", "slice_backward",
    "diagonal_backward", "lift", "lift_fresh", "lift_fresh_copy", "squeeze_copy", "view_copy", "expand_copy",
    "constant_pad_nd", "movedim", "trace_backward", "narrow", "narrow_copy", "pixel_shuffle", "pixel_unshuffle",
)  # fmt: skip
# Several tensors of numbers, or tensors of indices besides.
_SEVERAL = (
    "stack", "cat", "gather", "index", "index_select", "take", "embedding", "masked_select", "scatter",
    "select_scatter", "slice_scatter", "as_strided_scatter", "diagonal_scatter", "index_put", "_unsafe_index_put",
    "_unsafe_index", "index_fill", "masked_scatter", "index_copy", "block_diag", "_unsafe_masked_index",
)  # fmt: skip
_AS_VIEW = ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
_FILLING: dict[str, tuple[int, ...]] = {"scatter": (3,), "index_fill": (3,), "constant_pad_nd": (2,)}

JOINS = ("stack", "cat", "block_diag")  # whole numbers among their arguments are data, not places

_routes: dict[Any, tuple[tuple[npt.NDArray[np.int64], bool], ...]] = {}


def move_one(site: Site, self: Any, *args: Any, **kwargs: Any) -> Any:
    """Send the entries of one array where the op sends them; the route is kept per shape."""
    self = numbers(self)
    key = site.function, self.shape, repr(args), repr(kwargs)
    routes = _routes.get(key)
    if routes is None:
        pool: list[Any] = []
        routes = _routes[key] = _numbered_results(site, (self, *args), kwargs, pool)
        if len(pool) > self.size:  # a fill value other than 0 is a part of the pool
            del _routes[key]
            return _follow(routes, pool)
    entries = self.ravel()
    if not any(fills for _, fills in routes):
        return [entries[route] for route, _ in routes]
    return _follow(routes, entries.tolist())


def move_several(site: Site, *args: Any, **kwargs: Any) -> Any:
    """Send the entries of several arrays where the op sends them."""
    if "index_put" in site.function._schema.name and len(args) > 3 and args[3]:
        return index_put_added(*args[:3])
    pool: list[Any] = []
    return _follow(_numbered_results(site, args, kwargs, pool), pool)


def _numbered_results(
    site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], pool: list[Any]
) -> tuple[tuple[npt.NDArray[np.int64], bool], ...]:
    """Run the op on numbers of entries; per result the positions in the pool, and whether zeros are filled in."""
    name = site.function._schema.name.rpartition("::")[2]
    fills = _FILLING.get(name, ())
    joins = name in JOINS

    def number(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = numbers(value) if joins else value
            if value.dtype != object:
                return torch.from_numpy(np.array(value))
            start = len(pool) + 1
            pool.extend(value.ravel().tolist())
            return torch.arange(start, start + value.size).view(value.shape)
        if isinstance(value, (list, tuple)):
            return type(value)(number(item) for item in value)
        return value

    def fill(value: Any) -> Any:
        if isinstance(value, (bool, int, float)):
            pool.append(fraction(value))
            return len(pool)
        return number(value)

    sent = [fill(value) if place in fills else number(value) for place, value in enumerate(args)]
    made = site.function(*sent, **{key: fill(v) if key == "value" else number(v) for key, v in kwargs.items()})
    results = made if isinstance(made, (list, tuple)) else [made]
    places = [result.numpy().astype(np.int64) - 1 for result in results]
    return tuple((place, bool((place < 0).any())) for place in places)


def _follow(routes: tuple[tuple[npt.NDArray[np.int64], bool], ...], pool: list[Any]) -> list[Array]:
    """The entries at these positions of the pool, zero at position −1."""
    entries = np.empty(len(pool) + 1, dtype=object)
    entries[:-1] = pool
    entries[-1] = _ZERO
    return [np.asarray(entries[route], dtype=object) for route, _ in routes]


for _name in _ONE:
    _fills = _FILLING.get(_name, ())
    kernel(_name, linear=[(0, *_fills)], offsets=_fills, moves=True)(move_one)
for _name in _SEVERAL:
    _data = (0,) if _name in JOINS else _FILLING.get(_name, ())
    kernel(_name, linear=[tuple(range(5))], offsets=_data, moves=True)(move_several)


@kernel(*_AS_VIEW, linear=[(0,)], moves=True)
def as_view(site: Site, self: Any, *args: Any) -> Array:
    # The entries stay in row-major order, whatever the strides are; the run says the shape.
    if args and isinstance(args[0], torch.dtype):
        raise Unsupported("a view of the same bytes as another dtype")
    made: Array = numbers(self).reshape(site.made().shape)
    return made


@kernel("as_strided", "as_strided_copy", linear=[(0,)], moves=True)
def as_strided(site: Site, self: Any, size: Any, stride: Any, storage_offset: Any = None) -> Any:
    given = site.arguments(0)
    if not given.is_contiguous() or given.storage_offset():
        raise Unsupported("as_strided of a tensor that is not contiguous")
    return move_one(site, self, size, stride, storage_offset)


@kernel("copy", linear=[(0, 1)], offsets=(1,))
def copy(site: Site, self: Any, src: Any, *args: Any) -> Array:
    return _broadcast(numbers(src), site)


@kernel("_to_copy", linear=[(0,)])
def cast(site: Site, self: Any, **kwargs: Any) -> Array:
    # The reference has no formats: what a cast rounds is the cast's own error.
    made: Array = numbers(self)
    return made


@kernel("fill", linear=[(0, 1)], offsets=(1,))
def fill(site: Site, self: Any, value: Any) -> Array:
    return _broadcast(numbers(value), site)


@kernel("zero", "zeros", "zeros_like", "new_zeros", "_efficientzerotensor", moves=True)
def zeros(site: Site, *args: Any, **kwargs: Any) -> Array:
    return _constant(_ZERO, site)


@kernel("ones", "ones_like", "new_ones", moves=True)
def ones(site: Site, *args: Any, **kwargs: Any) -> Array:
    return _constant(fmpq(1), site)


@kernel("full", "full_like", "new_full")
def full(site: Site, self: Any, *args: Any, fill_value: Any = None, **kwargs: Any) -> Array:
    # full_like(self, value) and full(size, value) have the value second, new_full(self, size, value) third.
    return _constant(numbers(args[-1] if args else fill_value), site)


@kernel("scalar_tensor")
def scalar_tensor(site: Site, value: Any, **kwargs: Any) -> Array:
    return _constant(numbers(value), site)


@kernel("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", moves=True)
def empty(site: Site, *args: Any, **kwargs: Any) -> Array:
    return _constant(arb.nan(), site)  # nothing is known until it is written to


@kernel("eye", moves=True)
def eye(site: Site, *args: Any, **kwargs: Any) -> Array:
    made = site.made()
    return shaped([fmpq(int(entry)) for entry in made.ravel().tolist()], made.shape)


@kernel("arange")
def arange(site: Site, *args: Any, **kwargs: Any) -> Array:
    start, _, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    count = site.made().shape[0]
    return shaped([fraction(start) + fraction(step) * k for k in range(count)], (count,))


@kernel("_assert_async", "_assert_scalar", "_linalg_check_errors", "_local_scalar_dense", "sym_constrain_range",
        "is_same_size", "record_stream", moves=True)  # fmt: skip
def nothing(site: Site, *args: Any, **kwargs: Any) -> None:
    return None


def _constant(value: Any, site: Site) -> Array:
    made = np.empty(site.made().shape, dtype=object)
    made[...] = value
    return made


def _broadcast(value: Array, site: Site) -> Array:
    made = np.empty(site.made().shape, dtype=object)
    made[...] = value
    return made

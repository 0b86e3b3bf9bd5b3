"""Ops that add up what meets at one place: scattering with addition, gradients of indexing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flint import fmpq

from graphlens.numerics.balls import Array, fraction, numbers
from graphlens.numerics.registry import Site, Unsupported, kernel

_ZERO = fmpq(0)


@kernel("scatter_add", linear=[(0, 3)])
def scatter_add(site: Site, self: Any, dim: int, index: Any, source: Any) -> Array:
    made: Array = numbers(self).copy()
    added = numbers(source)
    if not made.ndim:
        return np.asarray(made + added.ravel()[0], dtype=object)
    # The source may be larger than the index: only what the index covers is added.
    added = added[tuple(slice(0, size) for size in index.shape)]
    places = list(np.indices(index.shape))
    places[dim % made.ndim] = index
    np.add.at(made, tuple(places), added)
    return made


@kernel("scatter_reduce", linear=[(0, 3)])
def scatter_reduce(
    site: Site, self: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Array:
    if reduce != "sum" or not include_self:
        raise Unsupported("scatter_reduce other than a sum")
    return scatter_add(site, self, dim, index, source)  # type: ignore[no-any-return]


@kernel("index_add", linear=[(0, 3)])
def index_add(site: Site, self: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Array:
    made: Array = numbers(self).copy()
    added = numbers(source) * fraction(alpha)
    if not made.ndim:
        return np.asarray(made + added.ravel()[0], dtype=object)
    np.add.at(made, (slice(None),) * (dim % made.ndim) + (index,), added)
    return made


def index_put_added(self: Any, indices: Any, values: Any) -> Array:
    """`index_put` with accumulate."""
    index = [None if item is None else torch.from_numpy(np.array(item)) for item in indices]
    values = numbers(values)

    def send(order: torch.Tensor) -> Any:
        return torch.ops.aten.index.Tensor(order, index).numpy()

    return _added(numbers(self), send, values)


@kernel("put", linear=[(0, 2)])
def put(site: Site, self: Any, index: Any, source: Any, accumulate: bool = False) -> Array:
    made: Array = numbers(self).copy()
    flat = made.reshape(-1)
    if accumulate:
        np.add.at(flat, index.ravel(), numbers(source).ravel())
    else:
        flat[index.ravel()] = numbers(source).ravel()
    return flat.reshape(made.shape)


@kernel("unfold_backward", linear=[(0,)])
def unfold_backward(site: Site, grad_in: Array, input_sizes: Any, dim: int, size: int, step: int) -> Array:
    start = np.full(tuple(input_sizes), _ZERO, dtype=object)
    return _added(start, lambda order: order.unfold(dim, size, step).numpy(), grad_in)


@kernel("embedding_dense_backward", linear=[(0,)])
def embedding_dense_backward(
    site: Site, grad: Array, indices: Any, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Array:
    if scale_grad_by_freq:
        raise Unsupported("scale_grad_by_freq")
    made = np.full((num_weights, grad.shape[-1]), _ZERO, dtype=object)
    rows = indices.ravel()
    kept = rows != padding_idx
    np.add.at(made, rows[kept], grad.reshape(-1, grad.shape[-1])[kept])
    return made


def _added(start: Array, send: Any, values: Array) -> Array:
    """Add values where an indexing op would read them: it is tried on the numbers of the entries."""
    places = send(torch.arange(start.size).view(start.shape))
    flat: Array = start.reshape(-1).copy()
    np.add.at(flat, places.ravel(), np.broadcast_to(values, places.shape).ravel())
    made: Array = flat.reshape(start.shape)
    return made

"""Numbers that leave tensors for Python, where nothing follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_READ = {
    torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy,
    torch.Tensor.__float__, torch.Tensor.__complex__, torch.Tensor.__int__, torch.Tensor.__array__,
    torch.Tensor.__format__,
}  # fmt: skip
_MOST_NESTING = 4


class Reads(TorchFunctionMode):
    """Counts the calls that hand the numbers of a floating-point tensor to Python, or copy them without their history.

    What tensors are asked for their truth, as `if y > T` does, is not counted: a comparison is no number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        if function in _READ and _holds_numbers(args):
            self.count += 1
        return function(*args, **(kwargs or {}))


def _holds_numbers(item: Any, nesting: int = _MOST_NESTING) -> bool:
    if isinstance(item, torch.Tensor):
        return item.is_floating_point() or item.is_complex()
    return nesting > 0 and isinstance(item, (list, tuple)) and any(_holds_numbers(part, nesting - 1) for part in item)

"""What an op does to its arguments, by its schema."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch._ops import OpOverload


class OpFacts(NamedTuple):
    """What an op does to its arguments."""

    writes: tuple[int | str, ...]  # positions and names of the arguments written to
    function: OpOverload | None  # the op that returns the result instead
    out: tuple[str, ...]  # of the arguments written to, those that are not read
    random: bool
    returns: int
    needed: tuple[int, ...]  # positions of the arguments that must be tensors

    def lacks(self, args: Sequence[object]) -> bool:
        """Whether a tensor is not defined, which C++ may pass and Python cannot."""
        return any(place < len(args) and args[place] is None for place in self.needed)


@cache
def facts_of(func: OpOverload) -> OpFacts:
    """Looked up once an op."""
    schema = func._schema
    writes: list[int | str] = []
    out = []
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            writes.append(argument.name if argument.kwarg_only else position)
            if argument.kwarg_only:
                out.append(argument.name)
    random = torch.Tag.nondeterministic_seeded in func.tags
    needed = [place for place, argument in enumerate(schema.arguments) if str(argument.type) == "Tensor"]
    return OpFacts(
        tuple(writes),
        _functional(func, out) if writes else func,
        tuple(out),
        random,
        len(schema.returns),
        tuple(needed),
    )


def _functional(func: OpOverload, out: Sequence[str]) -> OpOverload | None:
    """The overload that takes the same arguments and writes into none of them."""
    name = func._schema.name.rpartition("::")[2]
    wanted = [(item.name, str(item.type)) for item in func._schema.arguments if item.name not in out]
    for candidate in dict.fromkeys((name.removesuffix("_"), name)):
        packet = getattr(getattr(torch.ops, func.namespace), candidate, None)
        for overload in packet.overloads() if packet is not None else ():
            found = getattr(packet, overload)
            arguments = found._schema.arguments
            writing = any(item.alias_info is not None and item.alias_info.is_write for item in arguments)
            if not writing and [(item.name, str(item.type)) for item in arguments] == wanted:
                return found  # type: ignore[no-any-return]
    return None

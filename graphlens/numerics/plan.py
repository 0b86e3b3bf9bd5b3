"""What a replay has to compute, in which order, what it may forget, and whether there is time for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphlens.capture.tape import Tape
from graphlens.numerics.arguments import op_name
from graphlens.numerics.balls import is_real
from graphlens.numerics.effort import DOUBLE_BITS, Work, work_of

COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
_LIGHT = 500  # entries that a call reads: with less it takes no more than moments


class OutOfTime(Exception):
    """The time allowed has passed, or will have when the call is done.

    Attributes:
        too_long: the op that would take longer than is left, and about how many seconds.
    """

    def __init__(self, too_long: tuple[str, float] | None = None) -> None:
        super().__init__(too_long)
        self.too_long = too_long


@dataclass
class Plan:
    """Which calls are computed, and which values are not needed after each.

    Attributes:
        heavy: the calls that take more than a moment, with what they come to.
        work: the same of all calls together, by op.
    """

    wanted: set[int]
    calls: list[int]
    dropped: dict[int, list[int]]
    real: list[bool]
    heavy: dict[int, Work] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)

    @classmethod
    def of(cls, tape: Tape, wanted: set[int], *, prune: bool) -> Plan:
        real = [is_real(tensor) for tensor in tape.tensors]
        needed = set(wanted)
        calls, dropped, seen = [], {}, set()
        for place in range(len(tape.calls) - 1, -1, -1):
            call = tape.calls[place]
            compares = op_name(call) in COMPARISONS
            if prune and not compares and needed.isdisjoint(call.outputs):
                continue
            inputs = set(call.inputs)
            needed |= inputs
            calls.append(place)
            # Walking backwards, the first use that is met is the last one.
            dropped[place] = [value for value in (*inputs, *call.outputs) if value is not None and value not in seen]
            seen.update(dropped[place])
        calls.reverse()
        plan = cls(wanted, calls, dropped, real)
        plan._count(tape)
        return plan

    def _count(self, tape: Tape) -> None:
        sizes = [tensor.numel() for tensor in tape.tensors]
        for place in self.calls:
            call = tape.calls[place]
            if sum(sizes[value] for value in call.inputs) < _LIGHT:
                continue
            work = work_of(call, tape.tensors.__getitem__)
            self.heavy[place] = work
            self.work[op_name(call)] = self.work.get(op_name(call), Work()) + work

    def check_time(self, seconds: float, precision: int) -> None:
        """See whether the whole replay may be done in time, on numbers as short as they can be."""
        needed = {name: work.seconds(DOUBLE_BITS, precision) for name, work in self.work.items()}
        if sum(needed.values()) > seconds > 0:
            raise OutOfTime(max(needed.items(), key=lambda item: item[1]))

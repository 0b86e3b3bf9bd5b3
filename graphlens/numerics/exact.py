"""The true values of a run: its tape replayed in exact and ball arithmetic.

Each value comes out as balls that are proved to contain the true number: what the same ops give
without rounding, on the same inputs. Numbers of a program's text (the 0.1 in `x * 0.1`) count as the
float64 that Python made of them, and a cast does not round.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flint import arb, ctx

from graphlens.capture.tape import Call, Ref, Tape
from graphlens.numerics.affine import Affine, Value, evaluate, flattened, settled
from graphlens.numerics.arguments import argument, arguments, is_drawn, op_name
from graphlens.numerics.balls import (
    Array,
    Balls,
    from_tensor,
    is_discrete,
    is_known,
    is_real,
    nearest,
    radius,
)
from graphlens.numerics.effort import bits_of, symbols_of
from graphlens.numerics.kernels_all import KERNELS
from graphlens.numerics.local import local_error
from graphlens.numerics.plan import COMPARISONS, OutOfTime, Plan
from graphlens.numerics.registry import Site, TooWide, Unsupported

FIRST_PRECISION, HIGHEST_PRECISION = 128, 4096  # bits
RELATIVE_RADIUS = 2.0**-80  # of a value's largest entry
ABSOLUTE_RADIUS = 2.0**-53 * 1e-6  # of the run's result, where the true value is 0


__all__ = ["Departure", "Exact", "local_error", "replay"]


@dataclass(frozen=True)
class Departure:
    """A branch on data that the replay took as the run did, though exact arithmetic does not say so.

    Attributes:
        call: position on the tape.
        otherwise: entries at which exact arithmetic decides the other way.
        undecided: entries at which the balls are too wide to tell.
    """

    call: int
    op: str
    otherwise: int
    undecided: int


@dataclass(frozen=True)
class Exact:
    """What a replay found.

    Attributes:
        values: the wanted values, by number.
        unknown: the wanted values of which at least one entry is unknown.
        uncovered: ops without a kernel, or uses of them, with the number of calls; what depends on
            them is unknown.
        opaque: ops that the tape could not record as functions; the reference takes what they wrote
            from the run.
        precision: bits of the last replay.
        relative_radius: the largest radius of a wanted value, relative to its largest entry; values that
            are 0 up to a negligible radius do not count.
        is_tight: whether every known wanted value is as narrow as asked for.
        out_of_time: whether a replay was broken off, or not begun.
        too_long: the op that would have taken longer than was left, and about how many seconds.
    """

    values: Mapping[int, Balls]
    unknown: frozenset[int]
    departures: tuple[Departure, ...]
    uncovered: Mapping[str, int]
    opaque: Mapping[str, int]
    precision: int
    relative_radius: float
    is_tight: bool
    out_of_time: bool
    seconds: float
    too_long: tuple[str, float] | None = None


def replay(
    tape: Tape, *, precision: int = FIRST_PRECISION, wanted: set[int] | None = None,
    highest: int = HIGHEST_PRECISION, seconds: float = 60.0,
) -> Exact:  # fmt: skip
    """The true values of a tape, with as many bits as it takes to enclose them tightly.

    The precision doubles until the wanted values are tight; only what they depend on is computed, and
    the comparisons of the program with it.

    Args:
        precision: bits to begin with.
        wanted: value numbers; all of them if None.
        highest: bits at which to stop.
        seconds: after this time the last complete replay is what there is. A call that would take
            longer is not begun.
    """
    began = time.perf_counter()
    chosen = set(range(len(tape.tensors))) if wanted is None else set(wanted)
    plan = Plan.of(tape, chosen, prune=wanted is not None)
    done: _Replay | None = None
    late, too_long = False, None
    before = ctx.prec
    try:
        while True:
            run = _Replay(tape, plan, precision, stop_at=began + seconds, last_chance=precision >= highest)
            ctx.prec = precision
            try:
                run.run()
            except TooWide:
                precision = min(2 * precision, highest)
                continue
            except OutOfTime as reason:
                late, too_long = True, reason.too_long
                done = done or run
                break
            done = run
            if run.is_tight or precision >= highest:
                break
            precision = min(2 * precision, highest)
        return done.result(late, time.perf_counter() - began, too_long)
    finally:
        ctx.prec = before


@dataclass
class _Replay:
    """One replay at one precision."""

    tape: Tape
    plan: Plan
    precision: int
    stop_at: float
    last_chance: bool
    values: dict[int, Value] = field(default_factory=dict)
    kept: dict[int, Balls] = field(default_factory=dict)
    shared: dict[Any, list[Value]] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    uncovered: Counter[str] = field(default_factory=Counter)
    unwritten: set[int] = field(default_factory=set)  # memory that nothing was written to, and views of it
    unknown: frozenset[int] = frozenset()
    relative_radius: float = math.inf
    is_tight: bool = False

    def run(self) -> None:
        self.fresh = itertools.count()
        self.plan.check_time(self.stop_at - time.perf_counter(), self.precision)
        for place in self.plan.calls:
            if time.perf_counter() > self.stop_at:
                raise OutOfTime
            self._step(place, self.tape.calls[place])
            for value in self.plan.dropped[place]:
                self._drop(value)
        self._judge()

    def _drop(self, number: int) -> None:
        """Forget a value that no later call reads; of a wanted one the balls stay, which take less memory."""
        if number in self.plan.wanted and self.plan.real[number]:
            self.kept[number] = Balls(flattened(self.value(number)))
        self.values.pop(number, None)

    def _step(self, place: int, call: Call) -> None:
        name = op_name(call)
        tensors, real = self.tape.tensors, self.plan.real
        numeric = any(value is not None and real[value] for value in call.outputs)
        if not numeric and name not in COMPARISONS:
            return  # whole numbers and truth values are taken from the run when they are read
        kernel = KERNELS.get(name)
        if kernel is None and call.random and is_drawn(call, any(self.plan.real[value] for value in call.inputs)):
            return
        key = self._shared_key(call) if kernel is not None and kernel.shared else None
        if key is not None and key in self.shared:
            self._store(call, self.shared[key])
            return
        outputs = [tensors[value] if value is not None else None for value in call.outputs]
        made: list[Any]
        try:
            if kernel is None:
                raise Unsupported("no kernel")
            if not all(tensor is None or is_real(tensor) or is_discrete(tensor) for tensor in outputs):
                raise Unsupported("a result that is not real")
            args, kwargs = self._filled(call)
            self._check_time(place, args)
            site = Site(call.function, lambda which: argument(call, which, tensors.__getitem__), outputs)
            made = evaluate(kernel, site, args, kwargs, self.fresh)
            if numeric and len(made) != len(outputs):
                raise Unsupported("another number of results")
            if numeric:
                made = [None if value is None else settled(value, self.fresh) for value in made]
                if not all(map(_fits, made, outputs)):
                    raise Unsupported("results of another shape")
            if site.otherwise or site.undecided:
                self.departures.append(Departure(place, name, site.otherwise, site.undecided))
        except TooWide:
            if not self.last_chance and all(self._is_known(value) for value in call.inputs):
                raise
            self._uncover(call)
            return
        except (Unsupported, ZeroDivisionError):
            self._uncover(call)
            return
        if numeric:
            self._store(call, made)
            if "empty" in name or (kernel is not None and kernel.moves and not self.unwritten.isdisjoint(call.inputs)):
                self.unwritten.update(value for value in call.outputs if value is not None)
            if key is not None:
                self.shared[key] = made

    def _check_time(self, place: int, args: tuple[Any, ...]) -> None:
        """See whether a call may be done in time; it cannot be broken off."""
        work = self.plan.heavy.get(place)
        if work is None:
            return
        needed = work.times(1 + symbols_of(args)).seconds(bits_of(args), self.precision)
        if time.perf_counter() + needed > self.stop_at:
            raise OutOfTime((op_name(self.tape.calls[place]), needed))

    def _store(self, call: Call, made: list[Value]) -> None:
        for value, result in zip(call.outputs, made, strict=True):
            if value is not None and self.plan.real[value]:
                self.values[value] = self._nothing(value) if result is None else result

    def _uncover(self, call: Call) -> None:
        self.uncovered[str(call.function)] += 1
        self._store(call, [None] * len(call.outputs))

    def _nothing(self, number: int) -> Array:
        """An array of which nothing is known."""
        return np.full(tuple(self.tape.tensors[number].shape), arb.nan(), dtype=object)

    def value(self, number: int) -> Value:
        """What a value is; what no call made is exactly what the run had."""
        found = self.values.get(number)
        if found is None:
            tensor = self.tape.tensors[number]
            if not (is_real(tensor) or is_discrete(tensor)):
                raise Unsupported(f"{tensor.dtype} of layout {tensor.layout}")
            found = self.values[number] = from_tensor(tensor)
        return found

    def _filled(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def filled(item: Any) -> Any:
            if isinstance(item, Ref):
                return self.value(item.value)
            if isinstance(item, (list, tuple)):
                return type(item)(map(filled, item))
            return item

        return arguments(call, filled)

    def _shared_key(self, call: Call) -> Any:
        return call.function, repr(call.args), repr(call.kwargs)

    def _is_known(self, number: int) -> bool:
        value = flattened(self.value(number))
        return value.dtype != object or all(map(is_known, value.flat))

    def _judge(self) -> None:
        """Enclose what is wanted, and see how narrow it is."""
        unknown, widest, tight = set(), 0.0, True
        for number in self.plan.wanted:
            if not self.plan.real[number]:
                continue
            if number not in self.kept:  # a source that no call reads
                self.kept[number] = Balls(flattened(self.value(number)))
            found = self.kept[number]
            known = [entry for entry in found.entries.flat if is_known(entry)]
            if len(known) < found.entries.size:
                unknown.add(number)
                # A number that the run has and the balls have lost may come back with more bits.
                tight = tight and (bool(self.uncovered) or number in self.unwritten or not self._is_finite(number))
            width = max(map(radius, known), default=0.0)
            size = max((abs(nearest(entry)) for entry in known), default=0.0)
            if width <= RELATIVE_RADIUS * size:
                widest = max(widest, width / size if size else 0.0)
            else:
                given = float(self.tape.tensors[number].detach().abs().max())
                if width > ABSOLUTE_RADIUS * (given if 0 < given < math.inf else 1.0):
                    widest, tight = max(widest, width / size if size else math.inf), False
        self.unknown, self.relative_radius, self.is_tight = frozenset(unknown), widest, tight

    def _is_finite(self, number: int) -> bool:
        return bool(self.tape.tensors[number].isfinite().all())

    def result(self, late: bool, seconds: float, too_long: tuple[str, float] | None) -> Exact:
        missing = frozenset(n for n in self.plan.wanted if self.plan.real[n] and n not in self.kept)
        return Exact(
            self.kept, self.unknown | missing, tuple(self.departures), dict(self.uncovered), dict(self.tape.opaque),
            self.precision, self.relative_radius, self.is_tight, late, seconds, too_long,
        )  # fmt: skip


def _fits(made: Value | None, output: torch.Tensor | None) -> bool:
    """Whether what a kernel made has the shape of the run's result."""
    if made is None or output is None or not is_real(output):
        return True
    return tuple((made.mid if isinstance(made, Affine) else made).shape) == tuple(output.shape)

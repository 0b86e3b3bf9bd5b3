"""What a shorter program may do another way, beyond computing equal values once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Otherwise:
    """What findings name that another order gives for less, and copies that can be left out; by values.

    Attributes:
        orders: per product the one of its two factors that is itself a product, where the other order is cheaper.
        copies: per copy what it is a copy of.
        by_hand: codes of findings that are left to a person.
    """

    orders: dict[int, int] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)

"""How often each method exchanges, and what it does beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a plan needs to know of a method. Every one of them sends one vector and receives one at an exchange.

    Args:
        name: of the coupling; ``ddp`` is data-parallel SGD.
        period: L, the coupling's own default; DDP exchanges its gradient at every step.
        copies: readings and writings of vectors at an exchange that the method's equations ask for, in copies (a copy
            reads one vector and writes one).
        waits: whether the replicas wait for one another; otherwise each has its own clock.
    """

    name: str
    period: int
    copies: float
    waits: bool = True


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(name="ddp", period=1, copies=0.0),
        Method(name="diloco", period=50, copies=1.0),  # y ← x̄
        Method(name="easgd", period=10, copies=2.5),  # x ← x - α (x - x̄) is 1.5, keeping x̄ is 1
        Method(name="easgd_async", period=10, copies=3.0, waits=False),  # the difference, x and what is pushed
        # (x - z) + (x - x̄)/ρ takes three passes of 1.5, x ← x - η G another one; x̄, y and z are copied
        Method(name="parle", period=25, copies=9.0),
    )
}

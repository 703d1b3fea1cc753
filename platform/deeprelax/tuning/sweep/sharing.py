"""How several sweeps share one cluster: arithmetic on numbers, without a cluster.

Every driver computes the same division from the same claims, so nobody has to be asked. Trials are given out one by
one: the next goes to the driver that has the smallest part of the cluster, as long as it has work and a trial of its
shape still fits (progressive filling; dominant resource fairness, Ghodsi et al. 2011). Hence

- drivers with trials of one shape get the same number of slots, one more in turn where they do not divide evenly;
- what a driver has no work for goes to the others: when the filling ends, nobody's next trial fits;
- no more is given out than there is. A warm process keeps its slot from trial to trial, so a driver whose trials queued
  for slots that it has no right to could wait until another sweep ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeprelax.tuning.sweep.admission import Resources, Shape, place


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one driver asks of the cluster.

    Args:
        driver: its name, unlike any other's.
        shape: of its trials.
        running: trials that it has begun.
        most: trials that it has work for, or None for any number.
    """

    driver: str
    shape: Shape
    running: int = 0
    most: int | None = None


def divide(nodes: Sequence[Resources], claims: Sequence[Claim], turn: int) -> dict[str, int]:
    """Return how many trials each driver may run at once, by the drivers' names.

    Args:
        nodes: of the cluster, empty.
        claims: of all drivers, in any order.
        turn: counts up with time; another driver is the first to get what cannot be divided evenly.
    """
    left = [dict(node) for node in nodes]
    given = {claim.driver: 0 for claim in claims}
    parts = {claim.driver: _part(nodes, claim.shape) for claim in claims}
    asking = _rotated(sorted(claims, key=lambda claim: claim.driver), turn)
    while asking:
        least = min(asking, key=lambda claim: given[claim.driver] * parts[claim.driver])
        if given[least.driver] != least.most and place(left, least.shape.asking):
            given[least.driver] += 1
        else:
            asking.remove(least)
    return given


def may_run(nodes: Sequence[Resources], claims: Mapping[str, Claim], own: str, turn: int) -> int:
    """Return how many trials the driver ``own`` may run at once now.

    That is its share, yet not more than fit beside the trials that the others have begun: those end in their own time.
    A driver without work asks all the same, for it cannot know whether a trial has come back to its queue.

    Args:
        nodes: of the cluster, empty.
        claims: of all drivers by name.
        own: one of the names.
        turn: see :func:`divide`.
    """
    mine = claims[own]
    wishing = Claim(driver=own, shape=mine.shape)
    share = divide(nodes, [wishing, *(claim for name, claim in claims.items() if name != own)], turn)[own]
    left = [dict(node) for node in nodes]
    for claim in claims.values():
        for _ in range(claim.running):
            place(left, claim.shape.asking)  # one that finds no room waits in Ray's queue
    could = mine.running
    while could < share and place(left, mine.shape.asking):
        could += 1
    return min(share, could)


def _part(nodes: Sequence[Resources], shape: Shape) -> float:
    """Return the part of the cluster that one trial takes, by the resource that it takes most of."""
    has = {name: sum(node.get(name, 0.0) for node in nodes) for name in shape.total}
    return max((amount / has[name] for name, amount in shape.total.items() if amount and has[name]), default=1.0)


def _rotated(claims: Sequence[Claim], turn: int) -> list[Claim]:
    first = turn % max(1, len(claims))
    return [*claims[first:], *claims[:first]]

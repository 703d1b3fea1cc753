"""How servers that have lost their memory get the center back: from the replicas, who all have heard it.

A server that was killed is started again by Ray, knowing nothing. It asks every replica for the newest center that this
one has heard, or read from its checkpoint, and the newest of all is the center again: exactly the one of the last
exchange that anybody has heard of, and never older than the newest checkpoint. A round that was open is held again. Who
does not answer within a lease counts as lost.

The momentum of a center (DiLoCo's outer momentum) lives at the servers only: it is as old as the checkpoint if no
exchange was heard since, and otherwise starts from zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import ray

if TYPE_CHECKING:
    from deeprelax.exchange.server.coordinator import Member
    from deeprelax.exchange.server.wire import Named


class Known(NamedTuple):
    """A center that a replica knows.

    Args:
        step: mini-batch steps of the run there.
        exchanges: exchanges of the run there.
        tensors: its slices for one server by name; empty if the replica knows none.
    """

    step: int
    exchanges: int
    tensors: Named


def newer(known: Known, than: Known | None) -> bool:
    """Return whether ``known`` is the better center: of a later exchange, or of the same one and with its momentum."""
    rank = (known.exchanges, len(known.tensors))
    return bool(known.tensors) and (than is None or rank > (than.exchanges, len(than.tensors)))


class Recovery:
    """Who has said what it knows, and the newest of it.

    Args:
        replicas: n.
        lease_s: seconds after the first answer in which the others must come.
        clock: seconds, monotonic.

    Attributes:
        members: who has answered, by replica.
        newest: the newest center so far; None if nobody knows one.
    """

    def __init__(self, replicas: int, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.members: dict[int, Member] = {}
        self.newest: Known | None = None
        self._missing = set(range(replicas))
        self._lease_s = lease_s
        self._clock = clock
        self._ends: float | None = None

    def remind(self, member: Member, known: Known) -> None:
        """Take what a member knows."""
        self._ends = self._ends or self._clock() + self._lease_s
        self.members[member.replica] = member
        self._missing.discard(member.replica)
        if newer(known, self.newest):
            self.newest = known

    def gone(self, replica: int) -> None:
        """Wait no more for a replica that has ended."""
        self.members.pop(replica, None)
        self._missing.discard(replica)

    def complete(self) -> bool:
        """Return whether all have answered, or those that have not are lost."""
        return not self._missing or (self._ends is not None and self._clock() > self._ends)


def was_restarted() -> bool:
    """Return whether this is an actor that Ray has started again after its death."""
    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and context.was_current_actor_reconstructed

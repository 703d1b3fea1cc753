"""Who pulls the center alone (asynchronous EASGD), in which order, and who is too far ahead and waits."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deeprelax.coupling.message import Message
    from deeprelax.exchange.server.coordinator import Member


class Pull(NamedTuple):
    """A message that waits for its turn, with its distance to the center when it came."""

    member: Member
    message: Message
    gap: float


class Pulls:
    """The clocks of the members, each its own count of exchanges, and the messages that wait."""

    def __init__(self) -> None:
        self._clocks: dict[int, int] = {}
        self._waiting: dict[int, Pull] = {}

    @property
    def waiting(self) -> set[int]:
        """The replicas whose message waits."""
        return set(self._waiting)

    def joined(self, replica: int, exchanges: int) -> None:
        """Set the clock of a member that joins; what its predecessor said is forgotten."""
        self._clocks[replica] = exchanges
        self._waiting.pop(replica, None)

    def add(self, pull: Pull) -> None:
        """Take a message."""
        self._clocks[pull.member.replica] = pull.message.exchanges
        self._waiting[pull.member.replica] = pull

    def take(self, live: Collection[int]) -> Pull | None:
        """Return the next message, in replica order, whose member is at most ``max_ahead`` ahead of the slowest."""
        self._waiting = {replica: pull for replica, pull in self._waiting.items() if replica in live}
        slowest = min((self._clocks[replica] for replica in live), default=0)
        for replica, pull in sorted(self._waiting.items()):
            if pull.message.exchanges - slowest <= pull.message.max_ahead:
                del self._waiting[replica]
                self._clocks[replica] = pull.message.exchanges + 1
                return pull
        return None

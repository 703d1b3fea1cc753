"""The head's end of the shared memory: it hears the replicas of its machine, and tells them where the center lies."""

from __future__ import annotations

import asyncio
import operator
import socket
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange.center import Center
from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.shared_memory.channel import Channel, Words
from deeprelax.exchange.shared_memory.crew import Crew
from deeprelax.exchange.shared_memory.vectors import Layout, SharedVectors, layout_of
from deeprelax.exchange.shared_memory.words import read_message, write_refusal, write_reply


class Meeting:
    """A socket on which the replicas of this machine speak; all runs on the event loop that opens it.

    Its address has no file. Who does not see it (another machine, another network namespace, a system that is no
    Linux) cannot connect, and speaks to the head through Ray.

    Args:
        replicas: n.
        hear: takes a member's message; its vectors are the member's memory, valid until it is told the reply.
        lose: is told of a member whose process has ended.

    Attributes:
        name: of the address.
    """

    def __init__(self, replicas: int, hear: Callable[[Member, Message], None], lose: Callable[[Member], None]) -> None:
        self.name = f"deeprelax-{uuid.uuid4().hex}"
        self._hear = hear
        self._lose = lose
        self._loop = asyncio.get_running_loop()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(f"\0{self.name}")
        self._listening.listen()
        self._loop.add_reader(self._listening, self._accept)
        self._members: dict[Channel, Member | None] = {}
        self._waiting: dict[Member, Channel] = {}
        self._crew = Crew(replicas)
        self._center: SharedVectors | None = None
        self._copies: dict[tuple[object, Layout], SharedVectors] = {}

    def tell(self, members: Sequence[Member], reply: Reply, center: Center | None, group: int | None = None) -> None:
        """Answer those of the members that wait here.

        Args:
            members: who hears the reply, waiting here or not.
            reply: their reply.
            center: of the run. It is moved into shared memory when it is told here first, so that nothing needs to be
                copied from then on.
            group: of the members.
        """
        here = [member for member in members if member in self._waiting]
        if here:
            self._answer(here, write_reply(reply), self._in_memory(reply, center, group))

    def refuse(self, members: Sequence[Member], error: ExchangeError) -> None:
        """Answer those of the members that wait here with an error."""
        self._answer([member for member in members if member in self._waiting], write_refusal(error))

    @property
    def waiting(self) -> tuple[Member, ...]:
        """Return the members that wait here."""
        return tuple(self._waiting)

    def close(self) -> None:
        """End all connections."""
        ends: tuple[socket.socket | Channel, ...] = (self._listening, *self._members)
        for end in ends:
            self._loop.remove_reader(end)
            end.close()
        self._crew.close()

    def _answer(self, members: Sequence[Member], words: Words, shared: Sequence[SharedVectors] = ()) -> None:
        for member in members:
            with suppress(OSError):  # who has ended is noticed by its socket
                self._waiting.pop(member).send(words, *shared)

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        channel = Channel(connection)
        if channel.peer_is_own_user():
            self._members[channel] = None
            self._loop.add_reader(channel, self._receive, channel)
        else:
            channel.close()

    def _receive(self, channel: Channel) -> None:
        try:
            words, shared = channel.receive()
        except ConnectionError:
            self._drop(channel)
            return
        (said,) = shared
        member, message = read_message(words, said.vectors)
        self._members[channel], self._waiting[member] = member, channel
        self._hear(member, message)

    def _drop(self, channel: Channel) -> None:
        self._loop.remove_reader(channel)
        channel.close()
        self._waiting = {member: kept for member, kept in self._waiting.items() if kept is not channel}
        member = self._members.pop(channel)
        if member is not None:
            self._lose(member)

    def _in_memory(self, reply: Reply, center: Center | None, group: int | None) -> list[SharedVectors]:
        """Return where the reply's vectors lie in shared memory, having put them there if they do not."""
        if center is None or not _are(reply.vectors, center.vectors):
            # Who joins may read what the replicas know of the center while others read what their round came to.
            known = center is not None and _are(reply.vectors, center.known)
            vectors = self._copied("known" if known else "mean", reply.vectors)
        else:
            if self._center is None or not self._center.holds(center.vectors):
                self._center = SharedVectors.like(center.vectors)
                center.vectors, center.make = self._center.vectors, self._crew.make
            vectors = self._center
        return [vectors, self._copied(group, reply.group)] if reply.group else [vectors]

    def _copied(self, name: object, vectors: Sequence[Tensor]) -> SharedVectors:
        """Return the shared memory of this name and layout with a copy of the vectors."""
        kept = self._copies.get((name, layout_of(vectors)))
        if kept is None:
            kept = self._copies[name, layout_of(vectors)] = SharedVectors.like(vectors)
        else:
            kept.write(vectors)
        return kept


def _are(vectors: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """True if these are the very same tensors."""
    return len(vectors) == len(others) and all(map(operator.is_, vectors, others))

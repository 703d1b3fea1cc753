"""The servers as Ray actors: one head that knows the members and closes the rounds, and shards for large centers.

With shards every server holds a slice of every vector. A replica deposits its slices at the shards, then speaks to the
head, which tells the shards whom to average, and collects its slices of the reply from the shards; so all slices agree
on who took part.

Whoever reads an actor's handle imports the actor's module. Ray Train's controller reads one and starts the workers only
then, so this module does without torch until a server starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import ray
from ray import ObjectRef
from ray.actor import ActorMethod, ActorProxy

from deeprelax.errors import ExchangeError
from deeprelax.exchange.server.coordinator import TICK_S, Answer, Coordinator, Member, Row, Rules

if TYPE_CHECKING:
    from deeprelax.coupling.message import Message, Reply
    from deeprelax.exchange.meter import Meter
    from deeprelax.exchange.server.wire import Named, Packed
    from deeprelax.exchange.shared_memory.meeting import Meeting

SHARED_BYTES = 2**20
"""Bytes of a reply above which it is written to shared memory once for all replicas (measured: pays from 4 MB on)."""


class Failure(NamedTuple):
    """An error that ended the run, as text: nothing is unpickled across processes.

    Args:
        replica: whose loop raised it; None if a server did.
        kind: the name of the exception's class.
        message: its message.
        traceback: as the worker saw it; empty for errors that explain themselves.
    """

    replica: int | None
    kind: str
    message: str
    traceback: str = ""


class Sealed(NamedTuple):
    """A reply on its way, and the head's slices of its vectors or the reference of them."""

    reply: Reply
    packed: Packed | ObjectRef[Packed]


class Position(NamedTuple):
    """Where the run is, and the named slices of the center there of each server or the references of them."""

    step: int
    exchanges: int
    parts: list[Named | ObjectRef[Named]]


class Controller(Protocol):
    """What is needed of Ray Train's controller, an actor."""

    abort: ActorMethod


class News(NamedTuple):
    """What the driver hears.

    Args:
        rows: of the replicas and about them, since the last call.
        failure: the error that ended the run, if any.
        controller: of the workers, once it has started them; the driver can abort it.
    """

    rows: list[Row]
    failure: Failure | None
    controller: Controller | None


class Shard:
    """A slice of the center, moved when the head says so.

    Args:
        restored: its slices of the center of a resumed run, or nothing.
    """

    def __init__(self, restored: Named) -> None:
        from deeprelax.exchange.server.store import Store

        self._store = Store(restored)
        self._deposits: dict[Member, Message] = {}
        self._replies: dict[Member, asyncio.Future[Packed]] = {}

    @ray.method
    async def deposit(self, member: Member, header: Message, packed: Packed) -> bool:
        """Keep a member's slices until the head has decided what becomes of them; return whether they are finite."""
        self._deposits[member] = self._store.opened(header, packed)
        self._replies[member] = asyncio.get_running_loop().create_future()
        return self._store.rounds.finite(self._deposits[member])

    @ray.method
    async def collect(self, member: Member) -> Packed:
        """Return the slices of the reply to a member that has deposited its own, once the head has decided."""
        packed = await self._replies[member]
        del self._replies[member]
        return packed

    @ray.method
    async def close(self, members: Sequence[Member], restarted: bool) -> None:
        """Average the members' deposits and answer them."""
        if restarted:
            self._store.rounds.center = None
        self._answer(members, [self._deposits[member] for member in members])
        # A newcomer may have deposited already; what a lost replica left goes when its replacement takes part.
        present = {member.replica for member in members}
        self._deposits = {member: kept for member, kept in self._deposits.items() if member.replica not in present}
        self._replies = {
            member: reply for member, reply in self._replies.items() if reply.done() or member in self._deposits
        }

    @ray.method
    async def current(self, member: Member) -> None:
        """Answer a newcomer that has deposited its slices with the center."""
        self._answer([member], [replace(self._deposits.pop(member), kind="join")])

    @ray.method
    async def state(self) -> Named:
        """Return the slices of center and velocity by name."""
        return self._store.named()

    @ray.method
    async def traffic(self) -> Meter:
        """Return what arrived here and what left."""
        return self._store.rounds.meter

    def _answer(self, members: Sequence[Member], deposits: Sequence[Message]) -> None:
        reply = self._store.rounds.complete(deposits)
        for member, deposit in zip(members, deposits, strict=True):
            self._replies[member].set_result(self._store.sealed(reply.told(deposit.group)).copy())


class Head:
    """The server that replicas and driver speak to; every method runs on one event loop.

    Args:
        rules: how members are treated.
        restored: this server's slices of the center of a resumed run, or nothing.
        step: mini-batch steps already made by a resumed run.
        exchanges: exchanges already completed by a resumed run.
        shards: the other servers.
    """

    def __init__(
        self, rules: Rules, restored: Named, step: int, exchanges: int, shards: Sequence[ActorProxy[Shard]]
    ) -> None:
        from deeprelax.exchange.server.store import Store

        self._store = Store(restored, step, exchanges)
        self._coordinator = Coordinator(rules, self._store.rounds)
        self._shards = shards
        self._rows: list[Row] = []
        self._failure: Failure | None = None
        self._waiting: dict[Member, asyncio.Future[Sealed | ExchangeError]] = {}
        # Ray may free an object that only a reply refers to before the replica has read it, so the owner refers to it
        # too, until the replica has the next reply.
        self._answered: dict[int, Sealed | ExchangeError] = {}
        self._watch: asyncio.Task[None] | None = None
        self._controller: Controller | None = None
        self._meeting: Meeting | None = None

    @ray.method
    async def speak(self, member: Member, header: Message, packed: Packed, finite: bool) -> Sealed | ExchangeError:
        """Take a replica's message and return the reply of its round, once it has closed.

        Args:
            member: who speaks.
            header: the message without its vectors.
            packed: this server's slices of them.
            finite: whether those of the other servers are finite.
        """
        waiting: asyncio.Future[Sealed | ExchangeError] = asyncio.get_running_loop().create_future()
        self._waiting[member] = waiting
        self._hear(member, self._store.opened(header, packed), finite=finite)
        return await waiting

    @ray.method
    async def meet(self) -> str | None:
        """Return where the replicas of this machine find the head without Ray; None: nowhere."""
        from deeprelax.exchange.shared_memory.meeting import Meeting

        if self._meeting is None and not self._shards:
            with suppress(OSError):  # a system without such sockets
                self._meeting = Meeting(self._coordinator.rules.replicas, self._hear, self._lose)
        return self._meeting.name if self._meeting is not None else None

    @ray.method
    async def beat(self, member: Member, rows: Sequence[Row]) -> bool:
        """Renew a member's lease and take its rows; True if the run is to stop."""
        self._rows += rows
        self._coordinator.beat(member)
        return self._store.rounds.stop

    @ray.method
    async def leave(self, member: Member, rows: Sequence[Row]) -> None:
        """Let a member go that has finished."""
        self._rows += rows
        self._settle(partial(self._coordinator.leave, member))

    @ray.method
    async def lose(self, replica: int) -> None:
        """Let a member go whose process has ended."""
        self._settle(partial(self._coordinator.lose, replica))

    @ray.method
    async def fail(self, member: Member, rows: Sequence[Row], failure: Failure) -> None:
        """End the run because a replica's loop raised an error; all who wait hear of it."""
        self._rows += rows
        if not self._coordinator.outdated(member):
            self._fail(failure)

    @ray.method
    async def drain(self) -> News:
        """Return what has happened since the last call."""
        rows, self._rows = self._rows, []
        return News(rows, self._failure, self._controller)

    @ray.method
    async def request_stop(self) -> None:
        """Let every reply from now on say ``stop``."""
        self._store.rounds.stop = True

    @ray.method
    async def position(self) -> Position:
        """Return where the run is, and the center there."""
        rounds = self._store.rounds
        others = [shard.state.remote() for shard in self._shards]
        return Position(rounds.step, rounds.exchanges, [self._store.named(), *others])

    @ray.method
    async def traffic(self) -> list[Meter | ObjectRef[Meter]]:
        """Return what arrived at each server and what left, or the references of that."""
        return [self._store.rounds.meter, *(shard.traffic.remote() for shard in self._shards)]

    @ray.method
    async def adopt(self, controller: Controller) -> None:
        """Remember the controller of the workers, for the driver."""
        self._controller = controller

    async def _look_at_leases(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._settle(self._coordinator.expire)

    def _hear(self, member: Member, message: Message, *, finite: bool = True) -> None:
        if self._failure is not None:
            self._refuse([member], _failed(self._failure))
        elif self._coordinator.outdated(member):
            self._refuse([member], _outdated(member))
        else:
            self._watch = self._watch or asyncio.create_task(self._look_at_leases())
            self._settle(partial(self._coordinator.hear, member, message, finite=finite))

    def _lose(self, member: Member) -> None:
        if not self._coordinator.outdated(member):
            self._settle(partial(self._coordinator.lose, member.replica))

    def _settle(self, act: Callable[[], Answer | None]) -> None:
        try:
            answer = act()
        except ExchangeError as error:
            self._fail(Failure(None, type(error).__name__, str(error)))
            return
        if self._coordinator.events:
            self._let_outdated_go()
        self._rows += self._coordinator.events
        self._coordinator.events.clear()
        if answer is None:
            return
        for shard in self._shards:
            if answer.averaged:
                shard.close.remote(answer.to, answer.restarted)
            else:
                shard.current.remote(answer.to[0])
        for group in dict.fromkeys(answer.groups):
            members, reply = answer.of_group(group), answer.reply.told(group)
            if self._meeting is not None:
                self._meeting.tell(members, reply, self._store.rounds.center, group)
            elsewhere = [member for member in members if member in self._waiting]
            if elsewhere:
                self._deliver(elsewhere, self._sealed(reply))

    def _sealed(self, reply: Reply) -> Sealed:
        packed = self._store.sealed(reply)
        shared = packed.nbytes >= SHARED_BYTES
        own = ray.put(packed) if shared else packed.copy()
        return Sealed(replace(reply, vectors=(), group=()), own)

    def _let_outdated_go(self) -> None:
        for member in [waiting for waiting in self._everyone() if self._coordinator.outdated(waiting)]:
            self._refuse([member], _outdated(member))

    def _fail(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._refuse(self._everyone(), _failed(self._failure))

    def _everyone(self) -> list[Member]:
        """Return all who wait for a reply."""
        return [*self._waiting, *(self._meeting.waiting if self._meeting is not None else ())]

    def _refuse(self, members: Sequence[Member], error: ExchangeError) -> None:
        if self._meeting is not None:
            self._meeting.refuse(members, error)
        self._deliver(members, error)

    def _deliver(self, members: Sequence[Member], answer: Sealed | ExchangeError) -> None:
        for member in members:
            waiting = self._waiting.pop(member, None)
            if waiting is not None and not waiting.done():
                self._answered[member.replica] = answer
                waiting.set_result(answer)


def _outdated(member: Member) -> ExchangeError:
    return ExchangeError(f"Replica {member.replica} was taken over by another process; this one must end.")


def _failed(failure: Failure) -> ExchangeError:
    who = "The server" if failure.replica is None else f"Replica {failure.replica}"
    return ExchangeError(f"{who} failed: {failure.kind}: {failure.message}")

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
from ray.exceptions import RayError

from deeprelax.errors import DeepRelaxError, ExchangeError, StartAgainError
from deeprelax.exchange.server.coordinator import TICK_S, Answer, Coordinator, Member, Rules
from deeprelax.exchange.server.parcels import Parcel
from deeprelax.exchange.server.recovery import Known, Recovery, was_restarted
from deeprelax.exchange.server.shard import Shard

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
    parts: list[Named | ObjectRef[Named | None] | None]


class Controller(Protocol):
    """What is needed of Ray Train's controller, an actor."""

    abort: ActorMethod


class News(NamedTuple):
    """What the driver hears.

    Args:
        parcels: rows of the replicas and about them, since the last call.
        failure: the error that ended the run, if any.
        controller: of the workers, once it has started them; the driver can abort it.
    """

    parcels: list[Parcel]
    failure: Failure | None
    controller: Controller | None


class Pulse(NamedTuple):
    """What a member hears when it sends a heartbeat.

    Args:
        stop: the run is to stop.
        forgot: the server has lost its memory; remind it.
        taken: number of the first row that the driver does not have yet.
    """

    stop: bool
    forgot: bool
    taken: int


class ForgottenError(ExchangeError):
    """The server has lost its memory: remind it and say it again."""


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
        self._rules = rules
        self._coordinator = Coordinator(rules, self._store.rounds)
        self._shards = shards
        self._recovery: Recovery | None = None
        self._recovered = asyncio.Event()
        self._parcels: list[Parcel] = []
        self._taken: dict[str, int] = {}
        self._failure: Failure | None = None
        self._waiting: dict[Member, asyncio.Future[Sealed | ExchangeError]] = {}
        # Ray may free an object that only a reply refers to before the replica has read it, so the owner refers to it
        # too, until the replica has the next reply.
        self._answered: dict[int, Sealed | ExchangeError] = {}
        self._watch: asyncio.Task[None] | None = None
        self._controller: Controller | None = None
        self._meeting: Meeting | None = None
        if was_restarted():
            self._forget()

    @ray.method
    async def speak(self, member: Member, header: Message, packed: Packed, elsewhere: float) -> Sealed | ExchangeError:
        """Take a replica's message and return the reply of its round, once it has closed.

        Args:
            member: who says it.
            header: the message without its vectors.
            packed: this server's slices of them.
            elsewhere: the squared gaps that the other servers measured.
        """
        waiting: asyncio.Future[Sealed | ExchangeError] = asyncio.get_running_loop().create_future()
        self._waiting[member] = waiting
        self._hear(member, self._store.opened(header, packed), elsewhere)
        return await waiting

    @ray.method
    async def meet(self) -> str | None:
        """Return where the replicas of this machine find the head without Ray; None: nowhere."""
        from deeprelax.exchange.shared_memory.meeting import Meeting

        if self._meeting is None and not self._shards:
            with suppress(OSError):  # a system without such sockets
                self._meeting = Meeting(self._rules.replicas, self._hear, self._lose)
        return self._meeting.name if self._meeting is not None else None

    @ray.method
    async def beat(self, member: Member, parcel: Parcel, leaving: bool) -> Pulse:
        """Renew a member's lease and take its rows; ``leaving`` if it has been told to end."""
        self._parcels.append(parcel)
        self._coordinator.beat(member)
        if leaving:
            self._coordinator.announce(member)
        return Pulse(self._store.rounds.stop, self._recovery is not None, self._taken.get(parcel.sender, 0))

    @ray.method
    async def forget(self) -> None:
        """Let all servers lose their memory, because one of them has."""
        if self._rules.elastic and self._recovery is None:
            self._forget()

    @ray.method
    async def remind(self, member: Member, known: Known) -> None:
        """Take the newest center that a member knows, and return once the memory is back.

        The member has told the other servers before.
        """
        if self._recovery is not None:
            self._recovery.remind(member, known)
            self._look()
            await self._recovered.wait()

    @ray.method
    async def leave(self, member: Member, parcel: Parcel) -> None:
        """Let a member go that has finished."""
        self._parcels.append(parcel)
        if self._recovery is not None:
            self._recovery.gone(member.replica)
        self._settle(partial(self._coordinator.leave, member))

    @ray.method
    async def stray(self, member: Member) -> bool:
        """Turn away a member whose loss is not finite; return whether it may start again and the run goes on."""
        if self._rules.elastic:
            self._settle(partial(self._coordinator.stray, member))
        return self._rules.elastic and self._failure is None

    @ray.method
    async def lose(self, replica: int) -> None:
        """Let a member go whose process has ended."""
        self._settle(partial(self._coordinator.lose, replica))

    @ray.method
    async def fail(self, member: Member, parcel: Parcel, failure: Failure) -> None:
        """End the run because a replica's loop raised an error; all who wait hear of it."""
        self._parcels.append(parcel)
        if not self._coordinator.outdated(member):
            self._fail(failure)

    @ray.method
    async def drain(self) -> News:
        """Return what has happened since the last call."""
        parcels, self._parcels = self._parcels, []
        self._taken |= {parcel.sender: parcel.end for parcel in parcels}
        return News(parcels, self._failure, self._controller)

    @ray.method
    async def request_stop(self) -> None:
        """Let every reply from now on say ``stop``."""
        self._store.rounds.stop = True

    @ray.method
    async def position(self) -> Position:
        """Return where the run is, and the center there."""
        if self._recovery is not None:
            await self._recovered.wait()
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

    def _look(self) -> None:
        """Look at the leases from now on."""
        self._watch = self._watch or asyncio.create_task(self._look_at_leases())

    async def _look_at_leases(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._recovery is None:
                self._settle(self._coordinator.expire)
            elif self._recovery.complete():
                await self._recover(self._recovery)

    def _forget(self) -> None:
        """Ask all members what they know, or, without elasticity, let the whole group start again."""
        if self._rules.elastic:
            self._recovered.clear()
            self._recovery = Recovery(self._rules.replicas, self._rules.lease_s)
        else:
            self._coordinator.resume(())
        self._refuse(self._everyone(), ForgottenError("The server has lost its memory."))

    async def _recover(self, recovery: Recovery) -> None:
        from deeprelax.exchange.server.store import Store

        newest, before = recovery.newest, self._store.rounds
        at = None if newest is None else newest.exchanges
        try:
            await asyncio.gather(*(shard.recover.remote(at) for shard in self._shards))
        except RayError:  # one has died meanwhile, and with it what it was told
            self._recovered.set()
            self._forget()
            return
        if newest is not None:
            self._store = Store(newest.tensors, newest.step, newest.exchanges)
        rounds = self._store.rounds
        rounds.stop, rounds.save, rounds.meter = before.stop, before.save, before.meter
        self._coordinator = Coordinator(self._rules, rounds)
        self._coordinator.resume(recovery.members.values())
        self._recovery = None
        self._recovered.set()

    def _hear(self, member: Member, message: Message, elsewhere: float = 0.0) -> None:
        refusal = self._refusal(member, message)
        if refusal is not None:
            self._refuse([member], refusal)
            return
        self._look()
        self._settle(partial(self._coordinator.hear, member, message, elsewhere))

    def _refusal(self, member: Member, message: Message) -> ExchangeError | None:
        """Return why a message is not even heard, if so."""
        if self._failure is not None:
            return _failed(self._failure)
        if self._recovery is not None:
            return ForgottenError("The server has lost its memory.")
        if self._coordinator.outdated(member):
            return _outdated(member)
        if message.kind != "join" and not (self._rules.elastic or self._coordinator.knows(member)):
            return StartAgainError("The server has lost its memory of the group: it starts again.")
        return None

    def _lose(self, member: Member) -> None:
        if not self._coordinator.outdated(member):
            self._settle(partial(self._coordinator.lose, member.replica))

    def _settle(self, act: Callable[[], Answer | None]) -> None:
        try:
            answer = act() or self._coordinator.released()
            while answer is not None:
                self._refuse(answer.refused, StartAgainError("These weights are refused."))
                if set(answer.to) - set(answer.refused):
                    self._answer(answer)
                answer = self._coordinator.released()
        except DeepRelaxError as error:
            self._fail(Failure(None, type(error).__name__, str(error)))
        if self._coordinator.events:
            self._let_outdated_go()
            self._parcels.append(Parcel("", 0, self._coordinator.events))
            self._coordinator.events = []

    def _answer(self, answer: Answer) -> None:
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

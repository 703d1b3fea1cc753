"""One of the further servers of a large center, as a Ray actor; see :mod:`deeprelax.exchange.server.actor`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import ray

from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.server.recovery import Known, newer, was_restarted

if TYPE_CHECKING:
    from deeprelax.coupling.message import Message
    from deeprelax.exchange.meter import Meter
    from deeprelax.exchange.server.wire import Named, Packed


class Shard:
    """A slice of the center, moved when the head says so.

    Args:
        restored: its slices of the center of a resumed run, or nothing.
    """

    def __init__(self, restored: Named) -> None:
        from deeprelax.exchange.server.store import Store

        self._store = Store(restored)
        self._forgot = was_restarted()
        self._offers: dict[int, Known] = {}
        self._deposits: dict[Member, Message] = {}
        self._replies: dict[Member, asyncio.Future[Packed]] = {}

    @ray.method
    async def deposit(self, member: Member, header: Message, packed: Packed) -> float | None:
        """Keep a member's slices until the head has decided what becomes of them.

        Returns:
            their squared gap to the center; None if the center is forgotten.
        """
        if self._forgot:
            return None
        self._deposits[member] = self._store.opened(header, packed)
        self._replies[member] = asyncio.get_running_loop().create_future()
        return self._store.rounds.squared_gap(self._deposits[member])

    @ray.method
    async def collect(self, member: Member) -> Packed | None:
        """Return the slices of the reply to a member that has deposited its own, once the head has decided.

        Returns:
            None if this server has forgotten that.
        """
        if self._forgot:
            return None
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
    async def remind(self, known: Known) -> None:
        """Keep a center that a replica knows."""
        if newer(known, self._offers.get(known.exchanges)):
            self._offers[known.exchanges] = known

    @ray.method
    async def recover(self, exchanges: int | None) -> None:
        """Go on from the center known of an exchange, or from the start if no replica knows one."""
        from deeprelax.exchange.server.store import Store

        if exchanges is not None:
            meter = self._store.rounds.meter
            self._store = Store(self._offers[exchanges].tensors)
            self._store.rounds.meter = meter
        self._forgot = False
        self._offers, self._deposits, self._replies = {}, {}, {}

    @ray.method
    async def state(self) -> Named | None:
        """Return the slices of center and velocity by name; None if they are forgotten."""
        return None if self._forgot else self._store.named()

    @ray.method
    async def traffic(self) -> Meter:
        """Return what arrived here and what left; a server that is restarted begins to count again."""
        return self._store.rounds.meter

    def _answer(self, members: Sequence[Member], deposits: Sequence[Message]) -> None:
        reply = self._store.rounds.complete(deposits)
        for member, deposit in zip(members, deposits, strict=True):
            self._replies[member].set_result(self._store.sealed(reply.told(deposit.group)).copy())

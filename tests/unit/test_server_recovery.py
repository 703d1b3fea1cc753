"""Servers that have lost their memory: which center is the newest, and how a run goes on from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, cast

import pytest
import torch
from tests.unit.test_server_rounds import Clock

from deeprelax.coupling import LocalSgd
from deeprelax.coupling.message import CenterStep, Kind, Message
from deeprelax.errors import StartAgainError
from deeprelax.exchange.server.actor import ForgottenError, Head, News, Pulse, Sealed
from deeprelax.exchange.server.coordinator import Member, Rules
from deeprelax.exchange.server.parcels import Parcel
from deeprelax.exchange.server.recovery import Known, Recovery, newer
from deeprelax.exchange.server.shard import Shard
from deeprelax.exchange.server.wire import Named, Packed, pack, pack_named, unpack, unpack_named

A, B = Member(0, "a"), Member(1, "b")
LEASE_S = 0.05
EMPTY = Parcel("a", 0, [])


def known(exchanges: int, value: float, *, velocity: bool = False) -> Known:
    vectors = {"center.0": torch.full((2,), value)} | ({"velocity.0": torch.zeros(2)} if velocity else {})
    return Known(10 * exchanges, exchanges, pack_named(vectors))


NOTHING = Known(0, 0, {})


def test_the_center_of_the_latest_exchange_is_the_newest_and_one_with_its_momentum_is_better() -> None:
    assert newer(known(0, 1.0), None)
    assert newer(known(5, 1.0), known(4, 1.0, velocity=True))
    assert newer(known(5, 1.0, velocity=True), known(5, 1.0))
    assert not newer(known(5, 1.0), known(5, 1.0))
    assert not newer(NOTHING, None)


def test_recovery_waits_for_all_or_for_a_lease_after_the_first() -> None:
    clock = Clock()
    recovery = Recovery(3, 2.0, clock)
    clock.now += 100.0
    assert not recovery.complete(), "nobody has answered"
    recovery.remind(A, known(4, 1.0))
    clock.now += 2.0
    assert not recovery.complete()
    clock.now += 0.1
    assert recovery.complete()
    recovery = Recovery(3, 2.0, clock)
    recovery.remind(A, known(4, 1.0))
    recovery.remind(B, known(5, 2.0))
    recovery.gone(2)
    assert recovery.complete()
    assert recovery.newest is not None
    assert recovery.newest.exchanges == 5
    assert sorted(recovery.members) == [0, 1]


class Direct(Protocol):
    """A head whose methods are called in this process; Ray's decorator types them as remote."""

    async def speak(self, member: Member, header: Message, packed: Packed, elsewhere: float) -> object: ...
    async def beat(self, member: Member, parcel: Parcel, leaving: bool) -> Pulse: ...
    async def remind(self, member: Member, known: Known) -> None: ...
    async def forget(self) -> None: ...
    async def request_stop(self) -> None: ...
    async def drain(self) -> News: ...


class DirectShard(Protocol):
    """A shard, likewise."""

    async def deposit(self, member: Member, header: Message, packed: Packed) -> float | None: ...
    async def remind(self, known: Known) -> None: ...
    async def recover(self, exchanges: int | None) -> None: ...
    async def state(self) -> Named | None: ...


def make_head(*, elastic: bool = True) -> Direct:
    rules = Rules(replicas=2, elastic=elastic, lease_s=LEASE_S)
    return cast("Direct", Head(rules, {}, 0, 0, []))


def say(head: Direct, member: Member, kind: Kind, exchanges: int, value: float = 0.0) -> Awaitable[object]:
    header = Message(kind=kind, vectors=(), step=10 * exchanges, exchanges=exchanges, center_steps=(CenterStep(),))
    return asyncio.ensure_future(head.speak(member, header, pack([torch.full((2,), value)]), 0.0))


def heard(answer: object) -> tuple[int, list[float]]:
    assert isinstance(answer, Sealed)
    assert isinstance(answer.packed, Packed)
    values: list[float] = unpack(answer.packed)[0].tolist()
    return answer.reply.exchanges, values


async def started(head: Direct) -> None:
    await asyncio.gather(say(head, A, "join", 0), say(head, B, "join", 0))


@pytest.mark.parametrize(
    ("fields", "told"), [({}, True), ({"overlap": 2}, True), ({"codec": "int8"}, False), ({"fragments": 2}, False)]
)
def test_only_replicas_that_hear_the_whole_center_can_tell_it_again(fields: dict[str, object], *, told: bool) -> None:
    assert LocalSgd(replicas=2, **fields).survives_server_loss is told


def test_a_run_goes_on_from_the_newest_center_that_a_replica_has_heard_of() -> None:
    async def scenario() -> None:
        head = make_head()
        await started(head)
        await head.request_stop()
        waiting = say(head, A, "center", 0, 5.0)
        await asyncio.sleep(0)
        await head.forget()
        assert isinstance(await waiting, ForgottenError)
        assert (await head.beat(A, EMPTY, False)).forgot
        assert isinstance(await say(head, B, "center", 7), ForgottenError)
        await asyncio.gather(head.remind(A, known(7, 3.0)), head.remind(B, known(8, 4.0)))
        assert await head.beat(A, EMPTY, False) == Pulse(stop=True, forgot=False, taken=0)
        assert heard(await say(head, A, "center", 7, 99.0)) == (8, [4.0, 4.0]), "it missed that round"
        answers = await asyncio.gather(say(head, A, "center", 8, 6.0), say(head, B, "center", 8, 8.0))
        assert [heard(answer) for answer in answers] == [(9, [7.0, 7.0])] * 2
        told = [(row["event"], row.get("replica")) for parcel in (await head.drain()).parcels for row in parcel.rows]
        assert told == [("joined", 0), ("joined", 1), ("server_restarted", None)]

    asyncio.run(scenario())


def test_who_does_not_answer_in_time_is_a_newcomer_later() -> None:
    async def scenario() -> None:
        head = make_head()
        await started(head)
        await head.forget()
        await head.remind(A, known(7, 3.0))
        assert heard(await say(head, A, "center", 7, 5.0)) == (8, [5.0, 5.0])
        assert heard(await say(head, B, "center", 7, 9.0)) == (8, [5.0, 5.0]), "it is told the center"

    asyncio.run(scenario())


def test_a_server_that_dies_before_anybody_has_joined_starts_afresh() -> None:
    async def scenario() -> None:
        head = make_head()
        await head.forget()
        await asyncio.gather(head.remind(A, NOTHING), head.remind(B, NOTHING))
        answers = await asyncio.gather(say(head, A, "join", 0, 1.0), say(head, B, "join", 0, 3.0))
        assert [heard(answer) for answer in answers] == [(0, [2.0, 2.0])] * 2

    asyncio.run(scenario())


@pytest.mark.parametrize(("at", "center"), [(7, [3.0, 3.0]), (None, None)], ids=["known", "unknown"])
def test_a_shard_without_memory_takes_nothing_until_it_is_told_the_exchange(
    at: int | None, center: list[float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeprelax.exchange.server.shard.was_restarted", lambda: True)

    async def scenario() -> None:
        shard = cast("DirectShard", Shard({}))
        header = Message(kind="center", vectors=(), step=0, exchanges=7, center_steps=(CenterStep(),))
        deposit = pack([torch.full((2,), 5.0)])
        assert await shard.deposit(A, header, deposit) is None
        assert await shard.state() is None
        await shard.remind(known(7, 3.0))
        await shard.remind(known(8, 4.0))
        await shard.recover(at)
        assert await shard.deposit(A, header, deposit) == pytest.approx(8.0 if at else 0.0)
        state = await shard.state()
        assert state is not None
        assert (unpack_named(state)["center.0"].tolist() if state else None) == center

    asyncio.run(scenario())


def test_without_elasticity_the_whole_group_starts_again() -> None:
    async def scenario() -> None:
        head = make_head(elastic=False)
        cast("Head", head)._forget()
        assert isinstance(await say(head, A, "mean", 7), StartAgainError)
        answers = await asyncio.gather(say(head, A, "join", 5, 1.0), say(head, B, "join", 5, 3.0))
        assert [heard(answer) for answer in answers] == [(5, [2.0, 2.0])] * 2

    asyncio.run(scenario())

"""A shard of the center without Ray: who is averaged, who is answered, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

import pytest
import torch

from deeprelax.coupling.message import CenterStep, Kind, Message
from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.server.shard import Shard
from deeprelax.exchange.server.wire import Packed, pack, unpack

A, B, B_AGAIN = Member(0, "first"), Member(1, "first"), Member(1, "second")


class Direct(Protocol):
    """A shard whose methods are called in this process; Ray's decorator types them as remote."""

    async def deposit(self, member: Member, header: Message, packed: Packed) -> float | None: ...
    async def collect(self, member: Member) -> Packed: ...
    async def close(self, members: Sequence[Member], restarted: bool) -> None: ...
    async def current(self, member: Member) -> None: ...


async def deposit(shard: Direct, member: Member, value: float, kind: Kind = "center") -> float | None:
    header = Message(kind=kind, vectors=(), step=0, exchanges=0, center_steps=(CenterStep(),))
    return await shard.deposit(member, header, pack([torch.full((2,), value)]))


async def collected(shard: Direct, member: Member) -> list[float]:
    (vector,) = unpack(await asyncio.wait_for(shard.collect(member), 1))
    values: list[float] = vector.tolist()
    return values


async def begun() -> Direct:
    shard = cast("Direct", Shard({}))
    for member in (A, B):
        await deposit(shard, member, 0.0, "join")
    await shard.close([A, B], False)
    for member in (A, B):
        await collected(shard, member)
    return shard


def test_who_took_part_collects_the_mean_before_or_after_the_head_has_closed_the_round() -> None:
    async def scenario() -> None:
        shard = await begun()
        await deposit(shard, A, 1.0)
        await deposit(shard, B, 3.0)
        early = asyncio.create_task(collected(shard, A))
        await asyncio.sleep(0)
        await shard.close([A, B], False)
        assert await early == await collected(shard, B) == [2.0, 2.0]

    asyncio.run(scenario())


def test_each_member_collects_the_mean_of_its_group_and_one_that_missed_the_round_the_center_alone() -> None:
    async def say(shard: Direct, member: Member, value: float, group: int) -> None:
        header = Message(
            kind="center", vectors=(), step=0, exchanges=0, center_steps=(CenterStep(),), group=group, score=-value
        )
        await shard.deposit(member, header, pack([torch.full((2,), value)]))

    async def heard(shard: Direct, member: Member) -> list[float]:
        return [float(vector[0]) for vector in unpack(await asyncio.wait_for(shard.collect(member), 1))]

    async def scenario() -> None:
        shard = await begun()
        await say(shard, A, 1.0, group=0)
        await say(shard, B, 3.0, group=1)
        await shard.close([A, B], False)
        assert (await heard(shard, A), await heard(shard, B)) == ([3.0, 1.0], [3.0, 3.0]), "the best of all, of each"
        await say(shard, B, 9.0, group=1)
        await shard.current(B)
        assert await heard(shard, B) == [3.0]

    asyncio.run(scenario())


def test_a_newcomers_deposit_outlives_the_round_that_it_missed() -> None:
    async def scenario() -> None:
        shard = await begun()
        await deposit(shard, A, 5.0)
        await deposit(shard, B_AGAIN, 9.0, "join")
        await shard.close([A], False)
        await shard.current(B_AGAIN)
        assert await collected(shard, B_AGAIN) == [5.0, 5.0]

    asyncio.run(scenario())


def test_what_a_lost_replica_left_is_no_part_of_any_mean() -> None:
    async def scenario() -> None:
        shard = await begun()
        await deposit(shard, B, 100.0)
        await deposit(shard, A, 1.0)
        await shard.close([A], False)
        assert await collected(shard, A) == [1.0, 1.0]

    asyncio.run(scenario())


def test_a_shard_says_how_far_from_its_center_is_what_it_holds() -> None:
    async def scenario() -> None:
        shard = await begun()
        gaps = [await deposit(shard, member, value) for member, value in ((A, 1.0), (B, float("nan")))]
        assert gaps == pytest.approx([2.0, float("nan")], nan_ok=True)

    asyncio.run(scenario())


def test_a_process_that_was_replaced_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        shard = await begun()
        await deposit(shard, B, 1.0)
        await deposit(shard, B_AGAIN, 9.0, "join")
        await shard.current(B_AGAIN)
        for member in (A, B_AGAIN):
            await deposit(shard, member, 2.0)
        await shard.close([A, B_AGAIN], False)
        for member in (A, B_AGAIN):
            await collected(shard, member)
        state = vars(shard)
        assert (state["_deposits"], state["_replies"]) == ({}, {})

    asyncio.run(scenario())

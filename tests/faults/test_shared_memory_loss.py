"""Replicas that meet in shared memory and are killed in every phase of an exchange, or stopped for a while."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, get_args

from tests.faults.memory_replica import Phase, live
from tests.unit.heads import Host, hosted

from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.server.parcels import Parcel

Row = dict[str, Any]

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.faults.memory_replica"])  # so that torch is imported once


def start(host: Host, member: Member, phase: Phase | None = None) -> tuple[BaseProcess, Connection]:
    rows, told = FORK.Pipe(duplex=False)
    process = FORK.Process(target=live, args=(host.name, member, phase, told), daemon=True)
    process.start()
    told.close()
    return process, rows


def until(rows: Connection, after: int = 0, **fields: object) -> Row:
    """Return the next row with these fields that a replica tells of an exchange after this one, or of its end."""
    while True:
        row: Row = rows.recv()
        if row.get("exchanges", math.inf) > after and all(row.get(name) == value for name, value in fields.items()):
            return row


def test_a_replica_killed_in_any_phase_holds_up_nobody_and_its_replacement_joins_at_the_center() -> None:
    """One run: replica 1 is killed in one phase and replaced by a process that is killed in the next one."""
    with hosted(3) as host:
        others = [start(host, Member(replica, "only"))[1] for replica in (0, 2)]
        made = 0
        for phase in get_args(Phase):
            victim, rows = start(host, Member(1, phase), phase)
            joined = until(rows)["exchanges"]
            assert joined > made, "it goes on from where the others are"
            victim.join(60)
            assert victim.exitcode == -signal.SIGKILL
            made = max(until(other, after=joined, members=2)["exchanges"] for other in others)
        _, rows = start(host, Member(1, "healthy"))
        until(others[0], after=made, members=3)
        host.call(host.head.request_stop)
        ends = [until(each, event="end") for each in (rows, *others)]
        assert ends[0]["step"] == ends[1]["step"] == ends[2]["step"]
        assert ends[0]["sum"] == ends[1]["sum"] == ends[2]["sum"]
        assert all(math.isfinite(total) for total in ends[0]["sum"]), "what was half written counts nowhere"
        events = [row["event"] for row in host.rows() if row["replica"] == 1]
        assert events[:9] == ["joined", *["lost", "rejoined"] * 4]


@contextmanager
def heartbeats(host: Host, members: set[Member]) -> Iterator[None]:
    """Send those of the members, as their processes would through Ray."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.1):
            for member in list(members):
                host.call(host.head.beat, member, Parcel("", 0, []), False)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()


def test_a_stopped_replica_costs_the_others_one_lease_and_goes_on_from_the_center() -> None:
    members = [Member(replica, "only") for replica in range(3)]
    alive = set(members)
    with hosted(3, lease_s=1.5) as host, heartbeats(host, alive):
        (stopped, rows), *others = [start(host, member) for member in members]
        assert stopped.pid is not None
        before = until(rows, after=5)["exchanges"]
        os.kill(stopped.pid, signal.SIGSTOP)
        alive.discard(members[0])
        alone = until(others[0][1], after=before, members=2)["exchanges"]
        until(others[0][1], after=alone + 10, members=2)
        os.kill(stopped.pid, signal.SIGCONT)
        alive.add(members[0])
        until(others[0][1], after=alone + 10, members=3)
        host.call(host.head.request_stop)
        ends = [until(each, event="end") for each in (rows, *(other for _, other in others))]
        assert ends[0]["sum"] == ends[1]["sum"] == ends[2]["sum"]
        events = [row["event"] for row in host.rows() if row["replica"] == 0]
        assert events[:3] == ["joined", "lost", "rejoined"]

"""A replica in a process of its own that meets a head in shared memory, and may kill itself inside an exchange."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from typing import Literal

import torch
from tests.faults import toy_loop

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.base import drive
from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.line import Line
from deeprelax.exchange.shared_memory.words import write_message

Phase = Literal["before", "writing", "spoken", "heard"]
"""Of an exchange: nothing is done; the memory is half written; the message is sent; the reply is there."""

EXCHANGES = 4
"""That a replica makes before the one in which it kills itself."""


class Mortal(Line):
    """Kills this process in a phase of an exchange."""

    def __init__(self, channel: Channel, member: Member, phase: Phase | None) -> None:
        super().__init__(channel, member, timeout_s=60.0)
        self._phase = phase
        self._made = -1  # joining is no exchange

    def exchange(self, message: Message) -> Reply:
        if self._phase is None or self._made < EXCHANGES:
            self._made += 1
            return super().exchange(message)
        if self._phase == "writing":
            for vector in self._memory_like(message.vectors).vectors:
                vector[: len(vector) // 2] = float("nan")
        elif self._phase == "spoken":
            own = self._memory_like(message.vectors)
            own.write(message.vectors)
            self._channel.send(write_message(self.member, message), own)
        elif self._phase == "heard":
            super().exchange(message)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def live(name: str, member: Member, phase: Phase | None, rows: Connection) -> None:
    """Train until the head says stop, or the replica kills itself in a phase; tell each row."""
    torch.set_num_threads(1)
    job = toy_loop.job(exchanges=10**6, pause_s=0.002)
    line = Mortal(Channel.connect(name), member, phase)
    drive(toy_loop.quadratic(job, member.replica, "cpu", rows.send, dict), line)
    line.close()

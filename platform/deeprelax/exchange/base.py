"""The one interface of every transport."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import TypeVar

from deeprelax.coupling.message import Message, Reply, acknowledged
from deeprelax.exchange.posted import Posted

T = TypeVar("T")


class Exchange(ABC):
    """Carries the messages of the replicas to the center and the replies back."""

    _posted: Posted | None = None

    @abstractmethod
    def exchange(self, message: Message) -> Reply:
        """Deliver one replica's message and wait for the reply of its round.

        Raises:
            ExchangeError: the round cannot be completed.
        """

    def answer(self, message: Message) -> Reply:
        """Answer what a loop says: a message by its reply, or, if it is posted, at once and by the reply when asked.

        Raises:
            ExchangeError: the round cannot be completed.
        """
        if message.stage == "post":
            assert self._posted is None, "one message travels at a time"
            self._posted = Posted(self.exchange, message)
            return acknowledged(message)
        began = time.perf_counter()
        reply = self.exchange(message) if message.stage == "whole" else self._collected()
        self.waited(time.perf_counter() - began)
        return reply

    def waited(self, seconds: float) -> None:  # noqa: B027 - an exchange need not count
        """Take note of the time in which a replica could do nothing but wait."""

    def _collected(self) -> Reply:
        assert self._posted is not None, "a message is posted before its reply is collected"
        posted, self._posted = self._posted, None
        return posted.reply()


def drive(replica: Generator[Message, Reply, T], exchange: Exchange) -> T:
    """Run one replica's loop to its end, carrying each of its messages by ``exchange``; return the loop's result."""
    try:
        message = next(replica)
        while True:
            message = replica.send(exchange.answer(message))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]

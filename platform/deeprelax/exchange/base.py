"""The one interface of every transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import TypeVar

from deeprelax.coupling.message import Message, Reply

T = TypeVar("T")


class Exchange(ABC):
    """Carries the messages of the replicas to the center and the replies back."""

    @abstractmethod
    def exchange(self, message: Message) -> Reply:
        """Deliver one replica's message and wait for the reply of its round.

        Raises:
            ExchangeError: the round cannot be completed.
        """


def drive(replica: Generator[Message, Reply, T], exchange: Exchange) -> T:
    """Run one replica's loop to its end, carrying each of its messages by ``exchange``; return the loop's result."""
    try:
        message = next(replica)
        while True:
            message = replica.send(exchange.exchange(message))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]

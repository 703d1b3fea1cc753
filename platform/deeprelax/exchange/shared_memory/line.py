"""A replica's line to the head of its machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.server.coordinator import ROUND_TIMEOUT_S, Member
from deeprelax.exchange.server.servers import AwayError
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.vectors import Layout, SharedVectors, layout_of
from deeprelax.exchange.shared_memory.words import read_reply, write_message


class Line(Exchange):
    """Copies each message into this replica's own memory, which the head reads, and hears where the reply lies.

    Args:
        channel: to the head.
        member: who speaks.
        timeout_s: the longest wait for a reply.

    Attributes:
        member: who speaks; may be another life of the same replica.
    """

    def __init__(self, channel: Channel, member: Member, timeout_s: float = 2 * ROUND_TIMEOUT_S) -> None:
        self._channel = channel
        self.member = member
        self._timeout_s = timeout_s
        self._memory: dict[Layout, SharedVectors] = {}

    def exchange(self, message: Message) -> Reply:
        """Deliver the message and wait for the reply of its round; its vectors are the head's own memory.

        Raises:
            AwayError: the head is gone.
            ExchangeError: it is silent, or refuses the message.
        """
        assert message.kind != "elastic", "one who pulls alone would read what the next one is told"
        own = self._memory_like(message.vectors)
        finite = own.write(message.vectors)
        # Bytes always look finite; what they say, only the center knows.
        header = replace(message, finite=None if message.codecs else finite)
        try:
            self._channel.send(write_message(self.member, header), own)
            words, shared = self._channel.receive(self._timeout_s)
        except TimeoutError:
            raise ExchangeError(
                f"The center server has not answered for timeout_s={self._timeout_s:g} seconds."
            ) from None
        except OSError as error:
            raise AwayError(
                f"The center server is gone ({error}), and the center with it. Resume the run from its newest"
                " checkpoint."
            ) from None
        vectors, group = ([*(one.vectors for one in shared), [], []])[:2]
        return read_reply(words, vectors, group)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def _memory_like(self, vectors: Sequence[Tensor]) -> SharedVectors:
        layout = layout_of(vectors)
        if layout not in self._memory:
            self._memory[layout] = SharedVectors.like(vectors)
        return self._memory[layout]

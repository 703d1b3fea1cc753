"""The parameter server's client whose messages go through memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.meter import payload_bytes
from deeprelax.exchange.server.client import ServerExchange
from deeprelax.exchange.server.coordinator import ROUND_TIMEOUT_S
from deeprelax.exchange.server.servers import AwayError, Handles
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.line import Line


class SharedMemoryExchange(ServerExchange):
    """Carries the messages of a replica on the head's machine through memory; all else goes the server's way.

    Once the head has died, so do its messages: a head that is restarted may be anywhere.

    Args:
        channel: to the head.
        servers: of the run.
        replica: this replica's index a.
        replicas: n.
        round_timeout_s: as for :class:`ServerExchange`.
        leave: likewise.
    """

    def __init__(
        self,
        channel: Channel,
        servers: Handles,
        replica: int,
        replicas: int,
        *,
        round_timeout_s: float = ROUND_TIMEOUT_S,
        leave: threading.Event | None = None,
    ) -> None:
        super().__init__(servers, replica, replicas, round_timeout_s=round_timeout_s, leave=leave)
        self._line: Line | None = Line(channel, self._member, self._timeout_s)
        self._copies: list[Tensor] = []

    def start_again(self) -> None:
        """Become a newcomer, on the same line."""
        super().start_again()
        if self._line is not None:
            self._line.member = self._member

    def close(self) -> None:
        """Tell the head that this replica has finished.

        Raises:
            ExchangeError: the head is gone.
        """
        super().close()
        self._hang_up()

    def fail(self, error: Exception) -> None:
        """Tell the head that this replica's loop raised ``error``, which ends the run.

        Raises:
            ExchangeError: the head is gone.
        """
        super().fail(error)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _carry(self, message: Message) -> Reply:
        if self._line is None:
            return super()._carry(message)
        try:
            reply = self._line.exchange(message)
        except AwayError:
            self._hang_up()
            raise
        told = (*reply.vectors, *reply.group)
        self.meter.count(message.phase, sent=payload_bytes(message.vectors), received=payload_bytes(told))
        return self._heard(reply, told, message)

    def _kept(self, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return copies: the vectors are the center itself, and a head that dies may leave it half moved."""
        if self._line is None:
            return vectors
        self._copies = self._copies or [torch.empty_like(vector) for vector in vectors]
        for copy, vector in zip(self._copies, vectors, strict=True):
            copy.copy_(vector)
        return self._copies

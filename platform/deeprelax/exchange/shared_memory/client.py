"""The parameter server's client whose messages go through memory."""

from __future__ import annotations

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.meter import payload_bytes
from deeprelax.exchange.server.client import ServerExchange
from deeprelax.exchange.server.coordinator import ROUND_TIMEOUT_S
from deeprelax.exchange.server.servers import Handles
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.line import Line


class SharedMemoryExchange(ServerExchange):
    """Carries the messages of a replica on the head's machine through memory; all else goes the server's way.

    Args:
        channel: to the head.
        servers: of the run.
        replica: this replica's index a.
        replicas: n.
        round_timeout_s: as for :class:`ServerExchange`.
    """

    def __init__(
        self,
        channel: Channel,
        servers: Handles,
        replica: int,
        replicas: int,
        *,
        round_timeout_s: float = ROUND_TIMEOUT_S,
    ) -> None:
        super().__init__(servers, replica, replicas, round_timeout_s=round_timeout_s)
        self._line = Line(channel, self._member, self._timeout_s)

    def close(self) -> None:
        """Tell the head that this replica has finished.

        Raises:
            ExchangeError: the head is gone.
        """
        super().close()
        self._line.close()

    def fail(self, error: Exception) -> None:
        """Tell the head that this replica's loop raised ``error``, which ends the run.

        Raises:
            ExchangeError: the head is gone.
        """
        super().fail(error)
        self._line.close()

    def _carry(self, message: Message) -> Reply:
        reply = self._line.exchange(message)
        told = (*reply.vectors, *reply.group)
        self.meter.count(message.phase, sent=payload_bytes(message.vectors), received=payload_bytes(told))
        return self._heard(reply, told, message)

"""A slow, lossy link around any exchange, in virtual or in real time."""

from __future__ import annotations

import random
import time
from typing import Protocol

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.meter import payload_bytes
from deeprelax.planning.units import Link, read_link

RETRY_S = 0.2
"""Seconds after which what was lost is sent again, at least; twice as long each time (Linux's TCP)."""
LONGEST_RETRY_S = 60.0
"""Seconds that such a wait grows to."""
PACKET_BYTES = 1448
"""Payload of one packet."""


class Clock(Protocol):
    """Seconds, and a way to let them pass."""

    def __call__(self) -> float:
        """Return the time."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class VirtualClock:
    """Time that passes when it is told to; nobody waits."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now += seconds


class RealClock:
    """The clock on the wall."""

    def __call__(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class FakeLink(Exchange):
    """An exchange whose messages and replies cross a link.

    A vector of V bytes takes ``latency + V/rate``, each way. Each packet is lost with some probability and then sent
    again, together with whatever else was lost, after a wait that doubles: the numbers of a message are never changed,
    it only comes later. In the manner of TCP's retransmission timer, RFC 6298; no congestion window is modelled.

    ::

        clock = VirtualClock()
        drive(loop, FakeLink(exchange, "100Mbit:20ms", loss=0.01, clock=clock))
        clock()  # seconds that the exchanges would have taken

    Args:
        inner: what carries the messages.
        link: such as ``"100Mbit:20ms"``; the rate is taken for payload.
        loss: probability of a packet to be lost, in [0, 1).
        seed: of the losses.
        clock: :class:`VirtualClock` to count, :class:`RealClock` to wait.

    Attributes:
        sent_bytes: that went up, repeated packets included.
        received_bytes: that came down, likewise.

    Raises:
        ConfigError: the link or the loss is out of range.
    """

    def __init__(
        self, inner: Exchange, link: str | Link, *, loss: float = 0.0, seed: int = 0, clock: Clock | None = None
    ) -> None:
        if not 0 <= loss < 1:
            raise ConfigError(f"Invalid loss={loss}. Must be in [0, 1).")
        self.sent_bytes = 0
        self.received_bytes = 0
        self._inner = inner
        self._link = read_link(link) if isinstance(link, str) else link
        self._loss = loss
        self._random = random.Random(seed)
        self._clock = clock or VirtualClock()

    def exchange(self, message: Message) -> Reply:
        """Deliver the message late and hand its reply on late.

        Raises:
            ExchangeError: the inner exchange cannot complete the round.
        """
        self.sent_bytes += self._cross(payload_bytes(message.vectors))
        reply = self._inner.exchange(message)
        self.received_bytes += self._cross(payload_bytes(reply.vectors))
        return reply

    def _cross(self, payload: int) -> int:
        """Let some bytes cross the link; return how many it carried."""
        carried, left, retry_s = 0, payload, max(RETRY_S, 2 * self._link.latency_s)
        self._clock.sleep(self._link.latency_s)
        while True:
            self._clock.sleep(left / self._link.bytes_per_s)
            carried += left
            left = self._lost(left)
            if not left:
                return carried
            self._clock.sleep(retry_s)
            retry_s = min(LONGEST_RETRY_S, 2 * retry_s)

    def _lost(self, payload: int) -> int:
        if not self._loss:
            return 0
        packets = -(-payload // PACKET_BYTES)
        lost = sum(self._random.random() < self._loss for _ in range(packets))
        return min(payload, lost * PACKET_BYTES)

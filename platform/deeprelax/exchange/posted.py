"""A message that travels while its replica goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.staging import beside, when_ready


class Posted(threading.Thread):
    """Carries one message in a thread of its own, which does not keep a process alive; on a GPU on a stream of its own.

    Args:
        exchange: delivers a message and waits for its reply.
        message: with vectors that nobody changes any more.
    """

    def __init__(self, exchange: Callable[[Message], Reply], message: Message) -> None:
        super().__init__(name="deeprelax-exchange", daemon=True)
        self._exchange = exchange
        self._message = message
        self._ready = when_ready(message.vectors)
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Deliver the message, and keep what comes back."""
        try:
            with beside(self._message.vectors, self._ready):
                self._reply = self._exchange(self._message)
        except BaseException as error:  # noqa: BLE001 - raised where the reply is asked for
            self._error = error

    def reply(self) -> Reply:
        """Wait for the reply, or raise what the exchange raised."""
        self.join()
        if self._error is not None:
            raise self._error
        assert self._reply is not None, "the thread has ended"
        return self._reply

"""A center server's head without Ray: its methods on an event loop in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from deeprelax.exchange.server.actor import Head
from deeprelax.exchange.server.coordinator import Row, Rules

T = TypeVar("T")


class Host:
    """A head and its loop."""

    def __init__(self, replicas: int, *, lease_s: float = 1000.0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        rules = Rules(replicas=replicas, lease_s=lease_s, round_timeout_s=1000.0)
        self.head = cast("Any", Head(rules, {}, 0, 0, []))  # Ray's decorator types the methods as remote
        self.name = str(self.call(self.head.meet))

    def call(self, method: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Return what a method of the head returns."""

        async def called() -> T:
            return await method(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(60)

    def rows(self) -> list[Row]:
        """Return the rows of the head since the last call."""
        return [row for parcel in self.call(self.head.drain).parcels for row in parcel.rows]

    def end(self) -> None:
        """Close the head's connections and the loop, as the death of its process would."""

        async def closed() -> None:
            self.head._meeting.close()
            if self.head._watch is not None:
                self.head._watch.cancel()

        asyncio.run_coroutine_threadsafe(closed(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def hosted(replicas: int, *, lease_s: float = 1000.0) -> Iterator[Host]:
    """Hold a head."""
    host = Host(replicas, lease_s=lease_s)
    try:
        yield host
    finally:
        host.end()

"""Rows on their way from a replica to the driver, through a server that may die: none is lost and none comes twice."""

from __future__ import annotations

import threading
import uuid
from typing import NamedTuple

from deeprelax.exchange.server.coordinator import Row


class Parcel(NamedTuple):
    """Some rows in order.

    Args:
        sender: who numbers them; empty for a server, which does not.
        number: of the first one.
        rows: what is told.
    """

    sender: str
    number: int
    rows: list[Row]

    @property
    def end(self) -> int:
        """The number after the last row's."""
        return self.number + len(self.rows)


class Outbox:
    """Keeps rows until the driver has them; used by two threads."""

    def __init__(self) -> None:
        self._sender = uuid.uuid4().hex
        self._rows: list[Row] = []
        self._first = 0
        self._sent = 0
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        """Take a row."""
        with self._lock:
            self._rows.append(row)

    def parcel(self) -> Parcel:
        """Return the rows that no server has yet."""
        with self._lock:
            return Parcel(self._sender, self._first + self._sent, self._rows[self._sent :])

    def delivered(self, parcel: Parcel, taken: int) -> None:
        """Note that a server has a parcel, and the driver all rows with numbers below ``taken``."""
        with self._lock:
            self._sent = parcel.end - self._first
            gone = max(0, taken - self._first)
            del self._rows[:gone]
            self._first += gone
            self._sent -= gone

    def send_again(self) -> None:
        """Note that the server is another one, which has nothing yet."""
        with self._lock:
            self._sent = 0


class Inbox:
    """Knows which rows the driver has."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def open(self, parcel: Parcel) -> list[Row]:
        """Return the rows of a parcel that were not there before."""
        if not parcel.sender:
            return parcel.rows
        known = self._next.get(parcel.sender, 0)
        self._next[parcel.sender] = max(known, parcel.end)
        return parcel.rows[max(0, known - parcel.number) :]

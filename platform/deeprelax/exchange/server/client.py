"""A replica's end of the parameter server."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import DeepRelaxError, ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.actor import Failure
from deeprelax.exchange.server.coordinator import ROUND_TIMEOUT_S, Member, Row
from deeprelax.exchange.server.servers import CenterState, Handles, call, fetch, read_center
from deeprelax.exchange.server.wire import join, pack, split, unpack
from deeprelax.exchange.staging import Staging

BEAT_S = 0.25
"""Seconds between two heartbeats; each carries the replica's rows."""


class ServerExchange(Exchange):
    """Carries one replica's messages to the servers and back.

    A thread sends heartbeats and the rows given to :meth:`emit`, so both go on while a gradient is computed. A single
    replica keeps the center itself: nothing of its messages travels but that it has joined.

    Args:
        servers: of the run.
        replica: this replica's index a.
        replicas: n.
        round_timeout_s: the servers' limit; a call waits twice as long, so that theirs ends it.
        beat_s: see :data:`BEAT_S`.

    Attributes:
        meter: bytes and seconds of the exchanges so far.
        own: the rounds that this replica would continue alone, to be set to what its newest checkpoint left before the
            first message. The replica joins at their position; a single replica completes its messages in them.
    """

    def __init__(
        self,
        servers: Handles,
        replica: int,
        replicas: int,
        *,
        round_timeout_s: float = ROUND_TIMEOUT_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self.meter = Meter()
        self.own = Rounds()
        self._servers = servers
        self._member = Member(replica, uuid.uuid4().hex)
        self._staging = Staging()
        self._sizes: list[int] = []
        self._alone = replicas == 1
        self._timeout_s = 2 * round_timeout_s
        self._beat_s = beat_s
        self._rows: list[Row] = []
        self._rows_lock = threading.Lock()
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="deeprelax-heartbeat", daemon=True)
        self._beating.start()

    def exchange(self, message: Message) -> Reply:
        """Deliver the message and wait for the reply of its round.

        Raises:
            ExchangeError: the server is gone, another replica failed, or another process took this one's place.
        """
        if message.kind == "join":
            message = replace(message, step=self.own.step, exchanges=self.own.exchanges)
        if self._alone and message.kind == "join":
            self._carry(replace(message, vectors=()))  # makes this replica known
        if self._alone:
            return self.own.complete([message])
        return self._carry(message)

    def waited(self, seconds: float) -> None:
        """Count the time, unless nobody is waited for."""
        if not self._alone:
            self.meter.wait_s += seconds

    def emit(self, row: Row) -> None:
        """Send a row of JSON values to the driver with the next heartbeat."""
        with self._rows_lock:
            self._rows.append(row)

    def center_state(self) -> CenterState:
        """Return the center; between a reply and the next message it is the center of that reply's exchange."""
        if not self._alone:
            return read_center(call(self._servers.head.position.remote()))
        tensors = self.own.center.state() if self.own.center is not None else {}
        return CenterState(tensors=tensors, step=self.own.step, exchanges=self.own.exchanges)

    def close(self) -> None:
        """Tell the servers that this replica has finished.

        Raises:
            ExchangeError: the server is gone.
        """
        self._end_beating()
        call(self._servers.head.leave.remote(self._member, self._taken_rows()))

    def fail(self, error: Exception) -> None:
        """Tell the servers that this replica's loop raised ``error``, which ends the run.

        Raises:
            ExchangeError: the server is gone.
        """
        self._end_beating()
        explained = isinstance(error, DeepRelaxError)
        trace = "" if explained else "".join(traceback.format_exception(error))
        failure = Failure(self._member.replica, type(error).__name__, str(error), trace)
        call(self._servers.head.fail.remote(self._member, self._taken_rows(), failure))

    def _carry(self, message: Message) -> Reply:
        head, shards = self._servers
        vectors = self._staging.out(message.vectors)
        if message.kind == "join":
            self._sizes = [len(vector) for vector in vectors]
        known = bool(message.codecs or message.slices)
        shares = split(vectors, 1 + len(shards), message.codecs, message.slices, self._sizes if known else ())
        first, *rest = parts = [pack(share.pieces) for share in shares]
        header, *headers = [
            replace(message, vectors=(), slices=tuple(share.slices) if message.slices else ()) for share in shares
        ]
        # All slices have arrived before the head hears of the message: a round that it closes is complete everywhere.
        kept = [
            shard.deposit.remote(self._member, own, part)
            for shard, own, part in zip(shards, headers, rest, strict=True)
        ]
        finite = [call(arrived, self._timeout_s) for arrived in kept]
        answer = call(head.speak.remote(self._member, header, first, all(finite)), self._timeout_s)
        if isinstance(answer, ExchangeError):
            raise answer
        collected = [shard.collect.remote(self._member) for shard in shards]
        slices = [fetch(answer.packed), *(call(part) for part in collected)]
        sent, received = (sum(part.nbytes for part in packed) for packed in (parts, slices))
        self.meter.count(message.phase, sent=sent, received=received)
        heard = join([unpack(part) for part in slices])
        return self._heard(answer.reply, heard, message)

    def _heard(self, reply: Reply, vectors: Sequence[Tensor], message: Message) -> Reply:
        """Return the reply with its vectors, and its group's after them, where the message's are."""
        heard = tuple(self._staging.back(vectors, message.vectors))
        # A message about a fragment may be answered with the whole center, so without a group all belongs to that.
        count = len(heard) if message.group is None else len(message.vectors)
        return replace(reply, vectors=heard[:count], group=heard[count:])

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            try:
                stop = call(self._servers.head.beat.remote(self._member, self._taken_rows()))
            except ExchangeError:
                return  # the next exchange says so
            self.own.stop = stop

    def _end_beating(self) -> None:
        self._ended.set()
        self._beating.join()

    def _taken_rows(self) -> list[Row]:
        with self._rows_lock:
            rows, self._rows = self._rows, []
        return rows

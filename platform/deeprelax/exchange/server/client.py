"""A replica's end of the parameter server."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import DeepRelaxError, ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.actor import Failure, ForgottenError
from deeprelax.exchange.server.coordinator import ROUND_TIMEOUT_S, Member, Row
from deeprelax.exchange.server.parcels import Outbox
from deeprelax.exchange.server.recovery import Known
from deeprelax.exchange.server.servers import AwayError, CenterState, Handles, call, fetch, read_center, sliced
from deeprelax.exchange.server.wire import join, pack, split, unpack
from deeprelax.exchange.staging import Staging

T = TypeVar("T")

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
        leave: set once this replica is told to end: it does so at the next exchange, where all save.
        beat_s: see :data:`BEAT_S`.

    Attributes:
        meter: bytes and seconds of the exchanges so far.
        own: the rounds that this replica would continue alone, to be set to what its newest checkpoint left before the
            first message. The replica joins at their position; a single replica completes its messages in them.
        left: this replica has ended before the run.
    """

    def __init__(
        self,
        servers: Handles,
        replica: int,
        replicas: int,
        *,
        round_timeout_s: float = ROUND_TIMEOUT_S,
        leave: threading.Event | None = None,
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
        self._leave = leave or threading.Event()
        self.left = False
        self._beat_s = beat_s
        self._newest: Reply | None = None
        self._remembering = threading.Lock()
        self._outbox = Outbox()
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
            self._sizes = [len(vector) for vector in message.vectors]
        if self._alone and message.kind == "join":
            self._insist(partial(self._carry, replace(message, vectors=())))  # makes this replica known
        if self._alone:
            return self._leaving(self.own.complete([message]), now=message.kind != "join")
        reply = self._insist(partial(self._carry, message))
        return self._leaving(reply, now=reply.save)

    def waited(self, seconds: float) -> None:
        """Count the time, unless nobody is waited for."""
        if not self._alone:
            self.meter.wait_s += seconds

    def start_again(self) -> None:
        """Become a newcomer, after a :class:`~deeprelax.errors.StartAgainError`."""
        self._member = Member(self._member.replica, uuid.uuid4().hex)

    def strayed(self) -> bool:
        """Tell the servers that this replica's loss is not finite; return whether it may start again."""
        return self._insist(lambda: call(self._servers.head.stray.remote(self._member)))

    def emit(self, row: Row) -> None:
        """Send a row of JSON values to the driver with the next heartbeat."""
        self._outbox.add(row)

    def center_state(self) -> CenterState:
        """Return the center; between a reply and the next message it is the center of that reply's exchange."""
        if not self._alone:
            return self._insist(lambda: read_center(call(self._servers.head.position.remote())))
        tensors = self.own.center.state() if self.own.center is not None else {}
        return CenterState(tensors=tensors, step=self.own.step, exchanges=self.own.exchanges)

    def close(self) -> None:
        """Tell the servers that this replica has finished.

        Raises:
            ExchangeError: the server is gone.
        """
        self._end_beating()
        self._insist(lambda: call(self._servers.head.leave.remote(self._member, self._outbox.parcel())))

    def fail(self, error: Exception) -> None:
        """Tell the servers that this replica's loop raised ``error``, which ends the run.

        Raises:
            ExchangeError: the server is gone.
        """
        self._end_beating()
        explained = isinstance(error, DeepRelaxError)
        trace = "" if explained else "".join(traceback.format_exception(error))
        failure = Failure(self._member.replica, type(error).__name__, str(error), trace)
        self._insist(lambda: call(self._servers.head.fail.remote(self._member, self._outbox.parcel(), failure)))

    def _leaving(self, reply: Reply, *, now: bool) -> Reply:
        """Return the reply; one that ends this replica's loop if it has been told to end and all save now."""
        self.left = now and self._leave.is_set()
        return replace(reply, stop=True) if self.left else reply

    def _insist(self, ask: Callable[[], T]) -> T:
        """Return what the servers answer, over their deaths and restarts."""
        while True:
            try:
                return ask()
            except AwayError:
                self._outbox.send_again()
                time.sleep(self._beat_s)
            except ForgottenError:
                self._remind()

    def _remind(self) -> None:
        """Tell servers that have lost their memory the newest center that this replica knows, until they have it."""
        first, *rest = self._known()
        with suppress(AwayError):  # then it asks again
            for kept in [shard.remind.remote(part) for shard, part in zip(self._servers.shards, rest, strict=True)]:
                call(kept)
            call(self._servers.head.remind.remote(self._member, first), self._timeout_s)

    def _known(self) -> list[Known]:
        """Return each server's part of the newest center that this replica has heard of, or of its checkpoint's."""
        servers = 1 + len(self._servers.shards)
        with self._remembering:
            heard = self._newest
            if heard is not None and not self._alone:
                tensors = {f"center.{i}": vector for i, vector in enumerate(heard.vectors)}
                return [Known(heard.step, heard.exchanges, part) for part in sliced(tensors, servers)]
        saved = self.own.center.state() if self.own.center is not None else {}
        return [Known(self.own.step, self.own.exchanges, part) for part in sliced(saved, servers)]

    def _remembered(self, answer: T | None) -> T:
        """Return what a shard answers; if it has lost its memory, all servers must."""
        if answer is None:
            call(self._servers.head.forget.remote())
            raise ForgottenError("A server has lost its memory.")
        return answer

    def _carry(self, message: Message) -> Reply:
        head, shards = self._servers
        vectors = self._staging.out(message.vectors)
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
        elsewhere = sum(self._remembered(call(gap, self._timeout_s)) for gap in kept)
        answer = call(head.speak.remote(self._member, header, first, elsewhere), self._timeout_s)
        if isinstance(answer, ExchangeError):
            raise answer
        collected = [shard.collect.remote(self._member) for shard in shards]
        slices = [fetch(answer.packed), *(self._remembered(call(part)) for part in collected)]
        sent, received = (sum(part.nbytes for part in packed) for packed in (parts, slices))
        self.meter.count(message.phase, sent=sent, received=received)
        heard = join([unpack(part) for part in slices])
        return self._heard(answer.reply, heard, message)

    def _heard(self, reply: Reply, vectors: Sequence[Tensor], message: Message) -> Reply:
        """Return the reply with its vectors, and its group's after them, where the message's are."""
        # A message about a fragment may be answered with the whole center, so without a group all belongs to that.
        count = len(vectors) if message.group is None else len(message.vectors)
        if message.kind != "mean" and not (message.codecs or message.slices):
            with self._remembering:
                self._newest = replace(reply, vectors=tuple(self._kept(vectors[:count])))
        heard = tuple(self._staging.back(vectors, message.vectors))
        return replace(reply, vectors=heard[:count], group=heard[count:])

    def _kept(self, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return vectors of a reply so that they stay as they are."""
        return vectors

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            parcel = self._outbox.parcel()
            try:
                pulse = call(self._servers.head.beat.remote(self._member, parcel, self._leave.is_set()))
                self._outbox.delivered(parcel, pulse.taken)
                if pulse.forgot and not self._alone:
                    self._remind()
            except AwayError:
                self._outbox.send_again()
                continue
            except ExchangeError:
                return  # the next exchange says so
            self.own.stop = pulse.stop

    def _end_beating(self) -> None:
        self._ended.set()
        self._beating.join()

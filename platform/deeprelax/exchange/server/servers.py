"""The driver's handle on the servers of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import ActorUnavailableError, GetTimeoutError, ObjectLostError, RayError, RayTaskError
from torch import Tensor

from deeprelax.errors import ExchangeError
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.server.actor import Controller, Failure, Head, Position
from deeprelax.exchange.server.coordinator import Row, Rules
from deeprelax.exchange.server.parcels import Inbox
from deeprelax.exchange.server.shard import Shard
from deeprelax.exchange.server.wire import Named, join, pack_named, split, unpack_named

T = TypeVar("T")

SHARD_BYTES = 256 * 2**20
"""Bytes of parameters above which the center is spread over several servers of about this size."""

MAX_SERVERS = 16
"""Servers of one run at most."""

CALL_TIMEOUT_S = 60.0
"""Seconds the driver waits for an answer of the servers."""


@dataclass(frozen=True, kw_only=True)
class CenterState:
    """The center at an exchange: what a checkpoint needs of it to continue.

    Args:
        tensors: as :meth:`deeprelax.exchange.center.Center.state` names them; empty before the first join.
        step: mini-batch steps of the run.
        exchanges: completed exchanges of the run.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    exchanges: int = 0


class Handles(NamedTuple):
    """The servers' actors: all that a replica needs to know of them, and can be sent to a worker."""

    head: ActorProxy[Head]
    shards: list[ActorProxy[Shard]]


class Drained(NamedTuple):
    """What has happened.

    Args:
        rows: of the replicas and about them.
        failure: the error that ended the run, if any.
        controller: of the workers, once it has started them.
        away: the server is being restarted, so there may be more to hear.
    """

    rows: list[Row]
    failure: Failure | None
    controller: Controller | None
    away: bool = False


class CenterServers:
    """The servers of one run; they end with :meth:`close` or with the driver."""

    def __init__(self, handles: Handles) -> None:
        self.handles = handles
        self._inbox = Inbox()

    @classmethod
    def start(
        cls,
        rules: Rules,
        *,
        restored: CenterState | None = None,
        parameter_bytes: int = 0,
        max_restarts: int = 0,
        runtime_env: Mapping[str, object] | None = None,
    ) -> CenterServers:
        """Start the servers, without waiting until they run. They take no CPU of the cluster's count.

        Args:
            rules: how members are treated.
            restored: the center of a resumed run.
            parameter_bytes: bytes of one replica's message if known; beyond :data:`SHARD_BYTES` several servers start.
            max_restarts: deaths of each server that are endured; see :mod:`deeprelax.exchange.server.recovery`.
            runtime_env: Ray's, for clusters that do not have this package installed.
        """
        saved = restored or CenterState()
        alone = rules.replicas == 1  # and then keeps the center itself
        several = 1 if alone else min(MAX_SERVERS, math.ceil(parameter_bytes / SHARD_BYTES))
        slices = sliced({} if alone else saved.tensors, max(1, several))
        env = dict(runtime_env or {})
        shard = ray.remote(num_cpus=0, max_restarts=max_restarts, scheduling_strategy="SPREAD", runtime_env=env)(Shard)
        shards = [shard.remote(part) for part in slices[1:]]
        head = ray.remote(num_cpus=0, max_restarts=max_restarts, runtime_env=env)(Head).remote(
            rules, slices[0], saved.step, saved.exchanges, shards
        )
        return cls(Handles(head, shards))

    def drain(self) -> Drained:
        """Return what has happened since the last call.

        Raises:
            ExchangeError: the server is gone for good.
        """
        try:
            news = call(self.handles.head.drain.remote())
        except AwayError:
            return Drained([], None, None, away=True)
        rows = [row for parcel in news.parcels for row in self._inbox.open(parcel)]
        return Drained(rows, news.failure, news.controller)

    def request_stop(self) -> None:
        """Let all replicas stop at their next exchange; a server that is restarted later does not remember it."""
        with suppress(AwayError):
            call(self.handles.head.request_stop.remote())

    def center_state(self) -> CenterState:
        """Return the center as it is now, all servers at the same exchange."""
        return read_center(call(self.handles.head.position.remote()))

    def traffic(self) -> Meter:
        """Return what has arrived at the servers from all replicas, and what has left to them.

        Servers that have died have forgotten what they counted.
        """
        try:
            return Meter.total(fetch(meter) for meter in call(self.handles.head.traffic.remote()))
        except AwayError:
            return Meter()

    def close(self) -> None:
        """End the servers."""
        for handle in (self.handles.head, *self.handles.shards):
            assert isinstance(handle, ActorHandle)
            with suppress(RayError):
                ray.kill(handle)


def sliced(tensors: Mapping[str, Tensor], servers: int) -> list[Named]:
    """Return the slices of named vectors that each server holds."""
    shares = split(list(tensors.values()), servers)
    return [pack_named(dict(zip(tensors, share.pieces, strict=True))) for share in shares]


def read_center(position: Position) -> CenterState:
    """Return the center of which a server told its parts.

    Raises:
        AwayError: one of the servers has lost its part.
    """
    known = [fetch(part) for part in position.parts]
    parts = [unpack_named(part) for part in known if part is not None]
    if len(parts) < len(known):
        raise AwayError("A center server has lost its part of the center.")
    tensors = {name: join([[part[name]] for part in parts])[0] for name in parts[0]}
    return CenterState(tensors=tensors, step=position.step, exchanges=position.exchanges)


def fetch(part: T | ObjectRef[T]) -> T:
    """Return a part of an answer, following a reference."""
    return call(part) if isinstance(part, ObjectRef) else part


class AwayError(ExchangeError):
    """A server is being restarted; what it was asked may or may not have been done."""


def call(reference: ObjectRef[T], timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Return what a server answers.

    Raises:
        AwayError: the server is being restarted.
        ExchangeError: the server is gone for good, or silent for ``timeout_s``.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError:
        raise
    except GetTimeoutError:
        raise ExchangeError(f"The center server has not answered for timeout_s={timeout_s:g} seconds.") from None
    except (ActorUnavailableError, ObjectLostError) as error:
        raise AwayError(f"The center server is being restarted ({error}).") from None
    except RayError as error:
        reason = str(error).partition("\n")[0]
        raise ExchangeError(
            f"The center server is gone ({reason}), and the center with it. Resume the run from its newest checkpoint."
        ) from None

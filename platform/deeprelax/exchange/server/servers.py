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
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from torch import Tensor

from deeprelax.errors import ExchangeError
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.server.actor import Head, News, Position, Shard
from deeprelax.exchange.server.coordinator import Rules
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


class CenterServers:
    """The servers of one run; they end with :meth:`close` or with the driver."""

    def __init__(self, handles: Handles) -> None:
        self.handles = handles

    @classmethod
    def start(
        cls,
        rules: Rules,
        *,
        restored: CenterState | None = None,
        parameter_bytes: int = 0,
        runtime_env: Mapping[str, object] | None = None,
    ) -> CenterServers:
        """Start the servers, without waiting until they run. They take no CPU of the cluster's count.

        Args:
            rules: how members are treated.
            restored: the center of a resumed run.
            parameter_bytes: bytes of one replica's message if known; beyond :data:`SHARD_BYTES` several servers start.
            runtime_env: Ray's, for clusters that do not have this package installed.
        """
        saved = restored or CenterState()
        alone = rules.replicas == 1  # and then keeps the center itself
        several = 1 if alone else min(MAX_SERVERS, math.ceil(parameter_bytes / SHARD_BYTES))
        slices = sliced({} if alone else saved.tensors, max(1, several))
        env = dict(runtime_env or {})
        shards = [
            ray.remote(num_cpus=0, scheduling_strategy="SPREAD", runtime_env=env)(Shard).remote(part)
            for part in slices[1:]
        ]
        head = ray.remote(num_cpus=0, runtime_env=env)(Head).remote(
            rules, slices[0], saved.step, saved.exchanges, shards
        )
        return cls(Handles(head, shards))

    def drain(self) -> News:
        """Return what has happened since the last call.

        Raises:
            ExchangeError: the server is gone.
        """
        return call(self.handles.head.drain.remote())

    def request_stop(self) -> None:
        """Let all replicas stop at their next exchange."""
        call(self.handles.head.request_stop.remote())

    def center_state(self) -> CenterState:
        """Return the center as it is now, all servers at the same exchange."""
        return read_center(call(self.handles.head.position.remote()))

    def traffic(self) -> Meter:
        """Return what has arrived at the servers from all replicas, and what has left to them."""
        meters = [fetch(meter) for meter in call(self.handles.head.traffic.remote())]
        return Meter.total(meters)

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
    """Return the center of which a server told its parts."""
    parts = [unpack_named(fetch(part)) for part in position.parts]
    tensors = {name: join([[part[name]] for part in parts])[0] for name in parts[0]}
    return CenterState(tensors=tensors, step=position.step, exchanges=position.exchanges)


def fetch(part: T | ObjectRef[T]) -> T:
    """Return a part of an answer, following a reference."""
    return call(part) if isinstance(part, ObjectRef) else part


def call(reference: ObjectRef[T], timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Return what a server answers.

    Raises:
        ExchangeError: the server is gone, or silent for ``timeout_s``.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError:
        raise
    except GetTimeoutError:
        raise ExchangeError(f"The center server has not answered for timeout_s={timeout_s:g} seconds.") from None
    except RayError as error:
        reason = str(error).partition("\n")[0]
        raise ExchangeError(
            f"The center server is gone ({reason}), and the center with it. Resume the run from its newest checkpoint."
        ) from None

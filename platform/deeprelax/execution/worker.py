"""What every Ray Train worker runs: one replica's loop, driven by the center server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TypedDict

import ray.train
import torch
from ray.actor import ActorProxy
from torch import Tensor

from deeprelax.errors import ConfigError, ExchangeError, StartAgainError, StrayedError
from deeprelax.exchange.base import drive
from deeprelax.exchange.choice import Transport, open_exchange
from deeprelax.exchange.server.actor import Head
from deeprelax.exchange.server.client import ServerExchange
from deeprelax.exchange.server.servers import Handles
from deeprelax.exchange.server.shard import Shard
from deeprelax.exchange.shared_memory.client import SharedMemoryExchange
from deeprelax.execution.local import restored_rounds
from deeprelax.execution.notice import NOTICED
from deeprelax.replica.loop import Event
from deeprelax.replica.replica import Steps


class Assignment(TypedDict):
    """What every worker is given; a plain dictionary, so that Ray Train's controller can read it without our modules.

    Args:
        entry: ``module:function`` that returns a replica's loop.
        job: plain JSON values for it; ``checkpoints`` is the folder to continue from, ``threads`` are torch's.
        servers: head and shards.
        replicas: n, the most.
        transport: see :data:`deeprelax.exchange.choice.Transport`.
        round_timeout_s: see :data:`deeprelax.exchange.server.coordinator.ROUND_TIMEOUT_S`.
        device: such as ``cpu`` or ``cuda``.
    """

    entry: str
    job: dict[str, object]
    servers: tuple[ActorProxy[Head], list[ActorProxy[Shard]]]
    replicas: int
    transport: Transport
    round_timeout_s: float
    device: str


def replica_main(given: Assignment) -> None:
    """Run the replica of a Ray Train worker to its end.

    Raises:
        ExchangeError: the worker was told to end before; Ray Train starts the replica again elsewhere.
    """
    if not run_replica(given, ray.train.get_context().get_world_rank()):
        raise ExchangeError("This worker was told to end (SIGTERM). It has saved and left.")


def run_replica(given: Assignment, replica: int) -> bool:
    """Run one replica to its end, in any process of the cluster; return False if it was told to end before.

    An error in the loop is a fact about the run: it goes to the driver through the server. Raised here, Ray Train would
    take it for a failure of the machine and start the replica again.
    """
    job = given["job"]
    servers = Handles(*given["servers"])
    transport, limit = given["transport"], given["round_timeout_s"]
    exchange, why_not = open_exchange(
        transport, servers, replica, given["replicas"], round_timeout_s=limit, leave=NOTICED
    )
    try:
        if why_not is not None and transport == "shared_memory":
            raise ConfigError(f"Invalid exchange='shared_memory' for replica {replica}: {why_not}. Use 'auto'.")
        exchange.emit(_transport(exchange, replica, why_not))
        if job["threads"]:
            torch.set_num_threads(int(str(job["threads"])))
        while not _lived(given, replica, exchange):
            exchange.start_again()
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        with suppress(ExchangeError):  # without a server the driver knows already
            exchange.fail(error)
    else:
        exchange.close()
    return not exchange.left


def _lived(given: Assignment, replica: int, exchange: ServerExchange) -> bool:
    """Run the replica's loop; return False if it must start again."""
    exchange.own = restored_rounds(Path(str(given["job"]["checkpoints"])))
    try:
        drive(_loop(given, replica, exchange), exchange)
    except StartAgainError:
        return False
    except StrayedError:
        if not exchange.strayed():
            raise
        return False
    return True


def _transport(exchange: ServerExchange, replica: int, why_not: str | None) -> Event:
    taken = "shared_memory" if isinstance(exchange, SharedMemoryExchange) else "server"
    return {"event": "transport", "replica": replica, "step": exchange.own.step, "transport": taken, "reason": why_not}


def _loop(given: Assignment, replica: int, exchange: ServerExchange) -> Steps[None]:
    def emit(event: Event) -> None:
        exchange.emit(event | exchange.meter.row())

    def center_state() -> Mapping[str, Tensor]:
        return exchange.center_state().tensors

    module, _, name = given["entry"].partition(":")
    make = getattr(import_module(module), name)
    loop: Steps[None] = make(given["job"], replica, given["device"], emit, center_state)
    return loop

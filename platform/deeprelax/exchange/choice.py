"""Which way a replica's messages take, chosen by where its process runs."""

from __future__ import annotations

import threading
from functools import partial
from typing import Literal, NamedTuple

import torch

from deeprelax.exchange.server.client import ServerExchange
from deeprelax.exchange.server.servers import AwayError, Handles, call
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.client import SharedMemoryExchange
from deeprelax.exchange.shared_memory.vectors import SharedVectors

Transport = Literal["auto", "server", "shared_memory"]
"""``server``: through Ray. ``shared_memory``: through memory shared with the head. ``auto``: that, where it can be."""


class Opened(NamedTuple):
    """A replica's exchange, and why it does not go through shared memory although that was asked for, if so."""

    exchange: ServerExchange
    why_not_memory: str | None = None


def open_exchange(
    transport: Transport,
    servers: Handles,
    replica: int,
    replicas: int,
    *,
    round_timeout_s: float,
    leave: threading.Event | None = None,
) -> Opened:
    """Return a replica's exchange; on the machine of the head, through shared memory.

    Each replica chooses for itself: those of other machines speak to the same head through Ray, and so does a
    replacement that lands elsewhere than the lost one. The numbers are the same.

    Args:
        transport: what was asked for.
        servers: of the run.
        replica: its index a.
        replicas: n; a single one exchanges nothing.
        round_timeout_s: see :class:`ServerExchange`.
        leave: likewise.

    Raises:
        ExchangeError: the head is gone.
    """
    through_ray = partial(ServerExchange, servers, replica, replicas, round_timeout_s=round_timeout_s, leave=leave)
    if transport == "server" or replicas == 1:
        return Opened(through_ray())
    try:
        name = call(servers.head.meet.remote())
    except AwayError:
        return Opened(through_ray(), "the head is being restarted")
    if name is None:
        why_not = "the head offers none: its center is spread over several servers, or its system has none"
        return Opened(through_ray(), why_not)
    try:
        SharedVectors.like([torch.zeros(1)])
        channel = Channel.connect(name)
    except OSError as error:
        why_not = f"the head is on another machine or in another network namespace ({error.strerror})"
        return Opened(through_ray(), why_not)
    return Opened(
        SharedMemoryExchange(channel, servers, replica, replicas, round_timeout_s=round_timeout_s, leave=leave)
    )

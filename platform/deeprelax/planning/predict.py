"""From the cost of one exchange to the seconds of a data pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deeprelax.planning.cluster import Cluster
from deeprelax.planning.codecs import Codec
from deeprelax.planning.methods import Method
from deeprelax.planning.transports import ADD, Cost

Bound = Literal["compute", "latency", "link", "server", "memory"]
BACKWARD = 2 / 3
"""Part of a step that is the backward pass: two matrix products a layer, the forward pass has one."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a replica does.

    Args:
        params: P, parameters that travel.
        step_s: t, seconds of one mini-batch step without any exchange.
        steps_per_pass: mini-batch steps of one replica in one data pass.
    """

    params: float
    step_s: float
    steps_per_pass: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a data pass takes.

    Args:
        seconds: of one data pass.
        exchange_s: seconds from one replica's message to its answer, all its copies included.
        waiting: part of the seconds in which a replica computes no gradient, in [0, 1).
        sent_bytes: payload that leaves one replica in a data pass.
        link_bytes: payload over one node's port, in the busier direction, in a data pass.
        bound: what takes most.
    """

    seconds: float
    exchange_s: float
    waiting: float
    sent_bytes: float
    link_bytes: float
    bound: Bound


@dataclass(frozen=True, kw_only=True)
class Prediction(Timing):
    """One way to train, and what a data pass takes.

    Args:
        method: name.
        transport: name.
        codec: name.
        overlap: whether the exchange runs while the next gradients are computed.
        period: L.
    """

    method: str
    transport: str
    codec: str
    overlap: bool
    period: int


def predict(work: Work, method: Method, period: int, cost: Cost, own_s: float, *, overlap: bool) -> Timing:
    """Return what a data pass takes where replicas wait for one another.

    With E = latency + link + server of an exchange, M = copies on the replica's node, t = step::

        without overlap   L t + E + M
        with overlap      max(L t, E) + M           the replica goes on while the vectors travel, and copies them itself
        DDP, overlap      t/3 + max(2t/3, E) + M    gradients travel while the backward pass computes the next ones

    Source of the last: Li et al. 2020, PyTorch Distributed, arXiv:2006.15704, section 3.2.

    Args:
        work: of one replica.
        method: its period is not read.
        period: L.
        cost: of one exchange.
        own_s: seconds of the method's and the codec's own copies at an exchange.
        overlap: see above.
    """
    moving = cost.latency_s + cost.link_s + cost.server_s
    memory = cost.memory_s + own_s
    hidden = work.step_s * (BACKWARD if method.name == "ddp" else period) if overlap else 0.0
    lost = max(0.0, moving - hidden) + memory
    parts: dict[Bound, float] = {"memory": memory}
    if moving > hidden:
        parts |= {"latency": cost.latency_s, "link": cost.link_s, "server": cost.server_s}
    return _timing(work, period, lost, moving + memory, parts, cost)


def predict_own_clocks(work: Work, period: int, cost: Cost, own_s: float, servers_s: float) -> Timing:
    """Return what a data pass takes where replicas do not wait for one another.

    A replica waits for its own exchange only, unless the servers have no time left: they serve each replica once in a
    period::

        max(L t + E + M, servers_s)

    Args:
        work: of one replica.
        period: L.
        cost: of one replica's exchange with servers that have time.
        own_s: as in :func:`predict`.
        servers_s: seconds in which the servers serve all replicas once.
    """
    alone_s = cost.seconds + own_s
    queue = max(0.0, servers_s - period * work.step_s - alone_s)
    memory = cost.memory_s + own_s
    parts: dict[Bound, float] = {"latency": cost.latency_s, "link": cost.link_s, "server": queue, "memory": memory}
    return _timing(work, period, alone_s + queue, alone_s + queue, parts, cost)


def _timing(
    work: Work, period: int, lost_s: float, exchange_s: float, parts: Mapping[Bound, float], cost: Cost
) -> Timing:
    exchanges = math.ceil(work.steps_per_pass / period)  # an incomplete period ends with one too
    computing = work.steps_per_pass * work.step_s
    seconds = computing + exchanges * lost_s
    largest = max(parts, key=lambda name: parts[name])
    return Timing(
        seconds=seconds,
        exchange_s=exchange_s,
        waiting=exchanges * lost_s / seconds,
        sent_bytes=exchanges * cost.sent_bytes,
        link_bytes=exchanges * cost.link_bytes,
        bound="compute" if computing >= exchanges * parts[largest] else largest,
    )


def alone(cluster: Cluster, params: float, codec: Codec) -> tuple[Cost, float]:
    """Return what one replica's exchange with idle servers costs, and for how long it keeps them from others.

    Up and down cross a port at once for different replicas: it is busy for the larger of both::

        exchange  2 α + 2 r V/β + 3 · 4P/C         servers  n/s (V/β + 1.5 · 4P/C)
    """
    size = params * codec.bytes_per_parameter
    per_node = cluster.replicas_per_node
    cost = Cost(
        latency_s=2 * cluster.latency_s,
        link_s=cluster.transfer_s(2 * per_node * size),
        memory_s=cluster.copies_s(params, 3),
        sent_bytes=size,
        link_bytes=per_node * size if cluster.nodes > 1 else 0.0,
    )
    each = cluster.transfer_s(size) + cluster.copies_s(params, ADD)
    return cost, cluster.replicas / cluster.servers * each

"""The machines a plan is made for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeprelax.errors import ConfigError
from deeprelax.planning.codecs import FLOAT32_BYTES
from deeprelax.planning.units import Link

PAYLOAD = 1448 / 1514
"""Part of what a link carries that is payload: TCP over IPv4 with time stamps, Ethernet frames of 1514 bytes."""

COPY_BYTES_PER_S = 10e9
"""Bytes of a vector that one core copies per second (10 million float32 in 4.1 ms, measured on a cloud machine)."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes that are alike, each with one port.

    Args:
        replicas: n >= 1.
        replicas_per_node: r >= 1; the last node may have fewer.
        link: each node's port.
        servers: s >= 1 parameter servers, each with an equal slice of the center.
        servers_beside: the servers share nodes with replicas, at most one a node; else each has a node of its own.
        copy_bytes_per_s: bytes that one process copies per second while those beside it do so too, > 0.

    Raises:
        ConfigError: a number is out of range.
    """

    replicas: int
    link: Link
    replicas_per_node: int = 1
    servers: int = 1
    servers_beside: bool = False
    copy_bytes_per_s: float = COPY_BYTES_PER_S

    def __post_init__(self) -> None:
        for name in ("replicas", "replicas_per_node", "servers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Invalid {name}={getattr(self, name)}. Must be >= 1.")
        if self.replicas_per_node > self.replicas:
            raise ConfigError(
                f"Invalid replicas_per_node={self.replicas_per_node}. Must be <= replicas={self.replicas}."
            )
        if self.servers_beside and self.servers > self.nodes:
            raise ConfigError(f"Invalid servers={self.servers} beside replicas. Must be <= the {self.nodes} nodes.")
        if not self.copy_bytes_per_s > 0:
            raise ConfigError(f"Invalid copy_bytes_per_s={self.copy_bytes_per_s}. Must be > 0.")

    @property
    def nodes(self) -> int:
        """N = ceil(n/r)."""
        return math.ceil(self.replicas / self.replicas_per_node)

    @property
    def latency_s(self) -> float:
        """α, of a message between nodes; none on a single node."""
        return self.link.latency_s if self.nodes > 1 else 0.0

    def transfer_s(self, payload_bytes: float) -> float:
        """Return the seconds in which a port carries some payload one way; on a single node it is copied."""
        rate = self.link.bytes_per_s * PAYLOAD if self.nodes > 1 else self.copy_bytes_per_s
        return payload_bytes / rate

    def copies_s(self, params: float, copies: float) -> float:
        """Return the seconds of some copies of a float32 vector; a copy reads it once and writes it once."""
        return copies * FLOAT32_BYTES * params / self.copy_bytes_per_s
